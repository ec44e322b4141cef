"""Sanity checks: a randomised target and exchanged labels must change an attribution.

After Adebayo et al., Sanity Checks for Saliency Maps (NeurIPS 2018): a method does not explain the model if its result
stays the same when the model's weights are randomised or the labels are exchanged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import discovered
from faig_lab.data import PairedImage, sample_rng
from faig_lab.evaluation.comparison import removed_sides
from faig_lab.evaluation.evaluator import isolation_of, mean
from faig_lab.evaluation.masking import TableRow, means
from faig_lab.filters import FilterLayout, State
from faig_lab.plotting.charts import Dots, dot_rows, legend_above, share_axis, side_by_side
from faig_lab.plotting.style import INK, MUTED, drawing, method_look
from faig_lab.plotting.words import decimal, is_known, method_label, share
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, mean_of, numbers, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table
from faig_lab.studies.stability import rank_correlation, scores_of

ORIGINAL, RANDOMISED, SWAPPED = "original", "randomised", "swapped"


Scored = tuple[TableRow, Tensor, Tensor]
"""The first cells of rows (check, draw, method), (K, F) scores, and the scores that these are compared with."""


def sanity(context: StudyContext, draws: Annotated[int, Field(ge=1)] = 3) -> StudyResult:
    """Attribute again with a randomised target and with exchanged labels, and evaluate the discovered filters.

    Filters are masked in the true target, at the headline percent. With one degradation there are no labels to
    exchange. With K > 2 each degradation gets the name of the next degradation.

    Args:
        context: networks, attribution and images; random methods are left out.
        draws: the number of randomised targets.

    Returns:
        Table `sanity`: check ("original", "randomised", "swapped"), draw, method, degradation (the label), spearman
        and overlap (share of the top set in common) with the original scores, chance (expected overlap of random
        sets), chance_in_layers (expected overlap of random filters with as many filters in each layer), isolation, own,
        other and specificity by the label. With "swapped", the original scores are those of the degradation that has
        the label. Metrics `sanity/<check>/<method>/<overlap|isolation|specificity>`, means of the defined values.
    """
    scored = list(_scored(context, draws))
    rows: list[TableRow] = []
    with context.bar("sanity", len(scored)) as advance:
        for check in scored:
            rows += _rows(context, *check)
            advance(f"{check[0]['check']}, {check[0]['method']}")
    metrics: dict[str, float | None] = {}
    for column in ("overlap", "isolation", "specificity"):
        defined = [row for row in rows if row[column] is not None]
        metrics |= means(defined, column, "sanity/{check}/{method}/" + column)
    return StudyResult({"sanity": rows} if rows else {}, metrics)


def randomised(baseline: State, target: State, seed: int, draw: int = 0) -> dict[str, Tensor]:
    """Permute the target's changes θ − θ̄ within each parameter: the same sizes of change at other places.

    Args:
        baseline: θ̄.
        target: θ.
        seed: of the permutations.
        draw: number of the draw; each draw has other permutations.
    """
    shuffled = {}
    for name, value in target.items():
        if not value.is_floating_point():
            shuffled[name] = value
            continue
        order = torch.from_numpy(sample_rng(seed, f"randomised/{name}", draw).permutation(value.numel()))
        change = (value - baseline[name]).flatten()[order.to(value.device)]
        shuffled[name] = baseline[name] + change.view_as(value)
    return shuffled


def swapped(images: Sequence[PairedImage], degradations: Sequence[str]) -> tuple[PairedImage, ...]:
    """Return images with exchanged labels: the input `degradations[k]` is the input of k + 1, cyclically."""
    shown = dict(zip(degradations, [*degradations[1:], degradations[0]], strict=True))
    return tuple(
        replace(image, lr=image.lr | {label: image.lr[other] for label, other in shown.items()}) for image in images
    )


def overlap(scores: Tensor, other: Tensor, percent: float) -> float | None:
    """Return the share of the top set of (F,) scores that is in the other top set; None for empty sets."""
    first, second = (set(discovered(values, percent).tolist()) for values in (scores, other))
    return len(first & second) / len(first) if first else None


def chance_in_layers(scores: Tensor, other: Tensor, percent: float, layout: FilterLayout) -> float | None:
    """Return the expected overlap of random filters with as many filters in each layer as these top sets.

    Args:
        scores: (F,).
        other: (F,).
        percent: q of the top sets.
        layout: the F filters.
    """
    first, second = (layout.count_by_layer(discovered(values, percent)).double() for values in (scores, other))
    sizes = torch.tensor([layer.units for layer in layout.layers], dtype=torch.float64)
    return float((first * second / sizes).sum() / first.sum()) if first.sum() else None


def _scored(context: StudyContext, draws: int) -> Iterator[Scored]:
    """Yield the scores of every check by every method."""
    methods, problem = context.deterministic(context.attribution.scores), context.problem.straight()
    originals = {method: context.attribution.scores[method][0] for method in methods}
    for method, scores in originals.items():
        yield {"check": ORIGINAL, "draw": 0, "method": method}, scores, scores
    for draw in range(draws):
        target = randomised(problem.baseline, problem.target, problem.seed, draw)
        for method, scores in scores_of(context, replace(problem, target=target), methods).items():
            yield {"check": RANDOMISED, "draw": draw, "method": method}, scores, originals[method]
    if len(problem.degradations) > 1:
        probe = swapped(problem.probe, problem.degradations)
        for method, scores in scores_of(context, replace(problem, probe=probe), methods).items():
            yield {"check": SWAPPED, "draw": 0, "method": method}, scores, originals[method].roll(-1, 0)


def _rows(context: StudyContext, cells: TableRow, scores: Tensor, compared_with: Tensor) -> Iterator[TableRow]:
    """Yield the row of every label, with the discovered filters masked in the true target."""
    layout, percent, names = context.attribution.layout, context.headline, context.problem.degradations
    for label, values, before in zip(names, scores, compared_with, strict=True):
        filters = discovered(values, percent)
        effects = context.evaluator.effects(context.masked(filters))
        removed = {name: context.evaluator.removed(mean(effects[name].psnrs), name) for name in names}
        row: TableRow = {
            "degradation": label,
            "spearman": rank_correlation(values, before),
            "overlap": overlap(values, before, percent),
            "chance": len(filters) / len(layout),
            "chance_in_layers": chance_in_layers(values, before, percent, layout),
            "isolation": isolation_of(effects, label),
        }
        yield cells | row | removed_sides(removed, label)


_CHECKS = {ORIGINAL: "as it is", RANDOMISED: "target randomised", SWAPPED: "labels exchanged"}


def _measure(run: RunFolder) -> str:
    """Return the measure of masked sets: isolation, or specificity in runs of earlier versions."""
    return "isolation" if "isolation" in run.table("sanity") else "specificity"


def _sentence(run: RunFolder) -> str:
    methods, measure = groups(run.table("sanity"), "method"), _measure(run)
    method = run.chosen if run.chosen in methods else next(iter(methods))
    original, randomised, swapped = (select(methods[method], check=check) for check in _CHECKS)
    text = (
        f"{method_label(method)} with the target randomised: {share(mean_of(randomised, 'overlap'))} of the "
        f"{run.units} in common (by the numbers in each layer alone {share(mean_of(randomised, 'chance_in_layers'))}), "
        f"{measure} {decimal(mean_of(randomised, measure))} instead of {decimal(mean_of(original, measure))}"
    )
    if not swapped.empty:
        overlap, after = share(mean_of(swapped, "overlap")), decimal(mean_of(swapped, measure))
        text += f"; with the labels exchanged: {overlap} in common, {measure} by label {after}"
    return f"{text}."


@drawing()
def _figure(run: RunFolder) -> Figure:
    table, measure = run.table("sanity"), _measure(run)
    checks = {check: label for check, label in _CHECKS.items() if check in unique(table, "check")}
    methods = groups(table, "method")
    figure, panels = side_by_side(1.0 + 0.16 * len(checks) * max(len(methods), 3), 2, share_x=False)
    for panel, column in zip(panels, ("overlap", measure), strict=True):
        series = []
        for method, rows in methods.items():
            values = {label: numbers(select(rows, check=check), column) for check, label in checks.items()}
            colour = method_look(run.methods, method)["color"]
            series.append(Dots(method_label(method), colour, values, centre=True))
        dot_rows(panel, list(checks.values()), series, width=0.7)
    chance = mean_of(select(table, check=RANDOMISED), "chance_in_layers")
    if is_known(chance):
        panels[0].vlines(chance, 0.5, 1.5, color=INK, linewidth=1, linestyle=":")
    panels[0].set_xlabel(f"{run.units} in common with the original set")
    panels[0].set_xlim(-0.03, 1.03)
    share_axis(panels[0], "x")
    panels[1].set_xlabel(f"{measure} of masking, by label")
    panels[1].axvline(0, color=MUTED, linewidth=0.8)
    legend_above(figure, panels[0])
    return figure


def _table(run: RunFolder) -> Table:
    measures = list(dict.fromkeys([_measure(run), "specificity"]))
    head = ["Attributed", "order", "in common", "by layers", "own removed", "others", *measures]
    columns = {"spearman": decimal} | dict.fromkeys(("overlap", "chance_in_layers", "own", "other"), share)
    columns |= dict.fromkeys(measures, decimal)
    lines = [
        [
            f"{method_label(method)}, {_CHECKS[check]}",
            *(show(mean_of(rows, column)) for column, show in columns.items()),
        ]
        for method, of_method in groups(run.table("sanity"), "method").items()
        for check, rows in groups(of_method, "check").items()
    ]
    return Table(head, lines)


SECTION = Section(
    name="sanity",
    order=90,
    title="Sanity checks: a randomised target, exchanged labels",
    link="Sanity checks",
    method=(
        "An attribution that finds the same {units} in a network that learned nothing does not explain the learned "
        "function (after Adebayo and others, 2018). First check: the changes from baseline to target are permuted "
        "within each layer, the {units} are attributed in this network, and the discovered {units} are masked in the "
        "true target. The result should be no better than masking random {units}. Second check: the degradations "
        "exchange their labels. The sets must follow the labels, and isolation by label must fall."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of the share of {units} in common with the original set, and of isolation, for each check",
    caption=(
        "A dot is one label and one draw; strokes are the means. The dotted line is the share of {units} in common for "
        "random {units} with the same numbers in each layer. For exchanged labels the original set is that of the "
        "degradation which has the label."
    ),
    table=_table,
    note=(
        "Order: rank correlation with the original scores. By layers: the share of {units} in common that the numbers "
        "in each layer alone would give. A method that uses each degradation's own inputs always exchanges its sets "
        "with the labels, so the second check mainly tests the code and the measure. Random methods are left out."
    ),
)
