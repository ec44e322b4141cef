"""Intervals over scenes: the percentile bootstrap against SciPy's and against all resamples, the range, the corners."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from faig_lab.evaluation import intervals
from faig_lab.evaluation.intervals import FEWEST_SCENES, Resampling, resamples, scene_interval, tabulate


def over_scenes(values, scenes=None, statistic=lambda means: means, seed=0, number=1000):
    """The interval of one array; each entry is a scene of its own by default."""
    scenes = [*map(str, range(len(values)))] if scenes is None else scenes
    return scene_interval([values], scenes, statistic, Resampling(seed, number))


@pytest.fixture
def bootstrap(monkeypatch):
    """A bootstrap from two scenes on."""
    monkeypatch.setattr(intervals, "FEWEST_SCENES", 2)


def test_it_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=12)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert over_scenes(values, number=20000)[:2] == pytest.approx(theirs, abs=0.02)


@pytest.mark.usefixtures("bootstrap")
def test_it_finds_the_quantiles_of_all_resamples():
    values = np.array([0.0, 1.0, 5.0, 20.0])
    every = [np.mean(chosen) for chosen in product(values, repeat=4)]
    found = over_scenes(values, seed=1, number=40000)
    assert found[:2] == pytest.approx(np.quantile(every, [0.025, 0.975]))


def test_the_same_seed_gives_the_same_bits_in_blocks_of_any_size_and_another_seed_others(monkeypatch):
    values = np.random.default_rng(0).normal(size=(12, 3))
    found = over_scenes(values, seed=3)
    assert not np.array_equal(found[:2], over_scenes(values, seed=4)[:2])
    assert resamples(6, 3, 10).tolist() == resamples(6, 3, 20)[:10].tolist()
    monkeypatch.setattr(intervals, "_BLOCK", 100)
    assert np.array_equal(over_scenes(values, seed=3)[:2], found[:2])


def test_arrays_share_their_resamples_so_that_differences_are_paired():
    first = np.random.default_rng(0).normal(size=(12, 2))
    second = (first + 0.25)[:, None]
    found = scene_interval([first, second], "abcdefghijkl", lambda one, two: two[:, 0] - one, Resampling(0))
    assert np.allclose(found[:2], 0.25)
    assert found.low.shape == (2,)


@pytest.mark.usefixtures("bootstrap")
def test_a_scene_is_drawn_as_a_whole():
    """Two scenes: a resample is both, or the one or the other twice. The means over images are 2, 8 and 3.5."""
    values, seen = np.array([1.0, 2.0, 8.0, 3.0]), set()
    found = over_scenes(values, "aaba", lambda means: seen.update(np.round(means, 9)) or means)
    assert seen == {2.0, 3.5, 8.0}
    assert (found.low, found.high, found.kind) == (2, 8, "bootstrap")


def ratio(means):
    """A statistic that is not linear: the ratio of two means."""
    return means[..., 0] / means[..., 1]


@pytest.mark.parametrize(
    ("values", "scenes", "ends"),
    [
        ([[1, 2], [3, 2], [9, 3], [1, 10]], "aabc", (0.1, 3)),
        # The images of a scene are pooled before the statistic: 4/8 in both cases, and not the mean of the ratios.
        ([[1, 2], [3, 6], [2, 1]], "aab", (0.5, 2)),
        ([[1, 1], [3, 7], [2, 1]], "aab", (0.5, 2)),
        ([[1, 2], [np.nan, 4]], "ab", (np.nan, np.nan)),  # a scene without a value
        ([[1, 2], [3, 4]], "aa", (np.nan, np.nan)),  # one scene does not show how much scenes differ
    ],
)
def test_below_ten_scenes_it_is_the_lowest_and_the_highest_scene(values, scenes, ends):
    found = over_scenes(np.array(values, dtype=float), scenes, ratio)
    assert found.kind == "range"
    assert found[:2] == pytest.approx(ends, nan_ok=True)


@pytest.mark.parametrize(("count", "kind"), [(FEWEST_SCENES - 1, "range"), (FEWEST_SCENES, "bootstrap")])
def test_from_ten_scenes_on_it_is_the_bootstrap(count, kind):
    values = np.random.default_rng(0).uniform(1, 2, (2 * count, 2))
    found, other = (over_scenes(values, [str(i // 2) for i in range(2 * count)], ratio, seed) for seed in (3, 4))
    single = [ratio(values[2 * i : 2 * i + 2].mean(0)) for i in range(count)]
    assert found.kind == kind
    if kind == "range":
        assert found[:2] == other[:2] == (min(single), max(single))
    else:
        assert min(single) < found.low < found.high < max(single)


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="no image"):
        over_scenes(np.empty((0, 2)), [])


def test_a_table_of_arrays_has_a_row_for_each_place():
    values = np.arange(6.0).reshape(2, 3)
    table = tabulate({"method": ["faig", "ig"], "percent": [0.5, 1, 2]}, {"own": values, "low": values - 1})
    assert list(table) == ["method", "percent", "own", "low"]
    assert table["own"].tolist() == [0, 1, 2, 3, 4, 5]
    assert table.loc[(table["method"] == "ig") & (table["percent"] == 1), "low"].tolist() == [3]
