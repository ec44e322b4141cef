"""task=compare: tables and a page over finished runs. The task computes means and reads no network."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

from omegaconf import DictConfig

from faig_lab.config import check
from faig_lab.config.messages import suggest
from faig_lab.errors import UserError
from faig_lab.plotting.words import REFERENCE
from faig_lab.report.comparison import Comparison, Estimate, estimate, repeats, sentences, warnings, write_comparison
from faig_lab.runs import finished_runs
from faig_lab.runs.finished_runs import MEAN, MEASURES, PLACE
from faig_lab.runs.tables import records, write_table


def run(cfg: DictConfig, folder: Path) -> None:
    """Compare the finished runs of `runs`, and write tables and compare.html to `folder`.

    Raises:
        UserError: a folder does not exist or has no finished run, or no run has the method `compare.reference`.
    """
    settings = check(cfg)
    assert settings.runs is not None
    runs, left_out = finished_runs.read(finished_runs.find(settings.runs))
    for entry in left_out:
        print(f"left out: {entry.folder}: {entry.reason}")
    if not runs:
        raise UserError(f"runs: none of {len(left_out)} folders holds a finished run")
    comparison = Comparison(runs, settings.compare.reference)
    if comparison.reference != settings.compare.reference:
        hint = suggest(settings.compare.reference, comparison.methods)
        raise UserError(f"compare.reference: no run has the method {settings.compare.reference}; {hint}")
    write_tables(folder, comparison)
    page = write_comparison(folder, comparison, left_out)
    notes = [f"note: {note}" for note in (*warnings(comparison), *repeats(comparison))]
    print("\n".join([*sentences(comparison), *notes, "", f"comparison    {page}"]))


def write_tables(folder: Path, comparison: Comparison) -> None:
    """Write comparison.csv (tidy), means.csv, differences.csv, distances.csv, gains.csv and metrics.csv.

    distances.csv has the differences to the learned mask, if a run has one. A table without rows is not written.
    """
    tables = {
        "comparison": _tidy(comparison),
        "means": _means(comparison),
        "differences": _differences(comparison, comparison.reference),
        "distances": _differences(comparison, REFERENCE),
        "gains": _gains(comparison),
        "metrics": _metrics(comparison),
    }
    for name, rows in tables.items():
        if listed := list(rows):
            write_table(folder / f"{name}.csv", listed)


def _tidy(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    runs = list(comparison.columns)
    for row in records(comparison.observations):
        if row["masked"] != MEAN:
            run, measured = runs[row["run"]], {column: row[column] for column in (*PLACE, *MEASURES)}
            yield {"run": run.path.as_posix(), "seed": run.seed, **comparison.columns[run], **measured}


def _means(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    places = product(comparison.groups, comparison.methods, comparison.percents, comparison.masked)
    for group, method, percent, masked in places:
        means = {m: comparison.estimate(group, method, percent, measure=m, masked=masked) for m in MEASURES}
        if any(means.values()):
            yield {"group": group, "method": method, "percent": percent, "masked": masked, **_estimates(means)}


def _differences(comparison: Comparison, minus: str) -> Iterator[Mapping[str, object]]:
    rows = {group: [group] for group in comparison.groups}
    if len(comparison.reliable) > 1:
        rows["all"] = comparison.reliable
    methods = [method for method in comparison.methods if method != minus]
    for name, method, percent in product(rows, methods, comparison.percents):
        differences = {
            measure: comparison.difference(rows[name], method, percent, minus=minus, measure=measure)
            for measure in ("isolation", "specificity")
        }
        if any(differences.values()):
            yield {"group": name, "method": method, "minus": minus, "percent": percent, **_estimates(differences)}


def _gains(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    for group in comparison.groups:
        for name in comparison.inputs(group):
            gain = comparison.gain(group, name)
            if gain is not None:
                psnr = {n: comparison.psnr(group, n, name) for n in ("bicubic", "baseline", "target")}
                means = {f"psnr/{n}": estimated.mean if estimated else None for n, estimated in psnr.items()}
                yield {"group": group, "degradation": name, **_estimates({"gain": gain}), **_rounded(means)}


def _metrics(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    """Yield every number of metrics.json: mean over the seeds of a group, interval, and the value of each seed."""
    for group in comparison.groups:
        by_seed = comparison.metrics(group)
        for metric in dict.fromkeys(name for values in by_seed.values() for name in values):
            values = {f"seed {seed}": metrics.get(metric) for seed, metrics in by_seed.items()}
            mean = estimate(values.values())
            if mean is not None:
                numbers = {"mean": mean.mean, "low": mean.low, "high": mean.high, **values}
                place = {"group": group, "metric": metric, "n": mean.n, "interval": _interval([mean])}
                yield place | _rounded(numbers)


def _estimates(measures: Mapping[str, Estimate | None]) -> Mapping[str, object]:
    """Return mean, ends of the interval and number of runs of each measure, and the type of the interval."""
    cells: dict[str, object] = {}
    for name, found in measures.items():
        mean, low, high = (None, None, None) if found is None else (found.mean, found.low, found.high)
        cells |= _rounded({name: mean, f"{name}_low": low, f"{name}_high": high})
        cells[f"{name}_n"] = 0 if found is None else found.n
    return {**cells, "interval": _interval(measures.values())}


def _interval(estimates: Iterable[Estimate | None]) -> str | None:
    """Return `t` for Student's interval over trainings; None for a single run, which has no interval."""
    return "t" if any(estimated is not None and estimated.low is not None for estimated in estimates) else None


def _rounded(numbers: Mapping[str, float | None]) -> dict[str, object]:
    """Round to six digits, which is more than another processor reproduces."""
    return {name: None if number is None else float(f"{number:.6g}") for name, number in numbers.items()}
