"""The numbers of figures and report, computed from the tables of a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from faig_lab.plotting.words import REFERENCE, between, count
from faig_lab.removed_shares import clipped, harm
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import Row, mean_of, mean_of_known, number_at, numbers, select, unique

DEPTHS = ("first_third", "middle_third", "last_third", "last_convolution", "entropy")
"""The columns of the table `depth`: shares of the discovered units, and the evenness over the layers."""


@dataclass(frozen=True)
class Cell:
    """A mean over draws, its standard deviation over draws (0 for one draw), and how many draws there are.

    A removed share is clipped to [0, 1] in the mean; `harm` is the mean excess over 1.
    """

    mean: float | None
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
    own: float | None
    other: float | None
    specificity: float | None
    std: float | None
    estimate: Estimate | None
    difference: Estimate | None


def over_draws(values: Sequence[float | None]) -> Cell:
    """Return mean and population standard deviation of a number over draws."""
    known = [number for number in values if number is not None]
    average = mean_of_known(known)
    if average is None:
        return Cell(None, 0.0, 0)
    variance = math.fsum((number - average) ** 2 for number in known) / len(known)
    return Cell(average, math.sqrt(variance), len(known))


def masking(run: RunFolder, method: str, percent: float, masked: str, degradation: str) -> Cell:
    """Return the removed share of a masked set on an input, over draws."""
    rows = select(run.table("masking"), percent, method=method, masked=masked, degradation=degradation)
    excess = mean_of_known([harm(number) for number in numbers(rows, "removed")])
    return replace(over_draws([removed(row) for row in rows]), harm=excess or 0.0)


def masked_psnr(run: RunFolder, method: str, percent: float, masked: str, degradation: str) -> float | None:
    """Return the PSNR in dB with a masked set on an input, mean over draws."""
    return mean_of(select(run.table("masking"), percent, method=method, masked=masked, degradation=degradation), "psnr")


def removed(row: Row) -> float | None:
    """Return the removed share of a row, clipped to [0, 1] as in every mean."""
    return clipped(number_at(row, "removed"))


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
    return [_method_result(run, method, percent) for method in run.methods]


def _method_result(run: RunFolder, method: str, percent: float) -> MethodResult:
    rows = select(run.table("specificity"), percent, method=method)
    # Clipped again, since tables of earlier versions have means of shares that were not clipped.
    sides = [(clipped(number_at(row, "own")), clipped(number_at(row, "other"))) for row in rows]
    by_draw = _per_draw(run, method, percent)
    paired = select(run.table("comparison_paired"), percent, method=method, against=run.chosen, masked="all")
    return MethodResult(
        method=method,
        own=mean_of_known([own for own, _ in sides]),
        other=mean_of_known([other for _, other in sides]),
        specificity=mean_of_known([None if own is None or other is None else own - other for own, other in sides]),
        std=over_draws(by_draw).std if len(by_draw) > 1 else None,
        estimate=specificity(run, method, percent),
        difference=_estimate(paired, "difference", "low", "high"),
    )


def specificity(run: RunFolder, method: str, percent: float) -> Estimate | None:
    """Return the specificity of a method with its interval, mean over the masked sets."""
    rows = select(run.table("comparison"), percent, method=method)
    return _estimate(rows, "specificity", "specificity_low", "specificity_high")


def _estimate(rows: Sequence[Row], *columns: str) -> Estimate | None:
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


def _per_draw(run: RunFolder, method: str, percent: float) -> list[float]:
    """Return the specificity of each draw: own minus other removed share, mean over the masked sets."""
    rows = [r for r in select(run.table("masking"), percent, method=method) if r["degradation"] in run.degradations]
    specificities = []
    for draw in dict.fromkeys(row["draw"] for row in rows):
        shares = select(rows, draw=draw)
        own = mean_of_known([removed(row) for row in shares if row["degradation"] == row["masked"]])
        other = mean_of_known([removed(row) for row in shares if row["degradation"] != row["masked"]])
        if own is not None and other is not None:
            specificities.append(own - other)
    return specificities


def restoration(run: RunFolder, measure: str = "psnr") -> dict[str, dict[str, float | None]]:
    """Return the mean of `psnr` (dB), `psnr_y` (dB) or `ssim` over held-out images: network → degradation → value."""
    rows = run.table("restoration")
    names = unique(rows, "degradation")
    return {
        network: {name: mean_of(select(rows, network=network, degradation=name), measure) for name in names}
        for network in unique(rows, "network")
    }


def gain(run: RunFolder, degradation: str) -> float | None:
    """Return the PSNR of the target minus that of the baseline on an input, in dB, mean over held-out images."""
    means = restoration(run)
    target, baseline = (means.get(network, {}).get(degradation) for network in ("target", "baseline"))
    return None if target is None or baseline is None else target - baseline


def gaps(run: RunFolder, degradation: str) -> tuple[float | None, float | None]:
    """Return the relative completeness gap over the whole probe, and the largest gap of an image.

    The first number is |sum of attributions − sum of loss changes| / |sum of loss changes|, as in metrics.json. It is
    not the mean of the images' gaps, since an image whose loss hardly changes would dominate that mean.
    """
    rows = select(run.table("completeness"), degradation=degradation)
    change, total = (math.fsum(numbers(rows, column)) for column in ("loss_change", "attribution_sum"))
    sizes = [abs(gap) for gap in numbers(rows, "gap")]
    return (abs(total - change) / abs(change) if change else None), max(sizes, default=None)


def held_out_images(run: RunFolder) -> int:
    """Return the number of held-out images, on which the interventions are evaluated."""
    return len(unique(run.table("restoration"), "image"))


def depths(run: RunFolder) -> dict[str, Row]:
    """Return the depth of the discovered units by degradation, and of `random` units, at the headline percent.

    The columns are `DEPTHS`. The result is empty for a run without the table `depth`.
    """
    rows = select(run.table("depth"), run.headline)
    chosen: dict[str, Row] = {str(row["degradation"]): row for row in rows if row["method"] == run.chosen != "random"}
    return chosen | {str(row["method"]): row for row in select(rows, method="random")}


def shares(run: RunFolder) -> dict[str, tuple[float, list[float | None]]]:
    """Return size and shares of the loss change of each parameter: parameter → number of weights, share by input."""
    rows = run.table("shares")
    by_parameter = {parameter: select(rows, parameter=parameter) for parameter in unique(rows, "parameter")}
    return {
        name: (number_at(inputs[0], "weights") or 0.0, [number_at(row, "share") for row in inputs])
        for name, inputs in by_parameter.items()
    }


def kinds(run: RunFolder) -> dict[str, tuple[float, list[float]]]:
    """Return the sums of `shares` for `kernel` (weights of convolutions and linear layers) and for `other`."""
    rows = run.table("shares")
    names = unique(rows, "degradation")
    sums: dict[str, tuple[float, list[float]]] = {}
    for kind in unique(rows, "kind"):
        inputs = [select(rows, kind=kind, degradation=name) for name in names]
        sums[kind] = math.fsum(numbers(inputs[0], "weights")), [math.fsum(numbers(part, "share")) for part in inputs]
    return sums


HARM = 0.005
"""Smallest harm that is shown; a smaller excess rounds to 0.00."""


@dataclass(frozen=True)
class IsolationResult:
    """The isolation of a masked set, or the mean over the sets of a method. Undefined numbers are None.

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


def of_set(run: RunFolder, method: str, percent: float, masked: str) -> IsolationResult | None:
    """Return the isolation of a masked set; None for a run without the table."""
    rows = select(run.table("isolation"), percent, method=method, masked=masked)
    return _result(rows[0]) if rows else None


def of_sets(run: RunFolder) -> list[IsolationResult]:
    """Return the isolation of the sets of the run's method at the headline percent."""
    results = (of_set(run, run.chosen, run.headline, masked) for masked in run.degradations)
    return [result for result in results if result is not None]


def of_methods(run: RunFolder, percent: float) -> dict[str, IsolationResult]:
    """Return the mean isolation over the masked sets of each method, in the order of `run.methods`."""
    rows = {str(row["method"]): row for row in select(run.table("isolation_methods"), percent)}
    return {method: _result(rows[method]) for method in run.methods if method in rows}


def ends_are(run: RunFolder) -> str:
    """Return the type of the intervals of isolation: `range over 3 scenes` or `95 % interval over 24 scenes`."""
    rows = run.table("isolation_methods")
    scenes = numbers(rows[:1], "scenes")
    if not scenes or scenes[0] < 2:
        return ""
    interval = "95 % interval" if rows[0].get("interval") == "bootstrap" else "range"
    return f"{interval} over {count(scenes[0])} scenes"


def distances(run: RunFolder, percent: float) -> dict[str, float]:
    """Return the learned mask's mean isolation minus the isolation of each method, at the same percent.

    A number below 0 means that the method's sets are better. The result is empty for a run without a learned mask.
    """
    known = {name: r.isolation for name, r in of_methods(run, percent).items() if r.isolation is not None}
    best = known.pop(REFERENCE, None)
    return {} if best is None else {method: best - isolation for method, isolation in known.items()}


def _result(row: Row) -> IsolationResult:
    return IsolationResult(
        masked=str(row.get("masked", "")),
        isolation=number_at(row, "isolation"),
        low=number_at(row, "isolation_low"),
        high=number_at(row, "isolation_high"),
        own_left=number_at(row, "own_left"),
        side=number_at(row, "side"),
        side_clean=number_at(row, "side_clean"),
        clean_change=number_at(row, "clean_change"),
        harm=number_at(row, "harm") or 0.0,
        std=number_at(row, "isolation_std") if (number_at(row, "draws") or 1) > 1 else None,
    )
