"""Intervals over scenes: a range below ten scenes, the bootstrap from there on."""

import numpy as np
import pytest

from faig_lab.evaluation.intervals import FEWEST_SCENES, interval_of_means, scene_interval


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
    assert found[:2] == interval_of_means(values, scenes, ratio, 3, 200)
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
