"""The section on stability: are the same units found when the computation is varied?"""

from matplotlib.figure import Figure

from faig_lab.reporting.charts import Dots, dot_rows, legend_above
from faig_lab.reporting.run_files import RunFiles, numbers, select, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import MUTED, drawing, method_look, new_figure
from faig_lab.reporting.words import listed, method_label, number, removal

_KINDS = {
    "seed": "in a target trained again on other samples",
    "probe": "with other probe images",
    "points": "with other points on the path",
    "precision": "in lower precision",
}
_COLUMNS = {"jaccard": "Jaccard index of the top sets", "spearman": "rank correlation of all {units}"}
_MARKERS = "osD^v<>"


def _sentence(run: RunFiles) -> str:
    rows = select(run.table("stability"), method=run.chosen) or run.table("stability")
    lowest = {kind: min(found) for kind in _KINDS if (found := numbers(select(rows, kind=kind), "jaccard"))}
    said = [f"{number(found)} {_KINDS[kind]}" for kind, found in lowest.items()]
    return (
        f"Lowest Jaccard index of the top sets of {method_label(str(rows[0]['method']))}: {listed(said)}; of two "
        f"random sets {number(value(rows[0], 'chance'), 3)}."
    )


def _series(run: RunFiles) -> list[tuple[str, str]]:
    """(method, degradation)."""
    rows = run.table("stability")
    return list(dict.fromkeys((str(row["method"]), str(row["degradation"])) for row in rows))


def _pairs(run: RunFiles) -> list[str]:
    return list(dict.fromkeys(f"{row['a']} | {row['b']}" for row in run.table("stability")))


def _figure(run: RunFiles) -> Figure:
    rows, pairs = run.table("stability"), _pairs(run)
    degradations = unique(rows, "degradation")
    with drawing():
        figure = new_figure(1.1 + 0.36 * len(pairs))
        panels = figure.subplots(1, 2, sharey=True)
        for panel, (column, title) in zip(panels, _COLUMNS.items(), strict=True):
            series = []
            for method, name in _series(run):
                found: dict[str, list[float]] = {}
                for row in select(rows, method=method, degradation=name):
                    found.setdefault(f"{row['a']} | {row['b']}", []).extend(numbers([row], column))
                marker = _MARKERS[degradations.index(name) % len(_MARKERS)]
                label, colour = f"{method_label(method)}, {removal(name)}", method_look(run.methods, method)["color"]
                series.append(Dots(label, colour, found, marker=marker))
            dot_rows(panel, pairs, series)
            panel.set_xlim(min([-0.02, *(x - 0.05 for x in numbers(rows, column))]), 1.03)
            panel.set_xlabel(run.worded(title))
        panels[0].axvline(value(rows[0], "chance") or 0.0, color=MUTED, linestyle=":", linewidth=1)
        legend_above(figure, panels[0])
    return figure


def _table(run: RunFiles) -> Table:
    series = _series(run)
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for row in run.table("stability"):
        key = (str(row["method"]), str(row["degradation"]))
        text = f"{number(value(row, 'jaccard'))} ({number(value(row, 'spearman'))})"
        cells.setdefault(f"{row['a']} | {row['b']}", {})[key] = text
    head = ["Jaccard index (rank correlation)", *(f"{method_label(m)}, {removal(d)}" for m, d in series)]
    return Table(head, [[name, *(found.get(key, "") for key in series)] for name, found in cells.items()])


SECTION = Section(
    name="stability",
    title="Would the same {units} be found again?",
    link="Stability",
    method=(
        "The attribution is computed again for a target that was trained again, from parts of the probe, with other "
        "numbers of points on the path (among them the authors' one-sided sum) and in a lower precision. Compared are "
        "the top sets at the report's percent — the Jaccard index is the shared part of both sets together, 1 for "
        "equal sets — and the order of all {units}, by Spearman's rank correlation."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of Jaccard index and rank correlation, a row per pair of computations that are compared",
    caption="One mark per method (colour) and function (shape); dotted: the Jaccard index of two random sets.",
    table=_table,
    note=(
        "Targets of other seeds start from the same baseline: {units} of networks trained apart from the start do not "
        "correspond. Where the sets differ then, the trainings may have put the work elsewhere; no method is to blame."
    ),
)
