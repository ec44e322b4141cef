"""Planted pairs: a comparison of the scores with the filters that alone learned a function (method.md §11)."""

import logging

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from faig_lab.evaluation.masking import TableRow, means
from faig_lab.filters import FilterLayout, State
from faig_lab.plotting.charts import Dots, dot_rows, legend_above, side_by_side
from faig_lab.plotting.style import MUTED, drawing, input_colour
from faig_lab.plotting.words import count, decimal, listed, method_label, removal, sentence_case, share, small_share
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, mean_of, records, select, unique
from faig_lab.studies.context import StudyContext, StudyResult, parts_of_edit
from faig_lab.studies.section import Section, Table

log = logging.getLogger(__name__)

REST = "rest"
"""All filters that are in no true set."""


def planted(context: StudyContext) -> StudyResult:
    """Compare the scores of every method with the true sets, and mask the true sets themselves.

    Args:
        context: a planted pair and its attribution.

    Returns:
        Table `planted`: method, draw, degradation, filters, average_precision, recall (the share of the true filters
        among as many filters with the highest scores), chance (the share of true filters among all). Table
        `planted_isolation`: back, off, side on every input and isolation, for each true set masked. Table
        `planted_change`: mean and standard deviation of Σ|θ − θ̄| over the filters of each group, and the number of
        filters that did not change. Metrics `planted/<method>/average_precision/<degradation>`,
        `planted/<method>/recall/…` (means over draws), `planted/chance/<degradation>` and
        `planted/isolation/<degradation>`. Nothing if the target is not planted.
    """
    if context.planted is None:
        log.warning("planted: left out, since the true filters of this target are not known")
        return StudyResult({})
    attribution, true = context.attribution, context.planted
    rows: list[TableRow] = []
    for method, scores in attribution.scores.items():
        for draw, per_degradation in enumerate(scores):
            for name, values in zip(attribution.degradations, per_degradation, strict=True):
                label: TableRow = {"method": method, "draw": draw, "degradation": name, "filters": len(true[name])}
                precision, recall = average_precision(values, true[name]), recall_at_count(values, true[name])
                chance = len(true[name]) / len(attribution.layout)
                rows.append(label | {"average_precision": precision, "recall": recall, "chance": chance})
    edits: list[TableRow] = []
    for masked, filters in true.items():
        parts = parts_of_edit(context.evaluator.effects(context.masked(filters)), masked)
        edits += [{"masked": masked, "degradation": name} | cells for name, cells in parts.items()]
    change = changes(context.problem.baseline, context.problem.target, attribution.layout)
    rest = torch.ones(len(change), dtype=torch.bool)
    rest[torch.cat(list(true.values()))] = False
    changed: list[TableRow] = []
    for name, chosen in {**true, REST: rest}.items():
        values = change[chosen]
        numbers = {"mean": float(values.mean()), "std": float(values.std(correction=0))}
        changed.append({"group": name, "filters": len(values), **numbers, "unchanged": int((values == 0).sum())})
    metrics = means(rows, "chance", "planted/chance/{degradation}")
    metrics |= means(rows, ("average_precision", "recall"), "planted/{method}/{column}/{degradation}")
    metrics |= means(edits, "isolation", "planted/isolation/{masked}")
    return StudyResult({"planted": rows, "planted_isolation": edits, "planted_change": changed}, metrics)


def average_precision(scores: Tensor, true: Tensor) -> float:
    """Compute the average precision of scores: Σ_n (R_n − R_{n−1}) P_n over the distinct scores, in descending order.

    P_n and R_n are precision and recall of all filters with at least the n-th highest score. So the order of filters
    with equal scores does not matter. 1 means that all true filters come first. If all scores are equal, the result is
    |true| / F, the chance level. The definition is that of `average_precision_score` of scikit-learn.

    Args:
        scores: (F,) higher = more responsible; finite.
        true: indices of the true filters, at least one.
    """
    hits, counts = _steps(scores, true)
    recall = hits / len(true)
    gained = torch.diff(recall, prepend=recall.new_zeros(1))
    return float((gained * hits / counts).sum())


def recall_at_count(scores: Tensor, true: Tensor) -> float:
    """Compute the share of the true filters that are among the |true| filters with the highest scores.

    If filters with equal scores are partly inside and partly outside of these filters, the result is the expected share
    over all orders of the equal filters.

    Args:
        scores: (F,) higher = more responsible; finite.
        true: indices of the true filters, at least one.
    """
    hits, counts = _steps(scores, true)
    ends = torch.searchsorted(counts, torch.tensor(float(len(true)), dtype=counts.dtype))
    before_hits, before = (float(values[ends - 1]) if ends else 0.0 for values in (hits, counts))
    share = (len(true) - before) / (float(counts[ends]) - before)
    return (before_hits + share * (float(hits[ends]) - before_hits)) / len(true)


def _steps(scores: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each distinct score in descending order, the numbers of true and of all filters with this or more."""
    order = torch.argsort(scores, descending=True, stable=True)
    ranked = scores[order]
    is_true = torch.zeros(len(scores), dtype=torch.float64)
    is_true[true] = 1
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])
    counts = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    return is_true[order].cumsum(0)[last], counts[last]


def changes(baseline: State, target: State, layout: FilterLayout) -> Tensor:
    """Return (F,) Σ|θ − θ̄| of each filter, computed in float64, on the CPU."""
    moved = {layer.name: (target[layer.name].double() - baseline[layer.name].double()).abs() for layer in layout.layers}
    return layout.gather(moved).cpu()


_COLUMNS = {"average_precision": "average precision", "recall": "recall at the set's size"}


def _methods(run: RunFolder) -> list[str]:
    """Return all methods, the highest mean average precision first."""
    rows = groups(run.table("planted"), "method")
    return sorted(rows, key=lambda method: -np.nan_to_num(mean_of(rows[method], "average_precision")))


def _mean(run: RunFolder, method: str, degradation: str, column: str) -> float:
    """Return the mean over draws."""
    return mean_of(select(run.table("planted"), method=method, degradation=degradation), column)


def _sentence(run: RunFolder) -> str:
    first = run.table("planted").iloc[0]
    isolations = [
        f"{decimal(row['isolation'])} for {removal(row['masked'])}"
        for row in records(run.table("planted_isolation"))
        if row["masked"] == row["degradation"]
    ]
    return (
        f"Each true set has {count(first['filters'])} {run.units} ({small_share(first['chance'])} of all). "
        f"Masking the true sets gives an isolation of {listed(isolations)}."
    )


@drawing()
def _figure(run: RunFolder) -> Figure:
    methods, table = _methods(run), run.table("planted")
    figure, panels = side_by_side(1.1 + 0.24 * len(methods), 2)
    for panel, (column, title) in zip(panels, _COLUMNS.items(), strict=True):
        series = []
        for name in unique(table, "degradation"):
            values = {method_label(method): [_mean(run, method, name, column)] for method in methods}
            series.append(Dots(removal(name), input_colour(run.degradations, name), values))
        dot_rows(panel, [method_label(method) for method in methods], series, width=0.4)
        panel.axvline(table["chance"].iloc[0], color=MUTED, linestyle=":", linewidth=1)
        panel.set_xlim(-0.02, 1.02)
        panel.set_xlabel(title)
    legend_above(figure, panels[0])
    return figure


def _table(run: RunFolder) -> Table:
    names, chance = unique(run.table("planted"), "degradation"), run.table("planted")["chance"].iloc[0]
    head = ["Method"]
    for name in names:
        head += [f"{sentence_case(removal(name))}: {measure}" for measure in ("average precision", "recall")]
    lines = []
    for method in _methods(run):
        line = [sentence_case(method_label(method))]
        for name in names:
            precision = decimal(_mean(run, method, name, "average_precision"), 3)
            line += [precision, share(_mean(run, method, name, "recall"))]
        lines.append(line)
    return Table(head, [*lines, ["Chance", *[decimal(chance, 3), share(chance)] * len(names)]])


SECTION = Section(
    name="planted",
    order=80,
    title="Does each method find the {units} that learned a function?",
    link="Planted sets",
    method=(
        "The target of this run is planted. A random set of {units} was drawn for each degradation. In turns, each set "
        "alone learned to restore input with its degradation, and to leave the output on every other input as it was "
        "without the set. All other weights, biases included, were trained on clean input only. The true {units} of "
        "each function are therefore known, and nearly every {unit} has changed. The scores of all methods are "
        "compared with the true sets."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of average precision and recall, a row per method, a colour per function",
    caption=(
        "Left: average precision of the scores, 1 if all true {units} come first. Right: the share of the true {units} "
        "among as many {units} with the highest scores. A dot is the mean over draws of one function; the dotted line "
        "is chance."
    ),
    table=_table,
    note=(
        "A planted pair differs from a usual pair: no {unit} of a usual target is trained on one input alone. The "
        "isolation of the true sets is the isolation that a perfect ranking reaches, since all other weights have "
        "adapted to the true sets."
    ),
)
