"""Percentile bootstrap: how far a number could move had the held-out images been others of their kind."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from faig_lab.data import sample_rng

Floats = NDArray[np.float64]

_BLOCK = 2**23  # numbers held at a time


class Interval(NamedTuple):
    """Ends of an interval, shaped like the statistic; NaN where there is none."""

    low: Floats
    high: Floats


def resamples(count: int, seed: int, number: int) -> NDArray[np.int64]:
    """(number, count) positions drawn with replacement; the same for the same arguments, whatever is resampled."""
    return sample_rng(seed, "bootstrap").integers(0, count, (number, count))


def interval(
    values: NDArray[Any],
    statistic: Callable[[Floats], Floats],
    seed: int,
    number: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The percentile bootstrap interval of a statistic (Efron and Tibshirani 1993, §13.3).

    Intervals of the same seed and count share their resamples: a difference of two statistics is to be given as one
    statistic, which is then paired. Of few units the interval is too narrow: analyses call `intervals.scene_interval`.

    Args:
        values: (N, …) one entry per independent unit, e.g. per image.
        statistic: (B, N, …) → (B, …), reduces axis 1 for B resamples at once; NaN where it is not defined.
        seed: of the resamples.
        number: of resamples.
        level: share of the resamples within the interval, between 0 and 1.

    Returns:
        Low and high ends. NaN where the statistic is NaN in a resample, and for N = 1: one unit says nothing about
        how much units differ.

    Raises:
        ValueError: there is no unit.
    """
    count = len(values)
    if count == 0:
        raise ValueError("there is nothing to resample")
    drawn = resamples(count, seed, number)
    at_once = max(1, _BLOCK // values.size)
    blocks = [statistic(values[drawn[start : start + at_once]]) for start in range(0, number, at_once)]
    found = np.concatenate(blocks) if count > 1 else np.full_like(blocks[0][:1], np.nan)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(low, high)


def interval_of_means(
    values: NDArray[Any],
    groups: Sequence[str],
    statistic: Callable[[Floats], Floats],
    seed: int,
    number: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The interval of a statistic of means over images, for images that come in groups.

    Whole groups are drawn, with all of their images: those of one photograph are not independent. The means are over
    all drawn images, so that a group weighs as much as it has images, as in the statistic itself.

    Args:
        values: (N, …) one entry per image.
        groups: (N,) which images belong together.
        statistic: means (B, …) → (B, …) for B resamples at once.
        seed: of the resamples.
        number: of resamples.
        level: share of the resamples within the interval.

    Returns:
        As `interval`; NaN for a single group.
    """
    names = list(dict.fromkeys(groups))
    totals: Floats = np.zeros((len(names), 1 + values[0].size))
    for group, image in zip(groups, values, strict=True):
        totals[names.index(group)] += np.concatenate([[1], image.ravel()])

    def of_totals(drawn: Floats) -> Floats:
        counts, sums = np.split(drawn.sum(1), [1], 1)
        return statistic((sums / counts).reshape(-1, *values.shape[1:]))

    return interval(totals, of_totals, seed, number, level)


FEWEST_SCENES = 10
"""A bootstrap needs at least so many scenes."""

BOOTSTRAP: Literal["bootstrap"] = "bootstrap"
RANGE: Literal["range"] = "range"


class SceneInterval(NamedTuple):
    """Two ends over scenes and what they are.

    Attributes:
        low: shaped like the statistic; NaN where there is a single scene, or where a scene has no value.
        high: the same.
        kind: "bootstrap", a percentile interval; or "range", the lowest and the highest scene.
    """

    low: Floats
    high: Floats
    kind: Literal["bootstrap", "range"]


def scene_interval(
    values: NDArray[Any],
    scenes: Sequence[str],
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    number: int = 1000,
    level: float = 0.95,
) -> SceneInterval:
    """Compute how far a statistic of means over images varies with the scenes that the images show.

    Args:
        values: (N, …) one entry per image.
        scenes: (N,) what each image shows; the images of one scene stay together.
        statistic: means (B, …) → (B, …) for B samples at once.
        seed: of the bootstrap's resamples.
        number: of resamples.
        level: share of the resamples within a bootstrap interval.

    Returns:
        The bootstrap of `interval_of_means` for at least `FEWEST_SCENES` scenes; else the range of the statistic over
        single scenes. A statistic that is no mean (a difference of ratios, say) may lie outside of that range.

    Raises:
        ValueError: there is no image.
    """
    names = list(dict.fromkeys(scenes))
    if len(names) >= FEWEST_SCENES:
        return SceneInterval(*interval_of_means(values, scenes, statistic, seed, number, level), BOOTSTRAP)
    if not names:
        raise ValueError("there is no image to compute an interval from")
    of_image = np.array([names.index(scene) for scene in scenes])
    single = statistic(np.stack([values[of_image == scene].mean(0) for scene in range(len(names))]).astype(np.float64))
    if len(names) == 1:
        single = np.full_like(single, np.nan)
    return SceneInterval(single.min(0), single.max(0), RANGE)
