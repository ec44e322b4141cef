"""Comparison of methods by their masked networks: removed shares (the paper's reading) and isolation (method.md §9).

A removed share is clipped to [0, 1] in every mean. The excess of the own share over 1 is harm, a column of its own.
Intervals are over the scenes of the held-out images. Every resample draws the same scenes for all methods, percents
and degradations, so that a difference of two methods is paired. Random draws are averaged; their standard deviation is
a column of its own. The sums of an edit are pooled over images before isolation divides them.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from faig_lab.attribution import count_of
from faig_lab.data import CLEAN
from faig_lab.evaluation.evaluator import undivided
from faig_lab.evaluation.intervals import (
    ALL,
    Floats,
    Resampling,
    SceneInterval,
    over_draws,
    sample_std,
    scene_interval,
    tabulate,
)
from faig_lab.evaluation.masking import (
    Masked,
    TableRow,
    mean_or_none,
    means,
    other_inputs,
    own_input,
    restored_share,
)
from faig_lab.metrics import EditSums, back, clipped, isolation, off, side

SIDES = ("own", "other", "specificity")
"""Removed share of the masked set's own function, mean removed share of the others, and their difference."""

MEASURES = (*SIDES, "harm")
"""The sides, and how far the own removed share is above 1."""

_SPECIFICITY = SIDES.index("specificity")
_MASKED = -3  # axis of (…, rankings, masked, percents, inputs)
_RANKINGS_OF_SIDES = -4  # axis of (…, rankings, masked + 1, percents, MEASURES)


class Comparison(NamedTuple):
    """Tables of the methods compared; None where a value is not defined, and for ends with a single photograph.

    Attributes:
        sets: method, percent, masked, own, other, specificity, specificity_std (over draws), harm, `<side>_low` and
            `<side>_high` for each of `SIDES`, and interval ("bootstrap" or "range").
        methods: the same without `masked`, means over the masked sets; then the numbers of draws and of photographs.
        paired: method, against, percent, masked ("all": mean over the sets), difference, low, high, interval:
            the method's specificity minus that of `against`.
    """

    sets: pd.DataFrame
    methods: pd.DataFrame
    paired: pd.DataFrame


def removed_sides(removed: Mapping[str, float | None], masked: str) -> TableRow:
    """Return own, other and specificity of one masked network; None where a share is not defined.

    Args:
        removed: degradation → removed share, not clipped.
        masked: the degradation whose filters are masked.
    """
    shares = {name: clipped(share) for name, share in removed.items()}
    own, other = shares[masked], mean_or_none([share for name, share in shares.items() if name != masked])
    return {"own": own, "other": other, "specificity": None if own is None or other is None else own - other}


def sides(psnr: Floats, baseline: Floats, target: Floats) -> Floats:
    """Compute removed shares, clipped to [0, 1], specificity and harm of masked sets; NaN where not defined.

    Args:
        psnr: (…, rankings, masked, percents, inputs) dB; masked and inputs are the same degradations.
        baseline: (…, inputs) dB.
        target: (…, inputs) dB.

    Returns:
        (…, rankings, masked + 1, percents, MEASURES); the last masked is the mean over all of them.
    """
    ends = (end[..., None, None, None, :] for end in (baseline, target))
    raw = 1 - restored_share(psnr, *ends)
    own = own_input(raw, _MASKED)
    share, other = own.clip(0, 1), other_inputs(raw.clip(0, 1), _MASKED)
    values = np.stack([share, other, share - other, (own - 1).clip(0)], -1)
    return np.concatenate([values, values.mean(-3, keepdims=True)], -3)


def compare(masked: Masked, against: str, how: Resampling) -> Comparison:
    """Compare the methods of a masking study at every percent.

    Args:
        masked: the evaluation of the masked networks.
        against: the method that the others are paired with.
        how: seed and number of the resamples.
    """
    methods, names = list(masked.draws), [*masked.degradations, ALL]
    reference = methods.index(against)

    def statistic(psnr: Floats, baseline: Floats, target: Floats) -> Floats:
        """(…, methods, masked + 1, percents, MEASURES and the difference of specificities)."""
        values = over_draws(sides(psnr, baseline, target), masked.draws, _RANKINGS_OF_SIDES, np.mean)
        specific = values[..., _SPECIFICITY, None]
        return np.concatenate([values, specific - specific[..., reference, None, :, :, :]], -1)

    values = statistic(*masked.means())
    std = over_draws(sides(*masked.means())[..., _SPECIFICITY], masked.draws, 0, sample_std)
    interval = scene_interval([masked.psnr, masked.baseline, masked.target], masked.scenes, statistic, how)
    axes = {"method": methods, "masked": names, "percent": masked.percents}
    numbers = {column: values[..., i] for i, column in enumerate(SIDES)}
    numbers |= {"specificity_std": std, "harm": values[..., MEASURES.index("harm")]}
    for i, column in enumerate(SIDES):
        numbers |= interval.columns(f"{column}_", i)
    table = tabulate(axes, numbers)[["method", "percent", "masked", *numbers]].assign(interval=interval.kind)
    means = table[table["masked"] == ALL].drop(columns="masked")
    means = means.assign(draws=means["method"].map(masked.draws), photographs=len(set(masked.scenes)))
    pairs = tabulate(axes, {"difference": values[..., -1]} | interval.columns(last=-1))
    pairs = pairs[pairs["method"] != against].assign(against=against, interval=interval.kind)
    paired = pairs[["method", "percent", "masked", "against", "difference", "low", "high", "interval"]]
    return Comparison(table[table["masked"] != ALL], means, paired)


PARTS = ("isolation", "own_left", "side", "side_clean")
"""Isolation = 1 − own_left − side − side_clean."""

_VALUES = (*PARTS, "clean_change", "harm")
_COLUMNS = (
    *("method", "percent", "filters", "masked", "isolation", "isolation_low", "isolation_high", "interval"),
    *("own_left", "side", "side_clean", "clean_change", "harm"),
)
_RANKINGS = 0  # axis of (rankings, masked, percents)


@dataclass(frozen=True)
class Isolation:
    """The isolation of masked sets.

    Args:
        masked: the evaluation of the masked networks.
        filters: the number of all filters.
        how: seed and number of the bootstrap's resamples.
    """

    masked: Masked
    filters: int
    how: Resampling

    def sets(self) -> pd.DataFrame:
        """A row for each method, percent and masked set: table `isolation`, documented in docs/run_folder.md."""
        return self._table(self._average(self._values), self._interval(mean_of_sets=False))

    def methods(self) -> pd.DataFrame:
        """A row for each method and percent, means over the masked sets: table `isolation_methods`."""
        values, interval = self._average(self._values).mean(1, keepdims=True), self._interval(mean_of_sets=True)
        by_draw = self._values[..., 0].mean(1, keepdims=True)
        std = over_draws(by_draw, self.masked.draws, _RANKINGS, sample_std)
        table = self._table(values, interval).drop(columns="masked").assign(isolation_std=std.ravel())
        return table.assign(draws=table["method"].map(self.masked.draws), scenes=len(set(self.masked.scenes)))

    def side_effects(self) -> pd.DataFrame:
        """A row for each method, percent, masked set and evaluated input: table `side_effects`."""
        edits = self.masked.edits
        psnr = self._average(edits.psnr.mean(0))
        numbers = {"back": back(self._sums), "off": off(self._sums), "side": side(self._sums, _own(self._sums))}
        numbers = {name: self._average(values) for name, values in numbers.items()}
        numbers |= {"psnr": psnr, "psnr_change": psnr - edits.target.mean(0)}
        table = tabulate(self._axes() | {"input": edits.inputs}, numbers)
        return table[["method", "percent", "masked", "input", *numbers]].dropna(subset="psnr")

    @cached_property
    def _sums(self) -> EditSums[Floats]:
        """(rankings, masked, percents, inputs) each, pooled over images."""
        return undivided(EditSums(*(values.mean(0) for values in self.masked.edits.sums)))

    @cached_property
    def _values(self) -> Floats:
        """(rankings, masked, percents, _VALUES)."""
        change_and_harm = [values[..., None] for values in (self._clean_change(), self._harm())]
        return np.concatenate([parts(self._sums, self.masked.edits.inputs), *change_and_harm], -1)

    def _clean_change(self) -> Floats:
        """(rankings, masked, percents) PSNR of the masked network minus that of the target on clean input, in dB."""
        edits = self.masked.edits
        if CLEAN not in edits.inputs:
            return np.full(edits.psnr.shape[1:-1], np.nan)
        clean = edits.inputs.index(CLEAN)
        return np.asarray(edits.psnr.mean(0)[..., clean] - edits.target.mean(0)[clean])

    def _harm(self) -> Floats:
        """(rankings, masked, percents) excess of the own removed share over 1."""
        excess = -restored_share(*self.masked.means())
        return own_input(excess, _MASKED).clip(0)

    def _average(self, values: Floats) -> Floats:
        """Means over draws: rankings → methods."""
        return over_draws(values, self.masked.draws, _RANKINGS, np.mean)

    def _interval(self, mean_of_sets: bool) -> SceneInterval:
        """The interval of isolation by (methods, masked, percents), or of its mean over the masked sets."""

        def statistic(*sums: Floats) -> Floats:
            isolations = parts(undivided(EditSums(*sums)), self.masked.edits.inputs)[..., 0]
            averaged = over_draws(isolations, self.masked.draws, 1, np.mean)
            return averaged.mean(2, keepdims=True) if mean_of_sets else averaged

        return scene_interval(self.masked.edits.sums, self.masked.scenes, statistic, self.how)

    def _axes(self) -> dict[str, Sequence[Hashable]]:
        return {"method": list(self.masked.draws), "masked": self.masked.degradations, "percent": self.masked.percents}

    def _table(self, values: Floats, interval: SceneInterval) -> pd.DataFrame:
        """The columns of the table `isolation`, from (methods, masked, percents, _VALUES)."""
        numbers = {name: values[..., i] for i, name in enumerate(_VALUES)} | interval.columns("isolation_")
        axes = self._axes() | {"masked": self.masked.degradations[: values.shape[1]]}
        table = tabulate(axes, numbers).assign(interval=interval.kind)
        table["filters"] = [count_of(percent, self.filters) for percent in table["percent"]]
        return table[list(_COLUMNS)]


def parts(sums: EditSums[Floats], inputs: Sequence[str]) -> Floats:
    """Compute isolation and the parts that are subtracted from 1.

    Args:
        sums: (…, masked, percents, inputs) each; the first inputs are the degradations, in the order of the sets.
        inputs: the names of the inputs.

    Returns:
        (…, masked, percents, PARTS). `side` is the mean over the other degradations, 0 for a single degradation. NaN
        where baseline and target are equal on the masked degradation.
    """
    count = sums.energy.shape[-3]
    at = [EditSums(*(values[..., i] for values in sums)) for i in range(len(inputs))]  # (…, masked, percents)
    by_set = []
    for k in range(count):
        own, *rest = (EditSums(*(v[..., k, :] for v in at[i])) for i in [k, *(i for i in range(count) if i != k)])
        clean = EditSums(*(v[..., k, :] for v in at[inputs.index(CLEAN)])) if CLEAN in inputs else None
        own_left = (own.energy - 2 * own.along + own.moved) / own.energy
        zero = np.zeros_like(own_left)
        others = sum((side(other, own) for other in rest), zero) / max(1, len(rest))
        side_clean = side(clean, own) if clean is not None else zero
        by_set.append(np.stack([isolation(own, rest, clean), own_left, others, side_clean], -1))
    return np.stack(by_set, -3)


def isolation_metrics(sets: pd.DataFrame, side_effects: pd.DataFrame) -> dict[str, float | None]:
    """Return `isolation/<method>/<percent>/<masked>`, its mean, `clean_change/…`, `back/…`, `off/…` and `side/…`.

    Args:
        sets: of the table `isolation`.
        side_effects: of the table `side_effects`; the input is the last part of the keys.
    """
    metrics = means(sets, "isolation", "isolation/{method}/{percent:g}")
    metrics |= means(sets, ("isolation", "clean_change"), "{column}/{method}/{percent:g}/{masked}")
    return metrics | means(side_effects, ("back", "off", "side"), "{column}/{method}/{percent:g}/{masked}/{input}")


def _own(sums: EditSums[Floats]) -> EditSums[Floats]:
    """(…, masked, percents, inputs) → (…, masked, percents, 1): the sums of each masked set's own degradation."""
    return EditSums(*(own_input(values, _MASKED)[..., None] for values in sums))
