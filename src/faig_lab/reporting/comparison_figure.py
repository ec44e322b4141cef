"""The methods over several runs: means against the percent masked, and at one percent every run with its interval."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from faig_lab.reporting.comparison import LEARNED, Comparison
from faig_lab.reporting.style import INK, METHOD_COLOURS, MUTED, drawing, method_colour, new_figure
from faig_lab.reporting.words import method_label, percent

_LOWEST, _HIGHEST = -1.0, 1.05  # of the axes; what lies beyond is drawn at the edge
_LINES = ("-", "--", "-.")


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
    for index, method in enumerate(comparison.methods):
        points = [(p, e.mean) for p in comparison.percents if (e := comparison.estimate(group, method, p)) is not None]
        panel.plot(
            [p for p, _ in points], [_inside(mean) for _, mean in points], color=_colour(method, index),
            linestyle=_line(method, index), linewidth=2.0 if method == LEARNED else 1.3, marker="o", markersize=2.5,
            label=method_label(method),
        )  # fmt: skip
    for level in (0, 1):
        panel.axhline(level, color=MUTED, linewidth=0.8, zorder=1)
    panel.axvline(comparison.headline, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(comparison.percents, [percent(level) for level in comparison.percents])
    panel.tick_params(axis="x", labelsize=6.5)
    panel.set_ylabel(comparison.measure)
    low, high = panel.get_ylim()
    panel.set_ylim(max(min(low, -0.05), _LOWEST - 0.05), max(high, _HIGHEST))


def _dots(panel: Axes, comparison: Comparison, group: str) -> None:
    """A row per method, which has its name: the runs as dots, their mean and its interval."""
    for index, method in enumerate(comparison.methods):
        colour = _colour(method, index)
        values = comparison.values(group, method, comparison.headline).values()
        found = comparison.estimate(group, method, comparison.headline)
        if found is None:
            continue
        if found.low is not None and found.high is not None:
            ends = [_inside(found.low), _inside(found.high)]
            panel.plot(ends, [index, index], color=colour, linewidth=2.2, alpha=0.45, solid_capstyle="butt")
        panel.plot([_inside(value) for value in values], [index] * len(values), "o", color=colour, markersize=2.5)
        panel.plot([_inside(found.mean)], [index], "|", color=INK, markersize=9, markeredgewidth=1.6)
    for level in (0, 1):
        panel.axvline(level, color=MUTED, linewidth=0.8, zorder=1)
    panel.set_yticks(range(len(comparison.methods)), [method_label(method) for method in comparison.methods])
    for index, (method, label) in enumerate(zip(comparison.methods, panel.get_yticklabels(), strict=True)):
        label.set_color(_colour(method, index))
    panel.set_ylim(len(comparison.methods) - 0.5, -0.5)
    low, high = panel.get_xlim()
    panel.set_xlim(max(min(low, -0.05), _LOWEST - 0.05), max(high, _HIGHEST))
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _inside(value: float) -> float:
    return max(value, _LOWEST)


def _colour(method: str, index: int) -> str:
    return MUTED if method == "random" else INK if method == LEARNED else method_colour(index)


def _line(method: str, index: int) -> str:
    return ":" if method == "random" else _LINES[index // METHOD_COLOURS % len(_LINES)]
