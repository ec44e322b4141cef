"""Isolation of a run, read from its tables, and the sentences that say it. Numbers first, judgements nowhere."""

from dataclasses import dataclass

from faig_lab.reporting import findings
from faig_lab.reporting.run_files import RunFiles, at, value
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import count, listed, number, percent, removal

HARM = 0.005
"""A smaller excess rounds to 0.00."""


@dataclass(frozen=True)
class IsolationResult:
    """The isolation of one masked set, or the mean over the sets of a method; None where it is not defined.

    Attributes:
        method: whose sets.
        masked: the degradation; None for the mean over the sets.
        isolation: 1 is the ideal edit, 0 is as without masking, below 0 is harm.
        low: end over scenes; None with a single scene.
        high: the same.
        interval: "bootstrap" (a 95 % interval) or "range" (the lowest and the highest scene).
        own_left: squared distance to the baseline on the masked degradation, over the energy of its function; 1 as
            without masking, above 1 is damage.
        side: side effect on the other degradations, the same unit.
        side_clean: on clean input.
        clean_change: PSNR on clean input minus the target's, dB.
        harm: by how much the own removed share is above 1.
        std: of the isolation over draws; None for a single draw.
    """

    method: str
    masked: str | None
    isolation: float | None
    low: float | None
    high: float | None
    interval: str
    own_left: float | None
    side: float | None
    side_clean: float | None
    clean_change: float | None
    harm: float | None
    std: float | None

    @property
    def ends(self) -> str:
        """`0.80 to 0.95`; empty without ends."""
        if self.low is None or self.high is None:
            return ""
        return f"{number(self.low)} to {number(self.high)}"


def of_set(run: RunFiles, method: str, percent: float, masked: str) -> IsolationResult | None:
    """The isolation of one masked set; None for a run without the table."""
    rows = [r for r in run.table("isolation") if (r["method"], r["masked"]) == (method, masked) and at(percent, r)]
    return _result(rows[0]) if rows else None


def of_sets(run: RunFiles) -> list[IsolationResult]:
    """The sets of the run's own method at the headline percent."""
    found = (of_set(run, run.chosen, run.headline, masked) for masked in run.degradations)
    return [result for result in found if result is not None]


def of_methods(run: RunFiles, percent: float) -> dict[str, IsolationResult]:
    """Method → mean over its masked sets, in the order of `run.methods`."""
    rows = {str(row["method"]): row for row in run.table("isolation_methods") if at(percent, row)}
    return {method: _result(rows[method]) for method in run.methods if method in rows}


def scenes(run: RunFiles) -> int | None:
    """How many scenes the held-out images show."""
    counts = [value(row, "scenes") for row in run.table("isolation_methods")]
    return round(counts[0]) if counts and counts[0] is not None else None


def ends_are(run: RunFiles) -> str:
    """What the ends of an interval of isolation are: `range over 3 scenes`, `95 % interval over 24 scenes`."""
    number_of, rows = scenes(run), run.table("isolation_methods")
    if number_of is None or number_of < 2:
        return ""
    kind = "95 % interval" if rows[0].get("interval") == "bootstrap" else "range"
    return f"{kind} over {count(number_of)} scenes"


def set_sentence(run: RunFiles, found: IsolationResult) -> str:
    """Say `Masking 1 % (122 of 12,240) deblurring filters: isolation 0.92 (range over 3 scenes: 0.90 to 0.94)`."""
    assert found.masked is not None
    size, total = findings.masked_count(run, run.headline), run.filters
    of = f" ({count(size)} of {count(total)})" if size and total else ""
    between = f" ({ends_are(run)}: {found.ends})" if found.ends and ends_are(run) else ""
    return (
        f"Masking {percent(run.headline)}{of} {removal(found.masked)} filters: isolation {number(found.isolation)}"
        f"{between}."
    )


def clean_cost(run: RunFiles) -> str | None:
    """What the target itself costs, or gains, on clean input against the baseline; None where it is not measured."""
    change = findings.gain(run, "clean")
    if change is None:
        return None
    where = "above" if change >= 0 else "below"
    return f"On clean input the target is {number(abs(change))} dB {where} the baseline."


def harm_sentence(run: RunFiles) -> str | None:
    """The sets whose own removed share is above 1; None where there is none."""
    harmful = [found for found in of_sets(run) if (found.harm or 0.0) >= HARM and found.masked is not None]
    if not harmful:
        return None
    parts = [f"{removal(f.masked or '')} {number(1 + (f.harm or 0.0))} (harm {number(f.harm)})" for f in harmful]
    return f"Worse than the baseline itself, clipped to 1 in removed shares: {listed(parts)}."


def _result(row: Row) -> IsolationResult:
    numbers = ("own_left", "side", "side_clean", "clean_change", "harm")
    own_left, side, side_clean, clean_change, harm = (value(row, name) for name in numbers)
    several = (value(row, "draws") or 1) > 1
    return IsolationResult(
        method=str(row["method"]),
        masked=str(row["masked"]) if "masked" in row else None,
        isolation=value(row, "isolation"),
        low=value(row, "isolation_low"),
        high=value(row, "isolation_high"),
        interval=str(row["interval"]),
        own_left=own_left,
        side=side,
        side_clean=side_clean,
        clean_change=clean_change,
        harm=harm,
        std=value(row, "isolation_std") if several else None,
    )
