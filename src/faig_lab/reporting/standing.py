"""What the intervals of a run are over, in words. No word orders the methods: a single run has one training."""

from collections.abc import Sequence

from faig_lab.reporting import findings
from faig_lab.reporting.claims import FEWEST_SCENES
from faig_lab.reporting.findings import Estimate, MethodResult
from faig_lab.reporting.run_files import RunFiles, over_photographs
from faig_lab.reporting.words import count, listed, method_label, number, percent

_ZERO = 1e-9


def caution(run: RunFiles) -> str | None:
    """What the intervals are over, and what they do not say; None for a run from before there were any."""
    photographs = findings.photographs(run)
    if photographs is None:
        return None
    if photographs == 1:
        return "There are no intervals: all held-out images are of one photograph, and one says nothing about others."
    kind = over_photographs(run.table("comparison")).removesuffix("photographs")
    few = f" Of fewer than {FEWEST_SCENES} photographs a 95 % interval would be too narrow." if "range" in kind else ""
    return (
        f"In brackets: the {kind}the {count(photographs)} held-out photographs, for the mean over the masked sets of "
        "this one training. It tells how far other photographs would move a number, not how far another training "
        f"would.{few}"
    )


def by_construction(run: RunFiles, results: Sequence[MethodResult]) -> str | None:
    """Which methods cannot have a specificity, because they pick the same filters for every degradation."""
    names = [method_label(result.method) for result in results if _is_zero(result)]
    if not names:
        return None
    verb = "picks" if len(names) == 1 else "pick"
    return (
        f"At {percent(run.headline)} {listed(names)} {verb} the same filters for every degradation, so the mean "
        "specificity is 0 by construction: what one set has, the others lack."
    )


def between(found: Estimate) -> str:
    """`0.49 to 0.55`."""
    return f"{number(found.low)} to {number(found.high)}"


def _is_zero(result: MethodResult) -> bool:
    """Whether the method removes something, and exactly as much of the others on every photograph."""
    found = result.estimate
    return found is not None and bool(result.own) and max(abs(found.low), abs(found.high)) < _ZERO
