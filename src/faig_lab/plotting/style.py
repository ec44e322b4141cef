"""The style of all figures: colours and sizes; their PNG files, with the places of the values in the picture.

The places (marks) are read from the drawn figure and written to a small file beside the picture. So every chart of the
report has marks, whatever code draws the chart, and the page shows the value under the pointer.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, PercentFormatter
from numpy.typing import NDArray

from faig_lab.files import atomic_write, write_text
from faig_lab.plotting.words import REFERENCE

WIDTH = 7.0  # inches; at 700 px of page width a point is 1.4 px, so 8 pt reads as 11 px
DPI = 200
INK = "#22272e"
MUTED = "#6b7480"
LINES = "#d9dde2"
HEAT = "Greys"
"""The colour map of shares. No degradation and no method is grey."""

# A colour has one meaning on a whole page. Any two of these colours have a distance of at least 20 in CIELAB.
# Degradations have the colours of Okabe and Ito.
DEGRADATIONS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
METHODS = (
    *("#551188", "#117700", "#bb1188", "#99aa11", "#770022", "#8070ff", "#e88f8f", "#555500", "#f0244f"),
    "#dd11ff",
)
CLEAN = "#1f2fc0"
"""The colour of input without degradation."""
MIX = "#4f2410"
"""The colour of several degradations at once."""
MISSING = {"own_left": "#ecdcb2", "side": "#c4a26a", "side_clean": "#8a6a34"}
"""Colours of the parts of 1 − isolation: distance to the baseline, side effects on other and on clean input."""

_LINES = ("-", "--", "-.")  # further methods repeat the colours with another line style
_LOOKS = {
    "random": {"color": MUTED, "linestyle": "--"},
    "layer_matched": {"color": MUTED, "linestyle": ":"},
    REFERENCE: {"color": INK, "linestyle": "-."},
}

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.parse_math": False,  # a $ in the name of an image stays a $
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINES,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Use the settings of this module for the block, whatever the user's settings of matplotlib are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def degradation_colour(index: int) -> str:
    """Return the colour of the index-th degradation of a run."""
    return DEGRADATIONS[index % len(DEGRADATIONS)]


def method_colour(index: int) -> str:
    """Return the colour of the index-th method of a run."""
    return METHODS[index % len(METHODS)]


def input_colour(degradations: Sequence[str], name: str) -> str:
    """Return the colour of an input: a degradation of the run, clean, or several degradations at once."""
    if name in degradations:
        return degradation_colour(degradations.index(name))
    return CLEAN if name == "clean" else MIX


def method_look(methods: Sequence[str], method: str) -> dict[str, Any]:
    """Return colour and line style of a method of a run. Random filters and the reference have fixed looks."""
    if method in _LOOKS:
        return dict(_LOOKS[method])
    index = methods.index(method) if method in methods else len(methods)
    return {"color": METHODS[index % len(METHODS)], "linestyle": _LINES[index // len(METHODS) % len(_LINES)]}


def legend_columns(labels: Sequence[str]) -> int:
    """Return the number of columns of a legend that fit into the figure's width, with rows of similar length."""
    widest = 0.5 + 0.057 * max(map(len, labels), default=1)  # inches: handle and gaps, and 8 pt letters
    fit = max(1, int(WIDTH / widest))
    return max(1, math.ceil(len(labels) / math.ceil(len(labels) / fit))) if labels else 1


def new_figure(height: float) -> Figure:
    """Return an empty figure of the report's width; the height is in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, atomically, and the places of its values as JSON beside the PNG.

    The same figure gives the same bytes. A figure without values has no JSON file.
    """
    with atomic_write(path) as temporary, drawing():
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    marks, beside = marks_of(figure), path.with_suffix(".json")
    if marks:
        write_text(beside, json.dumps(asdict(marks), ensure_ascii=False, separators=(",", ":")))
    else:
        beside.unlink(missing_ok=True)


SCALE = 10_000
"""Coordinates are in ten-thousandths of the picture's width and height, from its upper left corner."""

# Maximum number of points of a line. A longer line, such as a training record, keeps every n-th point.
_MOST = 200


@dataclass(frozen=True)
class Marks:
    """The values of one picture.

    Attributes:
        labels: labels of the values: series, panel and row.
        points: x and y in `SCALE`, the index of the label in `labels`, and the value as text.
        lines: the points that a drawn line joins: the index of its first point, and one more than that of its last.
    """

    labels: list[str]
    points: list[tuple[int, int, int, str]]
    lines: list[tuple[int, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.points)


def marks_of(figure: Figure) -> Marks:
    """Return the points of all lines, scatters and bars of a drawn figure. Guide lines are left out.

    A series without a name in the legend gets the name of a line with the same colour.
    """
    by_label: dict[str, list[tuple[bool, list[tuple[int, int, str]]]]] = {}
    lines = [(line, str(line.get_label())) for panel in figure.axes for line in panel.lines]
    named = {to_hex(line.get_color()): label for line, label in lines if not label.startswith("_")}
    for panel in figure.axes:
        # Only the first panel of a row has the label of the y axis.
        beside = next((label for other in _row(panel) if (label := str(other.get_ylabel()))), "")
        for drawn, colour, joined, points in _series(panel):
            label = str(drawn.get_label() or "")
            if label.startswith("_") or not label:
                label = named.get(colour, "")
            around = [label, panel.get_title(), beside]
            key = " · ".join(" ".join(part.split()) for part in dict.fromkeys(around) if part)
            placed = list(_placed(figure, panel, points))
            if placed:
                by_label.setdefault(key, []).append((joined, placed))
    marks = Marks(list(by_label), [])
    for k, series in enumerate(by_label.values()):
        for joined, placed in series:
            first = len(marks.points)
            marks.points.extend((x, y, k, text) for x, y, text in placed)
            if joined and len(placed) > 1:
                marks.lines.append((first, len(marks.points)))
    return marks


def _series(panel: Axes) -> Iterator[tuple[Any, str, bool, NDArray[np.float64]]]:
    """Yield each series of the panel: its artist, its colour, whether a line joins its points, (n, 2) data points."""
    for line in panel.lines:
        # Guide lines (axhline, axvline) have one coordinate in units of the axes.
        if line.get_transform() == panel.transData:
            points = np.array(line.get_xydata(), dtype=float)
            joined = line.get_linestyle() not in ("", " ", "None")
            yield line, to_hex(line.get_color()), joined, points[:: max(1, math.ceil(len(points) / _MOST))]
    for drawn in panel.collections:
        if isinstance(drawn, PathCollection):
            colours = np.asarray(drawn.get_facecolor())
            points = np.array(drawn.get_offsets(), dtype=float)
            yield drawn, to_hex(colours[0]) if len(colours) else "", False, points
    for bars in panel.containers:
        if isinstance(bars, BarContainer) and bars.patches:
            middle = [(b.get_x() + b.get_width() / 2, b.get_y() + b.get_height() / 2) for b in bars.patches]
            points = np.array(middle, dtype=float)
            points[:, 0 if bars.orientation == "horizontal" else 1] = np.asarray(bars.datavalues, dtype=float)
            yield bars, to_hex(bars.patches[0].get_facecolor()), False, points


def _row(panel: Axes) -> list[Axes]:
    """Return the panel and the other panels of its row, from the left."""
    place = panel.get_subplotspec()
    if place is None:
        return [panel]
    places = [(other, other.get_subplotspec()) for other in panel.figure.axes]
    return [panel, *(other for other, spec in places if spec is not None and spec.rowspan == place.rowspan)]


def _placed(figure: Figure, panel: Axes, points: NDArray[np.float64]) -> Iterator[tuple[int, int, str]]:
    """Yield the place and the value of each finite point. A point outside of the panel is moved to its edge."""
    box = panel.bbox
    for x, y in points[np.isfinite(points).all(axis=1)]:
        across, up = panel.transData.transform((x, y))
        if not (math.isfinite(across) and math.isfinite(up)):
            continue
        across, up = np.clip(across, box.x0, box.x1), np.clip(up, box.y0, box.y1)
        left, top = across / figure.bbox.width, 1 - up / figure.bbox.height
        yield round(SCALE * left), round(SCALE * top), _value(panel, x, y)


def _value(panel: Axes, x: float, y: float) -> str:
    """Return `28.92 at 0.5`, or `conv_first: 12.5 %` with categories on an axis."""
    across, up = _text(panel.xaxis, x), _text(panel.yaxis, y)
    if _categories(_tick_names(panel.yaxis)):
        names = (_text(other.yaxis, y) for other in _row(panel))
        return f"{next((name for name in names if name), _plain(y))}: {across}"
    return f"{across}: {up}" if across and _categories(_tick_names(panel.xaxis)) else f"{up} at {across or _plain(x)}"


def _text(axis: Axis, number: float) -> str:
    """Return a number as its axis shows it: the name of a tick, a percentage, or four significant digits.

    The text is empty if only the neighbouring panel has the names of the categories.
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
    """Return the ticks that were set one by one, with their names."""
    formatter = axis.get_major_formatter()
    fixed = isinstance(axis.get_major_locator(), FixedLocator)
    places: Iterable[float] = axis.get_majorticklocs() if fixed else ()
    return {float(place): " ".join(str(formatter(place, k)).split()) for k, place in enumerate(places)}


def _categories(names: dict[float, str]) -> bool:
    """Return whether ticks are categories and not numbers. Categories have distance 1, with points around them."""
    return bool(names) and not any(name[:1] in "0123456789+-\N{MINUS SIGN}" for name in names.values() if name)


def _plain(number: float) -> str:
    text = np.format_float_positional(number, precision=4, unique=False, fractional=False, trim="-")
    return text.replace("-", "\N{MINUS SIGN}")
