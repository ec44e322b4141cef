"""The figures of a run, each a pure function of its tables; `None` where the tables have nothing to show."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from faig_lab.analysis import Example
from faig_lab.files import file_name
from faig_lab.reporting import findings
from faig_lab.reporting.isolation import HARM
from faig_lab.reporting.isolation_figure import isolation
from faig_lab.reporting.methods_figure import methods
from faig_lab.reporting.pictures import Pictures, before_after, strips
from faig_lab.reporting.run_files import RunFiles, at, mean, read_run, unique, value
from faig_lab.reporting.sections import SECTIONS
from faig_lab.reporting.style import (
    INK,
    MUTED,
    WIDTH,
    degradation_colour,
    drawing,
    legend_columns,
    method_look,
    new_figure,
    write_figure,
)
from faig_lab.reporting.tables import Row
from faig_lab.reporting.tiles import DETAIL, LARGE, write_tiles
from faig_lab.reporting.training_figure import training
from faig_lab.reporting.units import spoken_figure
from faig_lab.reporting.words import count, degraded, method_label, number, percent, removal

_PANELS_PER_ROW = 3
_NAME = 14  # letters in a line of a name
_LETTER = 0.056  # inches, at the size of tick labels


def write_figures(run: Path, pictures: Sequence[Pictures]) -> list[Path]:
    """Write `figures/*.png` of a run folder from its tables and the pictures; returns the files written."""
    files = read_run(run)
    drawn: list[tuple[str, Figure | None]] = [
        *((f"before_after_{shown.degradation}", before_after(shown)) for shown in pictures if shown.rows),
        ("isolation", isolation(files)),
        ("specificity", specificity(files)),
        ("methods", methods(files)),
        ("masking_curves", masking_curves(files)),
        ("layers", layers(files)),
        ("training", training(files)),
        *((section.name, section.figure(files)) for section in SECTIONS if files.table(section.name)),
    ]
    written = []
    for name, figure in drawn:
        if figure is not None:
            path = run / "figures" / f"{file_name(name, 'figures')}.png"
            write_figure(path, spoken_figure(figure, files))
            written.append(path)
    for shown in pictures:
        write_tiles(run, f"before_after_{shown.degradation}", shown, LARGE)
    return written


def write_strips(run: Path, analysis: str, examples: Sequence[Example]) -> None:
    """Write `figures/<analysis>_<name>.png` from the pictures that an analysis handed over."""
    for section in SECTIONS:
        if section.name == analysis and section.strips is not None:
            for grid in section.strips.grids(examples):
                name = f"{analysis}_{grid.degradation}"
                write_figure(
                    run / "figures" / f"{file_name(name, 'figures')}.png", spoken_figure(strips(grid), read_run(run))
                )
                write_tiles(run, name, grid, DETAIL)


def specificity(run: RunFiles) -> Figure | None:
    """Specificity matrices at the headline percent, a panel per method: rows = masked set, columns = input.

    Removed shares are clipped to 0..1 in the mean over draws; the excess is printed as harm.
    """
    names = run.degradations
    if not names or not run.methods:
        return None
    inputs = [f"{_wrapped(degraded(name))}\ninput" for name in names]
    sets = [f"{_wrapped(removal(name))}\nfilters masked" for name in names]
    columns = min(_panels_per_row(inputs, sets), len(run.methods))
    rows = math.ceil(len(run.methods) / columns)
    with drawing():
        figure = new_figure(rows * (0.75 + 0.62 * max(len(names), 2)) + 0.35)
        axes = figure.subplots(rows, columns, squeeze=False)
        for index, panel in enumerate(axes.flat):
            if index < len(run.methods):
                _matrix_panel(panel, run, run.methods[index], inputs, sets if index % columns == 0 else [])
            else:
                panel.set_axis_off()
        figure.supxlabel(
            "removed share, clipped to 0..1: 0 = untouched (white), 1 = gone (dark); the excess over 1 is harm",
            fontsize=7.5, color=MUTED,
        )  # fmt: skip
    return figure


def _wrapped(name: str) -> str:
    return textwrap.fill(name, _NAME, break_long_words=False)


def _panels_per_row(below: Sequence[str], beside: Sequence[str]) -> int:
    """As many panels as leave each name below its cell the room that its longest line takes."""
    lines, names = (max(len(line) for name in side for line in name.splitlines()) for side in (below, beside))
    room = WIDTH - _LETTER * names
    wanted = _LETTER * (lines + 1) * len(below)
    return max(1, min(_PANELS_PER_ROW, int(room / wanted)))


def _matrix_panel(panel: Axes, run: RunFiles, method: str, inputs: Sequence[str], sets: Sequence[str]) -> None:
    """One matrix; the names of its sets only where they are given."""
    cells = findings.matrix(run, method, run.headline)
    shares = np.array([[math.nan if cell.mean is None else cell.mean for cell in row] for row in cells])
    panel.imshow(np.clip(shares, 0, 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    panel.set_title(method_label(method))
    panel.set_xticks(range(len(shares)), inputs)
    panel.set_yticks(range(len(sets)), sets)
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    for (row, column), shown in np.ndenumerate(shares):
        cell = cells[row][column]
        spread = f"\n± {number(cell.std)}" if cell.draws > 1 else ""
        spread += f"\nharm {number(cell.harm)}" if cell.harm >= HARM else ""
        panel.text(
            column, row, f"{number(cell.mean)}{spread}", ha="center", va="center", linespacing=1.3,
            fontsize=10 if not spread else 8.5, color="white" if shown > 0.6 else INK,
            fontweight="bold" if row == column else "normal",
        )  # fmt: skip


def masking_curves(run: RunFiles) -> Figure | None:
    """Removed shares against masked percent: a row per masked set, left its own, right the others."""
    names, columns = run.degradations, 2 if len(run.degradations) > 1 else 1
    if not names or not run.methods:
        return None
    with drawing():
        figure = new_figure(0.5 + 1.9 * len(names))
        axes = figure.subplots(len(names), columns, squeeze=False, sharex=True, sharey=True)
        for row, masked in enumerate(names):
            others = [name for name in names if name != masked]
            for panel, shown in zip(axes[row], ([masked], others), strict=False):
                _curves(panel, run, masked, shown)
                panel.set_title("removed: " + (removal(shown[0]) if len(shown) == 1 else "the others, mean"))
            axes[row][0].set_ylabel(f"{removal(masked)}\nfilters masked")
        for panel in axes[-1]:
            panel.set_xlabel("filters masked")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels))
    return figure


def _curves(panel: Axes, run: RunFiles, masked: str, shown: Sequence[str]) -> None:
    """Mean removed share over the shown degradations for each method, with the band of random draws."""
    for index, method in enumerate(run.methods):
        points = list(_curve(run, method, masked, shown))
        if not points:
            continue
        percents, means, spreads = (np.array(numbers) for numbers in zip(*points, strict=True))
        look = method_look(index, method)
        panel.plot(percents, means, marker="o", markersize=3.5, label=method_label(method), **look)  # type: ignore[arg-type]
        if spreads.any():
            panel.fill_between(percents, means - spreads, means + spreads, color=look["color"], alpha=0.2, linewidth=0)
    for level in (0, 1):
        panel.axhline(level, color=MUTED, linewidth=0.8, zorder=1)
    panel.axvline(run.headline, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
    _percent_axis(panel, run)


def _curve(run: RunFiles, method: str, masked: str, shown: Sequence[str]) -> Iterator[tuple[float, float, float]]:
    """Points (percent, mean, spread over draws) of one method, over all shown degradations."""
    rows = [
        row for row in run.table("masking")
        if row["method"] == method and row["masked"] == masked and row["degradation"] in shown
    ]  # fmt: skip
    for level in sorted({number for row in rows if (number := value(row, "percent")) is not None}):
        here = [row for row in rows if at(level, row)]
        by_draw = [
            mean([findings.removed(row) for row in here if row["draw"] == draw])
            for draw in dict.fromkeys(row["draw"] for row in here)
        ]
        cell = findings.over_draws([{"removed": share} for share in by_draw])
        if cell.mean is not None:
            yield level, cell.mean, cell.std


def _percent_axis(panel: Axes, run: RunFiles) -> None:
    """Log x with a tick at each measured percent; y wide enough for 0..1, cut at -0.5 and 1.5."""
    levels = findings.percents(run)
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(levels, [percent(level) for level in levels])
    low, high = panel.get_ylim()
    panel.set_ylim(max(min(low, -0.05), -0.5), min(max(high, 1.05), 1.5))
    panel.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def layers(run: RunFiles) -> Figure | None:
    """Discovered filters of the run's method per layer: a panel per degradation, bars = layer shares."""
    rows = [r for r in run.table("distribution") if r["method"] == run.chosen and at(run.headline, r)]
    names = unique(rows, "degradation")
    if not names:
        return None
    tallest = max(value(row, "share") or 0 for row in rows)
    with drawing():
        figure = new_figure(1.0 + 0.175 * max(len(unique(rows, "layer")), 6))
        axes = figure.subplots(1, len(names), squeeze=False, sharex=True, sharey=True)[0]
        for index, (panel, name) in enumerate(zip(axes, names, strict=True)):
            _layer_panel(panel, [row for row in rows if row["degradation"] == name], degradation_colour(index), tallest)
            panel.set_title(f"{removal(name)} filters")
            panel.axvline(run.headline / 100, color=MUTED, linewidth=0.8, linestyle=":")
        figure.supxlabel(
            "bar: share of the layer's filters that are discovered; number: how many\n"
            f"dotted: {percent(run.headline)}, what evenly spread filters would give",
            fontsize=7.5, color=MUTED,
        )  # fmt: skip
    return figure


def _layer_panel(panel: Axes, rows: Sequence[Row], shade: str, tallest: float) -> None:
    shares = [value(row, "share") or 0.0 for row in rows]
    panel.barh(range(len(rows)), shares, color=shade, height=0.72)
    panel.set_yticks(range(len(rows)), [str(row["layer"]).removesuffix(".weight") for row in rows], fontsize=7)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(0, (tallest or 0.01) * 1.16)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.xaxis.set_major_formatter(lambda share, _: percent(round(100 * share, 6)))
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)
    for position, (row, share) in enumerate(zip(rows, shares, strict=True)):
        found = value(row, "discovered")
        if found:
            panel.text(share + 0.01 * tallest, position, count(found), va="center", fontsize=6.5, color=INK)
