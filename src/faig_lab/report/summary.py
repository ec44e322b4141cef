"""The text that a run prints at its end: the results, the path of the report, and how to see the W&B record."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from faig_lab.plotting import findings
from faig_lab.plotting.words import (
    as_percent,
    between,
    count,
    decimal,
    listed,
    method_label,
    removal,
    share,
    signed,
    small_share,
    with_std,
)
from faig_lab.report import texts
from faig_lab.report.records import Records
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import aligned, over_photographs
from faig_lab.studies.section import sections_of


def summary(run: Path, record: Records | None) -> str:
    """Return the closing lines of a run: an empty line, numbers from the run's files, then paths and commands."""
    files = RunFolder(run)
    notes = [f"note: {warning}" for warning in texts.warnings(files)]
    blocks = [_isolation(files), _removed(files), _table(files), _restored(files), notes, _paths(run, record)]
    return "\n" + "\n\n".join("\n".join(block) for block in blocks if block)


def added(run: Path, studies: Sequence[str]) -> str:
    """Return a line for each analysis that was added to a run: its question, its main numbers and its files."""
    files = RunFolder(run)
    shown = {section.name: section for section in sections_of(files)}
    lines = []
    for name in studies:
        section = shown.get(name)
        words = [section.title, section.sentence(files)] if section else []
        places = [place for place in (f"tables/{name}.csv", f"figures/{name}.png") if (run / place).is_file()]
        about = " ".join([*words, f"({listed(places)})" * bool(places)]).strip()
        lines.append(f"added         {name}{': ' * bool(about)}{files.worded(about)}")
    return "\n".join(lines)


def _size(run: RunFolder) -> str:
    """Return `1 % of the filters (122 of 12,240)`."""
    size = findings.masked_count(run, run.headline)
    return f"{as_percent(run.headline)} of the {run.units} ({count(size)} of {count(run.filters)})"


def _isolation(run: RunFolder) -> list[str]:
    """Return the isolation of every method with its parts, then that of each set of the run's method."""
    results = findings.of_methods(run, run.headline)
    if not results:
        return []
    several, ends = len(run.degradations) > 1, findings.ends_are(run)
    lines = [
        f"Isolation after masking {_size(run)}, {findings.held_out_images(run)} images:",
        "1 = the ideal edit, 0 = as without masking, below 0 = harm; then the parts that are missing to 1, by input:",
    ]
    head = ["method or set", "isolation", ends, "own input", "others" * several, "clean", "clean, dB"]
    rows = [(method_label(method), result) for method, result in results.items()]
    rows += [(f"{removal(result.masked)} ({method_label(run.chosen)})", result) for result in findings.of_sets(run)]
    cells = [
        [
            name, with_std(result.isolation, result.std), result.ends, decimal(result.own_left), decimal(result.side),
            decimal(result.side_clean), signed(result.clean_change),
        ]
        for name, result in rows
    ]  # fmt: skip
    return lines + _aligned(head, cells)


def _removed(run: RunFolder) -> list[str]:
    """Return the removed shares, the paper's measure: a line for each discovered set of the run's method."""
    if not run.degradations or not run.methods:
        return []
    held_out = findings.held_out_images(run)
    lines = [f"Masking {_size(run)} found by {method_label(run.chosen)}, evaluated on {held_out} images:"]
    width = max(len(removal(name)) for name in run.degradations)
    for masked in run.degradations:
        removed = {d: findings.masking(run, run.chosen, run.headline, masked, d).mean for d in run.degradations}
        cells = [f"{share(number):>6} of {removal(shown)}" for shown, number in removed.items()]
        lines.append(f"  {removal(masked):<{width}} {run.units} remove {'  '.join(cells)}")
    harm = texts.harm(run)
    return [*lines, f"  {harm}"] if harm else lines


def _table(run: RunFolder) -> list[str]:
    """Return the comparison of the methods: means over the masked sets, with intervals if the run has them."""
    results = findings.method_results(run, run.headline)
    known = any(result.estimate for result in results)
    rows = [
        [
            method_label(result.method), share(result.own), share(result.other),
            with_std(result.specificity, result.std),
            between(result.estimate.low, result.estimate.high) if result.estimate else "",
        ]
        for result in results
    ]  # fmt: skip
    ends = over_photographs(run.table("comparison")) if known else ""
    return _aligned(["method", "own removed", "others removed", "specificity", ends], rows)


def _restored(run: RunFolder) -> list[str]:
    """Return the gain of the target over the baseline on every input, and the completeness gaps."""
    means = findings.restoration(run)
    clean = ["clean"] if "clean" in means.get("target", {}) else []
    rows = [
        [
            name,
            *(decimal(means.get(network, {}).get(name)) for network in ("baseline", "target")),
            signed(findings.gain(run, name)),
            small_share(findings.gaps(run, name)[0]) if name in run.degradations else "",
        ]
        for name in [*run.degradations, *clean]
        if run.degradations
    ]
    return _aligned(["input", "baseline, dB", "target, dB", "gain over baseline, dB", "completeness gap"], rows)


def _aligned(head: list[str], rows: list[list[str]]) -> list[str]:
    """Align columns: the first column to the left, all others to the right. A column without a name is left out."""
    if not rows:
        return []
    columns = [column for column in zip(head, *rows, strict=True) if column[0]]
    return [f"  {line}" for line in aligned(list(zip(*columns, strict=True)))]


def _paths(run: Path, record: Records | None) -> list[str]:
    report = run / "report.html"
    lines = [f"report        {report}" if report.is_file() else f"run folder    {run}"]
    if record is not None and record.folder is not None:
        folder = shlex.quote(str(record.folder))
        lines.append(f"look at it    wandb leet {folder}")
        # An online run is on the server already.
        lines.append(f"W&B page      {record.url}" if record.url else f"sync to W&B   wandb sync {folder}")
    if record is not None and "csv" in record.folders:
        lines.append(f"csv           {record.folders['csv'] / 'metrics.csv'}")
    if record is not None and "tensorboard" in record.folders:
        lines.append(f"tensorboard   tensorboard --logdir {shlex.quote(str(record.folders['tensorboard']))}")
    return lines
