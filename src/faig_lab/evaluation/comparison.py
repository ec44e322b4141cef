"""Comparison of methods by the removed share: own, other and their difference (the paper's reading).

A removed share is clipped to [0, 1] in every mean. The excess of the own share over 1 is harm, a column of its own.
Intervals are over the scenes of the held-out images. Every resample draws the same scenes for all methods, percents
and degradations, so that a difference of two methods is paired. Random draws are averaged; their standard deviation is
a column of its own.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from faig_lab.evaluation.curves import ALL, over_draws, restored_share, sample_std
from faig_lab.evaluation.intervals import Floats, Resampling, interval_of_arrays, tabulate
from faig_lab.evaluation.masking import Masked, TableRow, mean_or_none
from faig_lab.metrics import clipped

SIDES = ("own", "other", "specificity")
"""Removed share of the masked set's own function, mean removed share of the others, and their difference."""

MEASURES = (*SIDES, "harm")
"""The sides, and how far the own removed share is above 1."""

_SPECIFICITY = SIDES.index("specificity")
_RANKINGS = -4  # axis of (…, rankings, masked + 1, percents, MEASURES)


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
    removed = raw.clip(0, 1)
    count = removed.shape[-1]
    own, excess = (np.moveaxis(np.diagonal(a, axis1=-3, axis2=-1), -1, -2) for a in (removed, raw - 1))
    is_own = np.eye(count, dtype=bool)[:, None, :]
    other = np.where(is_own, 0, removed).sum(-1) / (count - 1) if count > 1 else np.full_like(own, np.nan)
    values = np.stack([own, other, own - other, excess.clip(0)], -1)
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
        values = over_draws(sides(psnr, baseline, target), masked.draws, _RANKINGS, np.mean)
        specific = values[..., _SPECIFICITY, None]
        return np.concatenate([values, specific - specific[..., reference, None, :, :, :]], -1)

    values = statistic(*masked.means())
    std = over_draws(sides(*masked.means())[..., _SPECIFICITY], masked.draws, 0, sample_std)
    interval = interval_of_arrays([masked.psnr, masked.baseline, masked.target], masked.scenes, statistic, how)
    axes = {"method": methods, "masked": names, "percent": masked.percents}
    numbers = {side: values[..., i] for i, side in enumerate(SIDES)}
    numbers |= {"specificity_std": std, "harm": values[..., MEASURES.index("harm")]}
    for i, side in enumerate(SIDES):
        numbers |= interval.columns(f"{side}_", i)
    table = tabulate(axes, numbers)[["method", "percent", "masked", *numbers]].assign(interval=interval.kind)
    means = table[table["masked"] == ALL].drop(columns="masked")
    means = means.assign(draws=means["method"].map(masked.draws), photographs=len(set(masked.scenes)))
    pairs = tabulate(axes, {"difference": values[..., -1]} | interval.columns(last=-1))
    pairs = pairs[pairs["method"] != against].assign(against=against, interval=interval.kind)
    paired = pairs[["method", "percent", "masked", "against", "difference", "low", "high", "interval"]]
    return Comparison(table[table["masked"] != ALL], means, paired)
