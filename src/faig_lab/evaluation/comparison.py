"""The methods held against each other by the removed share, the paper's reading: own, other and their difference.

A removed share is clipped to [0, 1] in every mean; the excess of the own share over 1 is harm, a column of its own.
Intervals are over the scenes that the held-out images show. Every resample draws the same scenes for all methods,
percents and degradations, so that a difference of two methods is paired. Random draws are averaged; how far they are
apart is another question, and a column of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from faig_lab.evaluation.curves import ALL, Resampling, number_or_none, over_draws, restored_share, sample_std
from faig_lab.evaluation.intervals import Floats, SceneInterval, scene_interval
from faig_lab.evaluation.masking import Masked, TableRow

SIDES = ("own", "other", "specificity")
"""Removed share of the masked set's own function, mean of that of the others, and how far they are apart."""

MEASURES = (*SIDES, "harm")
"""The sides, and by how much the own removed share is above 1."""

_SPECIFICITY = SIDES.index("specificity")
_RANKINGS = -4  # axis of (…, rankings, masked + 1, percents, MEASURES)

Place = tuple[int, ...]
"""Which method, masked set (the last one stands for the mean over the sets) and percent."""


class Comparison(NamedTuple):
    """Tables of the methods compared; None where a value is not defined, and for ends where there is one photograph.

    Attributes:
        sets: method, percent, masked, own, other, specificity, specificity_std (over draws), harm, `<side>_low` and
            `<side>_high` for each of `SIDES`, and interval ("bootstrap" or "range").
        methods: the same without `masked`, means over the masked sets; then the numbers of draws and of photographs.
        paired: method, against, percent, masked ("all": mean over the sets), difference, low, high, interval:
            the method's specificity minus that of `against`.
    """

    sets: list[TableRow]
    methods: list[TableRow]
    paired: list[TableRow]


def sides(psnr: Floats, baseline: Floats, target: Floats) -> Floats:
    """Removed shares, clipped to [0, 1], specificity and harm of masked sets; NaN where they are not defined.

    Args:
        psnr: (…, rankings, masked, percents, inputs) dB; masked and inputs are the same degradations.
        baseline: (…, inputs) dB.
        target: (…, inputs) dB.

    Returns:
        (…, rankings, masked + 1, percents, MEASURES); the last masked is the mean over all of them.
    """
    ends = (end[..., None, None, None, :] for end in (baseline, target))
    raw = 1 - restored_share(psnr, *ends)
    removed = raw.clip(0, 1)
    count = removed.shape[-1]
    own, excess = (np.moveaxis(np.diagonal(a, axis1=-3, axis2=-1), -1, -2) for a in (removed, raw - 1))
    is_own = np.eye(count, dtype=bool)[:, None, :]
    other = np.where(is_own, 0, removed).sum(-1) / (count - 1) if count > 1 else np.full_like(own, np.nan)
    found = np.stack([own, other, own - other, excess.clip(0)], -1)
    return np.concatenate([found, found.mean(-3, keepdims=True)], -3)


def specificity(masked: Masked) -> list[TableRow]:
    """`Comparison.sets` without intervals."""
    found = _Found.of(masked)
    return [found.labels(place) | found.values_at(place) for place in found.places() if not found.is_mean(place)]


def compare(masked: Masked, against: str, how: Resampling) -> Comparison:
    """Hold the methods of a masking study against each other, at every percent.

    Args:
        masked: what masking did.
        against: the method that the others are paired with.
        how: seed and number of the resamples.
    """
    reference = list(masked.draws).index(against)

    def with_differences(psnr: Floats, baseline: Floats, target: Floats) -> Floats:
        found = over_draws(sides(psnr, baseline, target), masked.draws, _RANKINGS, np.mean)
        specific = found[..., _SPECIFICITY, None]
        return np.concatenate([found, specific - specific[..., reference, None, :, :, :]], -1)

    found = _Found.of(masked)
    difference = with_differences(*masked.means())[..., -1]
    low, high, kind = _interval(masked, with_differences, how)
    tables = Comparison([], [], [])
    for place in found.places():
        labels, values = found.labels(place), found.values_at(place)
        for i, side in enumerate(SIDES):
            values |= {f"{side}_low": number_or_none(low[*place, i]), f"{side}_high": number_or_none(high[*place, i])}
        values["interval"] = kind
        if found.is_mean(place):
            method = {key: labels[key] for key in ("method", "percent")}
            counts = {"draws": masked.draws[str(labels["method"])], "photographs": len(set(masked.scenes))}
            tables.methods.append(method | values | counts)
        else:
            tables.sets.append(labels | values)
        if place[0] != reference:
            ends = {"low": number_or_none(low[*place, -1]), "high": number_or_none(high[*place, -1]), "interval": kind}
            tables.paired.append(labels | {"against": against, "difference": number_or_none(difference[place])} | ends)
    return tables


@dataclass(frozen=True)
class _Found:
    """What the held-out images say, by (method, masked, percent); the last masked is the mean over all."""

    masked: Masked
    values: Floats
    spread: Floats

    @staticmethod
    def of(masked: Masked) -> "_Found":
        by_draw = sides(*masked.means())
        values = over_draws(by_draw, masked.draws, _RANKINGS, np.mean)
        return _Found(masked, values, over_draws(by_draw[..., _SPECIFICITY], masked.draws, 0, sample_std))

    def places(self) -> Iterator[Place]:
        """In the order of the tables."""
        return np.ndindex(self.spread.shape)

    def is_mean(self, place: Place) -> bool:
        """Whether it stands for the mean over the masked sets."""
        return place[1] == len(self.masked.degradations)

    def labels(self, place: Place) -> TableRow:
        """Method, percent and masked set."""
        method, masked, percent = place
        names = [*self.masked.degradations, ALL]
        return {
            "method": list(self.masked.draws)[method],
            "percent": self.masked.percents[percent],
            "masked": names[masked],
        }

    def values_at(self, place: Place) -> TableRow:
        """The measures, and the spread of the specificity over draws."""
        *sides, harm = (number_or_none(value) for value in self.values[place])
        row: TableRow = dict(zip(SIDES, sides, strict=True))
        return row | {"specificity_std": number_or_none(self.spread[place]), "harm": harm}


def _interval(masked: Masked, statistic: Callable[[Floats, Floats, Floats], Floats], how: Resampling) -> SceneInterval:
    """Over scenes, of a statistic of means over images: PSNR by ranking, of the baseline and of the target."""
    psnr = masked.psnr
    flat = np.concatenate([psnr.reshape(len(psnr), -1), masked.baseline, masked.target], 1)
    inputs = len(masked.degradations)

    def of_means(means: Floats) -> Floats:
        first, baseline, target = np.split(means, [-2 * inputs, -inputs], 1)
        return statistic(first.reshape(-1, *psnr.shape[1:]), baseline, target)

    return scene_interval(flat, masked.scenes, of_means, seed=how.seed, number=how.number)
