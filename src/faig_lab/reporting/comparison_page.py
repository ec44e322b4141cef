"""The page of a comparison: one self-contained HTML file over several runs, in the style of a run's report."""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from urllib.parse import quote

from faig_lab.files import write_text
from faig_lab.reporting import words
from faig_lab.reporting.claims import obstacles
from faig_lab.reporting.comparison import LEARNED, Comparison, Estimate
from faig_lab.reporting.comparison_figure import comparison_figure
from faig_lab.reporting.embed import embed_all
from faig_lab.reporting.finished_runs import LeftOut
from faig_lab.reporting.page import environment
from faig_lab.reporting.style import write_figure
from faig_lab.reporting.texts import above_baseline

_NETWORKS = ("bicubic", "baseline", "target")
_SHARES = {
    "own": "own function removed",
    "other": "others removed",
    "specificity": "specificity",
    "harm": "harm: what the own removed share has above 1",
}


def write_comparison(folder: Path, comparison: Comparison, left_out: Sequence[LeftOut]) -> Path:
    """Write `compare.html` and its figure `<measure>.png` to a folder, and return the page's path.

    Reports of runs are linked relative to the folder, so that both can be moved together.
    """
    figure = comparison_figure(comparison)
    picture = folder / f"{comparison.measure}.png"
    if figure is not None:
        write_figure(picture, figure)
    page = environment().get_template("comparison.html.j2").render(
        figure=embed_all([picture])[0] if figure is not None else None,
        made=date.today().isoformat(),
        sentences=sentences(comparison), warnings=warnings(comparison),
        links={run: _link(run.folder / "report.html", folder) for run in comparison.runs},
        c=comparison, left_out=left_out, networks=_NETWORKS, shares=_SHARES, learned=LEARNED,
    )  # fmt: skip
    path = folder / "compare.html"
    write_text(path, page)
    return path


def sentences(comparison: Comparison) -> list[str]:
    """The means of every group at the headline percent, and the differences that may be put into words."""
    return [
        text
        for group in comparison.judged
        if _means(comparison, group)
        for text in (_means(comparison, group), _differences(comparison, group), _reason(comparison, group))
        if text
    ]


def warnings(comparison: Comparison) -> list[str]:
    """Runs that hold no isolation, and runs whose measures mean little."""
    return [*_without_isolation(comparison), *_small_gains(comparison)]


def _means(comparison: Comparison, group: str) -> str:
    headline = comparison.headline
    found = {name: one for name in comparison.methods if (one := comparison.estimate(group, name, headline))}
    if not found:
        return ""
    shown = [f"{words.method_label(name)} {_with_interval(one)}" for name, one in found.items()]
    runs = {one.n for one in found.values()}
    over = f"{min(runs)} to {max(runs)} runs" if len(runs) > 1 else _runs(runs.pop())
    return (
        f"{group}, {words.percent(headline)} of the filters, {comparison.measure} over {over}: {words.listed(shown)}."
    )


def _differences(comparison: Comparison, group: str) -> str:
    """The methods that are above or below the reference, where words may say so."""
    differences = {
        name: found
        for name in comparison.methods
        if name != comparison.reference
        and (found := comparison.difference([group], name, comparison.headline)) is not None
        and comparison.may_claim([group], found)
    }
    parts = [
        f"{side} {words.method_label(comparison.reference)}: {words.listed(names)}"
        for side, sign in (("above", 1), ("below", -1))
        if (names := [
            f"{words.method_label(name)} by {_with_interval(found, sign)}"
            for name, found in differences.items() if sign * found.mean > 0
        ])
    ]  # fmt: skip
    return words.sentence_case(f"{'; '.join(parts)} (in the same run).") if parts else ""


def _reason(comparison: Comparison, group: str) -> str:
    """Why no word puts one method above another."""
    found = obstacles(comparison.evidence([group])) if len(comparison.methods) > 1 else []
    return f"No order of the methods follows from these runs: {words.listed(found)}." if found else ""


def _without_isolation(comparison: Comparison) -> list[str]:
    missing = [run.folder.as_posix() for run in comparison.without_isolation]
    if not missing:
        return []
    if comparison.measure != "isolation":
        return [
            "These runs hold no isolation (tables/isolation.csv), as runs of an earlier version do not. The methods "
            "are compared by specificity, which counts every loss as function removed."
        ]
    named = words.listed(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    verb = "holds" if len(missing) == 1 else "hold"
    return [f"{named} {verb} no isolation (tables/isolation.csv), only removed shares."]


def _small_gains(comparison: Comparison) -> list[str]:
    return [
        f"{group}, seed {seed}: the target is {above_baseline(gain)} in {words.removal(name)}, which the measures "
        "divide by. They mean little, and no sentence is made from this experiment."
        for group in comparison.groups
        for (seed, name), gain in comparison.small_gains(group).items()
    ]


def _with_interval(found: Estimate, sign: int = 1) -> str:
    """`0.72 (0.61 to 0.83)`, of the negative number for sign −1."""
    ends = [None if end is None else sign * end for end in (found.low, found.high)[::sign]]
    return words.with_ends([sign * found.mean, *ends])


def _runs(count: int) -> str:
    return f"{count} {'run' if count == 1 else 'runs'}"


def _link(report: Path, folder: Path) -> str | None:
    """The way from the page to a report, for a browser; None where there is no report."""
    return quote(Path(os.path.relpath(report, folder)).as_posix()) if report.is_file() else None
