"""Comparison of methods by their masked networks: removed shares (the paper's reading) and isolation (method.md §9).

A removed share is clipped to [0, 1] in every mean. The excess of the own share over 1 is harm, a column of its own.
Intervals are over the scenes of the held-out images. Every resample draws the same scenes for all methods, percents
and degradations, so that a difference of two methods is paired. Random draws are averaged; their standard deviation is
a column of its own. The sums of an edit are pooled over images before isolation divides them.
"""

from collections.abc import Mapping, Sequence
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
    over_draws,
    sample_std,
    scene_interval,
    tabulate,
)
from faig_lab.evaluation.masking import (
    Masked,
    TableRow,
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
    own = shares.pop(masked)
    others = [share for share in shares.values() if share is not None]
    other = sum(others) / len(others) if others and len(others) == len(shares) else None
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


class Isolation(NamedTuple):
    """Tables of the isolation of masked sets, documented in docs/run_folder.md; NaN where a value is not defined.

    Attributes:
        sets: table `isolation`: a row for each method, percent and masked set.
        methods: table `isolation_methods`: a row for each method and percent, means over the masked sets.
        side_effects: table `side_effects`: a row for each method, percent, masked set and evaluated input.
    """

    sets: pd.DataFrame
    methods: pd.DataFrame
    side_effects: pd.DataFrame


def isolations(masked: Masked, filters: int, how: Resampling) -> Isolation:
    """Compute the isolation of the masked sets, pooled over the images.

    Args:
        masked: the evaluation of the masked networks.
        filters: the number of all filters.
        how: seed and number of the bootstrap's resamples.
    """
    edits, inputs = masked.edits, masked.edits.inputs
    psnr, target = edits.psnr.mean(0), edits.target.mean(0)  # (rankings, masked, percents, inputs) and (inputs,)
    sums = undivided(EditSums(*(values.mean(0) for values in edits.sums)))
    clean = inputs.index(CLEAN) if CLEAN in inputs else None
    clean_change = np.full(psnr.shape[:-1], np.nan) if clean is None else psnr[..., clean] - target[clean]
    harm = own_input(-restored_share(*masked.means()), _MASKED).clip(0)
    # (rankings, masked, percents, _VALUES)
    values = np.concatenate([parts(sums, inputs), clean_change[..., None], harm[..., None]], -1)

    def averaged(values: Floats, axis: int = 0) -> Floats:
        return over_draws(values, masked.draws, axis, np.mean)

    def statistic(*sums: Floats) -> Floats:
        by_method = averaged(parts(undivided(EditSums(*sums)), inputs)[..., 0], 1)
        return np.concatenate([by_method, by_method.mean(2, keepdims=True)], 2)

    interval = scene_interval(edits.sums, masked.scenes, statistic, how)
    axes = {"method": list(masked.draws), "masked": [*masked.degradations, ALL], "percent": masked.percents}
    average = averaged(values)
    average = np.concatenate([average, average.mean(1, keepdims=True)], 1)
    std = over_draws(values[..., 0].mean(1, keepdims=True), masked.draws, 0, sample_std)  # of the mean over the sets
    numbers = {name: average[..., i] for i, name in enumerate(_VALUES)} | interval.columns("isolation_")
    numbers["isolation_std"] = np.broadcast_to(std, average.shape[:-1])
    table = tabulate(axes, numbers).assign(interval=interval.kind)
    table["filters"] = [count_of(percent, filters) for percent in table["percent"]]
    sets, methods = table[table["masked"] != ALL][list(_COLUMNS)], table[table["masked"] == ALL]
    methods = methods[[*(name for name in _COLUMNS if name != "masked"), "isolation_std"]]
    methods = methods.assign(draws=methods["method"].map(masked.draws), scenes=len(set(masked.scenes)))

    own = EditSums(*(own_input(values, _MASKED)[..., None] for values in sums))
    effects = {"back": back(sums), "off": off(sums), "side": side(sums, own), "psnr": psnr}
    effects = {name: averaged(values) for name, values in effects.items()}
    effects["psnr_change"] = effects["psnr"] - target
    side_effects = tabulate(axes | {"masked": masked.degradations, "input": inputs}, effects)
    side_effects = side_effects[["method", "percent", "masked", "input", *effects]].dropna(subset="psnr")
    return Isolation(sets, methods, side_effects)


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
