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
    number: int = 1000


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


def resamples(count: int, seed: int, number: int) -> NDArray[np.int64]:
    """Return (number, count) positions drawn with replacement; they depend on the arguments only."""
    return sample_rng(seed, "bootstrap").integers(0, count, (number, count))


FEWEST_SCENES = 10
"""A bootstrap needs at least so many scenes: it is too narrow for few."""

LEVEL = 0.95
"""Share of the resamples within a bootstrap interval."""

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
    arrays: Sequence[NDArray[Any]], scenes: Sequence[str], statistic: Callable[..., Floats], how: Resampling
) -> SceneInterval:
    """Compute how far a statistic of means over images varies with the scenes that the images show.

    For at least `FEWEST_SCENES` scenes: the percentile bootstrap (Efron and Tibshirani 1993, §13.3). Whole scenes are
    drawn with all of their images, since images of one scene are not independent. The means are over all drawn images,
    so that a scene weighs as much as it has images. Intervals of the same seed and number of scenes share their
    resamples. Give a difference of two statistics as one statistic: the difference is then paired.

    For fewer scenes: the range of the statistic over single scenes. A statistic that is no mean (e.g. a difference of
    ratios) may lie outside of that range.

    Args:
        arrays: (N, …) each, one entry per image.
        scenes: (N,) what each image shows.
        statistic: a mean (B, …) of each array → (B, …) for B samples at once; NaN where it is not defined.
        how: seed and number of the resamples.

    Returns:
        Low and high ends. NaN where the statistic is NaN in a sample, and for a single scene, since one scene does not
        show how much scenes differ.

    Raises:
        ValueError: there is no image.
    """
    names = list(dict.fromkeys(scenes))
    if not names:
        raise ValueError("there is no image to compute an interval from")
    values = np.concatenate([array.reshape(len(array), -1) for array in arrays], 1)
    edges = np.cumsum([array[0].size for array in arrays])[:-1]

    def of_means(means: Floats) -> Floats:
        parts = np.split(means, edges, 1)
        return statistic(*(part.reshape(-1, *array.shape[1:]) for part, array in zip(parts, arrays, strict=True)))

    if len(names) < FEWEST_SCENES:
        of_image = np.array([names.index(scene) for scene in scenes])
        single = of_means(np.stack([values[of_image == k].mean(0) for k in range(len(names))]).astype(np.float64))
        if len(names) == 1:
            single = np.full_like(single, np.nan)
        return SceneInterval(single.min(0), single.max(0), RANGE)
    totals: Floats = np.zeros((len(names), 1 + values.shape[1]))  # of each scene the number of images and their sums
    for scene, image in zip(scenes, values, strict=True):
        totals[names.index(scene)] += np.concatenate([[1], image])
    drawn = resamples(len(names), *how)
    at_once = max(1, _BLOCK // totals.size)
    blocks = []
    for start in range(0, how.number, at_once):
        counts, sums = np.split(totals[drawn[start : start + at_once]].sum(1), [1], 1)
        blocks.append(of_means(sums / counts))
    low, high = np.quantile(np.concatenate(blocks), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return SceneInterval(low, high, BOOTSTRAP)
