"""The style of all figures: colours, sizes, and the PNG files."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from faig_lab.files import atomic_write, write_text
from faig_lab.plotting.marks import marks_of
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
