"""Sanity checks: an attribution that means something must lose it when what it explains is destroyed.

After Adebayo et al., Sanity Checks for Saliency Maps (NeurIPS 2018): a method whose result stays the same when the
model's weights are randomised, or when the labels are exchanged, does not explain the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import discovered
from faig_lab.data import PairedImage, sample_rng
from faig_lab.evaluation.evaluator import isolation_of, mean
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import FilterLayout, State, mask
from faig_lab.plotting.charts import Dots, dot_rows, legend_above, share_axis
from faig_lab.plotting.style import INK, MUTED, drawing, method_look, new_figure
from faig_lab.plotting.words import decimal, method_label, share
from faig_lab.removed_shares import clipped, removed_share
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import Rows, mean_of, numbers, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table
from faig_lab.studies.stability import deterministic, rank_correlation, scores_of

ORIGINAL, RANDOMISED, SWAPPED = "original", "randomised", "swapped"


class Scored(NamedTuple):
    """Scores (K, F) of one method under one check, and the scores that they are compared with."""

    check: str
    draw: int
    method: str
    scores: Tensor
    compared_with: Tensor


def sanity(context: StudyContext, draws: Annotated[int, Field(ge=1)] = 3) -> StudyResult:
    """Attribute again with a randomised target and with exchanged labels, and judge what is found.

    Filters are masked in the true target, at the headline percent. With one degradation there are no labels to
    exchange, and with K > 2 each degradation is called by the next one's name.

    Args:
        context: what is analysed; methods that draw are left out.
        draws: how many randomised targets.

    Returns:
        Table `sanity`: check ("original", "randomised", "swapped"), draw, method, degradation (the label), spearman
        and overlap (share of the top set in common) with the original scores — of the degradation that bears the
        label, for swapped ones —, chance (expected overlap of random sets), chance_in_layers (of random sets with as
        many filters in each layer), isolation, own, other and specificity by the label; metrics
        `sanity/<check>/<method>/<overlap|isolation|specificity>`, means.
    """
    scored = list(_scored(context, draws))
    rows: list[TableRow] = []
    with context.bar("sanity", len(scored)) as advance:
        for one in scored:
            rows += _rows(context, one)
            advance(f"{one.check}, {one.method}")
    return StudyResult({"sanity": rows} if rows else {}, _means(rows))


def randomised(baseline: State, target: State, seed: int, draw: int = 0) -> dict[str, Tensor]:
    """θ̄ with the target's changes θ − θ̄ permuted within each parameter: same sizes of change, other places.

    Args:
        baseline: θ̄.
        target: θ.
        seed: of the permutations.
        draw: another one gives others.
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
    """Images whose inputs bear the label of the degradation before: `degradations[k]` shows what is k + 1, cyclic."""
    shown = dict(zip(degradations, [*degradations[1:], degradations[0]], strict=True))
    return tuple(
        replace(image, lr=image.lr | {label: image.lr[other] for label, other in shown.items()}) for image in images
    )


def overlap(scores: Tensor, other: Tensor, percent: float) -> float | None:
    """Share of the top set of (F,) scores that is in the other top set; None where they are empty."""
    one, two = (set(discovered(values, percent).tolist()) for values in (scores, other))
    return len(one & two) / len(one) if one else None


def chance_in_layers(scores: Tensor, other: Tensor, percent: float, layout: FilterLayout) -> float | None:
    """The overlap to be expected of random sets with as many filters in each layer as these top sets have.

    Args:
        scores: (F,).
        other: (F,).
        percent: q of the top sets.
        layout: the F filters.
    """
    layers = layout.layer_of()
    tops = (layers[discovered(values, percent)] for values in (scores, other))
    one, two = (top.bincount(minlength=len(layout.layers)).double() for top in tops)
    sizes = torch.tensor([layer.units for layer in layout.layers], dtype=torch.float64)
    return float((one * two / sizes).sum() / one.sum()) if one.sum() else None


def _scored(context: StudyContext, draws: int) -> Iterator[Scored]:
    """Every check's scores by every method."""
    methods, problem = deterministic(context), context.problem.straight()
    originals = {method: context.attribution.scores[method][0] for method in methods}
    for method, scores in originals.items():
        yield Scored(ORIGINAL, 0, method, scores, scores)
    for draw in range(draws):
        target = randomised(problem.baseline, problem.target, problem.seed, draw)
        for method, scores in scores_of(context, replace(problem, target=target), methods).items():
            yield Scored(RANDOMISED, draw, method, scores, originals[method])
    if len(problem.degradations) > 1:
        probe = swapped(problem.probe, problem.degradations)
        for method, scores in scores_of(context, replace(problem, probe=probe), methods).items():
            yield Scored(SWAPPED, 0, method, scores, originals[method].roll(-1, 0))


def _rows(context: StudyContext, one: Scored) -> Iterator[TableRow]:
    layout, percent = context.attribution.layout, context.headline
    for degradation, scores, before in zip(context.problem.degradations, one.scores, one.compared_with, strict=True):
        filters = discovered(scores, percent)
        yield {
            "check": one.check,
            "draw": one.draw,
            "method": one.method,
            "degradation": degradation,
            "spearman": rank_correlation(scores, before),
            "overlap": overlap(scores, before, percent),
            "chance": len(filters) / len(layout),
            "chance_in_layers": chance_in_layers(scores, before, percent, layout),
        } | _judged(context, filters, degradation)


def _judged(context: StudyContext, filters: Tensor, label: str) -> TableRow:
    """Masking the filters in the true target: isolation, own and other removed share (clipped), their difference."""
    effects = context.evaluator.effects(mask(context.target, context.baseline, context.attribution.layout, filters))
    removed: dict[str, float | None] = {}
    for name in context.problem.degradations:
        baseline, target, _ = context.evaluator.bounds(name)
        removed[name] = clipped(removed_share(target, mean(effects[name].psnrs), baseline))
    own, others = removed[label], [share for name, share in removed.items() if name != label]
    known = [share for share in others if share is not None]
    other = sum(known) / len(known) if known and len(known) == len(others) else None
    return {
        "isolation": isolation_of(effects, label),
        "own": own,
        "other": other,
        "specificity": None if own is None or other is None else own - other,
    }


def _means(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """Means over draws and degradations."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for column in ("overlap", "isolation", "specificity"):
            value = row[column]
            if isinstance(value, float):
                found.setdefault(f"sanity/{row['check']}/{row['method']}/{column}", []).append(value)
    return {key: sum(values) / len(values) for key, values in found.items()}


_CHECKS = {"original": "as it is", "randomised": "target randomised", "swapped": "labels exchanged"}


def _shown_rows(run: RunFolder, check: str, method: str) -> Rows:
    return select(run.table("sanity"), check=check, method=method)


def _measure(run: RunFolder) -> str:
    """What masked sets are judged by: isolation, or specificity in runs of earlier versions."""
    return "isolation" if any("isolation" in row for row in run.table("sanity")) else "specificity"


def _sentence(run: RunFolder) -> str:
    methods, measure = unique(run.table("sanity"), "method"), _measure(run)
    method = run.chosen if run.chosen in methods else methods[0]
    original, randomised, swapped = (_shown_rows(run, check, method) for check in _CHECKS)
    said = (
        f"{method_label(method)} with the target randomised: {share(mean_of(randomised, 'overlap'))} of the "
        f"{run.units} in common (by the numbers in each layer alone {share(mean_of(randomised, 'chance_in_layers'))}), "
        f"{measure} {decimal(mean_of(randomised, measure))} instead of {decimal(mean_of(original, measure))}"
    )
    if swapped:
        overlap, after = share(mean_of(swapped, "overlap")), decimal(mean_of(swapped, measure))
        said += f"; with the labels exchanged: {overlap} in common, {measure} by label {after}"
    return f"{said}."


def _figure(run: RunFolder) -> Figure:
    rows, measure = run.table("sanity"), _measure(run)
    checks = [check for check in _CHECKS if check in unique(rows, "check")]
    methods = unique(rows, "method")
    with drawing():
        figure = new_figure(1.0 + 0.16 * len(checks) * max(len(methods), 3))
        panels = figure.subplots(1, 2, sharey=True)
        for panel, column in zip(panels, ("overlap", measure), strict=True):
            series = [
                Dots(
                    method_label(method), method_look(run.methods, method)["color"],
                    {_CHECKS[check]: numbers(_shown_rows(run, check, method), column) for check in checks}, centre=True,
                )
                for method in methods
            ]  # fmt: skip
            dot_rows(panel, [_CHECKS[check] for check in checks], series, width=0.7)
        chance = mean_of(select(rows, check="randomised"), "chance_in_layers")
        if chance is not None:
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
        [f"{method_label(method)}, {label}", *(show(mean_of(found, column)) for column, show in columns.items())]
        for method in unique(run.table("sanity"), "method")
        for check, label in _CHECKS.items()
        if (found := _shown_rows(run, check, method))
    ]
    return Table(head, lines)


SECTION = Section(
    name="sanity",
    order=90,
    title="Sanity checks: a randomised target, exchanged labels",
    link="Sanity checks",
    method=(
        "An attribution that finds the same {units} in a network that learnt nothing does not explain what was learnt "
        "(after Adebayo and others, 2018). So the changes from baseline to target are permuted within each layer, the "
        "{units} are attributed in that network, and those found are masked in the true target: that should be no "
        "better than masking at random. Then the degradations exchange their labels: the sets must follow the labels, "
        "and isolation, measured by label, must fall."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of the share of {units} in common with the original set, and of isolation, for each check",
    caption=(
        "Dots: one label and one draw; strokes: their means. Dotted: {units} in common that random sets with the same "
        "numbers in each layer would have. For exchanged labels the original set is that of the degradation which "
        "bears the label."
    ),
    table=_table,
    note=(
        "Order: rank correlation with the original scores. By layers: {units} in common that the numbers in each "
        "layer alone would give. That exchanged labels exchange the sets is certain for a method that looks at each "
        "degradation's own inputs: that check is of the code and of the measure, more than of the method. Methods that "
        "draw are left out."
    ),
)
