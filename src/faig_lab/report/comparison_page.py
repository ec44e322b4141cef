"""The page of a comparison: its figure, its sentences and its notes."""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from urllib.parse import quote

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faig_lab.files import write_text
from faig_lab.plotting import words
from faig_lab.plotting.charts import Dots, dot_rows, guides, limit, mark_cut, percent_axis
from faig_lab.plotting.style import INK, MUTED, drawing, method_look, new_figure, write_figure
from faig_lab.plotting.words import as_percent, method_label
from faig_lab.report.comparison import LEARNED, Comparison, Estimate
from faig_lab.report.page import embed_all, environment
from faig_lab.report.texts import above_baseline, obstacles
from faig_lab.runs.finished_runs import LeftOut

_LOWEST, _HIGHEST = -1.0, 1.05  # limits of the axes; marks at the edge show values beyond them


def comparison_figure(comparison: Comparison) -> Figure | None:
    """Draw the methods: a row for each group. On the left are means against the percent masked, on the right all runs.

    The figure is None if no method has the measure (specificity with a single degradation).
    """
    if comparison.observations[comparison.measure].isna().all():
        return None
    rows = len(comparison.groups)
    with drawing():
        figure = new_figure(0.3 + rows * max(2.4, 0.7 + 0.19 * len(comparison.methods)))
        axes = figure.subplots(rows, 2, squeeze=False, width_ratios=(3, 2))
        for (left, right), group in zip(axes, comparison.groups, strict=True):
            _lines(left, comparison, group)
            _dots(right, comparison, group)
            left.set_title(f"{group} ({_runs(len(comparison.seeds(group)))})", loc="left")
            right.set_title(f"at {as_percent(comparison.headline)}")
        axes[-1][0].set_xlabel("filters masked")
        axes[-1][1].set_xlabel(comparison.measure)
    return figure


def _lines(panel: Axes, comparison: Comparison, group: str) -> None:
    """Draw means without intervals, since the intervals of many methods would overlap."""
    for method in comparison.methods:
        points = [(p, e.mean) for p in comparison.percents if (e := comparison.estimate(group, method, p)) is not None]
        panel.plot(
            *zip(*points, strict=True), **method_look(comparison.methods, method), marker="o", markersize=2.5,
            linewidth=2.0 if method == LEARNED else 1.3, label=method_label(method),
        )  # fmt: skip
    guides(panel, 0, 1, x=comparison.headline)
    percent_axis(panel, comparison.percents)
    panel.tick_params(axis="x", labelsize=6.5)
    panel.set_ylabel(comparison.measure)
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, -0.05), max(high, _HIGHEST))
    limit(panel, _LOWEST - 0.05, float("inf"))


def _dots(panel: Axes, comparison: Comparison, group: str) -> None:
    """Draw a row for each method: the runs as dots, their mean and its interval."""
    names = [method_label(method) for method in comparison.methods]
    dots = []
    for place, method in enumerate(comparison.methods):
        colour = method_look(comparison.methods, method)["color"]
        estimate = comparison.estimate(group, method, comparison.headline)
        if estimate is None:
            continue
        if estimate.low is not None and estimate.high is not None:
            panel.plot([estimate.low, estimate.high], [place] * 2, color=colour, linewidth=2.2, alpha=0.45)
        panel.plot([estimate.mean], [place], "|", color=INK, markersize=9, markeredgewidth=1.6, zorder=4)
        values = list(comparison.values(group, method, comparison.headline).values())
        dots.append(Dots(names[place], colour, {names[place]: values}, lane="all"))
    dot_rows(panel, names, dots)
    for level in (0, 1):
        panel.axvline(level, color=MUTED, linewidth=0.8, zorder=1)
    for method, label in zip(comparison.methods, panel.get_yticklabels(), strict=True):
        label.set_color(method_look(comparison.methods, method)["color"])
    low, high = panel.get_xlim()
    panel.set_xlim(max(min(low, -0.05), _LOWEST - 0.05), max(high, _HIGHEST))
    mark_cut(panel)


_NETWORKS = ("bicubic", "baseline", "target")
_SHARES = {
    "own": "own function removed",
    "other": "others removed",
    "specificity": "specificity",
    "harm": "harm: the excess of the own removed share over 1",
}


def write_comparison(folder: Path, comparison: Comparison, left_out: Sequence[LeftOut]) -> Path:
    """Write `compare.html` and its figure `<measure>.png` to a folder, and return the page's path.

    Links to the reports of runs are relative to the folder, so that page and reports can be moved together.
    """
    figure = comparison_figure(comparison)
    picture = folder / f"{comparison.measure}.png"
    if figure is not None:
        write_figure(picture, figure)
    page = environment().get_template("comparison.html.j2").render(
        figure=embed_all([picture])[0] if figure is not None else None,
        made=date.today().isoformat(),
        sentences=sentences(comparison), warnings=warnings(comparison), repeats=repeats(comparison),
        links={run: _link(run.path / "report.html", folder) for run in comparison.runs},
        c=comparison, left_out=left_out, networks=_NETWORKS, shares=_SHARES, learned=LEARNED,
    )  # fmt: skip
    path = folder / "compare.html"
    write_text(path, page)
    return path


def sentences(comparison: Comparison) -> list[str]:
    """Return the means of every group at the headline percent, and the differences that the evidence supports."""
    return [
        text
        for group in comparison.reliable
        if _means(comparison, group)
        for text in (_means(comparison, group), _differences(comparison, group), _reason(comparison, group))
        if text
    ]


def warnings(comparison: Comparison) -> list[str]:
    """Return notes about runs without isolation, and about runs with unreliable measures."""
    return [*_without_isolation(comparison), *_small_gains(comparison)]


def repeats(comparison: Comparison) -> list[str]:
    """Return a line for each run that other runs repeat: same settings, same seed. Such runs are not counted twice."""
    lines = []
    for first in comparison.runs:
        others = [
            run.path.as_posix()
            for run in comparison.repeated
            if (comparison.label[run], run.seed) == (comparison.label[first], first.seed)
        ]
        if others:
            verb = "repeats" if len(others) == 1 else "repeat"
            named = words.listed(others)
            lines.append(f"{named} {verb} {first.path.as_posix()}: same settings, same seed; not counted twice.")
    return lines


def _means(comparison: Comparison, group: str) -> str:
    headline = comparison.headline
    means = {name: mean for name in comparison.methods if (mean := comparison.estimate(group, name, headline))}
    if not means:
        return ""
    shown = [f"{method_label(name)} {_with_interval(mean)}" for name, mean in means.items()]
    runs = {mean.n for mean in means.values()}
    over = f"{min(runs)} to {max(runs)} runs" if len(runs) > 1 else _runs(runs.pop())
    return f"{group}, {as_percent(headline)} of the filters, {comparison.measure} over {over}: {words.listed(shown)}."


def _differences(comparison: Comparison, group: str) -> str:
    """Return the methods that are above or below the reference, as far as the evidence supports it."""
    differences = {
        name: difference
        for name in comparison.methods
        if name != comparison.reference
        and (difference := comparison.difference([group], name, comparison.headline)) is not None
        and comparison.may_claim([group], difference)
    }
    parts = [
        f"{side} {method_label(comparison.reference)}: {words.listed(names)}"
        for side, sign in (("above", 1), ("below", -1))
        if (names := [
            f"{method_label(name)} by {_with_interval(difference, sign)}"
            for name, difference in differences.items() if sign * difference.mean > 0
        ])
    ]  # fmt: skip
    return words.sentence_case(f"{'; '.join(parts)} (in the same run).") if parts else ""


def _reason(comparison: Comparison, group: str) -> str:
    """Return why no sentence puts one method above another."""
    reasons = obstacles(comparison.evidence([group])) if len(comparison.methods) > 1 else []
    return f"No order of the methods follows from these runs: {words.listed(reasons)}." if reasons else ""


def _without_isolation(comparison: Comparison) -> list[str]:
    missing = [run.path.as_posix() for run in comparison.without_isolation]
    if not missing:
        return []
    if comparison.measure != "isolation":
        return [
            "These runs have no isolation (tables/isolation.csv), like all runs of an earlier version. The methods are "
            "compared by specificity, which counts every loss as removed function."
        ]
    named = words.listed(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    verb = "has" if len(missing) == 1 else "have"
    return [f"{named} {verb} no isolation (tables/isolation.csv), only removed shares."]


def _small_gains(comparison: Comparison) -> list[str]:
    return [
        f"{group}, seed {seed}: the target is {above_baseline(gain)} in {words.removal(name)}. The measures divide by "
        "this difference, so they are unreliable, and the page has no sentence about this experiment."
        for group in comparison.groups
        for (seed, name), gain in comparison.small_gains(group).items()
    ]


def _with_interval(estimate: Estimate, sign: int = 1) -> str:
    """Return `0.72 (0.61 to 0.83)`. With sign −1 the number and its ends change their sign."""
    ends = [None if end is None else sign * end for end in (estimate.low, estimate.high)[::sign]]
    return words.with_ends([sign * estimate.mean, *ends])


def _runs(count: int) -> str:
    return f"{count} {'run' if count == 1 else 'runs'}"


def _link(report: Path, folder: Path) -> str | None:
    """Return the link from the page to a report; None if there is no report."""
    return quote(Path(os.path.relpath(report, folder)).as_posix()) if report.is_file() else None
