"""Re-training chosen filters only, from the baseline: do weights, locations and connections matter?

method.md §5. A goal is one degradation alone, or the mix that the target was trained on. For each goal, sets of
filters of one size are trained from the baseline while everything else stays frozen; two sets are filled with the
target's values instead, at their own locations and at others.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from faig_lab.analysis.headline import means
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.attribution import count_of, ranking, weight_change
from faig_lab.data import sample_rng
from faig_lab.networks import FilterLayout, State
from faig_lab.training import Chosen

log = logging.getLogger(__name__)

MIX = "mix"
"""The goal of all degradations at once: the union of their sets, on the mix that the target was trained on."""

OTHER = "other_degradation"
"""The filters that the run's method finds for the next degradation."""
RANDOM = "random"
"""Filters drawn from all."""
MOVED = "other_locations"
"""As many filters in each layer as the run's method finds, at other locations."""
REDRAWN = "redrawn_weights"
"""The filters of the run's method, from fresh random values instead of the baseline's."""
WHOLE = "whole_network"
"""Every parameter, trained as long: what the sets can be held against."""
COPIED = "target_values"
"""The filters of the run's method at the target's values, without training."""
COPIED_MOVED = "target_values_moved"
"""The same values at other locations of the same layers, without training."""
UNTRAINED = (COPIED, COPIED_MOVED)


@dataclass(frozen=True)
class Goal:
    """What filters are to learn: one degradation, or MIX.

    Attributes:
        name: of the goal.
        parts: the degradations of the training samples.
        sets: how many discovered sets make up one for this goal.
        orders: method → all filters, the most responsible first.
    """

    name: str
    parts: tuple[str, ...]
    sets: int
    orders: dict[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """One network of the comparison: `filters` of `start` differ from the baseline or are `chosen` for training."""

    goal: Goal
    variant: str
    percent: float
    filters: int
    start: State
    chosen: Chosen | None
    draw: int = 0


def retraining(
    subject: Subject,
    percents: Sequence[Annotated[float, Field(gt=0, lt=100)]] = (1.0,),
    iterations: Annotated[int, Field(ge=1)] = 300,
    rate: Annotated[float, Field(gt=0)] = 10.0,
    rivals: Sequence[str] = ("signed_share", "weight_change"),
    draws: Annotated[int, Field(ge=0)] = 2,
) -> Findings:
    """Train only the chosen filters from the baseline, and judge on held-out images.

    Args:
        subject: two networks and their attribution; `subject.retraining` does the training.
        percents: q. A degradation's set has q % of the filters, the mix's as many as all degradations' together.
        iterations: of each training.
        rate: learning rate of the sets, in times the target's; the whole network always has the target's.
        rivals: methods beside the run's own; one that the run has no scores of is left out.
        draws: random sets per goal.

    Returns:
        Table `retraining`: variant, draw, percent, trained (the goal), filters, degradation, psnr (dB) and share =
        (PSNR − PSNR(baseline)) / (PSNR(target) − PSNR(baseline)); metrics
        `retrained/<variant>/<percent>/<trained>/<degradation>`, the mean share. Nothing for data without
        photographs to train on.

    Raises:
        UserError: a training diverged.
    """
    if subject.retraining is None:
        log.warning("retraining: left out, since the data has no photographs to train on")
        return Findings({})
    trials = [trial for goal in goals(subject, rivals) for trial in _trials(subject, goal, percents, draws)]
    rows: list[TableRow] = []
    if subject.attribution.layout.undivided:
        log.info("retraining: no other locations to compare with, since every layer is one unit")
    log.info("retraining: %d networks, %d iterations each", sum(t.chosen is not None for t in trials), iterations)
    with subject.bar("retraining", len(trials)) as advance:
        for trial in trials:
            found = list(_rows(subject, trial, _state(subject, trial, iterations, rate)))
            rows += found
            log.info("retraining for %s, %s: %s", trial.goal.name, trial.variant, _reached(found))
            advance(f"{trial.variant}, {trial.goal.name}")
    return Findings({"retraining": rows}, _metrics(rows))


def goals(subject: Subject, rivals: Sequence[str]) -> list[Goal]:
    """Each degradation alone and, where there are several, the mix; with the filters in the order of each method."""
    names = subject.attribution.degradations
    orders = {method: ranking(scores) for method, scores in _scores(subject, rivals).items()}
    single = [
        Goal(name, (name,), 1, {method: order[k] for method, order in orders.items()}) for k, name in enumerate(names)
    ]
    mix = Goal(MIX, names, len(names), {method: union_order(order) for method, order in orders.items()})
    return single if len(names) == 1 else [*single, mix]


def union_order(orders: Tensor) -> Tensor:
    """(K, F) rankings → (F,) one ranking by the best rank in any of them; ties in the order of the layout.

    Where the top n of the K rankings share no filter, the first K·n are their union.
    """
    return torch.argsort(torch.argsort(orders, dim=-1).amin(0), stable=True)


def other_locations(layout: FilterLayout, filters: Tensor, rng: np.random.Generator) -> Tensor:
    """A random other location for every filter: distinct filters of the same layers, none of them twice.

    They are not among `filters` themselves, unless these are more than half of their layer.
    """
    layers = layout.layer_of()
    taken = torch.zeros(len(layout), dtype=torch.bool)
    taken[filters] = True
    order = torch.from_numpy(rng.permutation(len(layout)))
    order = order[torch.argsort(2 * layers[order] + taken[order].long(), stable=True)]  # by layer, free ones first
    grouped = torch.argsort(layers[filters], stable=True)
    counts = torch.bincount(layers[filters], minlength=len(layout.layers))
    first = torch.tensor(layout.offsets[:-1]) - (counts.cumsum(0) - counts)
    places = torch.empty_like(filters)
    places[grouped] = order[torch.arange(len(filters)) + first.repeat_interleave(counts)]
    return places


def transplanted(
    state: State, donor: State, layout: FilterLayout, filters: Tensor, places: Tensor
) -> dict[str, Tensor]:
    """`state` with the donor's `filters` at `places`, which lie in the same layers; all else bit for bit."""
    result = dict(state)
    for layer, offset in zip(layout.layers, layout.offsets, strict=False):
        inside = (filters >= offset) & (filters < offset + layer.units)
        if inside.any():
            weight = state[layer.name]
            rows, values = layer.rows(weight).clone(), layer.rows(donor[layer.name].to(weight))
            rows[(places[inside] - offset).to(weight.device)] = values[(filters[inside] - offset).to(weight.device)]
            result |= dict.fromkeys(layer.names, layer.joined(rows))
    return result


def _scores(subject: Subject, rivals: Sequence[str]) -> dict[str, Tensor]:
    """(K, F) scores of the run's method and its rivals; weight change needs no gradients, so it is always there."""
    known = subject.attribution.scores
    found = {name: known[name][0] for name in dict.fromkeys((subject.method, *rivals)) if name in known}
    if "weight_change" in rivals and "weight_change" not in known:
        found["weight_change"] = weight_change(subject.problem)[0]
    return found


def _trials(subject: Subject, goal: Goal, percents: Sequence[float], draws: int) -> Iterator[Trial]:
    """All networks of one goal."""
    layout = subject.attribution.layout
    for percent in percents:
        count = min(goal.sets * count_of(percent, len(layout)), len(layout))
        for variant, filters in goal.orders.items():
            yield _training(subject, goal, variant, percent, filters[:count])
        for draw in range(draws):
            order = torch.from_numpy(_rng(subject, goal, "random", draw).permutation(len(layout)))
            yield _training(subject, goal, RANDOM, percent, order[:count], draw)
        yield from _controls(subject, goal, percent, goal.orders[subject.method][:count])
    everything = {name: torch.ones((), dtype=torch.bool) for name, _ in subject.network.named_parameters()}
    yield Trial(goal, WHOLE, 100.0, len(layout), subject.baseline, everything)


def _controls(subject: Subject, goal: Goal, percent: float, filters: Tensor) -> Iterator[Trial]:
    """The discovered filters with other locations or other weights, and without training."""
    assert subject.retraining is not None
    layout, start, count = subject.attribution.layout, subject.baseline, len(filters)
    names = subject.attribution.degradations
    if len(goal.parts) < len(names):
        following = names[(names.index(goal.name) + 1) % len(names)]
        scores = subject.attribution.scores[subject.method][0, names.index(following)]
        yield _training(subject, goal, OTHER, percent, ranking(scores)[:count])
    rng = _rng(subject, goal, "locations")
    places = other_locations(layout, filters, rng)
    if not layout.undivided:
        yield _training(subject, goal, MOVED, percent, places)
    fresh = subject.retraining.fresh(int(rng.integers(2**31)))
    redrawn = transplanted(start, fresh, layout, filters, filters)
    yield Trial(goal, REDRAWN, percent, count, redrawn, layout.mask(filters))
    yield Trial(goal, COPIED, percent, count, transplanted(start, subject.target, layout, filters, filters), None)
    if not layout.undivided:
        copied = transplanted(start, subject.target, layout, filters, places)
        yield Trial(goal, COPIED_MOVED, percent, count, copied, None)


def _training(subject: Subject, goal: Goal, variant: str, percent: float, filters: Tensor, draw: int = 0) -> Trial:
    chosen = subject.attribution.layout.mask(filters)
    return Trial(goal, variant, percent, len(filters), subject.baseline, chosen, draw)


def _state(subject: Subject, trial: Trial, iterations: int, rate: float) -> State:
    """The trial's weights after training, where the baseline's are."""
    if trial.chosen is None:
        return trial.start
    assert subject.retraining is not None
    times = 1.0 if trial.variant == WHOLE else rate
    trained = subject.retraining.train(trial.start, trial.chosen, trial.goal.parts, iterations, times)
    return {name: value.to(subject.baseline[name]) for name, value in trained.items()}


def _rows(subject: Subject, trial: Trial, state: State) -> Iterator[TableRow]:
    what: TableRow = {"variant": trial.variant, "draw": trial.draw, "percent": trial.percent}
    what |= {"trained": trial.goal.name, "filters": trial.filters}
    for degradation in subject.attribution.degradations:
        baseline, target, _ = subject.judge.bounds(degradation)
        value, gain = subject.judge.psnr(subject.judge.outputs(state, degradation)), target - baseline
        share = (value - baseline) / gain if abs(gain) > 1e-6 else None
        yield what | {"degradation": degradation, "psnr": value, "share": share}


def _reached(rows: Sequence[TableRow]) -> str:
    """What a trial reaches, for the log."""
    shares = [(row["degradation"], row["share"]) for row in rows if row["share"] is not None]
    reached = ", ".join(f"{round(100 * float(str(share)))} % on {name}" for name, share in shares)
    return f"of the target's gain {reached}" if reached else "no gain to reach"


def _metrics(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """Mean share over draws."""
    keys = ("variant", "percent", "trained", "degradation")
    return {f"retrained/{name.removeprefix('share/')}": share for name, share in means(rows, "share", keys).items()}


def _rng(subject: Subject, goal: Goal, what: str, draw: int = 0) -> np.random.Generator:
    return sample_rng(subject.problem.seed, f"retraining/{goal.name}/{what}", draw)
