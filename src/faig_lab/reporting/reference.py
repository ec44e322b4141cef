"""How far each method is from the learned mask, the reference for what a set of so many filters can do."""

from faig_lab.reporting.run_files import RunFiles, at, value
from faig_lab.reporting.words import REFERENCE, line_label, listed, method_label, number, percent, sentence_case


def line(run: RunFiles, masked: str) -> list[tuple[float, float]]:
    """(percent, isolation) of the learned mask's sets for a degradation; empty for a run without one."""
    rows = [row for row in run.table("isolation") if (row["method"], row["masked"]) == (REFERENCE, masked)]
    found = [(value(row, "percent"), value(row, "isolation")) for row in rows]
    return [(q, isolation) for q, isolation in found if q is not None and isolation is not None]


def distances(run: RunFiles, q: float) -> dict[str, float]:
    """Method → the learned mask's mean isolation minus the method's, at q % of the filters for both.

    Below 0 the method's sets are the better ones. Empty for a run without a learned mask.
    """
    rows = {str(row["method"]): value(row, "isolation") for row in run.table("isolation_methods") if at(q, row)}
    best = rows.pop(REFERENCE, None)
    if best is None:
        return {}
    return {method: best - found for method in run.methods if (found := rows.get(method)) is not None}


def sentence(run: RunFiles) -> str | None:
    """Say how far the methods are from the reference at the headline percent; None for a run without one."""
    found = distances(run, run.headline)
    rows = [row for row in run.table("isolation_methods") if row["method"] == REFERENCE and at(run.headline, row)]
    if not found:
        return None
    behind = [f"{method_label(method)} {number(distance)}" for method, distance in found.items()]
    return (
        f"{sentence_case(line_label(REFERENCE))} at {percent(run.headline)}: isolation "
        f"{number(value(rows[0], 'isolation'))}, mean over the masked sets. Distance to it at equal count: "
        f"{listed(behind)}."
    )
