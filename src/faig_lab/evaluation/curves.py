"""Numbers of deletion and insertion curves: restored share, and the area under a curve. Pure functions of arrays.

Arrays of PSNR end in (curves, rankings, masked, percents, inputs): `DELETION` and `INSERTION`, every draw of every
method, the degradation whose filters are meant, q ascending from 0 to 100, and the degradation of the input. Masked
and inputs are the same degradations in the same order. Whatever stands before these axes is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from faig_lab.evaluation.intervals import Floats, SceneInterval, scene_interval
from faig_lab.evaluation.masking import TableRow

DELETION, INSERTION = "deletion", "insertion"
CURVES = (DELETION, INSERTION)

SIDES = ("own", "other", "difference")
"""The area for the masked degradation's own input, the mean over the other ones, and how far they are apart.

The difference is positive for filters of the right function: other − own of deletion, own − other of insertion.
"""

_PERCENTS = -2
_NO_GAIN = 1e-6  # dB


def restored_share(psnr: Floats, baseline: Floats, target: Floats) -> Floats:
    """(PSNR − PSNR(baseline)) / (PSNR(target) − PSNR(baseline)) = 1 − removed share; NaN where nothing is gained.

    Args:
        psnr: (…, inputs) dB.
        baseline: dB, broadcasts.
        target: dB, broadcasts.
    """
    gain = target - baseline
    return (psnr - baseline) / np.where(np.abs(gain) > _NO_GAIN, gain, np.nan)


def normalised_curve(psnr: Floats) -> Floats:
    """How much of the way between a curve's own two ends: 0 with no filter of the target's, 1 with all of them.

    Exactly 0 and 1 at the ends of both curves, clipped in between: worse than the one end is not more than gone,
    better than the other not more than whole. NaN where the ends are equally good.

    Args:
        psnr: (…, curves, rankings, masked, percents, inputs) dB.
    """
    first, last = psnr[..., :1, :], psnr[..., -1:, :]
    deletes = np.array([curve == DELETION for curve in CURVES]).reshape(-1, 1, 1, 1, 1)
    return restored_share(psnr, np.where(deletes, last, first), np.where(deletes, first, last)).clip(0, 1)


def linear_weights(percents: Floats) -> Floats:
    """(percents,) trapezoid weights over q from the first to the last, sum 1: area = mean height."""
    return _trapezoid(percents)


def log_weights(percents: Floats) -> Floats:
    """(percents,) trapezoid weights over log10 q from the smallest q above 0 to the last, sum 1.

    Args:
        percents: ascending from 0, at least two above it.
    """
    return np.concatenate([[0.0], _trapezoid(np.log10(percents[1:]))])


def _trapezoid(positions: Floats) -> Floats:
    steps = np.diff(positions) / (positions[-1] - positions[0])
    halves: Floats = np.zeros(len(positions))
    halves[:-1] += steps / 2
    halves[1:] += steps / 2
    return halves


def areas(psnr: Floats, weights: Floats) -> Floats:
    """The mean height of `way` along an axis of q, by side.

    Args:
        psnr: (…, curves, rankings, masked, percents, inputs) dB.
        weights: (percents,) of the axis.

    Returns:
        (…, curves, rankings, masked + 1, SIDES); the last masked is the mean over all of them. `other` and
        `difference` are NaN where there is no other.
    """
    heights = np.moveaxis(normalised_curve(psnr), _PERCENTS, -1) @ weights
    own = np.diagonal(heights, axis1=-2, axis2=-1)
    count = heights.shape[-1]
    other = (heights.sum(-1) - own) / (count - 1) if count > 1 else np.full_like(own, np.nan)
    towards = np.array([1.0 if curve == INSERTION else -1.0 for curve in CURVES])[:, None, None]
    sides = np.stack([own, other, towards * (own - other)], -1)
    return np.concatenate([sides, sides.mean(-2, keepdims=True)], -2)


def over_draws(values: Floats, draws: Mapping[str, int], axis: int, reduce: Callable[..., Floats]) -> Floats:
    """Reduce each method's draws to one number: rankings → methods along an axis.

    Args:
        values: all draws of the first method, then all of the second, … along `axis`.
        draws: method → how many.
        axis: which one.
        reduce: np.mean, np.std, …: (values, axis) → one axis less.
    """
    parts = np.split(values, np.cumsum(list(draws.values()))[:-1], axis)
    return np.stack([reduce(part, axis=axis) for part in parts], axis if axis >= 0 else values.ndim + axis)


def sample_std(values: Floats, axis: int) -> Floats:
    """The sample standard deviation along an axis; 0 for one value."""
    if values.shape[axis] == 1:
        return np.where(np.isnan(values.sum(axis)), np.nan, 0.0)
    return np.asarray(values.std(axis, ddof=1))


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
            "restored": number_or_none(restored[c, r, m, q, d]),
            "low": number_or_none(low[c, r, m, q, d]),
            "high": number_or_none(high[c, r, m, q, d]),
            "interval": kind,
            "spread": number_or_none(spread[c, r, m, q, d]),
            "harm": number_or_none(harm[c, r, m, q, d]),
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
        rows.append(
            row | {name: number_or_none(values[c, r, m, s]) for name, values in columns.items()} | {"interval": kind}
        )
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
            "difference": number_or_none(mean[c, r]),
            "low": number_or_none(low[c, r]),
            "high": number_or_none(high[c, r]),
            "interval": kind,
        }
        for c, r in np.ndindex(mean.shape)
        if methods[r] != against
    ]


def number_or_none(value: Floats | np.float64) -> float | None:
    """A plain number for a table; None for NaN."""
    return None if np.isnan(value) else float(value)


def _axes(measured: Measured) -> dict[str, Floats]:
    """Column → weights of the axis of q."""
    percents = np.array(measured.percents)
    return {"area_log": log_weights(percents), "area_linear": linear_weights(percents)}


def _with_interval(measured: Measured, weights: Floats, how: Resampling) -> tuple[Floats, SceneInterval]:
    return measured.mean.areas(weights), measured.interval(lambda of: of.areas(weights), how)
