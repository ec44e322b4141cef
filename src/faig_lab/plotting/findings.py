"""The numbers that figures and report show, computed from the tables of a run. No words here."""

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
    """A number and the ends of its interval over photographs, or of the range over them."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MethodResult:
    """One method at one percent, mean over the masked sets; shares are removed shares, 0 untouched, 1 gone.

    `std` is the standard deviation of the specificity over random draws, None for a method without draws.
    `estimate` is the specificity with its interval, `difference` its paired difference from the run's method;
    both None where there is no interval.
    """

    method: str
    own: float | None
    other: float | None
    specificity: float | None
    std: float | None
    estimate: Estimate | None
    difference: Estimate | None


def over_draws(values: Sequence[float | None]) -> Cell:
    """Mean and population standard deviation of one number over draws."""
    there = [number for number in values if number is not None]
    average = mean_of_known(there)
    if average is None:
        return Cell(None, 0.0, 0)
    variance = math.fsum((number - average) ** 2 for number in there) / len(there)
    return Cell(average, math.sqrt(variance), len(there))


def masking(run: RunFolder, method: str, percent: float, masked: str, degradation: str) -> Cell:
    """The removed share of one masked set on one input, over draws."""
    rows = select(run.table("masking"), percent, method=method, masked=masked, degradation=degradation)
    excess = mean_of_known([harm(number) for number in numbers(rows, "removed")])
    return replace(over_draws([removed(row) for row in rows]), harm=excess or 0.0)


def masked_psnr(run: RunFolder, method: str, percent: float, masked: str, degradation: str) -> float | None:
    """PSNR in dB with a masked set on one input, mean over draws."""
    return mean_of(select(run.table("masking"), percent, method=method, masked=masked, degradation=degradation), "psnr")


def removed(row: Row) -> float | None:
    """The removed share of a row as it enters a mean: clipped to [0, 1]."""
    return clipped(number_at(row, "removed"))


def matrix(run: RunFolder, method: str, percent: float) -> list[list[Cell]]:
    """The specificity matrix of a method: rows = masked set, columns = input degradation."""
    names = run.degradations
    return [[masking(run, method, percent, masked, shown) for shown in names] for masked in names]


def masked_count(run: RunFolder, percent: float) -> int | None:
    """How many units a masked set holds at a percent."""
    counts = numbers(select(run.table("masking"), percent), "filters")
    return round(counts[0]) if counts else None


def method_results(run: RunFolder, percent: float) -> list[MethodResult]:
    """Every compared method at a percent, in the order of `run.methods`."""
    return [_method_result(run, method, percent) for method in run.methods]


def _method_result(run: RunFolder, method: str, percent: float) -> MethodResult:
    rows = select(run.table("specificity"), percent, method=method)
    # Clipped again, for tables of runs from before removed shares were clipped in every mean.
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
    """The specificity of a method with its interval, mean over the masked sets."""
    rows = select(run.table("comparison"), percent, method=method)
    return _estimate(rows, "specificity", "specificity_low", "specificity_high")


def _estimate(rows: Sequence[Row], *columns: str) -> Estimate | None:
    """The estimate in the columns of the only row; None where there is none, or no interval."""
    known = [number for column in columns for number in numbers(rows[:1], column)]
    return Estimate(*known) if len(known) == len(columns) else None


def photographs(run: RunFolder) -> int | None:
    """How many photographs the intervals are over; None for a run without intervals."""
    counts = numbers(run.table("comparison")[:1], "photographs")
    return round(counts[0]) if counts else None


def percents(run: RunFolder) -> list[float]:
    """The measured percents, ascending."""
    return sorted(set(numbers(run.table("masking"), "percent")))


def _per_draw(run: RunFolder, method: str, percent: float) -> list[float]:
    """Specificity of each draw: own minus other removed share, mean over the masked sets."""
    rows = [r for r in select(run.table("masking"), percent, method=method) if r["degradation"] in run.degradations]
    found = []
    for draw in dict.fromkeys(row["draw"] for row in rows):
        shares = select(rows, draw=draw)
        own = mean_of_known([removed(row) for row in shares if row["degradation"] == row["masked"]])
        other = mean_of_known([removed(row) for row in shares if row["degradation"] != row["masked"]])
        if own is not None and other is not None:
            found.append(own - other)
    return found


def restoration(run: RunFolder, measure: str = "psnr") -> dict[str, dict[str, float | None]]:
    """Mean over held-out images of `psnr` (dB), `psnr_y` (dB) or `ssim`: network -> degradation -> value."""
    rows = run.table("restoration")
    names = unique(rows, "degradation")
    return {
        network: {name: mean_of(select(rows, network=network, degradation=name), measure) for name in names}
        for network in unique(rows, "network")
    }


def gain(run: RunFolder, degradation: str) -> float | None:
    """PSNR of the target minus that of the baseline on one degradation, in dB, mean over held-out images."""
    means = restoration(run)
    target, baseline = (means.get(network, {}).get(degradation) for network in ("target", "baseline"))
    return None if target is None or baseline is None else target - baseline


def gaps(run: RunFolder, degradation: str) -> tuple[float | None, float | None]:
    """Relative completeness gap over the whole probe, and the largest one of a single image.

    The first is |sum of attributions - sum of loss changes| / |sum of loss changes|, the number of
    metrics.json; it is not the mean of the images' gaps, which an image whose loss hardly changes would rule.
    """
    rows = select(run.table("completeness"), degradation=degradation)
    change, total = (math.fsum(numbers(rows, column)) for column in ("loss_change", "attribution_sum"))
    sizes = [abs(gap) for gap in numbers(rows, "gap")]
    return (abs(total - change) / abs(change) if change else None), max(sizes, default=None)


def held_out_images(run: RunFolder) -> int:
    """How many images the interventions are judged on."""
    return len(unique(run.table("restoration"), "image"))


def depths(run: RunFolder) -> dict[str, Row]:
    """Where the units sit that the run's method found, by degradation, and `random` ones, at the headline percent.

    The columns are `DEPTHS`; nothing in a run without the table `depth`.
    """
    rows = select(run.table("depth"), run.headline)
    own: dict[str, Row] = {str(row["degradation"]): row for row in rows if row["method"] == run.chosen != "random"}
    return own | {str(row["method"]): row for row in select(rows, method="random")}


def shares(run: RunFolder) -> dict[str, tuple[float, list[float | None]]]:
    """Parameter -> how many weights, and its share of the change of the loss on each input of the table `shares`."""
    rows = run.table("shares")
    found = {parameter: select(rows, parameter=parameter) for parameter in unique(rows, "parameter")}
    return {
        name: (number_at(of[0], "weights") or 0.0, [number_at(row, "share") for row in of])
        for name, of in found.items()
    }


def kinds(run: RunFolder) -> dict[str, tuple[float, list[float]]]:
    """The same for `kernel` (weights of convolutions and linear layers) and `other` together."""
    rows = run.table("shares")
    names = unique(rows, "degradation")
    sums: dict[str, tuple[float, list[float]]] = {}
    for kind in unique(rows, "kind"):
        of = [select(rows, kind=kind, degradation=name) for name in names]
        sums[kind] = math.fsum(numbers(of[0], "weights")), [math.fsum(numbers(found, "share")) for found in of]
    return sums


HARM = 0.005
"""A smaller excess rounds to 0.00."""


@dataclass(frozen=True)
class IsolationResult:
    """The isolation of one masked set, or the mean over the sets of a method; None where it is not defined.

    Attributes:
        masked: the degradation; empty for the mean over the sets.
        isolation: 1 is the ideal edit, 0 is as without masking, below 0 is harm.
        low: end over scenes; None with a single scene.
        high: the same.
        own_left: squared distance to the baseline on the masked degradation, over the energy of its function; 1 as
            without masking, above 1 is damage.
        side: side effect on the other degradations, the same unit.
        side_clean: on clean input.
        clean_change: PSNR on clean input minus the target's, dB.
        harm: by how much the own removed share is above 1.
        std: of the isolation over draws; None for a single draw.
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
        """`0.80 to 0.95`; empty without ends."""
        return between(self.low, self.high)


def of_set(run: RunFolder, method: str, percent: float, masked: str) -> IsolationResult | None:
    """The isolation of one masked set; None for a run without the table."""
    rows = select(run.table("isolation"), percent, method=method, masked=masked)
    return _result(rows[0]) if rows else None


def of_sets(run: RunFolder) -> list[IsolationResult]:
    """The sets of the run's own method at the headline percent."""
    found = (of_set(run, run.chosen, run.headline, masked) for masked in run.degradations)
    return [result for result in found if result is not None]


def of_methods(run: RunFolder, percent: float) -> dict[str, IsolationResult]:
    """Method → mean over its masked sets, in the order of `run.methods`."""
    rows = {str(row["method"]): row for row in select(run.table("isolation_methods"), percent)}
    return {method: _result(rows[method]) for method in run.methods if method in rows}


def ends_are(run: RunFolder) -> str:
    """What the ends of an interval of isolation are: `range over 3 scenes`, `95 % interval over 24 scenes`."""
    rows = run.table("isolation_methods")
    scenes = numbers(rows[:1], "scenes")
    if not scenes or scenes[0] < 2:
        return ""
    kind = "95 % interval" if rows[0].get("interval") == "bootstrap" else "range"
    return f"{kind} over {count(scenes[0])} scenes"


def distances(run: RunFolder, percent: float) -> dict[str, float]:
    """Method → the learned mask's mean isolation minus the method's, at a percent of the units for both.

    Below 0 the method's sets are the better ones. Empty for a run without a learned mask.
    """
    found = {method: one.isolation for method, one in of_methods(run, percent).items() if one.isolation is not None}
    best = found.pop(REFERENCE, None)
    return {} if best is None else {method: best - isolation for method, isolation in found.items()}


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
