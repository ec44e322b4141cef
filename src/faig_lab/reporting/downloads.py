"""The tables of a run inside the page, so that the page alone suffices to go on with its numbers."""

from dataclasses import dataclass

from faig_lab.reporting.embed import as_uri
from faig_lab.reporting.run_files import RunFiles

# All tables together, before base64 adds a third; a table beyond it is only linked.
BUDGET = 350_000


@dataclass(frozen=True)
class Download:
    """One table: how many rows it has, its size in kB, and the CSV file as `data:` URI unless it is too large."""

    rows: int
    kilobytes: float
    uri: str | None


def downloads(run: RunFiles) -> dict[str, Download]:
    """Every table of the run by name, in the order of the names; the smallest ones are embedded first."""
    remaining, found = BUDGET, {}
    files = {name: (run.folder / "tables" / f"{name}.csv").read_bytes() for name in run.tables}
    for name, data in sorted(files.items(), key=lambda item: len(item[1])):
        fits = len(data) <= remaining
        remaining -= len(data) if fits else 0
        uri = as_uri(data, "text/csv;charset=utf-8") if fits else None
        found[name] = Download(len(run.tables[name]), max(1.0, len(data) / 1000), uri)
    return dict(sorted(found.items()))
