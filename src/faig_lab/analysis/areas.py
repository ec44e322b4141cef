"""Numbers of deletion and insertion curves: restored share, and the area under a curve. Pure functions of arrays.

Arrays of PSNR end in (curves, rankings, masked, percents, inputs): `DELETION` and `INSERTION`, every draw of every
method, the degradation whose filters are meant, q ascending from 0 to 100, and the degradation of the input. Masked
and inputs are the same degradations in the same order. Whatever stands before these axes is kept.
"""

from collections.abc import Callable, Mapping

import numpy as np

from faig_lab.analysis.bootstrap import Floats

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


def way(psnr: Floats) -> Floats:
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
    heights = np.moveaxis(way(psnr), _PERCENTS, -1) @ weights
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
