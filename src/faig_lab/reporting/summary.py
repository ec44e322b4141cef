"""What is printed when a run has ended: what was found, where the report is, how to see the W&B record."""

import shlex
from pathlib import Path
from typing import Protocol

from faig_lab.reporting import findings, isolation
from faig_lab.reporting.run_files import RunFiles, over_photographs, read_run
from faig_lab.reporting.sentences import warnings
from faig_lab.reporting.standing import between
from faig_lab.reporting.units import spoken
from faig_lab.reporting.words import count, method_label, number, percent, removal, share, signed, small_share


class Record(Protocol):
    """Where a run was recorded: the W&B run's folder, and its page when online."""

    @property
    def folder(self) -> Path | None:
        """Where the W&B run lies."""

    @property
    def url(self) -> str | None:
        """The run's page when online."""


def summary(run: Path, record: Record | None) -> str:
    """The closing lines of a run after an empty one: numbers from its files, then paths and commands."""
    files = read_run(run)
    notes = [f"note: {warning}" for warning in warnings(files)]
    blocks = [_isolation(files), _found(files), _table(files), _restored(files), notes, _where(run, record)]
    found = "\n\n".join("\n".join(spoken(line, files) for line in block) for block in blocks if block)
    return f"\n{found}"


def _isolation(run: RunFiles) -> list[str]:
    """Isolation of every method with its parts: mean over the masked sets, then each set of the run's method."""
    results = isolation.of_methods(run, run.headline)
    if not results:
        return []
    size, ends = findings.masked_count(run, run.headline), isolation.ends_are(run)
    lines = [
        f"Isolation after masking {percent(run.headline)} of the filters ({count(size)} of {count(run.filters)}), "
        f"{findings.held_out_images(run)} images:",
        "1 = the ideal edit, 0 = as without masking, below 0 = harm; what is missing to 1, by input:",
    ]
    parts = ["own input", *(["others"] if len(run.degradations) > 1 else []), "clean", "clean, dB"]
    head = ("method or set", "isolation", *([ends] if ends else []), *parts)
    rows = [(spoken(method_label(method), run), result) for method, result in results.items()]
    rows += [(f"{removal(found.masked or '')} ({method_label(run.chosen)})", found) for found in isolation.of_sets(run)]
    cells = [
        (
            name,
            number(found.isolation) + (f" ± {number(found.std)}" if found.std is not None else ""),
            *([found.ends] if ends else []),
            number(found.own_left),
            *([number(found.side)] if len(run.degradations) > 1 else []),
            number(found.side_clean),
            signed(found.clean_change),
        )
        for name, found in rows
    ]
    return lines + _aligned([head, *cells])


def _found(run: RunFiles) -> list[str]:
    """Removed shares, the paper's reading: one line for each discovered set of the run's method."""
    if not run.degradations or not run.methods:
        return []
    size, held_out = findings.masked_count(run, run.headline), findings.held_out_images(run)
    lines = [
        f"Masking {percent(run.headline)} of the filters ({count(size)} of {count(run.filters)}) found by "
        f"{method_label(run.chosen)}, judged on {held_out} images:"
    ]
    width = max(len(removal(name)) for name in run.degradations)
    for masked in run.degradations:
        removed = {d: findings.masking(run, run.chosen, run.headline, masked, d).mean for d in run.degradations}
        cells = [f"{share(number):>6} of {removal(shown)}" for shown, number in removed.items()]
        lines.append(f"  {removal(masked):<{width}} filters remove {'  '.join(cells)}")
    harm = isolation.harm_sentence(run)
    return [*lines, f"  {harm}"] if harm else lines


def _table(run: RunFiles) -> list[str]:
    """The methods compared, mean over the masked sets, with intervals where there are any."""
    results = findings.method_results(run, run.headline)
    rows = [
        (
            spoken(method_label(result.method), run),
            share(result.own),
            share(result.other),
            number(result.specificity) + (f" ± {number(result.spread)}" if result.spread is not None else ""),
            *([between(result.estimate)] if result.estimate is not None else []),
        )
        for result in results
    ]
    head = ("method", "own removed", "others removed", "specificity", over_photographs(run.table("comparison")))
    return _aligned([head[: max(map(len, rows))], *rows]) if rows else []


def _restored(run: RunFiles) -> list[str]:
    """Gain of the target over the baseline, on clean input too, and the completeness gap of each degradation."""
    means = findings.restoration(run)
    rows = [
        (
            name,
            number(means.get("baseline", {}).get(name)),
            number(means.get("target", {}).get(name)),
            signed(findings.gain(run, name)),
            small_share(findings.gaps(run, name)[0]) if name in run.degradations else "",
        )
        for name in [*run.degradations, *(["clean"] if "clean" in means.get("target", {}) else [])]
        if run.degradations
    ]
    head = ("input", "baseline, dB", "target, dB", "gain, dB", "completeness gap")
    return _aligned([head, *rows]) if rows else []


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns of text: the first to the left, the others to the right; a shorter row ends in empty cells."""
    rows = [row + ("",) * (len(rows[0]) - len(row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(["", row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return [line.rstrip() for line in lines]


def _where(run: Path, record: Record | None) -> list[str]:
    report = run / "report.html"
    lines = [f"report        {report}" if report.is_file() else f"run folder    {run}"]
    if record is not None and record.folder is not None:
        folder = shlex.quote(str(record.folder))
        lines.append(f"look at it    wandb leet {folder}")
        # An online run is on the server already.
        lines.append(f"W&B page      {record.url}" if record.url else f"sync to W&B   wandb sync {folder}")
    return lines
