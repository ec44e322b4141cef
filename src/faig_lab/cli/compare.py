"""task=compare: tables and a page over finished runs; nothing is computed but means, and no network is read."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from omegaconf import DictConfig

from faig_lab.config import check
from faig_lab.config.messages import suggest
from faig_lab.errors import UserError
from faig_lab.report.comparison import LEARNED, Comparison, Estimate, estimate
from faig_lab.report.comparison_page import sentences, warnings, write_comparison
from faig_lab.runs import finished_runs
from faig_lab.runs.finished_runs import MEAN, MEASURES
from faig_lab.runs.tables import write_table


def run(cfg: DictConfig, folder: Path) -> None:
    """Compare the finished runs of `runs` and leave tables and compare.html in `folder`.

    Raises:
        UserError: there is no such folder, no finished run in it, or no such method as `compare.reference`.
    """
    settings = check(cfg)
    assert settings.runs is not None
    runs, left_out = finished_runs.read(finished_runs.find(settings.runs))
    for one in left_out:
        print(f"left out: {one.folder}: {one.reason}")
    if not runs:
        raise UserError(f"runs: none of {len(left_out)} folders holds a finished run")
    comparison = Comparison(runs, settings.compare.reference)
    if comparison.reference != settings.compare.reference:
        hint = suggest(settings.compare.reference, comparison.methods)
        raise UserError(f"compare.reference: no run has the method {settings.compare.reference}; {hint}")
    write_tables(folder, comparison)
    page = write_comparison(folder, comparison, left_out)
    notes = [f"note: {warning}" for warning in warnings(comparison)]
    print("\n".join([*sentences(comparison), *notes, "", f"comparison    {page}"]))


def write_tables(folder: Path, comparison: Comparison) -> None:
    """Write comparison.csv (tidy), means.csv, differences.csv, distances.csv, gains.csv and metrics.csv.

    distances.csv holds the differences to the learned mask, where there is one. A table without rows is not written.
    """
    tables = {
        "comparison": _tidy(comparison),
        "means": _means(comparison),
        "differences": _differences(comparison, comparison.reference),
        "distances": _differences(comparison, LEARNED),
        "gains": _gains(comparison),
        "metrics": _metrics(comparison),
    }
    for name, rows in tables.items():
        found = list(rows)
        if found:
            write_table(folder / f"{name}.csv", found)


def _tidy(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    for one in comparison.observations:
        if one.masked != MEAN:
            yield {
                "run": one.run.path.as_posix(), "seed": one.run.seed, **comparison.columns[one.run],
                "method": one.method, "percent": one.percent, "masked": one.masked,
                **{measure: getattr(one, measure) for measure in MEASURES},
            }  # fmt: skip


def _means(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    for group in comparison.groups:
        for method in comparison.methods:
            for percent in comparison.percents:
                for masked in comparison.masked:
                    found = {m: comparison.estimate(group, method, percent, m, masked) for m in MEASURES}
                    if any(found.values()):
                        place = {"group": group, "method": method, "percent": percent, "masked": masked}
                        yield {**place, **_estimates(found)}


def _differences(comparison: Comparison, minus: str) -> Iterator[Mapping[str, object]]:
    together = {"all": comparison.judged} if len(comparison.judged) > 1 else {}
    for name, groups in ({group: [group] for group in comparison.groups} | together).items():
        for method in comparison.methods:
            for percent in comparison.percents:
                found = {
                    measure: comparison.difference(groups, method, percent, minus=minus, measure=measure)
                    for measure in ("isolation", "specificity")
                }
                if any(found.values()) and method != minus:
                    place = {"group": name, "method": method, "minus": minus, "percent": percent}
                    yield {**place, **_estimates(found)}


def _gains(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    for group in comparison.groups:
        for name in comparison.inputs(group):
            gain = comparison.gain(group, name)
            if gain is not None:
                psnr = {n: comparison.psnr(group, n, name) for n in ("bicubic", "baseline", "target")}
                means = {f"psnr/{n}": one.mean if one else None for n, one in psnr.items()}
                yield {"group": group, "degradation": name, **_estimates({"gain": gain}), **_rounded(means)}


def _metrics(comparison: Comparison) -> Iterator[Mapping[str, object]]:
    """Every number of metrics.json: its mean over the seeds of a group, the interval, and the value of each seed."""
    for group in comparison.groups:
        by_seed = comparison.metrics(group)
        for metric in dict.fromkeys(name for values in by_seed.values() for name in values):
            values = {seed: found.get(metric) for seed, found in by_seed.items()}
            one = estimate(values.values())
            if one is not None:
                numbers = {"mean": one.mean, "low": one.low, "high": one.high}
                numbers |= {f"seed {seed}": value for seed, value in values.items()}
                yield {"group": group, "metric": metric, "n": one.n, "interval": _kind([one]), **_rounded(numbers)}


def _estimates(found: Mapping[str, Estimate | None]) -> Mapping[str, object]:
    """Mean, ends of the interval and number of runs of each measure, and what the ends are of."""
    cells = {key: cell for name, one in found.items() for key, cell in _cells(name, one).items()}
    return {**cells, "interval": _kind(found.values())}


def _kind(found: Iterable[Estimate | None]) -> str | None:
    """`t` for Student's interval over trainings; None where a single run leaves none."""
    return "t" if any(one is not None and one.low is not None for one in found) else None


def _cells(name: str, found: Estimate | None) -> Mapping[str, float | int | None]:
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_n": 0}
    ends = {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
    return {**_rounded(ends), f"{name}_n": found.n}


def _rounded(numbers: Mapping[str, float | None]) -> Mapping[str, float | None]:
    """Six digits: more than another processor repeats, and a table that people can read."""
    return {name: None if number is None else float(f"{number:.6g}") for name, number in numbers.items()}
