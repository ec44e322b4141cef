"""The numbers of figures and report, computed from the tables of a run. A number that is not known is NaN."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from faig_lab.plotting.words import REFERENCE, between, count
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, mean_of, numbers, records, select, unique

DEPTHS = ("first_third", "middle_third", "last_third", "last_convolution", "entropy")
"""The columns of the table `depth`: shares of the discovered units, and the evenness over the layers."""


@dataclass(frozen=True)
class Cell:
    """A mean over draws, its standard deviation over draws (0 for one draw), and how many draws there are.

    A removed share is clipped to [0, 1] in the mean; `harm` is the mean excess over 1.
    """

    mean: float
    std: float
    draws: int
    harm: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """A number and the ends of its interval, or of its range, over photographs."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MethodResult:
    """A method at a percent, mean over the masked sets. Shares are removed shares: 0 = unchanged, 1 = removed.

    `std` is the standard deviation of the specificity over random draws, None for a method without draws. `estimate` is
    the specificity with its interval, `difference` its paired difference from the run's method. Both are None without
    an interval.
    """

    method: str
    own: float
    other: float
    specificity: float
    std: float | None
    estimate: Estimate | None
    difference: Estimate | None


def removed(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return the removed shares of rows of `masking`, clipped to [0, 1] as in every mean."""
    return rows["removed"].clip(0, 1)


def masking(run: RunFolder, method: str, percent: float, masked: str, degradation: str) -> Cell:
    """Return the removed share of a masked set on an input: mean and population standard deviation over draws."""
    rows = select(run.table("masking"), percent, method=method, masked=masked, degradation=degradation)
    if rows.empty:
        return Cell(math.nan, 0.0, 0)
    known, excess = removed(rows).dropna(), (rows["removed"] - 1).clip(lower=0).mean()
    std, harm = (float(np.nan_to_num(number)) for number in (known.std(ddof=0), excess))
    return Cell(float(known.mean()), std, len(known), harm)


def masked_psnr(run: RunFolder, method: str, percent: float, masked: str, degradation: str) -> float:
    """Return the PSNR in dB with a masked set on an input, mean over draws."""
    return mean_of(select(run.table("masking"), percent, method=method, masked=masked, degradation=degradation), "psnr")


def matrix(run: RunFolder, method: str, percent: float) -> list[list[Cell]]:
    """Return the specificity matrix of a method: rows = masked set, columns = input degradation."""
    names = run.degradations
    return [[masking(run, method, percent, masked, shown) for shown in names] for masked in names]


def masked_count(run: RunFolder, percent: float) -> int | None:
    """Return the number of units of a masked set at a percent."""
    counts = numbers(select(run.table("masking"), percent), "filters")
    return round(counts[0]) if counts else None


def method_results(run: RunFolder, percent: float) -> list[MethodResult]:
    """Return the results of all compared methods at a percent, in the order of `run.methods`."""
    results = []
    for method in run.methods:
        rows = select(run.table("specificity"), percent, method=method)
        # Clipped again, since tables of earlier versions have means of shares that were not clipped.
        sides = rows.reindex(columns=["own", "other"]).clip(0, 1)
        masking = select(run.table("masking"), percent, method=method)
        masking = masking[masking["degradation"].isin(run.degradations)]
        masking = masking.assign(removed=removed(masking), own=masking["degradation"] == masking["masked"])
        means = masking.pivot_table("removed", "draw", "own").reindex(columns=[True, False])
        draws = (means[True] - means[False]).dropna()
        paired = select(run.table("comparison_paired"), percent, method=method, against=run.chosen, masked="all")
        results.append(
            MethodResult(
                method=method,
                own=mean_of(sides, "own"),
                other=mean_of(sides, "other"),
                specificity=float((sides["own"] - sides["other"]).mean()),
                std=float(draws.std(ddof=0)) if len(draws) > 1 else None,
                estimate=specificity(run, method, percent),
                difference=_estimate(paired, "difference", "low", "high"),
            )
        )
    return results


def specificity(run: RunFolder, method: str, percent: float) -> Estimate | None:
    """Return the specificity of a method with its interval, mean over the masked sets."""
    rows = select(run.table("comparison"), percent, method=method)
    return _estimate(rows, "specificity", "specificity_low", "specificity_high")


def _estimate(rows: pd.DataFrame, *columns: str) -> Estimate | None:
    """Return the estimate in the columns of the first row; None without a row or an interval."""
    known = [number for column in columns for number in numbers(rows[:1], column)]
    return Estimate(*known) if len(known) == len(columns) else None


def photographs(run: RunFolder) -> int | None:
    """Return the number of photographs of the intervals; None for a run without intervals."""
    counts = numbers(run.table("comparison")[:1], "photographs")
    return round(counts[0]) if counts else None


def percents(run: RunFolder) -> list[float]:
    """Return the measured percents, ascending."""
    return sorted(set(numbers(run.table("masking"), "percent")))


def restoration(run: RunFolder, measure: str = "psnr") -> dict[str, dict[str, float]]:
    """Return the mean of `psnr` (dB), `psnr_y` (dB) or `ssim` over held-out images: network → degradation → value."""
    return {
        network: {name: mean_of(images, measure) for name, images in groups(rows, "degradation").items()}
        for network, rows in groups(run.table("restoration"), "network").items()
    }


def gain(run: RunFolder, degradation: str) -> float | None:
    """Return the PSNR of the target minus that of the baseline on an input, in dB, mean over held-out images."""
    means = restoration(run)
    target, baseline = (means.get(network, {}).get(degradation, math.nan) for network in ("target", "baseline"))
    return None if math.isnan(target - baseline) else target - baseline


def gaps(run: RunFolder, degradation: str) -> tuple[float, float]:
    """Return the relative completeness gap over the whole probe, and the largest gap of an image.

    The first number is |sum of attributions − sum of loss changes| / |sum of loss changes|, as in metrics.json. It is
    not the mean of the images' gaps, since an image whose loss hardly changes would dominate that mean.
    """
    rows = select(run.table("completeness"), degradation=degradation)
    change, total = (math.fsum(numbers(rows, column)) for column in ("loss_change", "attribution_sum"))
    sizes = [abs(gap) for gap in numbers(rows, "gap")]
    return (abs(total - change) / abs(change) if change else math.nan), max(sizes, default=math.nan)


def held_out_images(run: RunFolder) -> int:
    """Return the number of held-out images, on which the interventions are evaluated."""
    return len(unique(run.table("restoration"), "image"))


def depths(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Return the depth of the discovered units by degradation, and of `random` units, at the headline percent.

    The columns are `DEPTHS`. The result is empty for a run without the table `depth`.
    """
    rows = select(run.table("depth"), run.headline)
    chosen = [] if run.chosen == "random" else records(select(rows, method=run.chosen))
    random = records(select(rows, method="random"))
    return {row["degradation"]: row for row in chosen} | {row["method"]: row for row in random}


def shares(run: RunFolder) -> dict[str, tuple[float, list[float]]]:
    """Return size and shares of the loss change of each parameter: parameter → number of weights, share by input."""
    return {
        parameter: (rows["weights"].iloc[0], rows["share"].tolist())
        for parameter, rows in groups(run.table("shares"), "parameter").items()
    }


def kinds(run: RunFolder) -> dict[str, tuple[float, list[float]]]:
    """Return the sums of `shares` for `kernel` (weights of convolutions and linear layers) and for `other`."""
    names = unique(run.table("shares"), "degradation")
    sums = {}
    for kind, rows in groups(run.table("shares"), "kind").items():
        by_input = rows.groupby("degradation")[["weights", "share"]].sum().reindex(names, fill_value=0)
        sums[kind] = by_input["weights"].iloc[0], by_input["share"].tolist()
    return sums


HARM = 0.005
"""Smallest harm that is shown; a smaller excess rounds to 0.00."""


@dataclass(frozen=True, kw_only=True)
class IsolationResult:
    """The isolation of a masked set, or the mean over the sets of a method. A number that is not defined is None.

    Attributes:
        masked: the degradation; empty for the mean over the sets.
        isolation: 1 is the ideal edit, 0 is the result without masking, below 0 is harm.
        low: lower end over scenes; None with a single scene.
        high: upper end over scenes; None with a single scene.
        own_left: squared distance to the baseline on the masked degradation, over the energy of its function. 1 is the
            value without masking, above 1 is damage.
        side: side effect on the other degradations, in the same unit.
        side_clean: side effect on clean input, in the same unit.
        clean_change: PSNR on clean input minus the target's, dB.
        harm: excess of the own removed share over 1.
        std: standard deviation of the isolation over draws; None for a single draw.
    """

    masked: str
    isolation: float | None
    low: float | None
    high: float | None
    own_left: float | None
    side: float | None
    side_clean: float | None
    clean_change: float | None
    harm: float
    std: float | None

    @property
    def ends(self) -> str:
        """The interval as `0.80 to 0.95`; empty without ends."""
        return between(self.low, self.high)


def _results(rows: pd.DataFrame) -> list[IsolationResult]:
    same = ("isolation", "own_left", "side", "side_clean", "clean_change")
    return [
        IsolationResult(
            masked=row.get("masked", ""),
            low=row.get("isolation_low"),
            high=row.get("isolation_high"),
            harm=row.get("harm") or 0.0,
            std=row.get("isolation_std") if (row.get("draws") or 1) > 1 else None,
            **{column: row.get(column) for column in same},
        )
        for row in records(rows)
    ]


def of_sets(run: RunFolder) -> list[IsolationResult]:
    """Return the isolation of the sets of the run's method at the headline percent; empty without the table."""
    rows = select(run.table("isolation"), run.headline, method=run.chosen)
    return [result for masked in run.degradations for result in _results(select(rows, masked=masked))[:1]]


def of_methods(run: RunFolder, percent: float) -> dict[str, IsolationResult]:
    """Return the mean isolation over the masked sets of each method, in the order of `run.methods`."""
    rows = select(run.table("isolation_methods"), percent)
    results = dict(zip(rows.get("method", ()), _results(rows), strict=True))
    return {method: results[method] for method in run.methods if method in results}


def ends_are(run: RunFolder) -> str:
    """Return the type of the intervals of isolation: `range over 3 scenes` or `95 % interval over 24 scenes`."""
    rows = run.table("isolation_methods")
    scenes = numbers(rows[:1], "scenes")
    if not scenes or scenes[0] < 2:
        return ""
    interval = "95 % interval" if unique(rows[:1], "interval") == ["bootstrap"] else "range"
    return f"{interval} over {count(scenes[0])} scenes"


def distances(run: RunFolder, percent: float) -> dict[str, float]:
    """Return the learned mask's mean isolation minus the isolation of each method, at the same percent.

    A number below 0 means that the method's sets are better. The result is empty for a run without a learned mask.
    """
    known = {name: r.isolation for name, r in of_methods(run, percent).items() if r.isolation is not None}
    best = known.pop(REFERENCE, None)
    return {} if best is None else {method: best - isolation for method, isolation in known.items()}
