"""The section on a planted pair: how well each method finds what alone learned a function."""

from matplotlib.figure import Figure

from faig_lab.reporting.charts import Dots, dot_rows, legend_above
from faig_lab.reporting.run_files import RunFiles, mean_of, select, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import MUTED, drawing, input_colour, new_figure
from faig_lab.reporting.words import count, listed, method_label, number, removal, sentence_case, share, small_share

_COLUMNS = {"average_precision": "average precision", "recall": "recall at the set's size"}


def _methods(run: RunFiles) -> list[str]:
    """All methods, the highest mean average precision first."""
    rows = run.table("planted")
    return sorted(unique(rows, "method"), key=lambda m: -(mean_of(select(rows, method=m), "average_precision") or 0.0))


def _mean(run: RunFiles, method: str, degradation: str, column: str) -> float | None:
    """Mean over draws."""
    return mean_of(select(run.table("planted"), method=method, degradation=degradation), column)


def _sentence(run: RunFiles) -> str:
    first = run.table("planted")[0]
    isolations = [
        f"{number(value(row, 'isolation'))} for {removal(str(row['masked']))}"
        for row in run.table("planted_isolation")
        if row["masked"] == row["degradation"]
    ]
    return (
        f"Each true set has {count(value(first, 'filters'))} {run.units} ({small_share(value(first, 'chance'))} of "
        f"all); masked, the true sets themselves have an isolation of {listed(isolations)}."
    )


def _figure(run: RunFiles) -> Figure:
    methods, names = _methods(run), unique(run.table("planted"), "degradation")
    with drawing():
        figure = new_figure(1.1 + 0.24 * len(methods))
        panels = figure.subplots(1, 2, sharey=True)
        for panel, (column, title) in zip(panels, _COLUMNS.items(), strict=True):
            values = {n: {m: v for m in methods if (v := _mean(run, m, n, column)) is not None} for n in names}
            series = [
                Dots(removal(n), input_colour(run.degradations, n), {method_label(m): [v] for m, v in found.items()})
                for n, found in values.items()
            ]
            dot_rows(panel, [method_label(method) for method in methods], series, width=0.4)
            panel.axvline(value(run.table("planted")[0], "chance") or 0.0, color=MUTED, linestyle=":", linewidth=1)
            panel.set_xlim(-0.02, 1.02)
            panel.set_xlabel(title)
        legend_above(figure, panels[0])
    return figure


def _table(run: RunFiles) -> Table:
    names = unique(run.table("planted"), "degradation")
    head = [f"{sentence_case(removal(name))}: {what}" for name in names for what in ("average precision", "recall")]
    rows = [
        [
            sentence_case(method_label(method)),
            *(show(_mean(run, method, name, column)) for name in names for column, show in
              (("average_precision", lambda x: number(x, 3)), ("recall", share))),
        ]
        for method in _methods(run)
    ]  # fmt: skip
    chance = value(run.table("planted")[0], "chance")
    return Table(["Method", *head], [*rows, ["Chance", *[number(chance, 3), share(chance)] * len(names)]])


SECTION = Section(
    name="planted",
    title="Does each method find the {units} that learned a function?",
    link="Planted sets",
    method=(
        "The target of this run is planted. A random set of {units} was drawn for each degradation. In turns, each set "
        "alone learned to restore input with its degradation, and to leave the output on every other input as it was "
        "without the set. All other weights, biases included, were trained on clean input only. So the true {units} of "
        "each function are known, and nearly every {unit} has changed. The scores of all methods are compared with the "
        "true sets."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of average precision and recall, a row per method, a colour per function",
    caption=(
        "Left: average precision of the scores, 1 if all true {units} come first. Right: the share of the true {units} "
        "among as many {units} with the highest scores. One dot per function, the mean over draws; dotted: chance."
    ),
    table=_table,
    note=(
        "A planted pair is not a usual pair: no {unit} of a usual target is trained on one input alone. The isolation "
        "of the true sets says what the known answer is worth, since all other weights have adapted to them."
    ),
)
