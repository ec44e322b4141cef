"""The numbers that the report speaks of, computed from the tables of a run. No words here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from faig_lab.reporting.run_files import RunFiles, at, clipped, harm, mean, unique, value
from faig_lab.reporting.tables import Row


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

    `spread` is the standard deviation of the specificity over random draws, None for a method without draws.
    `estimate` is the specificity with its interval, `difference` its paired difference from the run's method;
    both None where there is no interval.
    """

    method: str
    own: float | None
    other: float | None
    specificity: float | None
    spread: float | None
    draws: int
    estimate: Estimate | None
    difference: Estimate | None


def over_draws(rows: Sequence[Row], column: str = "removed") -> Cell:
    """Mean and spread (population standard deviation) over draws of a column of the masking table."""
    numbers = [number for row in rows if (number := value(row, column)) is not None]
    average = mean(list(numbers))
    if average is None:
        return Cell(None, 0.0, 0)
    variance = math.fsum((number - average) ** 2 for number in numbers) / len(numbers)
    return Cell(average, math.sqrt(variance), len(numbers))


def masking(run: RunFiles, method: str, percent: float, masked: str, degradation: str, column: str = "removed") -> Cell:
    """One number of the masking table, over draws."""
    wanted = {"method": method, "masked": masked, "degradation": degradation}
    rows = [row for row in run.table("masking") if at(percent, row) and wanted.items() <= row.items()]
    if column != "removed":
        return over_draws(rows, column)
    shares = [{"removed": removed(row), "harm": harm(value(row, "removed"))} for row in rows]
    return replace(over_draws(shares), harm=mean([row["harm"] for row in shares]) or 0.0)


def removed(row: Row) -> float | None:
    """The removed share of a row as it enters a mean: clipped to [0, 1]."""
    return clipped(value(row, "removed"))


def matrix(run: RunFiles, method: str, percent: float) -> list[list[Cell]]:
    """The specificity matrix of a method: rows = masked set, columns = input degradation."""
    names = run.degradations
    return [[masking(run, method, percent, masked, shown) for shown in names] for masked in names]


def masked_count(run: RunFiles, percent: float) -> int | None:
    """How many filters a masked set holds at a percent."""
    counts = [value(row, "filters") for row in run.table("masking") if at(percent, row)]
    return round(counts[0]) if counts and counts[0] is not None else None


def method_results(run: RunFiles, percent: float) -> list[MethodResult]:
    """Every compared method at a percent, in the order of `run.methods`."""
    return [_method_result(run, method, percent) for method in run.methods]


def _method_result(run: RunFiles, method: str, percent: float) -> MethodResult:
    rows = [row for row in run.table("specificity") if row["method"] == method and at(percent, row)]
    # Clipped again, for tables of runs from before removed shares were clipped in every mean.
    sides = [(clipped(value(row, "own")), clipped(value(row, "other"))) for row in rows]
    specificities = _per_draw(run, method, percent)
    return MethodResult(
        method=method,
        own=mean([own for own, _ in sides]),
        other=mean([other for _, other in sides]),
        specificity=mean([None if own is None or other is None else own - other for own, other in sides]),
        spread=over_draws([{"removed": number} for number in specificities]).std if len(specificities) > 1 else None,
        draws=len(specificities),
        estimate=specificity(run, method, percent),
        difference=_difference(run, method, percent),
    )


def specificity(run: RunFiles, method: str, percent: float) -> Estimate | None:
    """The specificity of a method with its interval, mean over the masked sets."""
    rows = [row for row in run.table("comparison") if row["method"] == method and at(percent, row)]
    return _estimate(rows, "specificity", "specificity_low", "specificity_high")


def _difference(run: RunFiles, method: str, percent: float) -> Estimate | None:
    wanted = {"method": method, "against": run.chosen, "masked": "all"}
    rows = [row for row in run.table("comparison_paired") if at(percent, row) and wanted.items() <= row.items()]
    return _estimate(rows, "difference", "low", "high")


def _estimate(rows: Sequence[Row], *columns: str) -> Estimate | None:
    """The estimate in the columns of the only row; None where there is none, or no interval."""
    numbers = [value(row, column) for row in rows[:1] for column in columns]
    known = [number for number in numbers if number is not None]
    return Estimate(*known) if len(known) == len(columns) else None


def photographs(run: RunFiles) -> int | None:
    """How many photographs the intervals are over; None for a run without intervals."""
    counts = [value(row, "photographs") for row in run.table("comparison")]
    return round(counts[0]) if counts and counts[0] is not None else None


def percents(run: RunFiles) -> list[float]:
    """The measured percents, ascending."""
    return sorted({number for row in run.table("masking") if (number := value(row, "percent")) is not None})


def _per_draw(run: RunFiles, method: str, percent: float) -> list[float]:
    """Specificity of each draw: own minus other removed share, mean over the masked sets."""
    rows = [row for row in run.table("masking") if row["method"] == method and at(percent, row)]
    found = []
    for draw in dict.fromkeys(row["draw"] for row in rows):
        shares = [row for row in rows if row["draw"] == draw and row["degradation"] in run.degradations]
        own = mean([removed(row) for row in shares if row["degradation"] == row["masked"]])
        other = mean([removed(row) for row in shares if row["degradation"] != row["masked"]])
        if own is not None and other is not None:
            found.append(own - other)
    return found


def restoration(run: RunFiles, measure: str = "psnr") -> dict[str, dict[str, float | None]]:
    """Mean over held-out images of `psnr` (dB), `psnr_y` (dB) or `ssim`: network -> degradation -> value."""
    rows = run.table("restoration")
    return {
        network: {
            name: mean([value(row, measure) for row in rows if (row["network"], row["degradation"]) == (network, name)])
            for name in unique(rows, "degradation")
        }
        for network in unique(rows, "network")
    }


def gain(run: RunFiles, degradation: str) -> float | None:
    """PSNR of the target minus that of the baseline on one degradation, in dB, mean over held-out images."""
    means = restoration(run)
    target, baseline = (means.get(network, {}).get(degradation) for network in ("target", "baseline"))
    return None if target is None or baseline is None else target - baseline


def gaps(run: RunFiles, degradation: str) -> tuple[float | None, float | None]:
    """Relative completeness gap over the whole probe, and the largest one of a single image.

    The first is |sum of attributions - sum of loss changes| / |sum of loss changes|, the number of
    metrics.json; it is not the mean of the images' gaps, which an image whose loss hardly changes would rule.
    """
    rows = [row for row in run.table("completeness") if row["degradation"] == degradation]
    change = math.fsum(value(row, "loss_change") or 0.0 for row in rows)
    total = math.fsum(value(row, "attribution_sum") or 0.0 for row in rows)
    sizes = [abs(gap) for row in rows if (gap := value(row, "gap")) is not None]
    return (abs(total - change) / abs(change) if change else None), max(sizes, default=None)


def held_out_images(run: RunFiles) -> int:
    """How many images the interventions are judged on."""
    return len(unique(run.table("restoration"), "image"))
