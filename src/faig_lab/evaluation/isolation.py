"""Isolation of every masked set with its parts (method.md §9): the tables, and what metrics.json holds of them.

The sums of an edit are pooled over images before anything is divided. Draws of a method are averaged afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from faig_lab.attribution import count_of
from faig_lab.data import CLEAN
from faig_lab.evaluation.curves import Resampling, number_or_none, over_draws, restored_share, sample_std
from faig_lab.evaluation.evaluator import undivided
from faig_lab.evaluation.intervals import Floats, SceneInterval, scene_interval
from faig_lab.evaluation.masking import Masked, TableRow, means
from faig_lab.metrics import EditSums, back, isolation, off, side

PARTS = ("isolation", "own_left", "side", "side_clean")
"""Isolation = 1 − own_left − side − side_clean."""

_SIDES = ("back", "off", "side")
_RANKINGS = 0  # axis of (rankings, masked, percents)


@dataclass(frozen=True)
class Isolation:
    """The isolation of masked sets.

    Args:
        masked: what masking did.
        filters: how many there are.
        how: seed and number of the bootstrap's resamples.
    """

    masked: Masked
    filters: int
    how: Resampling

    def sets(self) -> list[TableRow]:
        """A row for each method, percent and masked set: table `isolation`, documented in docs/run_folder.md."""
        low, high, kind = self._interval
        left, change, harm = self._average(self._parts), self._average(self._clean_change), self._average(self._harm)
        rows = []
        for place in np.ndindex(left.shape[:-1]):
            row = self._labels(place) | dict(zip(PARTS, map(number_or_none, left[place]), strict=True))
            ends: TableRow = {
                "isolation_low": number_or_none(low[place]),
                "isolation_high": number_or_none(high[place]),
            }
            row |= ends | {
                "interval": kind,
                "clean_change": number_or_none(change[place]),
                "harm": number_or_none(harm[place]),
            }
            rows.append({column: row[column] for column in _COLUMNS})
        return rows

    def methods(self) -> list[TableRow]:
        """A row for each method and percent, means over the masked sets: table `isolation_methods`."""
        low, high, kind = self._interval_of_methods
        by_draw = self._parts[..., 0].mean(1, keepdims=True)
        std = over_draws(by_draw, self.masked.draws, _RANKINGS, sample_std)
        arrays = [self._parts, self._clean_change[..., None], self._harm[..., None]]
        found = self._average(np.concatenate(arrays, -1)).mean(1, keepdims=True)
        rows = []
        for place in np.ndindex(std.shape):
            values = dict(zip((*PARTS, "clean_change", "harm"), map(number_or_none, found[place]), strict=True))
            row = self._labels(place) | values | {"interval": kind}
            row |= {"isolation_low": number_or_none(low[place]), "isolation_high": number_or_none(high[place])}
            counts = {"draws": self.masked.draws[str(row["method"])], "scenes": len(set(self.masked.scenes))}
            columns = [column for column in _COLUMNS if column != "masked"]
            rows.append({c: row[c] for c in columns} | {"isolation_std": number_or_none(std[place])} | counts)
        return rows

    def side_effects(self) -> list[TableRow]:
        """A row for each method, percent, masked set and input: table `side_effects`; inputs not judged have none."""
        edits = self.masked.edits
        target = edits.target.mean(0)
        psnr = self._average(edits.psnr.mean(0))
        arrays = {"back": back(self._sums), "off": off(self._sums), "side": side(self._sums, _own(self._sums))}
        found = {name: self._average(values) for name, values in arrays.items()}
        rows = []
        for place in np.ndindex(psnr.shape):
            if not np.isnan(psnr[place]):
                row = {c: v for c, v in self._labels(place).items() if c != "filters"}
                row |= {"input": edits.inputs[place[-1]]} | {
                    name: number_or_none(v[place]) for name, v in found.items()
                }
                rows.append(row | {"psnr": float(psnr[place]), "psnr_change": float(psnr[place] - target[place[-1]])})
        return rows

    @cached_property
    def _sums(self) -> EditSums[Floats]:
        """(rankings, masked, percents, inputs) each, pooled over images."""
        return undivided(EditSums(*(values.mean(0) for values in self.masked.edits.sums)))

    @cached_property
    def _parts(self) -> Floats:
        """(rankings, masked, percents, PARTS)."""
        return parts(self._sums, self.masked.edits.inputs)

    @property
    def _clean_change(self) -> Floats:
        """(rankings, masked, percents) dB of the masked network minus dB of the target on clean input."""
        edits = self.masked.edits
        if CLEAN not in edits.inputs:
            return np.full(edits.psnr.shape[1:-1], np.nan)
        clean = edits.inputs.index(CLEAN)
        return np.asarray(edits.psnr.mean(0)[..., clean] - edits.target.mean(0)[clean])

    @property
    def _harm(self) -> Floats:
        """(rankings, masked, percents) how far the own removed share is above 1."""
        psnr, baseline, target = self.masked.means()
        excess = -restored_share(psnr, baseline, target)
        return np.moveaxis(np.diagonal(excess, axis1=1, axis2=3), -1, 1).clip(0)

    def _average(self, values: Floats) -> Floats:
        """Means over draws: rankings → methods."""
        return over_draws(values, self.masked.draws, _RANKINGS, np.mean)

    @cached_property
    def _interval(self) -> SceneInterval:
        """Of isolation by (methods, masked, percents)."""
        return self._over_scenes(mean_of_sets=False)

    @cached_property
    def _interval_of_methods(self) -> SceneInterval:
        """Of the mean over the masked sets, by (methods, 1, percents)."""
        return self._over_scenes(mean_of_sets=True)

    def _over_scenes(self, mean_of_sets: bool) -> SceneInterval:
        sums = self.masked.edits.sums
        shape = sums.energy.shape[1:]

        def statistic(means: Floats) -> Floats:
            drawn = EditSums(*np.moveaxis(means.reshape(-1, 3, *shape), 1, 0))
            found = parts(undivided(drawn), self.masked.edits.inputs)[..., 0]
            averaged = over_draws(found, self.masked.draws, 1, np.mean)
            return averaged.mean(2, keepdims=True) if mean_of_sets else averaged

        values = np.stack(sums, 1)
        return scene_interval(values, self.masked.scenes, statistic, seed=self.how.seed, number=self.how.number)

    def _labels(self, place: Sequence[int]) -> TableRow:
        percent = self.masked.percents[place[2]]
        return {
            "method": list(self.masked.draws)[place[0]],
            "percent": percent,
            "filters": count_of(percent, self.filters),
            "masked": self.masked.degradations[place[1]],
        }


_COLUMNS = (
    *("method", "percent", "filters", "masked", "isolation", "isolation_low", "isolation_high", "interval"),
    *("own_left", "side", "side_clean", "clean_change", "harm"),
)


def parts(sums: EditSums[Floats], inputs: Sequence[str]) -> Floats:
    """Isolation, and what is subtracted from 1 to get it.

    Args:
        sums: (…, masked, percents, inputs) each; the first inputs are the degradations, in the order of the sets.
        inputs: their names.

    Returns:
        (…, masked, percents, PARTS). `side` is the mean over the other degradations; 0 where there is none. NaN where
        baseline and target are equal on the masked degradation.
    """
    count = sums.energy.shape[-3]
    at = [EditSums(*(values[..., i] for values in sums)) for i in range(len(inputs))]  # (…, masked, percents)
    found = []
    for k in range(count):
        own, *rest = (EditSums(*(v[..., k, :] for v in at[i])) for i in [k, *(i for i in range(count) if i != k)])
        clean = EditSums(*(v[..., k, :] for v in at[inputs.index(CLEAN)])) if CLEAN in inputs else None
        own_left = (own.energy - 2 * own.along + own.moved) / own.energy
        zero = np.zeros_like(own_left)
        others = sum((side(other, own) for other in rest), zero) / max(1, len(rest))
        side_clean = side(clean, own) if clean is not None else zero
        found.append(np.stack([isolation(own, rest, clean), own_left, others, side_clean], -1))
    return np.stack(found, -3)


def isolation_metrics(sets: Sequence[TableRow], side_effects: Sequence[TableRow]) -> dict[str, float | None]:
    """`isolation/<method>/<percent>/<masked>` and its mean, `clean_change/…` (dB), and `back/…`, `off/…`, `side/…`.

    Args:
        sets: of the table `isolation`.
        side_effects: of the table `side_effects`; the input is the last part of the keys.
    """
    where = ("method", "percent")
    found = means(sets, "isolation", where) | means(sets, "isolation", (*where, "masked"))
    found |= means(sets, "clean_change", (*where, "masked"))
    for name in _SIDES:
        found |= means(side_effects, name, (*where, "masked", "input"))
    return found


def _own(sums: EditSums[Floats]) -> EditSums[Floats]:
    """(…, masked, percents, inputs) → (…, masked, percents, 1): the sums of each masked set's own degradation."""
    sets = range(sums.energy.shape[-3])
    return EditSums(*(np.stack([values[..., k, :, k, None] for k in sets], -3) for values in sums))
