"""What a finished run says of its methods: isolation and the removed shares of every masked set."""

from collections.abc import Mapping
from dataclasses import dataclass

from faig_lab.reporting.finished_runs import FinishedRun
from faig_lab.reporting.run_files import clipped, harm, mean, unique, value
from faig_lab.reporting.tables import Row

MEAN = "mean"
"""Stands in the column `masked` for the mean over the masked sets."""

MEASURES = ("isolation", "clean_change", "own", "other", "specificity", "harm")
"""The measures of a masked set, in the order of the tables."""


@dataclass(frozen=True)
class Observation:
    """One row of comparison.csv: a method's masked set in one run; `masked` = "mean" is the mean over the sets.

    Attributes:
        run: the run.
        group: label of the experiment that the run belongs to.
        method: that ranked the filters.
        percent: of the filters masked.
        masked: the degradation that the filters were found for.
        isolation: 1 for the ideal edit, 0 for doing nothing, negative for harm; None in runs without it.
        clean_change: change of the PSNR on clean input in dB; None in runs without it.
        own: removed share of the own function, clipped to [0, 1].
        other: mean removed share of the other functions, clipped to [0, 1].
        specificity: own minus other.
        harm: what the removed share of the own function has above 1: the network is worse than the baseline by that.
    """

    run: FinishedRun
    group: str
    method: str
    percent: float
    masked: str
    isolation: float | None
    clean_change: float | None
    own: float | None
    other: float | None
    specificity: float | None
    harm: float | None


def observations(run: FinishedRun, group: str) -> list[Observation]:
    """The rows of a run's tables `specificity` and `isolation`, and their means over the masked sets."""
    isolations = {_place(row): row for row in run.files.table("isolation")}
    rows = run.files.table("specificity")
    found = []
    for method in unique(rows, "method"):
        of_method = [row for row in rows if row["method"] == method]
        for percent in sorted({number for row in of_method if (number := value(row, "percent")) is not None}):
            here = [row for row in of_method if row["percent"] == percent]
            sets = {str(row["masked"]): _numbers(row, isolations.get(_place(row), {})) for row in here}
            found += [Observation(run, group, method, percent, masked, **numbers) for masked, numbers in sets.items()]
            means = {name: _mean_of_all([numbers[name] for numbers in sets.values()]) for name in MEASURES}
            found.append(Observation(run, group, method, percent, MEAN, **means))
    return found


def _numbers(shares: Row, isolation: Row) -> Mapping[str, float | None]:
    own, other = value(shares, "own"), value(shares, "other")
    own_share, others = clipped(own), clipped(other)
    return {
        "isolation": value(isolation, "isolation"),
        "clean_change": value(isolation, "clean_change"),
        "own": own_share,
        "other": others,
        "specificity": None if own_share is None or others is None else own_share - others,
        "harm": harm(own) if (measured := value(isolation, "harm")) is None else measured,
    }


def _mean_of_all(numbers: list[float | None]) -> float | None:
    """The mean over the sets; None where one of them has no number, since a mean over other sets is another number."""
    return None if None in numbers else mean(numbers)


def _place(row: Row) -> tuple[object, object, object]:
    return row["method"], row["percent"], row["masked"]
