"""Where the values of a chart lie in its picture, so that a page can name the one under the pointer.

The picture stays what it is; its marks are a small file beside it, read from the drawn figure. So every chart of
the report has them, whoever draws it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, PercentFormatter
from numpy.typing import NDArray

SCALE = 10_000
"""Coordinates are in ten-thousandths of the picture's width and height, from its upper left corner."""

# No more than this of one line: of a long training record every n-th point.
_MOST = 200


@dataclass(frozen=True)
class Marks:
    """The values of one picture.

    Attributes:
        labels: what a value belongs to: series, panel and row.
        points: x and y in `SCALE`, the place of the label in `labels`, and the value as text.
    """

    labels: list[str]
    points: list[tuple[int, int, int, str]]

    def __bool__(self) -> bool:
        return bool(self.points)


def marks_of(figure: Figure) -> Marks:
    """The points of all lines, scatters and bars of a figure that has been drawn; guide lines are left out."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    named = _labels_by_colour(figure)
    for panel in figure.axes:
        for label, points in _series(panel, named):
            around = [label, panel.get_title(), _row_label(panel)]
            key = " · ".join(" ".join(part.split()) for part in dict.fromkeys(around) if part)
            found.setdefault(key, []).extend(_placed(figure, panel, points))
    labels = [label for label, points in found.items() if points]
    return Marks(labels, [(x, y, k, text) for k, label in enumerate(labels) for x, y, text in found[label]])


def _series(panel: Axes, named: dict[str, str]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """What the panel draws: a label, and the (n, 2) points in data units."""
    for line in panel.lines:
        # Guide lines (axhline, axvline) have one coordinate in units of the axes.
        if line.get_transform() == panel.transData:
            points = np.array(line.get_xydata(), dtype=float)
            yield _label(line, line.get_color(), named), points[:: max(1, math.ceil(len(points) / _MOST))]
    for drawn in panel.collections:
        if isinstance(drawn, PathCollection):
            yield _label(drawn, drawn.get_facecolor()[0], named), np.array(drawn.get_offsets(), dtype=float)
    for bars in panel.containers:
        if isinstance(bars, BarContainer):
            middle = [(b.get_x() + b.get_width() / 2, b.get_y() + b.get_height() / 2) for b in bars.patches]
            along = 0 if bars.orientation == "horizontal" else 1
            points = np.array(middle, dtype=float).reshape(-1, 2)
            points[:, along] = np.asarray(bars.datavalues, dtype=float)
            yield _label(bars, bars.patches[0].get_facecolor() if bars.patches else "", named), points


def _label(drawn: Any, colour: Any, named: dict[str, str]) -> str:
    """The legend's name; a series without one has that of another panel's series in its colour."""
    own = str(drawn.get_label() or "")
    return named.get(_hex(colour), "") if own.startswith("_") or not own else own


def _labels_by_colour(figure: Figure) -> dict[str, str]:
    lines = [line for panel in figure.axes for line in panel.lines if isinstance(line, Line2D)]
    named = [(line, str(line.get_label())) for line in lines]
    return {_hex(line.get_color()): label for line, label in named if not label.startswith("_")}


def _hex(colour: Any) -> str:
    return to_hex(colour) if len(colour) else ""


def _row(panel: Axes) -> list[Axes]:
    """The panel, and the others of its row, from the left."""
    place = panel.get_subplotspec()
    if place is None:
        return [panel]
    places = [(other, other.get_subplotspec()) for other in panel.figure.axes]
    return [panel, *(other for other, found in places if found is not None and found.rowspan == place.rowspan)]


def _row_label(panel: Axes) -> str:
    """The label of the y axis, which only the first panel of a row carries."""
    return next((label for other in _row(panel) if (label := str(other.get_ylabel()))), "")


def _placed(figure: Figure, panel: Axes, points: NDArray[np.float64]) -> Iterator[tuple[int, int, str]]:
    """Each finite point in the picture and its value as text; what is beyond the panel's edge is at the edge."""
    box = panel.bbox
    for x, y in points[np.isfinite(points).all(axis=1)]:
        across, up = panel.transData.transform((x, y))
        if not (math.isfinite(across) and math.isfinite(up)):
            continue
        across, up = np.clip(across, box.x0, box.x1), np.clip(up, box.y0, box.y1)
        left, top = across / figure.bbox.width, 1 - up / figure.bbox.height
        yield round(SCALE * left), round(SCALE * top), _value(panel, x, y)


def _value(panel: Axes, x: float, y: float) -> str:
    """`28.92 at 0.5`; with categories on one of the axes `conv_first: 12.5 %`."""
    across, up = _text(panel.xaxis, x), _text(panel.yaxis, y)
    if _categories(_tick_names(panel.yaxis)):
        names = (_text(other.yaxis, y) for other in _row(panel))
        return f"{next((name for name in names if name), _plain(y))}: {across}"
    return f"{across}: {up}" if across and _categories(_tick_names(panel.xaxis)) else f"{up} at {across or _plain(x)}"


def _text(axis: Axis, number: float) -> str:
    """A number as its axis writes it: its tick's name, a percentage, else four significant digits.

    Empty where the axis leaves the names of its categories to its neighbour.
    """
    names, formatter = _tick_names(axis), axis.get_major_formatter()
    near = min(names, key=lambda place: abs(place - number), default=math.inf)
    if abs(near - number) <= (0.5 if _categories(names) else 1e-9 * abs(number)):
        return names[near]
    if isinstance(formatter, PercentFormatter):
        return f"{_plain(100 * number / formatter.xmax)} %"
    if isinstance(formatter, FuncFormatter) and (text := str(formatter(float(f"{number:.3g}")))):
        return text
    return _plain(number) + (" %" if names and all(name.endswith(" %") for name in names.values()) else "")


def _tick_names(axis: Axis) -> dict[float, str]:
    """The ticks that were set one by one, and what stands at them."""
    formatter = axis.get_major_formatter()
    fixed = isinstance(axis.get_major_locator(), FixedLocator)
    places: Iterable[float] = axis.get_majorticklocs() if fixed else ()
    return {float(place): " ".join(str(formatter(place, k)).split()) for k, place in enumerate(places)}


def _categories(names: dict[float, str]) -> bool:
    """Whether ticks name things and not numbers; things are one apart, and points may be drawn around them."""
    return bool(names) and not any(name[:1] in "0123456789+-\N{MINUS SIGN}" for name in names.values() if name)


def _plain(number: float) -> str:
    text = np.format_float_positional(number, precision=4, unique=False, fractional=False, trim="-")
    return text.replace("-", "\N{MINUS SIGN}")
