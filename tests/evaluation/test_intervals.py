"""The percentile bootstrap against SciPy's, against all resamples there are, and its corners."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from faig_lab.evaluation.intervals import (
    FEWEST_SCENES,
    interval,
    interval_of_means,
    resamples,
    scene_interval,
    tabulate,
)


def mean(values):
    return values.mean(1)


def test_it_agrees_with_scipy():
    values = np.random.default_rng(0).normal(size=12)
    low, high = interval(values, mean, seed=0, number=20000)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.02)
    assert high == pytest.approx(theirs.high, abs=0.02)


def test_it_finds_the_quantiles_of_all_resamples():
    values = np.array([0.0, 1.0, 5.0, 20.0])
    every = [np.mean(chosen) for chosen in product(values, repeat=4)]
    found = interval(values, mean, seed=1, number=40000, level=0.8)
    assert found == pytest.approx(tuple(np.quantile(every, [0.1, 0.9])))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    values = np.random.default_rng(0).normal(size=(6, 3))
    assert np.array_equal(interval(values, mean, 3), interval(values, mean, 3))
    assert not np.array_equal(interval(values, mean, 3), interval(values, mean, 4))
    assert resamples(6, 3, 10).tolist() == resamples(6, 3, 20)[:10].tolist()


def test_blocks_do_not_show(monkeypatch):
    values = np.random.default_rng(0).normal(size=(5, 7))
    whole = interval(values, mean, 0)
    monkeypatch.setattr("faig_lab.evaluation.intervals._BLOCK", 100)
    assert np.array_equal(interval(values, mean, 0), whole)


def test_columns_share_their_resamples_so_that_differences_are_paired():
    values = np.random.default_rng(0).normal(size=(8, 1)) + np.array([0.0, 0.25])
    low, high = interval(values, lambda v: v[..., 1].mean(1) - v[..., 0].mean(1), 0)
    assert (low, high) == pytest.approx((0.25, 0.25))


def test_equal_units_have_no_spread():
    assert interval(np.full(5, 2.5), mean, 0) == (2.5, 2.5)


def test_one_unit_says_nothing_about_spread():
    low, high = interval(np.array([[1.0, 2.0]]), mean, 0)
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    assert low.shape == (2,)


def test_nothing_to_resample_is_refused():
    with pytest.raises(ValueError, match="nothing to resample"):
        interval(np.empty((0, 3)), mean, 0)


# Images in groups


def test_images_that_are_groups_of_their_own_are_resampled_as_before():
    values = np.random.default_rng(0).normal(size=(6, 2, 3))
    found = interval_of_means(values, list("abcdef"), lambda means: means, seed=3)
    assert np.allclose(found, interval(values, mean, 3), rtol=1e-12)


def test_a_group_is_drawn_as_a_whole():
    """Two groups: a resample is both, or the one or the other twice. The means over images are 2, 8 and 3.5."""
    values, groups = np.array([1.0, 2.0, 8.0, 3.0]), ("a", "a", "b", "a")
    seen = set()
    interval_of_means(values, groups, lambda means: seen.update(np.round(means, 9)) or means, seed=0)
    assert seen == {2.0, 3.5, 8.0}
    assert interval_of_means(values, groups, lambda means: means, seed=0) == pytest.approx((2, 8))


def test_one_group_has_no_interval():
    low, high = interval_of_means(np.arange(6.0).reshape(3, 2), "aaa", lambda means: means, seed=0)
    assert np.isnan([low, high]).all()
    assert low.shape == (2,)


def ratio(means):
    """A statistic that is not linear: the ratio of two means."""
    return means[..., 0] / means[..., 1]


def test_below_ten_scenes_it_is_the_lowest_and_the_highest_scene():
    values = np.array([[1.0, 2.0], [3.0, 2.0], [9.0, 3.0], [1.0, 10.0]])
    found = scene_interval(values, ["a", "a", "b", "c"], ratio, seed=0)
    assert found.kind == "range"
    assert (found.low, found.high) == pytest.approx((0.1, 3.0))


def test_the_images_of_a_scene_are_pooled_before_the_statistic():
    """Scene a: (1 + 3) / (2 + 6) = 0.5 and not the mean of 1/2 and 3/6; scene b: 2."""
    found = scene_interval(np.array([[1.0, 2.0], [3.0, 6.0], [2.0, 1.0]]), "aab", ratio, seed=0)
    assert (found.low, found.high) == (0.5, 2.0)
    found = scene_interval(np.array([[1.0, 1.0], [3.0, 7.0], [2.0, 1.0]]), "aab", ratio, seed=0)
    assert (found.low, found.high) == (0.5, 2.0)


@pytest.mark.parametrize("count", [2, FEWEST_SCENES - 1])
def test_the_range_does_not_depend_on_the_seed(count):
    values = np.random.default_rng(0).uniform(1, 2, (count, 2))
    ends = [scene_interval(values, list(map(str, range(count))), ratio, seed=seed)[:2] for seed in (0, 1)]
    assert ends[0] == ends[1]
    assert ends[0] == (min(values[:, 0] / values[:, 1]), max(values[:, 0] / values[:, 1]))


def test_from_ten_scenes_on_it_is_the_bootstrap():
    values = np.random.default_rng(0).uniform(1, 2, (20, 2))
    scenes = [str(i // 2) for i in range(20)]
    assert len(set(scenes)) == FEWEST_SCENES
    found = scene_interval(values, scenes, ratio, seed=3, number=200)
    assert found.kind == "bootstrap"
    assert found[:2] == interval_of_means(values, scenes, ratio, seed=3, number=200)
    single = [ratio(values[2 * i : 2 * i + 2].mean(0)) for i in range(10)]
    assert min(single) < found.low < found.high < max(single)


def test_one_scene_has_no_ends():
    found = scene_interval(np.ones((3, 2, 2)), "aaa", lambda means: means, seed=0)
    assert found.kind == "range"
    assert found.low.shape == (2, 2)
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


def test_a_scene_without_a_value_leaves_no_range():
    found = scene_interval(np.array([[1.0, 2.0], [np.nan, 4.0]]), "ab", lambda means: means, seed=0)
    assert np.isnan(found.low).tolist() == [True, False]
    assert (found.low[1], found.high[1]) == (2, 4)


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="no image"):
        scene_interval(np.empty((0, 2)), [], ratio, seed=0)


def test_a_table_of_arrays_has_a_row_for_each_place():
    values = np.arange(6.0).reshape(2, 3)
    table = tabulate({"method": ["faig", "ig"], "percent": [0.5, 1, 2]}, {"own": values, "low": values - 1})
    assert list(table) == ["method", "percent", "own", "low"]
    assert table["own"].tolist() == [0, 1, 2, 3, 4, 5]
    assert table.loc[(table["method"] == "ig") & (table["percent"] == 1), "low"].tolist() == [3]
