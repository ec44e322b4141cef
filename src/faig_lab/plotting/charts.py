"""Shapes of several figures: panels, lines, bars of layers, matrices, rows of dots; axes, guides, marks."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from numpy.typing import NDArray

from faig_lab.plotting.style import HEAT, INK, MUTED, legend_columns, new_figure
from faig_lab.plotting.words import as_percent, decimal
from faig_lab.runs.tables import points

Show = Callable[[float | None], str]


def side_by_side(height: float, count: int, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure of this height in inches with panels in a row, which have the same y axis."""
    figure = new_figure(height)
    return figure, list(figure.subplots(1, count, squeeze=False, sharex=share_x, sharey=True)[0])


def own_and_others(
    sets: Sequence[str], names: Sequence[str], head: float
) -> tuple[Figure, list[list[tuple[Axes, list[str]]]]]:
    """Return a figure with a row for each masked set: a panel for its own input and, if any, one for all others.

    Args:
        sets: the degradation of each row.
        names: all degradations.
        head: height of legend and axis names, in inches.

    Returns:
        The figure, and for each row its panels with the inputs that each of them shows.
    """
    figure = new_figure(head + 1.6 * len(sets))
    axes = figure.subplots(len(sets), min(len(names), 2), squeeze=False, sharex=True, sharey=True)
    inputs = [([name], [other for other in names if other != name]) for name in sets]
    return figure, [list(zip(row, shown, strict=False)) for row, shown in zip(axes, inputs, strict=True)]


def line(panel: Axes, table: pd.DataFrame, x: str, y: str, *, band: Sequence[str] = (), **look: Any) -> None:
    """Draw a column of a table against another, with a mark at each point and a band between two more columns."""
    if band:
        place, low, high = points(table, x, *band)
        panel.fill_between(place, low, high, color=look["color"], alpha=0.15, linewidth=0)
    style: dict[str, Any] = {"marker": "o", "markersize": 2.5} | look
    panel.plot(*points(table, x, y), **style)


def layer_bars(panel: Axes, layers: pd.DataFrame, colour: str, size: float) -> None:
    """Draw the column `share` of layers as bars, from the first layer at the top; `size` is that of the names."""
    panel.barh(range(len(layers)), layers["share"].fillna(0), color=colour, height=0.7)
    panel.set_yticks(range(len(layers)), [name.removesuffix(".weight") for name in layers["layer"]], fontsize=size)
    panel.set_ylim(len(layers) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def matrix(
    panel: Axes, shares: NDArray[np.floating[Any]], texts: Sequence[Sequence[str]], bold: NDArray[np.bool_], **look: Any
) -> None:
    """Draw a matrix of shares as shades of grey, with a text in each cell."""
    panel.imshow(np.clip(shares, 0, 1), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    for (row, column), share in np.ndenumerate(shares):
        panel.text(
            column, row, texts[row][column], ha="center", va="center", color="white" if share > 0.6 else INK,
            fontweight="bold" if bold[row, column] else "normal", **look,
        )  # fmt: skip


def percent_axis(panel: Axes, levels: Sequence[float], named: Sequence[float] | None = None) -> None:
    """Make x logarithmic, with a tick at each measured percent or at the named percents."""
    shown = levels if named is None else named
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(shown, [as_percent(level) for level in shown])


def share_axis(panel: Axes, axis: str = "y") -> None:
    """Write the numbers of an axis as percentages."""
    (panel.yaxis if axis == "y" else panel.xaxis).set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def guides(panel: Axes, *levels: float, x: float | None = None) -> None:
    """Draw thin horizontal lines at the levels, and a dotted vertical one at x."""
    for level in levels:
        panel.axhline(level, color=MUTED, linewidth=0.8, zorder=1)
    if x is not None:
        panel.axvline(x, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)


def legend_above(figure: Figure, panel: Axes) -> None:
    """Put the panel's legend above all panels."""
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels))


def limit(panel: Axes, low: float, high: float, show: Show = decimal) -> None:
    """Limit the y axis to the data and to the limits, and mark every line that exceeds the limits."""
    least, most = panel.get_ylim()
    panel.set_ylim(max(least, low), min(most, high))
    mark_cut(panel, show)


def mark_cut(panel: Axes, show: Show = decimal) -> None:
    """Mark each line that leaves the panel: an arrow at the edge with the farthest number.

    At the left and right edge the number is above the line, so that the number hides no dot.
    """
    for axis, arrows in ((0, "◂▸"), (1, "▾▴")):
        edges = sorted(panel.get_ylim() if axis else panel.get_xlim())
        for line in panel.lines:
            data = np.array(line.get_xydata(), dtype=float)
            if line.get_transform() != panel.transData or not np.isfinite(data).all() or not len(data):
                continue
            for edge, arrow, far in zip(edges, arrows, (data[:, axis].argmin(), data[:, axis].argmax()), strict=True):
                beyond = data[far, axis] - edge
                if beyond * (1 if arrow in "▸▴" else -1) > 1e-9:
                    place = (data[far, 0], edge) if axis else (edge, data[far, 1])
                    panel.annotate(
                        f"{arrow} {show(float(data[far, axis]))}", place, (0, 2 if axis else 4),
                        textcoords="offset points", ha="center" if axis else "left" if arrow == "◂" else "right",
                        va="top" if arrow == "▴" else "bottom",
                        fontsize=6, color=line.get_color(),
                        bbox={"color": "white", "alpha": 0.7, "pad": 0.4},
                    )  # fmt: skip


@dataclass(frozen=True)
class Dots:
    """One series of a dot plot: its name in the legend, its colour, and the numbers of each row.

    Attributes:
        label: name in the legend.
        colour: colour of the dots.
        rows: row → numbers.
        lane: series with the same lane have the same height within a row; by default each series has a lane.
        marker: marker as in matplotlib.
        hollow: rows with hollow dots.
        centre: whether a stroke marks the mean.
    """

    label: str
    colour: str
    rows: Mapping[str, Sequence[float]]
    lane: str = ""
    marker: str = "o"
    hollow: Collection[str] = ()
    centre: bool = False


def dot_rows(panel: Axes, names: Sequence[str], series: Sequence[Dots], width: float = 0.6) -> None:
    """Draw a row for each name, from the top. All lanes of a row together are `width` rows high."""
    lanes = list(dict.fromkeys(dots.lane or dots.label for dots in series))
    step = width / max(len(lanes), 1)
    for dots in series:
        shift = step * (lanes.index(dots.lane or dots.label) - (len(lanes) - 1) / 2)
        label: str | None = dots.label
        for place, name in enumerate(names):
            values = dots.rows.get(name, ())
            if not len(values):
                continue
            face = "white" if name in dots.hollow else dots.colour
            panel.plot(
                values, [place + shift] * len(values), dots.marker, color=dots.colour, markerfacecolor=face,
                markersize=4, alpha=0.7 if dots.centre else 1, label=label or "_", zorder=3,
            )  # fmt: skip
            if dots.centre:
                panel.vlines(np.mean(values), place + shift - step / 2.4, place + shift + step / 2.4, color=dots.colour)
            label = None
    panel.set_yticks(range(len(names)), list(names))
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)
