"""Sanity checks: an attribution that means something must lose it when what it explains is destroyed.

After Adebayo et al., Sanity Checks for Saliency Maps (NeurIPS 2018): a method whose result stays the same when the
model's weights are randomised, or when the labels are exchanged, does not explain the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from faig_lab.analysis.interventions import clipped, mask, removed_share
from faig_lab.analysis.judge import isolation_of, mean
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.stability import deterministic, rank_correlation, scores_of
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.attribution import discovered
from faig_lab.data import PairedImage, sample_rng
from faig_lab.networks import FilterLayout, State

ORIGINAL, RANDOMISED, SWAPPED = "original", "randomised", "swapped"


class Scored(NamedTuple):
    """Scores (K, F) of one method under one check, and the scores that they are compared with."""

    check: str
    draw: int
    method: str
    scores: Tensor
    compared_with: Tensor


def sanity(subject: Subject, draws: Annotated[int, Field(ge=1)] = 3) -> Findings:
    """Attribute again with a randomised target and with exchanged labels, and judge what is found.

    Filters are masked in the true target, at the headline percent. With one degradation there are no labels to
    exchange, and with K > 2 each degradation is called by the next one's name.

    Args:
        subject: what is analysed; methods that draw are left out.
        draws: how many randomised targets.

    Returns:
        Table `sanity`: check ("original", "randomised", "swapped"), draw, method, degradation (the label), spearman
        and overlap (share of the top set in common) with the original scores — of the degradation that bears the
        label, for swapped ones —, chance (expected overlap of random sets), chance_in_layers (of random sets with as
        many filters in each layer), isolation, own, other and specificity by the label; metrics
        `sanity/<check>/<method>/<overlap|isolation|specificity>`, means.
    """
    scored = list(_scored(subject, draws))
    rows: list[TableRow] = []
    with subject.bar("sanity", len(scored)) as advance:
        for one in scored:
            rows += _rows(subject, one)
            advance(f"{one.check}, {one.method}")
    return Findings({"sanity": rows} if rows else {}, _means(rows))


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


def _scored(subject: Subject, draws: int) -> Iterator[Scored]:
    """Every check's scores by every method."""
    methods, problem = deterministic(subject), subject.problem.straight()
    originals = {method: subject.attribution.scores[method][0] for method in methods}
    for method, scores in originals.items():
        yield Scored(ORIGINAL, 0, method, scores, scores)
    for draw in range(draws):
        target = randomised(problem.baseline, problem.target, problem.seed, draw)
        for method, scores in scores_of(subject, replace(problem, target=target), methods).items():
            yield Scored(RANDOMISED, draw, method, scores, originals[method])
    if len(problem.degradations) > 1:
        probe = swapped(problem.probe, problem.degradations)
        for method, scores in scores_of(subject, replace(problem, probe=probe), methods).items():
            yield Scored(SWAPPED, 0, method, scores, originals[method].roll(-1, 0))


def _rows(subject: Subject, one: Scored) -> Iterator[TableRow]:
    layout, percent = subject.attribution.layout, subject.headline
    for degradation, scores, before in zip(subject.problem.degradations, one.scores, one.compared_with, strict=True):
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
        } | _judged(subject, filters, degradation)


def _judged(subject: Subject, filters: Tensor, label: str) -> TableRow:
    """Masking the filters in the true target: isolation, own and other removed share (clipped), their difference."""
    effects = subject.judge.effects(mask(subject.target, subject.baseline, subject.attribution.layout, filters))
    removed: dict[str, float | None] = {}
    for name in subject.problem.degradations:
        baseline, target, _ = subject.judge.bounds(name)
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
