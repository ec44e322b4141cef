"""The figure of the methods compared: specificity against the percent of masked filters, with intervals."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from faig_lab.reporting import findings
from faig_lab.reporting.run_files import RunFiles
from faig_lab.reporting.style import LINES, MUTED, drawing, method_look, new_figure
from faig_lab.reporting.words import REFERENCE, line_label, method_label, percent

_PANELS_PER_ROW = 4
_LOWEST, _HIGHEST = -0.5, 1.5
_ROOM = 0.4  # decades between two named percents


def methods(run: RunFiles) -> Figure | None:
    """A panel per other method: it and the run's method with their intervals, all others as thin lines.

    A learned mask is a dash-dotted reference line in every panel.

    None where the tables hold no interval, or a single method.
    """
    known = [method for method in run.methods if findings.specificity(run, method, run.headline) is not None]
    rivals = [method for method in known if method != run.chosen]
    if run.chosen not in known or not rivals:
        return None
    columns = min(_PANELS_PER_ROW, len(rivals))
    rows = math.ceil(len(rivals) / columns)
    with drawing():
        figure = new_figure(0.45 + 1.75 * rows)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for index, panel in enumerate(axes.flat):
            if index < len(rivals):
                _panel(panel, run, rivals[index], known)
            else:
                panel.set_axis_off()
        # The panels above an empty place are the last of their columns.
        for panel in axes.flat[max(0, len(rivals) - columns) : len(rivals)]:
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("filters masked")
        for panel in axes[:, 0]:
            panel.set_ylabel("specificity")
        drawn = dict(zip(*reversed(axes[0][0].get_legend_handles_labels()), strict=True))
        named = [line_label(method) for method in dict.fromkeys((run.chosen, REFERENCE)) if method in known]
        figure.legend([drawn[name] for name in named], named, loc="outside upper center", ncols=2)
        low, high = axes[0][0].get_ylim()
        axes[0][0].set_ylim(max(min(low, -0.05), _LOWEST), min(max(high, 1.05), _HIGHEST))
    return figure


def _panel(panel: Axes, run: RunFiles, rival: str, known: Sequence[str]) -> None:
    for method in known:
        points = [(q, e) for q in findings.percents(run) if (e := findings.specificity(run, method, q)) is not None]
        q, middle, low, high = np.array([(q, e.value, e.low, e.high) for q, e in points]).T
        look = _look(run, method)
        if method in (run.chosen, rival):
            panel.fill_between(q, low, high, color=look["color"], alpha=0.22, linewidth=0, zorder=2)
            look |= {"marker": "o", "markersize": 3, "zorder": 3}
        elif method == REFERENCE:
            look |= {"linewidth": 1.1, "zorder": 2}
        else:
            look |= {"linewidth": 0.9, "color": LINES, "zorder": 1}
        panel.plot(q, middle, label=line_label(method), **look)
    for level in (0, 1):
        panel.axhline(level, color=MUTED, linewidth=0.8, zorder=1)
    panel.axvline(run.headline, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
    panel.set_title(method_label(rival), color=_look(run, rival)["color"])
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(_named(findings.percents(run), run.headline))
    panel.xaxis.set_major_formatter(lambda q, _: percent(q))


def _look(run: RunFiles, method: str) -> dict[str, Any]:
    """As in the other figures."""
    return dict(method_look(run.methods.index(method), method))


def _named(levels: Sequence[float], headline: float) -> list[float]:
    """The percents whose names have room beside each other: the headline and the ends before the others."""
    named: list[float] = []
    for level in (headline, levels[0], levels[-1], *levels):
        if all(abs(math.log10(level / other)) > _ROOM for other in named):
            named.append(level)
    return sorted(named)
