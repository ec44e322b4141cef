"""Numbers over samples: intervals over the scenes of the held-out images, means over draws, tables of arrays.

An interval is a percentile bootstrap, or the range of few scenes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faig_lab.data import sample_rng

Floats = NDArray[np.float64]

_BLOCK = 2**23  # numbers held at a time

ALL = "all"
"""Stands in the column `masked` for the mean over the degradations."""


class Resampling(NamedTuple):
    """Seed and number of the bootstrap's resamples."""

    seed: int
    number: int


def number_or_none(value: float | Floats) -> float | None:
    """Return a plain number for a table; None for NaN."""
    return None if np.isnan(value) else float(value)


def tabulate(axes: Mapping[str, Sequence[Hashable]], numbers: Mapping[str, Floats]) -> pd.DataFrame:
    """Return a table with a row for each place of arrays: the labels of the place, then its numbers.

    Args:
        axes: column → the labels along an axis, in the order of the axes.
        numbers: column → an array with these axes.
    """
    places = pd.MultiIndex.from_product(list(axes.values()), names=list(axes))
    return pd.DataFrame({name: values.ravel() for name, values in numbers.items()}, index=places).reset_index()


def over_draws(values: Floats, draws: Mapping[str, int], axis: int, reduce: Callable[..., Floats]) -> Floats:
    """Reduce the draws of each method to one number: rankings → methods along an axis.

    Args:
        values: all draws of the first method, then all draws of the second, … along `axis`.
        draws: method → number of draws.
        axis: the axis of the rankings.
        reduce: np.mean, np.std, …: (values, axis) → one axis less.
    """
    parts = np.split(values, np.cumsum(list(draws.values()))[:-1], axis)
    return np.stack([reduce(part, axis=axis) for part in parts], axis if axis >= 0 else values.ndim + axis)


def sample_std(values: Floats, axis: int) -> Floats:
    """Compute the sample standard deviation along an axis; 0 for one value."""
    if values.shape[axis] == 1:
        return np.where(np.isnan(values.sum(axis)), np.nan, 0.0)
    return np.asarray(values.std(axis, ddof=1))


class Interval(NamedTuple):
    """Ends of an interval, shaped like the statistic; NaN where there is none."""

    low: Floats
    high: Floats


def resamples(count: int, seed: int, number: int) -> NDArray[np.int64]:
    """Return (number, count) positions drawn with replacement; they depend on the arguments only."""
    return sample_rng(seed, "bootstrap").integers(0, count, (number, count))


def interval(
    values: NDArray[Any],
    statistic: Callable[[Floats], Floats],
    seed: int,
    *,
    number: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Compute the percentile bootstrap interval of a statistic (Efron and Tibshirani 1993, §13.3).

    Intervals of the same seed and count share their resamples. Give a difference of two statistics as one statistic:
    the difference is then paired. The interval is too narrow for few units, so studies call `scene_interval`.

    Args:
        values: (N, …) one entry per independent unit, e.g. per image.
        statistic: (B, N, …) → (B, …), reduces axis 1 for B resamples at once; NaN where it is not defined.
        seed: of the resamples.
        number: of resamples.
        level: share of the resamples within the interval, between 0 and 1.

    Returns:
        Low and high ends. NaN where the statistic is NaN in a resample, and for N = 1, since one unit does not show how
        much units differ.

    Raises:
        ValueError: there is no unit.
    """
    count = len(values)
    if count == 0:
        raise ValueError("there is nothing to resample")
    drawn = resamples(count, seed, number)
    at_once = max(1, _BLOCK // values.size)
    blocks = [statistic(values[drawn[start : start + at_once]]) for start in range(0, number, at_once)]
    statistics = np.concatenate(blocks) if count > 1 else np.full_like(blocks[0][:1], np.nan)
    low, high = np.quantile(statistics, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Interval(low, high)


def interval_of_means(
    values: NDArray[Any],
    groups: Sequence[str],
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    number: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Compute the interval of a statistic of means over images, for images that come in groups.

    Whole groups are drawn with all of their images, since images of one photograph are not independent. The means are
    over all drawn images, so that a group weighs as much as it has images.

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

    return interval(totals, of_totals, seed, number=number, level=level)


FEWEST_SCENES = 10
"""A bootstrap needs at least so many scenes."""

BOOTSTRAP: Literal["bootstrap"] = "bootstrap"
RANGE: Literal["range"] = "range"


class SceneInterval(NamedTuple):
    """The two ends over scenes and their kind.

    Attributes:
        low: shaped like the statistic; NaN where there is a single scene, or where a scene has no value.
        high: the same.
        kind: "bootstrap", a percentile interval; or "range", the lowest and the highest scene.
    """

    low: Floats
    high: Floats
    kind: Literal["bootstrap", "range"]

    def ends(self, place: tuple[int, ...] = (), prefix: str = "") -> dict[str, object]:
        """Return the cells `<prefix>low` and `<prefix>high` of one number of the statistic."""
        return {f"{prefix}low": number_or_none(self.low[place]), f"{prefix}high": number_or_none(self.high[place])}

    def columns(self, prefix: str = "", last: int | None = None) -> dict[str, Floats]:
        """Return the arrays `<prefix>low` and `<prefix>high`, for all numbers or for one place of the last axis."""
        low, high = (end if last is None else end[..., last] for end in (self.low, self.high))
        return {f"{prefix}low": low, f"{prefix}high": high}

    def row(self, place: tuple[int, ...] = ()) -> dict[str, object]:
        """Return the cells `low`, `high` and `interval` of one number of the statistic."""
        return self.ends(place) | {"interval": self.kind}


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
        single scenes. A statistic that is no mean (e.g. a difference of ratios) may lie outside of that range.

    Raises:
        ValueError: there is no image.
    """
    names = list(dict.fromkeys(scenes))
    if len(names) >= FEWEST_SCENES:
        ends = interval_of_means(values, scenes, statistic, seed=seed, number=number, level=level)
        return SceneInterval(*ends, BOOTSTRAP)
    if not names:
        raise ValueError("there is no image to compute an interval from")
    of_image = np.array([names.index(scene) for scene in scenes])
    single = statistic(np.stack([values[of_image == scene].mean(0) for scene in range(len(names))]).astype(np.float64))
    if len(names) == 1:
        single = np.full_like(single, np.nan)
    return SceneInterval(single.min(0), single.max(0), RANGE)


def interval_of_arrays(
    arrays: Sequence[Floats], scenes: Sequence[str], statistic: Callable[..., Floats], how: Resampling
) -> SceneInterval:
    """Compute the `scene_interval` of a statistic of several arrays.

    Args:
        arrays: (N, …) each, one entry per image.
        scenes: (N,) what each image shows.
        statistic: a mean (B, …) of each array → (B, …) for B samples at once.
        how: seed and number of the resamples.
    """
    values = np.concatenate([array.reshape(len(array), -1) for array in arrays], 1)
    edges = np.cumsum([array[0].size for array in arrays])[:-1]

    def of_means(means: Floats) -> Floats:
        parts = np.split(means, edges, 1)
        return statistic(*(part.reshape(-1, *a.shape[1:]) for part, a in zip(parts, arrays, strict=True)))

    return scene_interval(values, scenes, of_means, seed=how.seed, number=how.number)
