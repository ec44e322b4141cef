"""Isolation of a run, read from its tables. Numbers first, judgements nowhere."""

from dataclasses import dataclass

from faig_lab.plotting.words import REFERENCE, between, count
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import Row, number_at, numbers, select

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
