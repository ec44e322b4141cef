"""The report's table of how deep in the network the discovered filters sit."""

from faig_lab.reporting.run_files import RunFiles, at, value
from faig_lab.reporting.words import method_label, number, removal, share

COLUMNS = ("first_third", "middle_third", "last_third", "last_convolution", "entropy")
"""The columns of the table `depth`: shares of the discovered filters, and the evenness over the layers."""

RANDOM = "random"


def where(run: RunFiles) -> dict[str, list[str]]:
    """Where the discovered filters of the run's method sit, and random filters for comparison, at the headline percent.

    Returns:
        Label of the row → cells in the order of COLUMNS; nothing in a run without the table `depth`.
    """
    rows = [row for row in run.table("depth") if at(run.headline, row)]
    own = {f"{removal(str(r['degradation']))} filters": r for r in rows if r["method"] == run.chosen != RANDOM}
    random = {method_label(RANDOM): row for row in rows if row["method"] == RANDOM}
    return {
        label: [share(value(row, column)) for column in COLUMNS[:-1]] + [number(value(row, COLUMNS[-1]))]
        for label, row in (own | random).items()
    }
