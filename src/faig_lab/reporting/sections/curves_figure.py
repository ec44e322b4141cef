"""The figure of deletion and insertion curves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from faig_lab.reporting.run_files import RunFiles, mean, unique, value
from faig_lab.reporting.style import INK, MUTED, drawing, method_look, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import line_label, percent, removal

MATCHED = "layer_matched"
CURVES = ("deletion", "insertion")


def methods_of(run: RunFiles) -> list[str]:
    """Every method of the curves in the report's order, the random ones last."""
    found = unique(run.table("curves"), "method")
    known = [method for method in run.methods if method in found and method != "random"]
    rest = [method for method in found if method not in known and method not in ("random", MATCHED)]
    return [*known, *rest, *(method for method in ("random", MATCHED) if method in found)]


def curves_figure(run: RunFiles) -> Figure | None:
    """Restored share against q: a row per masked degradation and curve, left its own input, right the others."""
    masked = unique(run.table("curves"), "masked")
    sides = 2 if len(masked) > 1 else 1
    with drawing():
        figure = new_figure(0.6 + 1.75 * len(masked) * len(CURVES))
        axes = figure.subplots(len(masked) * len(CURVES), sides, squeeze=False, sharex=True, sharey=True)
        for row, (name, curve) in enumerate((name, curve) for name in masked for curve in CURVES):
            shown = ([name], [other for other in masked if other != name])
            for panel, inputs in zip(axes[row], shown, strict=False):
                _panel(panel, run, curve, name, inputs)
                panel.set_title(_title(curve, inputs), fontsize=8)
            axes[row][0].set_ylabel(f"{removal(name)}\nfilters {'deleted' if curve == 'deletion' else 'inserted'}")
        for panel in axes[-1]:
            panel.set_xlabel("q, filters deleted or inserted")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _title(curve: str, inputs: Sequence[str]) -> str:
    what = removal(inputs[0]) if len(inputs) == 1 else "the others, mean"
    return f"{what} {'left' if curve == 'deletion' else 'restored'}"


def _panel(panel: Axes, run: RunFiles, curve: str, masked: str, inputs: Sequence[str]) -> None:
    """Restored share against q for every method, with its interval over images."""
    for method in methods_of(run):
        points = _points(run, curve, method, masked, inputs)
        colour, line = _look(run, method)
        q, middle, low, high = (np.array(numbers, dtype=float) for numbers in zip(*points, strict=True))
        panel.plot(q, middle, color=colour, linestyle=line, marker="o", markersize=2.5, label=line_label(method))
        if len(inputs) == 1:  # of a mean over inputs there is no interval in the table
            panel.fill_between(q, low, high, color=colour, alpha=0.14, linewidth=0)
    for level in (0, 1):
        panel.axhline(level, color=MUTED, linewidth=0.8, zorder=1)
    panel.set_xscale("symlog", linthresh=0.1, linscale=0.35)
    panel.set_xlim(0, 100)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks([0, 0.1, 1, 10, 100], ["0", *(percent(q) for q in (0.1, 1, 10, 100))])
    panel.set_ylim(-0.5, 1.25)
    panel.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def _look(run: RunFiles, method: str) -> tuple[str, str]:
    """Colour as in the other figures, and line style."""
    if method == MATCHED:
        return INK, ":"
    look = method_look(run.methods.index(method) if method in run.methods else len(run.methods), method)
    return look["color"], look["linestyle"]


def _points(
    run: RunFiles, curve: str, method: str, masked: str, inputs: Sequence[str]
) -> list[tuple[float | None, ...]]:
    """(q, restored, low, high), means over the inputs."""
    wanted = {"curve": curve, "method": method, "masked": masked}
    rows = [r for r in run.table("curves") if wanted.items() <= r.items() and r["degradation"] in inputs]
    by_percent: dict[float, list[Row]] = {}
    for row in rows:
        by_percent.setdefault(value(row, "percent") or 0.0, []).append(row)
    return [
        (q, *(mean([value(row, column) for row in found]) for column in ("restored", "low", "high")))
        for q, found in sorted(by_percent.items())
    ]
