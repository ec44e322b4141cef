"""Re-training of chosen filters from the baseline: the effect of weights, locations and connections (method.md §5).

A goal is one degradation alone, or the mix that the target was trained on. For each goal, sets of filters of one size
are trained from the baseline while all other parameters are frozen. Two sets get the target's values instead, at their
own locations and at other locations.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import count_of, ranking
from faig_lab.attribution.methods import weight_change
from faig_lab.data import sample_rng
from faig_lab.evaluation.masking import TableRow, means
from faig_lab.filters import FilterLayout, State
from faig_lab.plotting.charts import Dots, dot_rows, legend_above, mark_cut, share_axis, side_by_side
from faig_lab.plotting.style import MUTED, drawing, input_colour
from faig_lab.plotting.words import (
    ABSENT,
    as_percent,
    count,
    degraded,
    is_known,
    listed,
    method_label,
    removal,
    sentence_case,
    share,
)
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import mean_of, numbers, select, unique
from faig_lab.studies.context import StudyContext, StudyResult, without_photographs
from faig_lab.studies.section import Section, Table
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
"""Every parameter, trained for as many iterations: the reference for the sets."""
COPIED = "target_values"
"""The filters of the run's method at the target's values, without training."""
COPIED_MOVED = "target_values_moved"
"""The same values at other locations of the same layers, without training."""
UNTRAINED = (COPIED, COPIED_MOVED)


@dataclass(frozen=True)
class Goal:
    """The function that filters learn: one degradation, or MIX.

    Attributes:
        name: of the goal.
        parts: the degradations of the training samples.
        sets: the number of discovered sets whose union is the set of this goal.
        orders: method → all filters, the most responsible first.
    """

    name: str
    parts: tuple[str, ...]
    sets: int
    orders: dict[str, Tensor]


@dataclass(frozen=True)
class Trial:
    """One network of the comparison: a number of `filters` is trained (`chosen`) or has other values in `start`."""

    goal: Goal
    variant: str
    percent: float
    filters: int
    start: State
    chosen: Chosen | None
    draw: int = 0


def retraining(
    context: StudyContext,
    percents: Sequence[Annotated[float, Field(gt=0, lt=100)]] = (1.0,),
    iterations: Annotated[int, Field(ge=1)] = 300,
    *,
    rate: Annotated[float, Field(gt=0)] = 10.0,
    rivals: Sequence[str] = ("signed_share", "weight_change"),
    draws: Annotated[int, Field(ge=0)] = 2,
) -> StudyResult:
    """Train only the chosen filters from the baseline, and evaluate on held-out images.

    Args:
        context: two networks and their attribution; `context.retraining` trains.
        percents: q. A degradation's set has q % of the filters; the mix's set has as many as all degradations together.
        iterations: of each training.
        rate: learning rate of the sets as a multiple of the target's; the whole network always has the target's.
        rivals: comparison methods beside the run's own; methods without scores in the run are left out.
        draws: sets of random filters per goal.

    Returns:
        Table `retraining`: variant, draw, percent, trained (the goal), filters, degradation, psnr (dB) and share =
        (PSNR − PSNR(baseline)) / (PSNR(target) − PSNR(baseline)); metrics
        `retrained/<variant>/<percent>/<trained>/<degradation>`, the mean share. Nothing for data without
        photographs to train on.

    Raises:
        UserError: a training diverged.
    """
    if context.retraining is None:
        return without_photographs("retraining")
    trials: list[Trial] = []
    layout = context.attribution.layout
    for goal in goals(context, rivals):
        trials += [trial for percent in percents for trial in _trials(context, goal, percent, draws)]
        trials.append(Trial(goal, WHOLE, 100.0, len(layout), context.baseline, context.everything()))
    rows: list[TableRow] = []
    if layout.undivided:
        log.info("retraining: no other locations to compare with, since every layer is one unit")
    log.info("retraining: %d networks, %d iterations each", sum(t.chosen is not None for t in trials), iterations)
    with context.bar("retraining", len(trials)) as advance:
        for trial in trials:
            state, name = trial.start, trial.goal.name
            if trial.chosen is not None:
                times = 1.0 if trial.variant == WHOLE else rate
                trained = context.retraining.train(trial.start, trial.chosen, trial.goal.parts, iterations, times)
                state = context.placed(trained)
            reached = []
            row: TableRow = {"variant": trial.variant, "draw": trial.draw, "percent": trial.percent}
            row |= {"trained": name, "filters": trial.filters}
            for degradation, psnr, removed in context.measured(state):
                gained = None if removed is None else 1 - removed
                rows.append(row | {"degradation": degradation, "psnr": psnr, "share": gained})
                reached += [] if gained is None else [f"{round(100 * gained)} % on {degradation}"]
            text = f"of the target's gain {', '.join(reached)}" if reached else "no gain to reach"
            log.info("retraining for %s, %s: %s", name, trial.variant, text)
            advance(f"{trial.variant}, {name}")
    metrics = means(rows, "share", "retrained/{variant}/{percent:g}/{trained}/{degradation}")
    return StudyResult({"retraining": rows}, metrics)


def goals(context: StudyContext, rivals: Sequence[str]) -> list[Goal]:
    """Return each degradation alone and, of several, the mix, with the filters in the order of each method.

    Weight change is computed if it is a rival and the run has no scores of it.
    """
    names = context.attribution.degradations
    scores = {method: context.attribution.scores[method][0] for method in context.with_scores(rivals)}
    if "weight_change" in rivals and "weight_change" not in scores:
        scores["weight_change"] = weight_change(context.problem)[0]
    orders = {method: ranking(values) for method, values in scores.items()}
    single = [
        Goal(name, (name,), 1, {method: order[k] for method, order in orders.items()}) for k, name in enumerate(names)
    ]
    mix = Goal(MIX, names, len(names), {method: union_order(order) for method, order in orders.items()})
    return single if len(names) == 1 else [*single, mix]


def union_order(orders: Tensor) -> Tensor:
    """Merge (K, F) rankings to one ranking (F,) by the best rank of each filter; ties in the order of the layout.

    If the top n of the K rankings share no filter, the first K·n filters are their union.
    """
    return torch.argsort(torch.argsort(orders, dim=-1).amin(0), stable=True)


def other_locations(layout: FilterLayout, filters: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw a random other location for every filter: distinct filters of the same layers.

    The locations are not among `filters`, unless `filters` are more than half of their layer.
    """
    layers = layout.layer_of()
    taken = torch.zeros(len(layout), dtype=torch.bool)
    taken[filters] = True
    order = torch.from_numpy(rng.permutation(len(layout)))
    order = order[torch.argsort(2 * layers[order] + taken[order].long(), stable=True)]  # by layer, free ones first
    grouped = torch.argsort(layers[filters], stable=True)
    counts = layout.count_by_layer(filters)
    first = torch.tensor(layout.offsets[:-1]) - (counts.cumsum(0) - counts)
    places = torch.empty_like(filters)
    places[grouped] = order[torch.arange(len(filters)) + first.repeat_interleave(counts)]
    return places


def transplanted(
    state: State, donor: State, layout: FilterLayout, *, filters: Tensor, places: Tensor
) -> dict[str, Tensor]:
    """Return `state` with the donor's `filters` at `places` in the same layers; all else is the same bit for bit."""
    result = dict(state)
    for layer, offset in zip(layout.layers, layout.offsets, strict=False):
        inside = (filters >= offset) & (filters < offset + layer.units)
        if inside.any():
            weight = state[layer.name]
            rows, values = layer.rows(weight).clone(), layer.rows(donor[layer.name].to(weight))
            rows[(places[inside] - offset).to(weight.device)] = values[(filters[inside] - offset).to(weight.device)]
            result |= dict.fromkeys(layer.names, layer.joined(rows))
    return result


def _trials(context: StudyContext, goal: Goal, percent: float, draws: int) -> Iterator[Trial]:
    """Yield the networks of one goal and percent: the sets of all methods, and the controls of the run's own set."""
    assert context.retraining is not None
    layout, start, names = context.attribution.layout, context.baseline, context.attribution.degradations
    size = min(goal.sets * count_of(percent, len(layout)), len(layout))
    filters = goal.orders[context.method][:size]

    def rng(stream: str, draw: int = 0) -> np.random.Generator:
        return sample_rng(context.problem.seed, f"retraining/{goal.name}/{stream}", draw)

    def trained(variant: str, chosen: Tensor, draw: int = 0) -> Trial:
        return Trial(goal, variant, percent, size, start, layout.mask(chosen), draw)

    def with_values(variant: str, donor: State, places: Tensor, chosen: Chosen | None = None) -> Trial:
        values = transplanted(start, donor, layout, filters=filters, places=places)
        return Trial(goal, variant, percent, size, values, chosen)

    for variant, order in goal.orders.items():
        yield trained(variant, order[:size])
    for draw in range(draws):
        yield trained(RANDOM, torch.from_numpy(rng("random", draw).permutation(len(layout)))[:size], draw)
    if len(goal.parts) < len(names):
        scores = context.attribution.scores[context.method][0, (names.index(goal.name) + 1) % len(names)]
        yield trained(OTHER, ranking(scores)[:size])
    locations = rng("locations")
    places = other_locations(layout, filters, locations)
    if not layout.undivided:
        yield trained(MOVED, places)
    fresh = context.retraining.fresh(int(locations.integers(2**31)))
    yield with_values(REDRAWN, fresh, filters, layout.mask(filters))
    yield with_values(COPIED, context.target, filters)
    if not layout.undivided:
        yield with_values(COPIED_MOVED, context.target, places)


_LOW, _HIGH = -0.5, 1.1  # of the figure


def _trained(run: RunFolder, variant: str, goal: str, q: float) -> pd.DataFrame:
    """Return the rows of one variant and goal at a percent, on every input."""
    return select(run.table("retraining"), None if variant == WHOLE else q, variant=variant, trained=goal)


def result(run: RunFolder, variant: str, goal: str, degradations: Sequence[str], q: float) -> float:
    """Return the share of the target's gain, mean over draws and degradations; NaN where a share is missing."""
    rows = _trained(run, variant, goal, q)
    return float(np.mean([mean_of(select(rows, degradation=name), "share") for name in degradations]))


def _degradations(run: RunFolder, goal: str) -> list[str]:
    """Return the degradations of a goal: its own degradation, or all for the mix."""
    return unique(run.table("retraining"), "degradation") if goal == MIX else [goal]


def _percents(run: RunFolder) -> list[float]:
    table = run.table("retraining")
    return sorted(set(numbers(table[table["variant"] != WHOLE], "percent")))


def _headline(run: RunFolder) -> float:
    """Return the percent of the main numbers: the headline percent, or the nearest percent of the study."""
    return min(_percents(run), key=lambda q: abs(q - run.headline), default=run.headline)


def _variants(run: RunFolder) -> dict[str, str]:
    """Return variant → its name for readers, in the order of the table, untrained variants last."""
    method = method_label(run.chosen)
    words = {
        OTHER: f"{method}'s for another degradation",
        MOVED: "same layers, other locations",
        REDRAWN: f"{method}'s, weights re-drawn",
        WHOLE: "whole network",
        COPIED: "target's values, not trained",
        COPIED_MOVED: "the same at other locations",
    }
    variants = unique(run.table("retraining"), "variant")
    return {v: words.get(v, method_label(v)) for v in sorted(variants, key=lambda v: (v in UNTRAINED, v == WHOLE))}


def _goal(goal: str) -> str:
    return "the mix" if goal == MIX else f"{removal(goal)} alone"


def _sentence(run: RunFolder) -> str:
    q = _headline(run)
    node = run.config.get("analysis", {}).get("studies", {}).get("retraining", {})
    steps, whole = node.get("iterations"), run.config.get("training", {}).get("target", {}).get("iterations")
    long = f" for {count(steps)} iterations (the target: {count(whole)})" if steps and whole else ""
    shares = []
    for goal in unique(run.table("retraining"), "trained"):
        chosen, network = (share(result(run, v, goal, _degradations(run, goal), q)) for v in (run.chosen, WHOLE))
        shares.append(f"{chosen} ({network}) in {_goal(goal)}")
    return (
        f"Trained alone{long}, {as_percent(q)} of the {run.units}, chosen by {method_label(run.chosen)}, reach this "
        f"share of the target's gain (in brackets the whole network): {listed(shares)}."
    )


@drawing()
def _figure(run: RunFolder) -> Figure:
    """Draw a panel per goal, with a row per variant and a dot per training."""
    goals, variants, q = unique(run.table("retraining"), "trained"), _variants(run), _headline(run)
    hollow = [label for variant, label in variants.items() if variant in UNTRAINED]
    figure, panels = side_by_side(1.0 + 0.24 * len(variants), len(goals))
    for panel, goal in zip(panels, goals, strict=True):
        series = []
        rows = {label: _trained(run, variant, goal, q) for variant, label in variants.items()}
        for name in _degradations(run, goal):
            colour = input_colour(run.degradations, name)
            dots = {label: numbers(select(of_variant, degradation=name), "share") for label, of_variant in rows.items()}
            series.append(Dots(f"{degraded(name)} input", colour, dots, hollow=hollow))
            whole = result(run, WHOLE, goal, [name], q)
            if is_known(whole):
                panel.axvline(min(whole, _HIGH), color=colour, linewidth=0.8, linestyle=":")
        dot_rows(panel, list(variants.values()), series, width=0.36)
        panel.set_xlim(_LOW, _HIGH)
        panel.axvline(0, color=MUTED, linewidth=0.8)
        panel.axhline(len(variants) - len(hollow) - 0.5, color=MUTED, linewidth=0.6)
        panel.set_title(_goal(goal))
        panel.xaxis.set_major_locator(MaxNLocator(4))
        share_axis(panel, "x")
        mark_cut(panel, share)
    legend_above(figure, panels[-1])
    figure.supxlabel("share of the target's gain over the baseline, held-out images", fontsize=8)
    return figure


def _table(run: RunFolder) -> Table:
    levels = _percents(run)
    columns = [(goal, n) for goal in unique(run.table("retraining"), "trained") for n in _degradations(run, goal)]
    several = len(run.degradations) > 1
    head = [f"{_goal(goal)}: {degraded(name)}" if goal == MIX and several else _goal(goal) for goal, name in columns]
    lines = []
    for variant, label in _variants(run).items():
        for q in levels[:1] if variant == WHOLE else levels:
            cells = [share(result(run, variant, goal, [degradation], q)) for goal, degradation in columns]
            if set(cells) != {ABSENT}:
                size = f", {as_percent(q)}" if len(levels) > 1 and variant != WHOLE else ""
                lines.append([label + size, *cells])
    return Table(["share of the target's gain", *map(sentence_case, head)], lines)


SECTION = Section(
    name="retraining",
    order=30,
    title="Do the weights, locations and connections of the discovered {units} matter?",
    link="Re-training",
    method=(
        "Starting from the baseline, only the chosen {units} are trained, with the target's data, loss and optimizer. "
        "Every other weight keeps the baseline's bits. The compared sets have the same size: the sets of the methods, "
        "the set of the other degradation, random {units}, sets at other locations of the same layers, and the "
        "discovered "
        "{units} from fresh random weights. Each degradation's set is trained on this degradation alone (and clean "
        "input); the union of all sets is trained on the target's mix. Two further variants are not trained: the "
        "discovered {units} get the target's values, at their own locations and at other locations of the same layers."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of the share of the target's gain that each re-trained set of {units} reaches, a panel per goal",
    caption=(
        "Share of the target's gain in PSNR: 0 is the baseline, 100 % is the target; one dot per training. Hollow dots "
        "are not trained. The dotted line is the whole network, trained for as many iterations. An arrow with a number "
        "stands for a value beyond the panel."
    ),
    table=_table,
    note=(
        "The trainings are short, so the shares compare the speed of learning and not the final quality. Each training "
        "is done once, except for random {units}. Biases stay the baseline's, except in the whole network, which is "
        "trained at the target's own learning rate."
    ),
)
