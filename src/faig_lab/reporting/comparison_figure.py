"""The methods over several runs: means against the percent masked, and at one percent every run with its interval."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faig_lab.reporting.charts import Dots, dot_rows, guides, limit, mark_cut, percent_axis
from faig_lab.reporting.comparison import LEARNED, Comparison
from faig_lab.reporting.style import INK, MUTED, drawing, method_look, new_figure
from faig_lab.reporting.words import method_label, percent

_LOWEST, _HIGHEST = -1.0, 1.05  # of the axes; what lies beyond is marked at the edge


def comparison_figure(comparison: Comparison) -> Figure | None:
    """A row per group; None where no method has the measure (specificity with a single degradation)."""
    if all(getattr(one, comparison.measure) is None for one in comparison.observations):
        return None
    rows = len(comparison.groups)
    with drawing():
        figure = new_figure(0.3 + rows * max(2.4, 0.7 + 0.19 * len(comparison.methods)))
        axes = figure.subplots(rows, 2, squeeze=False, width_ratios=(3, 2))
        for (left, right), group in zip(axes, comparison.groups, strict=True):
            _lines(left, comparison, group)
            _dots(right, comparison, group)
            count = len(comparison.seeds(group))
            left.set_title(f"{group} ({count} {'run' if count == 1 else 'runs'})", loc="left")
            right.set_title(f"at {percent(comparison.headline)}")
        axes[-1][0].set_xlabel("filters masked")
        axes[-1][1].set_xlabel(comparison.measure)
    return figure


def _lines(panel: Axes, comparison: Comparison, group: str) -> None:
    """Means only: intervals of many methods would cover each other."""
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
    """A row per method, which has its name: the runs as dots, their mean and its interval."""
    names = [method_label(method) for method in comparison.methods]
    dots = []
    for place, method in enumerate(comparison.methods):
        colour = method_look(comparison.methods, method)["color"]
        found = comparison.estimate(group, method, comparison.headline)
        if found is None:
            continue
        if found.low is not None and found.high is not None:
            panel.plot([found.low, found.high], [place] * 2, color=colour, linewidth=2.2, alpha=0.45)
        panel.plot([found.mean], [place], "|", color=INK, markersize=9, markeredgewidth=1.6, zorder=4)
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
