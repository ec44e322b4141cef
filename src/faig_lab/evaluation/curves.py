"""Numbers of deletion and insertion curves: restored share, and the area under a curve. Pure functions of arrays.

Arrays of PSNR end in the axes (curves, rankings, masked, percents, inputs). Axes before these are kept.

- curves: `DELETION` and `INSERTION`.
- rankings: every draw of every method.
- masked: the degradation whose filters are deleted or inserted.
- percents: q ascending from 0 to 100.
- inputs: the degradation of the input; the same degradations as `masked`, in the same order.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from faig_lab.evaluation.intervals import (
    ALL,
    Floats,
    Resampling,
    SceneInterval,
    over_draws,
    scene_interval,
    tabulate,
)
from faig_lab.evaluation.masking import means, other_inputs, own_input, restored_share

DELETION, INSERTION = "deletion", "insertion"
CURVES = (DELETION, INSERTION)

SIDES = ("own", "other", "difference")
"""The area for the masked degradation's own input, the mean over the other inputs, and their difference.

The difference is positive for filters of the right function: other − own of deletion, own − other of insertion.
"""

_PERCENTS = -2  # axis of (…, curves, rankings, masked, percents, inputs)
_MASKED = -2  # axis of the same without percents


def normalised_curve(psnr: Floats) -> Floats:
    """Normalise each curve to its own two ends: 0 with no filter of the target, 1 with all filters of the target.

    The result is exactly 0 and 1 at the ends and clipped to [0, 1] in between. It is NaN where both ends have the same
    PSNR.

    Args:
        psnr: (…, curves, rankings, masked, percents, inputs) dB.
    """
    first, last = psnr[..., :1, :], psnr[..., -1:, :]
    deletes = np.array([curve == DELETION for curve in CURVES]).reshape(-1, 1, 1, 1, 1)
    return restored_share(psnr, np.where(deletes, last, first), np.where(deletes, first, last)).clip(0, 1)


def linear_weights(percents: Floats) -> Floats:
    """Return (percents,) trapezoid weights over q from the first to the last, sum 1: area = mean height."""
    steps = np.diff(percents) / (percents[-1] - percents[0])
    halves: Floats = np.zeros(len(percents))
    halves[:-1] += steps / 2
    halves[1:] += steps / 2
    return halves


def log_weights(percents: Floats) -> Floats:
    """Return (percents,) trapezoid weights over log10 q from the smallest q above 0 to the last, sum 1.

    Args:
        percents: ascending from 0, at least two above it.
    """
    return np.concatenate([[0.0], linear_weights(np.log10(percents[1:]))])


def areas(psnr: Floats, weights: Floats) -> Floats:
    """Compute the mean height of `normalised_curve` along an axis of q, by side.

    Args:
        psnr: (…, curves, rankings, masked, percents, inputs) dB.
        weights: (percents,) of the axis.

    Returns:
        (…, curves, rankings, masked + 1, SIDES); the last masked is the mean over all of them. `other` and
        `difference` are NaN where there is a single degradation.
    """
    heights = np.moveaxis(normalised_curve(psnr), _PERCENTS, -1) @ weights
    own, other = own_input(heights, _MASKED), other_inputs(heights, _MASKED)
    towards = np.array([1.0 if curve == INSERTION else -1.0 for curve in CURVES])[:, None, None]
    sides = np.stack([own, other, towards * (own - other)], -1)
    return np.concatenate([sides, sides.mean(-2, keepdims=True)], -2)


_RANKINGS_OF_POINTS = -4  # axis of (…, curves, rankings, masked, percents, inputs)
_RANKINGS_OF_AREAS = -3  # axis of (…, curves, rankings, masked + 1, SIDES)


@dataclass(frozen=True)
class Measured:
    """PSNR of every network of the curves on every held-out image.

    Attributes:
        percents: q, ascending from 0 to 100.
        counts: the number of filters at each q.
        draws: method → number of draws, in the order of the rankings.
        degradations: of masked sets and inputs.
        scenes: (images,) what each image shows; crops of one photograph are resampled together.
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
        """The means over the images: the same without the first axis."""
        return replace(self, psnr=self.psnr.mean(0), baseline=self.baseline.mean(0), target=self.target.mean(0))

    def interval(self, statistic: Callable[["Measured"], Floats], how: Resampling) -> SceneInterval:
        """The interval over scenes of a statistic of means, which must keep the axes before those of the means."""

        def of_means(psnr: Floats, baseline: Floats, target: Floats) -> Floats:
            return statistic(replace(self, psnr=psnr, baseline=baseline, target=target))

        return scene_interval([self.psnr, self.baseline, self.target], self.scenes, of_means, how)

    def areas(self, weights: Floats) -> Floats:
        """(…, curves, methods, masked + 1, SIDES), means over draws."""
        return over_draws(areas(self.psnr, weights), self.draws, _RANKINGS_OF_AREAS, np.mean)

    def axes(self) -> dict[str, Floats]:
        """Column of the table of areas → weights of its axis of q."""
        percents = np.array(self.percents)
        return {"area_log": log_weights(percents), "area_linear": linear_weights(percents)}


def curve_rows(measured: Measured, how: Resampling) -> pd.DataFrame:
    """Build a row for every point of every curve: PSNR and restored share, means over images and draws.

    Restored shares are clipped to [0, 1] in the mean over draws. A share below 0, worse than the baseline, is harm.
    """

    def share(means: Measured) -> Floats:
        ends = (end[..., None, None, None, None, :] for end in (means.baseline, means.target))
        return restored_share(means.psnr, *ends)

    def averaged(values: Floats, reduce: Callable[..., Floats] = np.mean) -> Floats:
        return over_draws(values, measured.draws, _RANKINGS_OF_POINTS, reduce)

    interval, mean = measured.interval(lambda means: averaged(share(means).clip(0, 1)), how), measured.mean
    raw = share(mean)
    restored = raw.clip(0, 1)
    psnr, average, harm = map(averaged, (mean.psnr, restored, (-raw).clip(0)))
    std = averaged(restored, np.std)  # of the draws themselves, not an estimate for further draws
    axes: dict[str, Sequence[Hashable]] = {
        "curve": CURVES,
        "method": list(measured.draws),
        "masked": measured.degradations,
        "percent": measured.percents,
        "degradation": measured.degradations,
    }
    numbers = {"psnr": psnr, "restored": average, **interval.columns(), "spread": std, "harm": harm}
    table = tabulate(axes, numbers).assign(interval=interval.kind)
    table["draws"] = table["method"].map(measured.draws)
    table["filters"] = table["percent"].map(dict(zip(measured.percents, measured.counts, strict=True)))
    labels = ["curve", "method", "draws", "percent", "filters", "masked", "degradation"]
    return table[[*labels, "psnr", "restored", "low", "high", "interval", "spread", "harm"]]


def area_rows(measured: Measured, how: Resampling) -> pd.DataFrame:
    """Build a row for every area with its interval, for each masked degradation and the mean over them."""
    numbers: dict[str, Floats] = {}
    for name, weights in measured.axes().items():
        interval = measured.interval(partial(Measured.areas, weights=weights), how)
        numbers |= {name: measured.mean.areas(weights)} | interval.columns(f"{name}_")
    masked = [*measured.degradations, ALL]
    axes = {"curve": CURVES, "method": list(measured.draws), "masked": masked, "side": SIDES}
    return tabulate(axes, numbers).assign(interval=interval.kind)


def area_metrics(rows: pd.DataFrame) -> dict[str, float | None]:
    """Return `area_log/<curve>/<method>/<side>` and `area_linear/…`: the means over the degradations.

    Args:
        rows: of `area_rows`.
    """
    over_all = rows[rows["masked"] == ALL]
    return means(over_all, ("area_log", "area_linear"), "{column}/{curve}/{method}/{side}")


def compared_rows(measured: Measured, against: str, how: Resampling) -> pd.DataFrame:
    """Build rows of each method's logarithmic area of the side `difference` minus that of one method, paired."""
    methods = list(measured.draws)
    weights = measured.axes()["area_log"]

    def differences(means: Measured) -> Floats:
        area = means.areas(weights)[..., -1, SIDES.index("difference")]
        return area - area[..., methods.index(against), None]

    mean, interval = differences(measured.mean), measured.interval(differences, how)
    table = tabulate({"curve": CURVES, "method": methods}, {"difference": mean, **interval.columns()})
    table.insert(2, "against", against)
    return table[table["method"] != against].assign(interval=interval.kind)
