"""The tables of deletion and insertion curves: means over held-out images, intervals over photographs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from faig_lab.analysis.areas import CURVES, SIDES, areas, linear_weights, log_weights, over_draws, restored_share
from faig_lab.analysis.bootstrap import Floats
from faig_lab.analysis.intervals import SceneInterval, scene_interval
from faig_lab.analysis.masking import TableRow

ALL = "all"
"""Stands in the column `masked` for the mean over the degradations."""

_RANKINGS_OF_POINTS = -4  # axis of (…, curves, rankings, masked, percents, inputs)
_RANKINGS_OF_AREAS = -3  # axis of (…, curves, rankings, masked + 1, SIDES)


class Resampling(NamedTuple):
    """Seed and number of the bootstrap's resamples."""

    seed: int
    number: int


@dataclass(frozen=True)
class Measured:
    """PSNR of every network of the curves on every held-out image.

    Attributes:
        percents: q, ascending from 0 to 100.
        counts: how many filters these are.
        draws: method → number of draws, in the order of the rankings.
        degradations: of masked sets and inputs.
        scenes: (images,) what each image shows: crops of one photograph are resampled together.
        psnr: (images, curves, rankings, masked, percents, inputs) dB.
        baseline: (images, inputs) dB.
        target: (images, inputs) dB.
    """

    percents: tuple[float, ...]
    counts: tuple[int, ...]
    draws: Mapping[str, int]
    degradations: tuple[str, ...]
    scenes: tuple[str, ...]
    psnr: Floats
    baseline: Floats
    target: Floats

    @property
    def mean(self) -> "Measured":
        """Means over the images: the same without the first axis."""
        parts = (self.psnr.mean(0), self.baseline.mean(0), self.target.mean(0))
        return replace(self, psnr=parts[0], baseline=parts[1], target=parts[2])

    def interval(self, statistic: Callable[["Measured"], Floats], how: Resampling) -> SceneInterval:
        """Over photographs, of a statistic of means; it must keep axes in front of those of the means."""
        flat = np.concatenate([self.psnr.reshape(len(self.psnr), -1), self.baseline, self.target], 1)
        inputs = len(self.degradations)

        def of_means(means: Floats) -> Floats:
            psnr, baseline, target = np.split(means, [-2 * inputs, -inputs], 1)
            shape = (len(psnr), *self.psnr.shape[1:])
            return statistic(replace(self, psnr=psnr.reshape(shape), baseline=baseline, target=target))

        return scene_interval(flat, self.scenes, of_means, seed=how.seed, number=how.number)

    def restored(self) -> Floats:
        """(…, curves, rankings, masked, percents, inputs) restored share of the target's gain over the baseline."""
        ends = (end[..., None, None, None, None, :] for end in (self.baseline, self.target))
        return restored_share(self.psnr, *ends)

    def clipped(self) -> Floats:
        """`restored` as it enters a mean: clipped to 0..1."""
        return self.restored().clip(0, 1)

    def areas(self, weights: Floats) -> Floats:
        """(…, curves, methods, masked + 1, SIDES), means over draws."""
        return self.methods(areas(self.psnr, weights), _RANKINGS_OF_AREAS)

    def methods(self, values: Floats, axis: int) -> Floats:
        """Mean over each method's draws, along the axis of rankings."""
        return over_draws(values, self.draws, axis, np.mean)

    def spread(self, values: Floats, axis: int) -> Floats:
        """Standard deviation over each method's draws (that of the draws at hand), along the axis of rankings."""
        return over_draws(values, self.draws, axis, np.std)


def curve_rows(measured: Measured, how: Resampling) -> list[TableRow]:
    """Every point of every curve: PSNR and restored share, means over images and draws.

    Restored shares are clipped to 0..1 in the mean over draws; what is below 0, worse than the baseline, is harm.
    """
    low, high, kind = measured.interval(lambda of: of.methods(of.clipped(), _RANKINGS_OF_POINTS), how)
    mean = measured.mean
    harmful = (-mean.restored()).clip(0)
    arrays = (mean.psnr, mean.clipped(), harmful)
    psnr, restored, harm = (mean.methods(values, _RANKINGS_OF_POINTS) for values in arrays)
    spread = mean.spread(mean.clipped(), _RANKINGS_OF_POINTS)
    methods = list(measured.draws.items())
    return [
        {
            "curve": CURVES[c],
            "method": methods[r][0],
            "draws": methods[r][1],
            "percent": measured.percents[q],
            "filters": measured.counts[q],
            "masked": measured.degradations[m],
            "degradation": measured.degradations[d],
            "psnr": float(psnr[c, r, m, q, d]),
            "restored": number(restored[c, r, m, q, d]),
            "low": number(low[c, r, m, q, d]),
            "high": number(high[c, r, m, q, d]),
            "interval": kind,
            "spread": number(spread[c, r, m, q, d]),
            "harm": number(harm[c, r, m, q, d]),
        }
        for c, r, m, q, d in np.ndindex(psnr.shape)
    ]


def area_rows(measured: Measured, how: Resampling) -> list[TableRow]:
    """Every area with its interval, for each masked degradation and the mean over them."""
    every = {axis: _with_interval(measured, weights, how) for axis, weights in _axes(measured).items()}
    kind, found = every["area_log"][1].kind, {axis: (area, *ends[:2]) for axis, (area, ends) in every.items()}
    methods, masked = list(measured.draws), [*measured.degradations, ALL]
    columns = {
        f"{axis}{suffix}": values
        for axis, parts in found.items()
        for suffix, values in zip(("", "_low", "_high"), parts, strict=True)
    }
    rows: list[TableRow] = []
    for c, r, m, s in np.ndindex(columns["area_log"].shape):
        row: TableRow = {"curve": CURVES[c], "method": methods[r], "masked": masked[m], "side": SIDES[s]}
        rows.append(row | {name: number(values[c, r, m, s]) for name, values in columns.items()} | {"interval": kind})
    return rows


def area_metrics(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """`area_log/<curve>/<method>/<side>` and `area_linear/…`: the means over the degradations.

    Args:
        rows: of `area_rows`.
    """
    return {
        f"{axis}/{row['curve']}/{row['method']}/{row['side']}": row[axis]  # type: ignore[misc]
        for row in rows
        if row["masked"] == ALL
        for axis in ("area_log", "area_linear")
    }


def compared_rows(measured: Measured, against: str, how: Resampling) -> list[TableRow]:
    """How far each method's area of the side `difference` is from that of one method: logarithmic, paired."""
    methods = list(measured.draws)
    weights = _axes(measured)["area_log"]

    def differences(of: Measured) -> Floats:
        found = of.areas(weights)[..., -1, SIDES.index("difference")]
        return found - found[..., methods.index(against), None]

    mean, (low, high, kind) = differences(measured.mean), measured.interval(differences, how)
    return [
        {
            "curve": CURVES[c],
            "method": methods[r],
            "against": against,
            "difference": number(mean[c, r]),
            "low": number(low[c, r]),
            "high": number(high[c, r]),
            "interval": kind,
        }
        for c, r in np.ndindex(mean.shape)
        if methods[r] != against
    ]


def number(value: Floats | np.float64) -> float | None:
    """A plain number for a table; None for NaN."""
    return None if np.isnan(value) else float(value)


def _axes(measured: Measured) -> dict[str, Floats]:
    """Column → weights of the axis of q."""
    percents = np.array(measured.percents)
    return {"area_log": log_weights(percents), "area_linear": linear_weights(percents)}


def _with_interval(measured: Measured, weights: Floats, how: Resampling) -> tuple[Floats, SceneInterval]:
    return measured.mean.areas(weights), measured.interval(lambda of: of.areas(weights), how)
