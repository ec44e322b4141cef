"""The figure of isolation: against the percent of masked filters, with what is missing to 1, a row per method."""

from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from faig_lab.reporting import findings
from faig_lab.reporting.isolation import IsolationResult, of_set
from faig_lab.reporting.reference import line
from faig_lab.reporting.run_files import RunFiles
from faig_lab.reporting.style import INK, MUTED, drawing, method_look, new_figure
from faig_lab.reporting.words import REFERENCE, line_label, method_label, percent, removal

_LOWEST = -0.5
_PARTS = {
    "own_left": ("distance to the baseline, own input", "#9db7d5"),
    "side": ("side effect, other degradations", "#e8b07a"),
    "side_clean": ("side effect, clean input", "#d98b8b"),
}
"""Column → its name and its colour."""


def isolation(run: RunFiles) -> Figure | None:
    """A row of panels per method, a panel per masked set: the line is isolation, the areas are what is missing to 1.

    None for a run without the table. The axis is cut at −0.5.
    """
    names = run.degradations
    if not run.table("isolation") or not names:
        return None
    parts = [name for name in _PARTS if name != "side" or len(names) > 1]
    with drawing():
        figure = new_figure(0.75 + 1.3 * len(run.methods))
        axes = figure.subplots(len(run.methods), len(names), squeeze=False, sharex=True, sharey=True)
        for row, method in zip(axes, run.methods, strict=True):
            for panel, masked in zip(row, names, strict=True):
                _panel(panel, run, method, masked, parts)
            row[0].set_ylabel(method_label(method))
        for panel, masked in zip(axes[0], names, strict=True):
            panel.set_title(f"{removal(masked)} filters masked")
        for panel in axes[-1]:
            panel.set_xlabel("filters masked")
        axes[0][0].set_ylim(_LOWEST, 1.03)
        handles = [Patch(color=_PARTS[part][1], label=_PARTS[part][0]) for part in parts]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=7.5)
    return figure


def _panel(panel: Axes, run: RunFiles, method: str, masked: str, parts: list[str]) -> None:
    levels = findings.percents(run)
    found = [(q, r) for q in levels if (r := of_set(run, method, q, masked)) is not None and r.isolation is not None]
    if found:
        q = np.array([level for level, _ in found])
        missing = np.array([[getattr(result, part) or 0.0 for part in parts] for _, result in found])
        borders = 1 - np.concatenate([np.zeros((len(q), 1)), missing.cumsum(1)], 1)
        for part, (upper, lower) in zip(parts, pairwise(borders.T), strict=True):
            panel.fill_between(q, lower, upper, color=_PARTS[part][1], linewidth=0, zorder=1)
        panel.plot(q, [_value(result) for _, result in found], color=INK, marker="o", markersize=3, label="isolation")
        ends = [(result.low, result.high) for _, result in found]
        if all(low is not None and high is not None for low, high in ends):
            panel.vlines(q, *np.array(ends, dtype=float).T, color=INK, linewidth=0.9, zorder=3)
    best = line(run, masked)
    if best and method != REFERENCE:
        x, y = np.array(best, dtype=float).T
        look = method_look(0, REFERENCE)
        panel.plot(x, y, linewidth=1, label=line_label(REFERENCE), color=look["color"], linestyle=look["linestyle"])
    panel.axhline(0, color=MUTED, linewidth=0.8, zorder=2)
    panel.axvline(run.headline, color=MUTED, linewidth=0.8, linestyle=":", zorder=2)
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(levels, [percent(level) for level in levels])


def _value(result: IsolationResult) -> float:
    assert result.isolation is not None
    return result.isolation
