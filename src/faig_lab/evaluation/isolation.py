"""Isolation of every masked set with its parts (method.md §9): the tables and their metrics.

The sums of an edit are pooled over images before anything is divided. Draws of a method are averaged afterwards.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from faig_lab.attribution import count_of
from faig_lab.data import CLEAN
from faig_lab.evaluation.curves import over_draws, restored_share, sample_std
from faig_lab.evaluation.evaluator import undivided
from faig_lab.evaluation.intervals import Floats, Resampling, SceneInterval, interval_of_arrays, tabulate
from faig_lab.evaluation.masking import Masked, means
from faig_lab.metrics import EditSums, back, isolation, off, side

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
        return np.moveaxis(np.diagonal(excess, axis1=1, axis2=3), -1, 1).clip(0)

    def _average(self, values: Floats) -> Floats:
        """Means over draws: rankings → methods."""
        return over_draws(values, self.masked.draws, _RANKINGS, np.mean)

    def _interval(self, mean_of_sets: bool) -> SceneInterval:
        """The interval of isolation by (methods, masked, percents), or of its mean over the masked sets."""

        def statistic(*sums: Floats) -> Floats:
            isolations = parts(undivided(EditSums(*sums)), self.masked.edits.inputs)[..., 0]
            averaged = over_draws(isolations, self.masked.draws, 1, np.mean)
            return averaged.mean(2, keepdims=True) if mean_of_sets else averaged

        return interval_of_arrays(self.masked.edits.sums, self.masked.scenes, statistic, self.how)

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
    sets = range(sums.energy.shape[-3])
    return EditSums(*(np.stack([values[..., k, :, k, None] for k in sets], -3) for values in sums))
