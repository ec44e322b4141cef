"""One figure of all that was measured."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from benchmarks.measuring import read_rows
from faig_lab.plotting.style import INK, MUTED, degradation_colour, drawing, method_colour, new_figure, write_figure

NAMES = {
    "gauss_legendre": "Gauss–Legendre",
    "midpoint": "midpoint",
    "clenshaw_curtis": "Clenshaw–Curtis",
    "right": "right Riemann",
    "adaptive": "adaptive",
    "authors": "published, every integral twice",
}
WAYS = ("forward", "backward to the data", "backward to the weights", "everything else")

Row = dict[str, str]


def draw(folder: Path) -> None:
    """Write figure.png; a panel of what has not been measured stays empty."""
    panels: tuple[tuple[str, Callable[[Axes, list[Row]], None]], ...] = (
        ("rules", _rules),
        ("attribution", _attribution),
        ("operations", partial(_operations, _floors(folder))),
        ("training", _training),
        ("memory", _memory),
        ("growth", _growth),
    )
    with drawing():
        figure = new_figure(8.4)
        for axes, (name, panel) in zip(figure.subplots(3, 2).flat, panels, strict=True):
            rows = read_rows(folder / f"{name}.csv")
            if rows:
                panel(axes, rows)
            else:
                axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=MUTED, transform=axes.transAxes)
                axes.set_axis_off()
        write_figure(folder / "figure.png", figure)


def _rules(axes: Axes, rows: list[Row]) -> None:
    """Error against gradient evaluations."""
    names = [name for name in NAMES if any(row["rule"] == name for row in rows)]
    for number, name in enumerate(names):
        own = [row for row in rows if row["rule"] == name and row["precision"] == "float32"]
        factor = 2 if name == "authors" else 1  # which computes every integral twice
        places = [factor * int(row["points"]) for row in own], [float(row["error"]) for row in own]
        alone = name in ("authors", "adaptive")
        colour = INK if name == "authors" else method_colour(number)
        axes.plot(
            *places,
            marker="*" if alone else "o",
            ms=8 if alone else 3,
            ls="" if alone else "-",
            color=colour,
            label=NAMES[name],
        )
    axes.set(xscale="log", yscale="log", title="Error per gradient evaluation, float32")
    axes.set(xlabel="gradient evaluations per image and degradation", ylabel="error of the score")
    _plain_numbers(axes, (2, 4, 8, 16, 32, 64, 200))
    axes.legend(fontsize=6.5)


def _attribution(axes: Axes, rows: list[Row]) -> None:
    """Times as fast as the plain implementation."""
    rows = [row for row in rows if row["times_as_fast"]]
    _bars(axes, [row["what"] for row in rows], [float(row["times_as_fast"]) for row in rows], "{:.1f}×")
    axes.set(title="Attribution", xlabel="times as fast as the published algorithm")


def _training(axes: Axes, rows: list[Row]) -> None:
    """Steps a second."""
    names = [f"{row['what']}, photographs of {row['photographs']}" for row in rows]
    _bars(axes, names, [float(row["steps_per_second"]) for row in rows], "{:.2f}")
    axes.set(title="Training the full network", xlabel="steps a second")


def _bars(axes: Axes, names: list[str], values: list[float], written: str) -> None:
    places = range(len(names))
    many = len(names) > 6  # the names stand between the bars
    height, size = (0.35, 6) if many else (0.6, 7)
    axes.barh(places, values, color=degradation_colour(0), height=height)
    for place, name, value in zip(places, names, values, strict=True):
        axes.annotate(f" {written.format(value)}", (value, place), va="center", fontsize=size)
        axes.annotate(
            name,
            (0, place - 0.6 * height - 0.05),
            va="bottom",
            fontsize=size,
            color=INK,
            xytext=(2, 0),
            textcoords="offset points",
        )
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(values))
    axes.set_ylim(len(names) - 0.5, -0.75)
    axes.grid(visible=False, axis="y")


def _floors(folder: Path) -> dict[str, str]:
    """What is held against the floor → how near it comes."""
    rows = read_rows(folder / "floor.csv")
    names = [f"{row['what']}, {row['image']}, {row['precision']}" for row in rows]
    return {name: f"{float(row['share_of_floor']):.0%} of the floor" for name, row in zip(names, rows, strict=True)}


def _operations(floors: dict[str, str], axes: Axes, rows: list[Row]) -> None:
    """Shares of the time."""
    names = list(dict.fromkeys(f"{row['what']}, {row['precision']}" for row in rows))
    left = [0.0] * len(names)
    for number, way in enumerate(WAYS):
        shares = [max(0.0, float(row["share"])) for row in rows if row["operation"] == way]
        axes.barh(range(len(names)), shares, left=left, height=0.4, color=degradation_colour(number), label=way)
        left = [a + b for a, b in zip(left, shares, strict=True)]
    for place, name in enumerate(names):
        text = f"{name.replace(', gradient evaluation', '').replace(' bare', '')}: {floors.get(name, '')}"
        axes.annotate(text, (0, place - 0.22), va="bottom", fontsize=6, xytext=(2, 0), textcoords="offset points")
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.5, -0.9)
    axes.grid(visible=False, axis="y")
    axes.set(title="Where the time goes", xlabel="share of the time")
    axes.legend(fontsize=6, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))


def _memory(axes: Axes, rows: list[Row]) -> None:
    """Peak memory against pixels; the number of points at one size."""
    for number, (what, marker) in enumerate((("image", "o"), ("points", "x"), ("large image in tiles", "s"))):
        own = [row for row in rows if row["what"] == what]
        places = [int(row["height"]) * int(row["width"]) for row in own], [float(row["peak_gb"]) for row in own]
        line = "-" if what == "image" else ""
        label = {"image": "whole image, 1 point", "points": f"{', '.join(row['points'] for row in own)} points"}
        axes.plot(*places, marker=marker, ls=line, ms=4, color=degradation_colour(number), label=label.get(what, what))
    axes.set(xscale="log", yscale="log", title="Peak memory", xlabel="LR pixels", ylabel="GB")
    _plain_numbers(axes, ())
    axes.legend(fontsize=6.5)


def _growth(axes: Axes, rows: list[Row]) -> None:
    """Measured ratios against those of the operations."""
    for number, axis in enumerate(dict.fromkeys(row["axis"] for row in rows)):
        own = [row for row in rows if row["axis"] == axis]
        places = [float(row["expected"]) for row in own], [float(row["ratio"]) for row in own]
        line = "" if axis == "processes" else "-"
        axes.plot(*places, marker="o", ms=3, lw=1, ls=line, color=method_colour(number), label=axis)
    low, high = (f(float(row[key]) for row in rows for key in ("expected", "ratio")) for f in (min, max))
    axes.plot([low, high], [low, high], color=MUTED, lw=0.8, ls=":", label="as the operations")
    axes.set(xscale="log", yscale="log", title="Growth", xlabel="ratio of operations", ylabel="ratio of time")
    _plain_numbers(axes, (0.5, 1, 2, 4, 8, 16), (0.5, 1, 2, 4, 8, 16))
    axes.legend(fontsize=6.5)


def _plain_numbers(axes: Axes, across: Sequence[float], up: Sequence[float] = ()) -> None:
    """Ticks of logarithmic axes at these numbers within their limits, written as such."""
    for axis, ticks in ((axes.xaxis, across), (axes.yaxis, up)):
        low, high = axis.get_view_interval()
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        if ticks:
            axis.set_ticks([tick for tick in ticks if low <= tick <= high])
