"""The section on stability: do the same filters come out when the computation is varied?"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faig_lab.reporting.run_files import RunFiles, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import MUTED, drawing, method_look, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import listed, method_label, number, removal

_KINDS = {
    "seed": "In a target trained again on other samples",
    "probe": "With other probe images",
    "points": "With fewer points on the path",
    "precision": "In lower precision",
}
_MARKERS = "osD^v<>"


def _sentences(run: RunFiles) -> list[str]:
    rows = run.table("stability")
    said = [
        f"{start}, {listed(parts)}."
        for kind, start in _KINDS.items()
        if (parts := [_kind(rows, kind, method) for method in unique(rows, "method") if _of(rows, kind, method)])
    ]
    chance = value(rows[0], "chance")
    return [*said, f"Two random sets of this size would have a Jaccard index of {number(chance, 3)}."]


def _of(rows: Sequence[Row], kind: str, method: str) -> list[Row]:
    found = [row for row in rows if (row["kind"], row["method"]) == (kind, method)]
    return [row for row in found if value(row, "jaccard") is not None]


def _kind(rows: Sequence[Row], kind: str, method: str) -> str:
    """How well the top sets of a method agree in the worst case of a kind, and where that is."""
    found = _of(rows, kind, method)
    worst = min(found, key=lambda row: value(row, "jaccard") or 0.0)
    jaccard = value(worst, "jaccard") or 0.0
    where = f"{removal(str(worst['degradation']))}, {worst['a']} against {worst['b']}"
    least = "Jaccard index of at least" if len(found) > 1 else "Jaccard index of"
    return (
        f"{method_label(method)} has a {least} {number(jaccard)} for its top sets ({where}; rank correlation of all "
        f"filters there {number(value(worst, 'spearman'))})"
    )


def _figure(run: RunFiles) -> Figure | None:
    rows = run.table("stability")
    pairs = list(dict.fromkeys((str(row["a"]), str(row["b"])) for row in rows))
    with drawing():
        figure = new_figure(1.1 + 0.36 * len(pairs))
        panels = figure.subplots(1, 2, sharey=True)
        for panel, column, title in zip(
            panels, ("jaccard", "spearman"), ("top sets: Jaccard index", "all filters: rank correlation"), strict=True
        ):
            _panel(panel, run, pairs, column)
            panel.set_title(title)
        chance = value(rows[0], "chance")
        if chance is not None:
            panels[0].axvline(chance, color=MUTED, linestyle=":", linewidth=1)
        panels[0].set_yticks(range(len(pairs)), [f"{a} | {b}" for a, b in pairs])
        panels[0].set_ylim(len(pairs) - 0.4, -0.6)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=max(2, len(labels) // 2))
    return figure


def _panel(panel: Axes, run: RunFiles, pairs: Sequence[tuple[str, str]], column: str) -> None:
    """One mark per comparison, method (colour) and degradation (shape)."""
    rows = run.table("stability")
    series = list(dict.fromkeys((str(row["method"]), str(row["degradation"])) for row in rows))
    degradations = unique(rows, "degradation")
    for index, (method, degradation) in enumerate(series):
        found = [r for r in rows if (r["method"], r["degradation"]) == (method, degradation)]
        points = [
            (x, pairs.index((str(row["a"]), str(row["b"])))) for row in found if (x := value(row, column)) is not None
        ]
        offset = 0.17 * (index - (len(series) - 1) / 2)
        panel.scatter(
            [x for x, _ in points], [y + offset for _, y in points], s=15,
            color=method_look(run.methods.index(method) if method in run.methods else index, method)["color"],
            marker=_MARKERS[degradations.index(degradation) % len(_MARKERS)],
            label=f"{method_label(method)}, {removal(degradation)}", zorder=3,
        )  # fmt: skip
    low = min((x for row in rows if (x := value(row, column)) is not None), default=0.0)
    panel.set_xlim(min(-0.02, low - 0.05), 1.03)
    panel.tick_params(axis="y", length=0)


def _table(run: RunFiles) -> Table | None:
    rows = run.table("stability")
    series = list(dict.fromkeys((str(row["method"]), str(row["degradation"])) for row in rows))
    head = ["Jaccard index (rank correlation)", *(f"{method_label(m)}, {removal(d)}" for m, d in series)]
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for row in rows:
        text = f"{number(value(row, 'jaccard'))} ({number(value(row, 'spearman'))})"
        key = (str(row["method"]), str(row["degradation"]))
        cells.setdefault(f"{row['a']} | {row['b']}", {})[key] = text
    return Table(head, [[name, *(found.get(key, "") for key in series)] for name, found in cells.items()])


SECTION = Section(
    name="stability",
    title="Would the same filters be found again?",
    link="Stability",
    method=(
        "The attribution is computed again for a target that was trained again, from parts of the probe, with other "
        "numbers of points on the path (among them the authors' one-sided sum) and in a lower precision. Compared are "
        "the top sets at the report's percent — the Jaccard index is the shared part of both sets together, 1 for "
        "equal sets — and the order of all filters, by Spearman's rank correlation."
    ),
    sentences=_sentences,
    figure=_figure,
    alt="Dot plots of Jaccard index and rank correlation, a row per pair of computations that are compared",
    caption="One mark per method (colour) and function (shape); dotted: the Jaccard index of two random sets.",
    table=_table,
    note=(
        "Targets of other seeds start from the same baseline: filters of networks trained apart from the start do not "
        "correspond. Where the sets differ then, the trainings may have put the work elsewhere; no method is to blame."
    ),
)
