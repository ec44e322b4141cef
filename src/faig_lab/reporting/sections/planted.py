"""The section on a planted pair: how well each method finds the filters that alone learned a function."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from faig_lab.reporting.run_files import RunFiles, mean, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import MUTED, degradation_colour, drawing, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import listed, method_label, number, removal, sentence_case, share, small_share

_REST = "rest"  # the group of all filters that are in no true set


def _methods(run: RunFiles) -> list[str]:
    """All methods, the highest mean average precision first."""
    found = unique(run.table("planted"), "method")
    return sorted(found, key=lambda method: -(_of(run, method, None, "average_precision") or 0.0))


def _of(run: RunFiles, method: str, degradation: str | None, column: str) -> float | None:
    """Mean over draws, and over degradations where none is named."""
    return mean(
        [
            value(row, column)
            for row in run.table("planted")
            if row["method"] == method and degradation in (None, row["degradation"])
        ]
    )


def _sentences(run: RunFiles) -> list[str]:
    rows, names = run.table("planted"), unique(run.table("planted"), "degradation")
    sizes = f"{number(value(rows[0], 'filters'), 0)} filters ({small_share(value(rows[0], 'chance'))} of all)"
    best = _methods(run)[0]
    precisions = listed([f"{number(_of(run, best, name, 'average_precision'))} for {removal(name)}" for name in names])
    said = [
        f"Each true set has {sizes}. {sentence_case(method_label(best))} has the highest mean average precision: "
        f"{precisions}."
    ]
    isolations = [
        f"{number(value(row, 'isolation'))} for {removal(str(row['masked']))}"
        for row in run.table("planted_isolation")
        if row["masked"] == row["degradation"]
    ]
    moved = [f"{number(value(row, 'mean'), 3)} ({_group(row)})" for row in run.table("planted_change")]
    return [
        *said,
        f"Masked, the true sets themselves have an isolation of {listed(isolations)}.",
        f"The mean change of a filter, summed over its weights, is {listed(moved)}.",
    ]


def _group(row: Row) -> str:
    return "all other filters" if row["group"] == _REST else f"{removal(str(row['group']))} set"


def _figure(run: RunFiles) -> Figure | None:
    methods, names = _methods(run), unique(run.table("planted"), "degradation")
    with drawing():
        figure = new_figure(1.1 + 0.24 * len(methods))
        panels = figure.subplots(1, 2, sharey=True)
        for panel, column, title in zip(
            panels, ("average_precision", "recall"), ("average precision", "recall at the set's size"), strict=True
        ):
            for index, name in enumerate(names):
                places = np.arange(len(methods)) + 0.2 * (index - (len(names) - 1) / 2)
                values = [_of(run, method, name, column) for method in methods]
                found = [np.nan if v is None else v for v in values]
                panel.scatter(found, places, s=18, color=degradation_colour(index), label=removal(name), zorder=3)
            chance = value(run.table("planted")[0], "chance")
            panel.axvline(chance or 0.0, color=MUTED, linestyle=":", linewidth=1)
            panel.set_xlim(-0.02, 1.02)
            panel.set_title(title)
            panel.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(methods)), [method_label(method) for method in methods])
        panels[0].set_ylim(len(methods) - 0.5, -0.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(names))
    return figure


def _table(run: RunFiles) -> Table | None:
    names = unique(run.table("planted"), "degradation")
    head = [f"{sentence_case(removal(name))}: {what}" for name in names for what in ("average precision", "recall")]
    rows: list[Sequence[str]] = [
        [sentence_case(method_label(method)), *_cells(run, method, names)] for method in _methods(run)
    ]
    chances = {str(row["degradation"]): value(row, "chance") for row in run.table("planted")}
    return Table(
        ["Method", *head],
        [*rows, ["Chance", *(text for name in names for text in (number(chances[name], 3), share(chances[name])))]],
    )


def _cells(run: RunFiles, method: str, names: Sequence[str]) -> list[str]:
    cells = []
    for name in names:
        cells.append(number(_of(run, method, name, "average_precision"), 3))
        cells.append(share(_of(run, method, name, "recall")))
    return cells


SECTION = Section(
    name="planted",
    title="Does each method find the filters that learned a function?",
    link="Planted filters",
    method=(
        "The target of this run is planted. A random set of filters was drawn for each degradation. In turns, each set "
        "alone learned to restore input with its degradation, and to leave the output on every other input as it was "
        "without the set. All other weights, biases included, were trained on clean input only. So the true filters of "
        "each function are known, and every filter has changed. The scores of every method are compared with the true "
        "sets."
    ),
    sentences=_sentences,
    figure=_figure,
    alt="Dot plots of average precision and recall, a row per method, a colour per function",
    caption=(
        "Left: average precision of the scores, 1 if all true filters come first. Right: the share of the true filters "
        "among as many filters with the highest scores. One dot per function, the mean over draws; dotted: chance."
    ),
    table=_table,
    note=(
        "A planted pair is not a usual pair: no filter of a usual target is trained on one input alone. The isolation "
        "of the true sets says what the known answer is worth, since all other weights have adapted to them."
    ),
)
