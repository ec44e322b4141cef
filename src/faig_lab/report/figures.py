"""The figures of a run. Each is a pure function of the tables of the run, and None if the tables lack the data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from faig_lab.evaluation.evaluator import Example
from faig_lab.files import file_name
from faig_lab.plotting.charts import layer_bars, legend_above, line, side_by_side
from faig_lab.plotting.masking_figures import isolation, masking_curves, methods, specificity
from faig_lab.plotting.pictures import DETAIL, LARGE, Pictures, before_after, strips, write_tiles
from faig_lab.plotting.style import INK, MUTED, drawing, input_colour, new_figure, write_figure
from faig_lab.plotting.words import as_percent, count, degraded, removal
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, points, select, unique
from faig_lab.studies.section import sections_of

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
        _counts(panel, of_set, tallest)
        panel.set_title(f"{removal(name)} set")
        panel.axvline(run.headline / 100, color=MUTED, linewidth=0.8, linestyle=":")
    axes[0].set_ylabel("layer")
    figure.supxlabel(
        f"share of the layer's {run.units} that are discovered; number: how many\n"
        f"dotted: {as_percent(run.headline)}, the share of an even distribution",
        fontsize=7.5, color=MUTED,
    )  # fmt: skip
    return figure


def _counts(panel: Axes, rows: pd.DataFrame, tallest: float) -> None:
    """Write the number of discovered units beside each bar."""
    panel.set_xlim(0, tallest * 1.16)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.xaxis.set_major_formatter(lambda share, _: as_percent(round(100 * share, 6)))
    for position, (discovered, share) in enumerate(zip(rows["discovered"], rows["share"], strict=True)):
        if discovered > 0:
            panel.text(share + 0.01 * tallest, position, count(discovered), va="center", fontsize=6.5, color=INK)


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
                colour = input_colour(run.degradations, shown)
                line(upper, rows, "step", key, color=colour, label=_input_label(run, shown))
        _loss(lower, *points(rows, "step", "loss"))
        upper.set_title(f"{name}: validation")
        lower.set_xlabel("step")
    axes[0][0].set_ylabel("PSNR, dB")
    axes[1][0].set_ylabel("training loss")
    legend_above(figure, axes[0][-1])
    return figure


def _input_label(run: RunFolder, degradations: str) -> str:
    parts = degradations.split("+")
    everything = len(parts) > 2 and set(parts) == set(run.degradations)
    return "all of these together" if everything else f"{degraded(degradations)} input"


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
