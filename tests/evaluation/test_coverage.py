"""How often intervals hold the truth, by simulation: known distributions, fixed seeds, thousands of studies at once."""

import numpy as np
import pytest

from faig_lab.evaluation import intervals
from faig_lab.evaluation.intervals import FEWEST_SCENES, Resampling, scene_interval
from faig_lab.report.comparison import estimate

STUDIES = 2000  # of which the share that holds the truth is known to ± 0.01 (two standard errors)
RESAMPLES = 200


def over_scenes(values, scenes=None, statistic=lambda means: means):
    """The project's interval; every row a scene of its own by default."""
    scenes = scenes or [*map(str, range(len(values)))]
    return scene_interval([values], scenes, statistic, Resampling(0, RESAMPLES))


def coverage(found, truth):
    """The share of the studies whose interval holds the truth."""
    return np.mean((found.low <= truth) & (truth <= found.high))


def drawn(shape, kind, seed=0):
    """Numbers of mean 0: normal, or skewed as shares of scenes are (exponential)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if kind == "normal" else rng.exponential(size=shape) - 1


@pytest.mark.parametrize(
    ("scenes", "kind", "least"),
    [(10, "normal", 0.88), (24, "normal", 0.92), (50, "normal", 0.93), (10, "skewed", 0.83), (50, "skewed", 0.91)],
)
def test_the_bootstrap_holds_from_ten_scenes_on(scenes, kind, least):
    found = over_scenes(drawn((scenes, STUDIES), kind))
    assert least <= coverage(found, 0) <= 0.96


@pytest.mark.parametrize(("scenes", "most"), [(2, 0.55), (3, 0.78), (FEWEST_SCENES // 2, 0.86), (6, 0.87)])
def test_the_bootstrap_of_few_scenes_promises_too_much_and_is_not_used(scenes, most, monkeypatch):
    values = drawn((scenes, STUDIES), "normal")
    found = over_scenes(values)
    assert found.kind == "range"
    assert np.array_equal(found[:2], [values.min(0), values.max(0)])
    monkeypatch.setattr(intervals, "FEWEST_SCENES", 2)
    assert coverage(over_scenes(values), 0) <= most


def test_crops_of_a_scene_are_no_scenes():
    """12 scenes with 4 crops that differ little from each other: as 48 images the interval is far too narrow."""
    rng = np.random.default_rng(1)
    crops = np.repeat(rng.normal(size=(12, STUDIES)), 4, axis=0) + 0.2 * rng.normal(size=(48, STUDIES))
    scenes = [str(scene) for scene in range(12) for _ in range(4)]
    held = coverage(over_scenes(crops, scenes), 0)
    apart = coverage(over_scenes(crops), 0)
    assert 0.88 <= held <= 0.96
    assert apart < 0.75


def test_a_ratio_of_means_is_covered_like_a_mean():
    """A removed share: what masking costs over what the target gains; scenes differ in both. The truth is 0.6."""
    rng = np.random.default_rng(2)
    gains = rng.gamma(9.0, 0.5, (16, STUDIES))
    costs = (0.6 + 0.2 * rng.normal(size=gains.shape)) * gains
    both = np.stack([costs, gains], -1)
    found = over_scenes(both, statistic=lambda means: means[..., 0] / means[..., 1])
    assert 0.88 <= coverage(found, 0.6) <= 0.96


@pytest.mark.parametrize("trainings", [2, 3, 5])
def test_t_over_trainings_holds_at_its_level(trainings):
    """Exact for normal numbers, however few: 95 %."""
    found = [estimate(values) for values in drawn((STUDIES, trainings), "normal", seed=trainings).tolist()]
    held = [one.low <= 0 <= one.high for one in found if one is not None]
    assert len(held) == STUDIES
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)  # three standard errors


def test_paired_differences_hold_where_trainings_differ_more_than_methods():
    """Both methods move with the training. Run by run the difference holds its level, and is far narrower."""
    rng = np.random.default_rng(5)
    trainings, own = rng.normal(size=(STUDIES, 3, 1)), 0.1 * rng.normal(size=(STUDIES, 3, 2))
    first, second = np.moveaxis(trainings + own + [0.0, 0.2], -1, 0)
    paired = [estimate(values) for values in (second - first).tolist()]
    assert np.mean([one.low <= 0.2 <= one.high for one in paired]) == pytest.approx(0.95, abs=0.015)
    single = [estimate(values) for values in first.tolist()]
    assert np.median([p.high - p.low for p in paired]) < 0.3 * np.median([s.high - s.low for s in single])
