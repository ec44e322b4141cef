"""Specificity against the percent of masked filters, for every method and group, with intervals."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from faig_lab.reporting.comparison import Comparison
from faig_lab.reporting.style import MUTED, drawing, method_colour, new_figure
from faig_lab.reporting.words import method_label, percent

_APART = 1.035  # neighbouring methods stand side by side, so that their intervals can be told apart


def specificity_figure(comparison: Comparison) -> Figure | None:
    """A panel per group; None where no method has a specificity (a single degradation)."""
    if all(one.specificity is None for one in comparison.observations):
        return None
    columns = min(2, len(comparison.groups))
    rows = math.ceil(len(comparison.groups) / columns)
    with drawing():
        figure = new_figure(0.75 + 2.6 * rows)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for index, panel in enumerate(axes.flat):
            if index < len(comparison.groups):
                _panel(panel, comparison, comparison.groups[index])
            else:
                panel.set_axis_off()
        for panel in axes[:, 0]:
            panel.set_ylabel("specificity")
        for panel in axes.flat[max(len(comparison.groups) - columns, 0) : len(comparison.groups)]:
            panel.tick_params(labelbottom=True)  # also where the row below has no panel
            panel.set_xlabel("filters masked")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4))
    return figure


def _panel(panel: Axes, comparison: Comparison, group: str) -> None:
    for index, method in enumerate(comparison.methods):
        points = [(p, e) for p in comparison.percents if (e := comparison.estimate(group, method, p)) is not None]
        shift = _APART ** (index - (len(comparison.methods) - 1) / 2)
        random = method == "random"
        panel.errorbar(
            [p * shift for p, _ in points],
            [e.mean for _, e in points],
            yerr=[[e.mean - (e.low if e.low is not None else e.mean) for _, e in points],
                  [(e.high if e.high is not None else e.mean) - e.mean for _, e in points]],
            color=MUTED if random else method_colour(index), linestyle="--" if random else "-",
            linewidth=1.3, elinewidth=0.8, capsize=1.5, marker="o", markersize=3, label=method_label(method),
        )  # fmt: skip
    seeds = comparison.seeds(group)
    panel.set_title(f"{group} ({len(seeds)} {'run' if len(seeds) == 1 else 'runs'})")
    for level in (0, 1):
        panel.axhline(level, color=MUTED, linewidth=0.8, zorder=1)
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(comparison.percents, [percent(level) for level in comparison.percents])
    low, high = panel.get_ylim()
    panel.set_ylim(max(low, -1.0), min(max(high, 1.05), 2.5))
