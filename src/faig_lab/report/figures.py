"""The figures of a run. Each is a pure function of the tables of the run, and None if the tables lack the data.

The figures of masking come first: isolation, specificity with intervals, matrices of removed shares and their curves.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from faig_lab.evaluation.evaluator import Example
from faig_lab.files import file_name
from faig_lab.plotting import findings
from faig_lab.plotting.charts import (
    guides,
    layer_bars,
    legend_above,
    limit,
    line,
    matrix,
    own_and_others,
    percent_axis,
    share_axis,
    side_by_side,
)
from faig_lab.plotting.pictures import DETAIL, LARGE, Pictures, before_after, strips, write_tiles
from faig_lab.plotting.style import (
    INK,
    LINES,
    MISSING,
    MUTED,
    WIDTH,
    drawing,
    input_colour,
    method_look,
    new_figure,
    write_figure,
)
from faig_lab.plotting.words import (
    REFERENCE,
    as_percent,
    count,
    decimal,
    degraded,
    line_label,
    method_label,
    removal,
    share,
)
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, points, select, unique
from faig_lab.studies.section import sections_of

_MISSING = {
    "own_left": "distance to the baseline, own input",
    "side": "side effect, other degradations",
    "side_clean": "side effect, clean input",
}
_LOWEST, _HIGHEST = -0.5, 1.5  # limits of isolation, specificity and removed shares
_PANELS_PER_ROW = 4
_APART = 0.6  # minimum distance of two named percents, in decades
_NAME = 14  # maximum number of letters in a line of a name
_LETTER = 0.056  # width of a letter of a tick label, in inches
_PSNR = "psnr/"


def write_figures(run: Path, pictures: Sequence[Pictures]) -> list[Path]:
    """Write `figures/*.png` of a run folder from its tables and the pictures, and return the files."""
    files = RunFolder(run)
    drawn: list[tuple[str, Figure | None]] = [
        *((f"before_after_{shown.degradation}", before_after(shown)) for shown in pictures if shown.rows),
        ("isolation", isolation(files)),
        ("specificity", specificity(files)),
        ("methods", methods(files)),
        ("masking_curves", masking_curves(files)),
        ("layers", layers(files)),
        ("training", training(files)),
        *((section.name, section.figure(files)) for section in sections_of(files)),
    ]
    for shown in pictures:
        write_tiles(run, f"before_after_{shown.degradation}", shown, LARGE)
    return [_write(run, name, figure) for name, figure in drawn if figure is not None]


def captions(run: RunFolder) -> dict[str, str]:
    """Return the caption of each figure of the studies of a run: figure → caption."""
    return {section.name: run.worded(section.caption) for section in sections_of(run)}


def write_strips(run: Path, analysis: str, examples: Sequence[Example]) -> None:
    """Write `figures/<analysis>_<name>.png` from the pictures that a study returned."""
    for section in sections_of(RunFolder(run)):
        if section.name == analysis and section.strips is not None:
            for grid in section.strips.grids(examples):
                name = f"{analysis}_{grid.degradation}"
                _write(run, name, strips(grid))
                write_tiles(run, name, grid, DETAIL)


def _write(run: Path, name: str, figure: Figure) -> Path:
    path = run / "figures" / f"{file_name(name, 'figures')}.png"
    write_figure(path, figure)
    return path


@drawing()
def isolation(run: RunFolder) -> Figure | None:
    """Draw isolation: a panel for each method and masked set, with areas for the parts that are missing to 1.

    The figure is None for a run without the table.
    """
    names, columns = run.degradations, min(len(run.methods), _PANELS_PER_ROW + 1)
    if run.table("isolation").empty or not names:
        return None
    parts = [name for name in _MISSING if name != "side" or len(names) > 1]
    bands = [run.methods[k : k + columns] for k in range(0, len(run.methods), columns)]
    rows = [(masked, band) for band in bands for masked in names]
    figure = new_figure(0.7 + 1.35 * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    axes[0][0].set_ylim(_LOWEST, 1.03)
    for panels, (masked, band) in zip(axes, rows, strict=True):
        for panel, method in zip(panels, band, strict=False):
            _isolation_panel(panel, run, method, masked, parts)
            panel.set_title(method_label(method) if masked == names[0] else "", fontsize=7.5)
            panel.tick_params(labelbottom=masked == names[-1])
            panel.set_xlabel(f"{run.units} masked" if masked == names[-1] else "", fontsize=7)
        for panel in panels[len(band) :]:
            panel.set_axis_off()
        panels[0].set_ylabel(f"isolation\n{removal(masked)} set", fontsize=7)
    handles = [Patch(color=MISSING[part], label=_MISSING[part]) for part in parts]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=7.5)
    return figure


def _isolation_panel(panel: Axes, run: RunFolder, method: str, masked: str, parts: list[str]) -> None:
    rows = select(run.table("isolation"), method=method, masked=masked)
    rows = rows.dropna(subset="isolation").sort_values("percent")
    look, percent = method_look(run.methods, method), rows["percent"]
    upper = np.ones(len(rows))
    for part in parts:
        lower = upper - rows[part].fillna(0).to_numpy()
        panel.fill_between(percent, lower, upper, color=MISSING[part], linewidth=0, zorder=1)
        upper = lower
    line(panel, rows, "percent", "isolation", markersize=3, label="isolation", **look)
    if not rows[["isolation_low", "isolation_high"]].isna().any(axis=None):
        panel.vlines(
            percent, rows["isolation_low"], rows["isolation_high"], color=look["color"], linewidth=0.9, zorder=3
        )
    if method != REFERENCE:
        best = select(run.table("isolation"), method=REFERENCE, masked=masked)
        if not best.empty:
            dashed = method_look(run.methods, REFERENCE)
            line(panel, best, "percent", "isolation", marker="", linewidth=1, label=line_label(REFERENCE), **dashed)
    guides(panel, 0, x=run.headline)
    percent_axis(panel, _named(findings.percents(run), run.headline))
    limit(panel, _LOWEST, 1.03)
    for row in rows[(rows["isolation_low"] < _LOWEST) & (rows["isolation"] >= _LOWEST)].itertuples():
        # The line is within the panel, and its range is not.
        panel.annotate(
            "▾", (row.percent, _LOWEST), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=6,
            color=look["color"],
        )  # fmt: skip


@drawing()
def methods(run: RunFolder) -> Figure | None:
    """Draw specificity: a panel for each method beside the run's method, with intervals; other methods are thin lines.

    The learned mask is a dash-dotted reference line in every panel. The figure is None if the tables have no interval
    or a single method.
    """
    known = [method for method in run.methods if findings.specificity(run, method, run.headline) is not None]
    others = [method for method in known if method != run.chosen]
    if run.chosen not in known or not others:
        return None
    columns = min(_PANELS_PER_ROW, len(others))
    rows = math.ceil(len(others) / columns)
    figure = new_figure(0.45 + 1.75 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for panel, method in zip(axes.flat, others, strict=False):
        _specificity_panel(panel, run, method, known)
    for panel in axes.flat[len(others) :]:
        panel.set_axis_off()
    # The panels above an empty place are the last of their columns.
    for panel in axes.flat[max(0, len(others) - columns) : len(others)]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel(f"{run.units} masked")
    for panel in axes[:, 0]:
        panel.set_ylabel("specificity")
    low, high = axes[0][0].get_ylim()
    axes[0][0].set_ylim(min(low, -0.05), max(high, 1.05))
    for panel in axes.flat[: len(others)]:
        limit(panel, _LOWEST, _HIGHEST)
    drawn = dict(zip(*reversed(axes[0][0].get_legend_handles_labels()), strict=True))
    named = [line_label(method) for method in dict.fromkeys((run.chosen, REFERENCE)) if method in known]
    figure.legend([drawn[name] for name in named], named, loc="outside upper center", ncols=2)
    return figure


def _specificity_panel(panel: Axes, run: RunFolder, other: str, known: Sequence[str]) -> None:
    for method in known:
        rows = select(run.table("comparison"), method=method)
        rows = rows.dropna(subset=["specificity", "specificity_low", "specificity_high"]).sort_values("percent")
        look = method_look(run.methods, method)
        style: dict[str, float | str] = {"marker": "", "linewidth": 0.9, "color": LINES, "zorder": 1}
        if method in (run.chosen, other):
            low, high = rows["specificity_low"], rows["specificity_high"]
            panel.fill_between(rows["percent"], low, high, color=look["color"], alpha=0.22, linewidth=0, zorder=2)
            style = {"markersize": 3, "zorder": 3}
        elif method == REFERENCE:
            style = {"marker": "", "linewidth": 1.1, "zorder": 2}
        line(panel, rows, "percent", "specificity", label=line_label(method), **(look | style))
    guides(panel, 0, 1, x=run.headline)
    panel.set_title(method_label(other), color=method_look(run.methods, other)["color"])
    percent_axis(panel, _named(findings.percents(run), run.headline))


def _named(levels: Sequence[float], headline: float) -> list[float]:
    """Return the percents whose names fit beside each other. The headline and the ends come first."""
    named: list[float] = []
    for level in (headline, levels[0], levels[-1], *levels):
        if all(abs(math.log10(level / other)) > _APART for other in named):
            named.append(level)
    return sorted(named)


@drawing()
def specificity(run: RunFolder) -> Figure | None:
    """Draw matrices of removed shares at the headline percent, a panel for each method: rows = set, columns = input.

    Removed shares are clipped to 0..1 in the mean over draws; the excess is printed as harm.
    """
    names = run.degradations
    if not names or not run.methods:
        return None
    inputs, sets = ([textwrap.fill(word(name), _NAME, break_long_words=False) for name in names]
                    for word in (degraded, removal))  # fmt: skip
    # Each name below a cell has the width of its longest line.
    below, beside = (max(len(line) for name in side for line in name.splitlines()) for side in (inputs, sets))
    fit = max(1, min(3, int((WIDTH / _LETTER - beside) / ((below + 1) * len(names)))))
    columns = min(fit, len(run.methods))
    rows = math.ceil(len(run.methods) / columns)
    figure = new_figure(rows * (0.75 + 0.62 * max(len(names), 2)) + 0.35)
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat[len(run.methods) :]:
        panel.set_axis_off()
    for index, (panel, method) in enumerate(zip(axes.flat, run.methods, strict=False)):
        cells = findings.matrix(run, method, run.headline)
        texts = [[_cell_text(cell) for cell in row] for row in cells]
        size = 8.5 if any("\n" in text for row in texts for text in row) else 10
        shares = np.array([[cell.mean for cell in row] for row in cells])
        matrix(panel, shares, texts, np.eye(len(cells), dtype=bool), fontsize=size, linespacing=1.3)
        panel.set_title(method_label(method))
        panel.set_xticks(range(len(names)), inputs)
        first = index % columns == 0  # only the first panel of a row names the sets
        panel.set_yticks(range(len(names)) if first else [], sets if first else [])
        panel.set_ylabel("set masked" if first else "")
    figure.supxlabel(
        "input; removed share, clipped to 0..1: 0 = unchanged (white), 1 = removed (dark); harm = excess over 1",
        fontsize=7.5, color=MUTED,
    )  # fmt: skip
    return figure


def _cell_text(cell: findings.Cell) -> str:
    spread = f"\n± {decimal(cell.std)}" if cell.draws > 1 else ""
    harm = f"\nharm {decimal(cell.harm)}" if cell.harm >= findings.HARM else ""
    return f"{decimal(cell.mean)}{spread}{harm}"


@drawing()
def masking_curves(run: RunFolder) -> Figure | None:
    """Draw mean removed shares against the masked percent: a row for each set, own function left, others right."""
    names = run.degradations
    if not names or not run.methods:
        return None
    figure, axes = own_and_others(names, names, 0.5)
    for row, masked in zip(axes, names, strict=True):
        for panel, shown in row:
            for method in run.methods:
                found = select(run.table("masking"), method=method, masked=masked)
                found = found[found["degradation"].isin(shown)]
                by_draw = findings.removed(found).groupby([found["percent"], found["draw"]]).mean().dropna()
                if by_draw.empty:
                    continue
                means, stds = by_draw.groupby("percent").mean(), by_draw.groupby("percent").std(ddof=0)
                look = method_look(run.methods, method)
                panel.plot(means.index, means, marker="o", markersize=3.5, label=line_label(method), **look)
                if stds.any():  # the band of random draws
                    panel.fill_between(
                        means.index, means - stds, means + stds, color=look["color"], alpha=0.2, linewidth=0
                    )
            guides(panel, 0, 1, x=run.headline)
            percent_axis(panel, findings.percents(run))
            share_axis(panel)
            low, high = panel.get_ylim()
            panel.set_ylim(min(low, -0.05), max(high, 1.05))
            limit(panel, _LOWEST, _HIGHEST, share)
            functions = removal(shown[0]) if len(shown) == 1 else "the others, mean"
            panel.set_title(f"{removal(masked)} set masked: {functions}")
        row[0][0].set_ylabel("removed share")
    for panel, _ in axes[-1]:
        panel.set_xlabel(f"{run.units} masked")
    legend_above(figure, axes[0][0][0])
    return figure


@drawing()
def layers(run: RunFolder) -> Figure | None:
    """Draw the discovered units of each layer: a panel for each degradation, a bar for the share of each layer."""
    rows = select(run.table("distribution"), run.headline, method=run.chosen)
    sets = groups(rows, "degradation")
    if not sets:
        return None
    tallest = rows["share"].max() or 0.01
    figure, axes = side_by_side(1.0 + 0.16 * max(len(unique(rows, "layer")), 6), len(sets))
    for panel, (name, of_set) in zip(axes, sets.items(), strict=True):
        layer_bars(panel, of_set, input_colour(run.degradations, name), 7)
        panel.set_xlim(0, tallest * 1.16)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(lambda share, _: as_percent(round(100 * share, 6)))
        for position, (discovered, length) in enumerate(zip(of_set["discovered"], of_set["share"], strict=True)):
            if discovered > 0:
                panel.text(length + 0.01 * tallest, position, count(discovered), va="center", fontsize=6.5, color=INK)
        panel.set_title(f"{removal(name)} set")
        panel.axvline(run.headline / 100, color=MUTED, linewidth=0.8, linestyle=":")
    axes[0].set_ylabel("layer")
    figure.supxlabel(
        f"share of the layer's {run.units} that are discovered; number: how many\n"
        f"dotted: {as_percent(run.headline)}, the share of an even distribution",
        fontsize=7.5, color=MUTED,
    )  # fmt: skip
    return figure


@drawing()
def training(run: RunFolder) -> Figure | None:
    """Draw validation PSNR and training loss against the step: a column for each trained network."""
    recorded = {name: run.table(f"training_{name}") for name in ("baseline", "target")}
    trained = {name: rows for name, rows in recorded.items() if not rows.empty}
    if not trained:
        return None
    figure = new_figure(3.4)
    axes = figure.subplots(2, len(trained), squeeze=False, sharex="col", sharey="row", height_ratios=(3, 2))
    for (upper, lower), (name, rows) in zip(axes.T, trained.items(), strict=True):
        for key in map(str, rows.columns):
            if key.startswith(_PSNR):
                shown = key.removeprefix(_PSNR)
                parts = shown.split("+")
                everything = len(parts) > 2 and set(parts) == set(run.degradations)
                label = "all of these together" if everything else f"{degraded(shown)} input"
                line(upper, rows, "step", key, color=input_colour(run.degradations, shown), label=label)
        _loss(lower, *points(rows, "step", "loss"))
        upper.set_title(f"{name}: validation")
        lower.set_xlabel("step")
    axes[0][0].set_ylabel("PSNR, dB")
    axes[1][0].set_ylabel("training loss")
    legend_above(figure, axes[0][-1])
    return figure


def _loss(panel: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    """Draw the recorded losses as a thin line, and their running mean over a twentieth of the curve."""
    if values.size == 0:
        return
    window = max(1, values.size // 20)
    panel.plot(steps, values, color=MUTED, linewidth=0.5, alpha=0.5 if window > 1 else 1)
    if window > 1:
        smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
        panel.plot(steps[window - 1 :], smooth, color=MUTED, linewidth=1.6)
    if values.min() > 0:
        top = 1.15 * float(np.quantile(values[values.size // 20 :], 0.98))
        panel.set_ylim(0, top)
        if values.max() > top:
            panel.annotate(f"▴ first losses up to {values.max():.3g}", (0.02, 0.98), xycoords="axes fraction",
                           va="top", fontsize=6, color=MUTED)  # fmt: skip
