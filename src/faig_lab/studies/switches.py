"""Switches: a small set of filters of its own for each degradation, chosen by a switch that knows the degradation.

After ADMS (Park, Lee and Chun, All-in-One Image Restoration for Unknown Degradations Using Adaptive Discriminative
Filters for Specific Degradations, CVPR 2023): about 3 % of the weights are dedicated to each degradation, all others
are shared, and a classifier chooses. Here the shared weights are those of one network and keep their bits. Each set is
trained on input with its degradation. The switch is an oracle, so that no wrong choice counts. How ADMS trains the
shared weights could not be verified.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from matplotlib.figure import Figure
from pydantic import Field

from faig_lab.attribution import count_of, discovered
from faig_lab.data import CLEAN, sample_rng
from faig_lab.evaluation.evaluator import mean
from faig_lab.evaluation.masking import TableRow, means
from faig_lab.filters import State
from faig_lab.plotting.charts import Dots, dot_rows, legend_above
from faig_lab.plotting.style import MUTED, drawing, input_colour, new_figure
from faig_lab.plotting.words import as_percent, degraded, listed, method_label, sentence_case, signed
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import mean_of, numbers, select, unique
from faig_lab.studies.context import StudyContext, StudyResult, without_photographs
from faig_lab.studies.section import Section, Table
from faig_lab.training import Chosen

START = "start"
"""The network that all trainings start from: the weights that all switched networks share."""
BLIND = "blind"
"""One network without a switch, trained on the mix for as many steps as all sets together."""
RANDOM = "random"
"""Filters drawn from all, others for each degradation and draw."""
WHOLE = "whole_network"
"""A whole network for each degradation: the reference for the sets."""


@dataclass(frozen=True)
class Switched:
    """A set for one degradation.

    Attributes:
        variant: whose filters.
        draw: number of the draw.
        degradation: the only degradation of the training samples, and the input that the switch has this set for.
        filters: the number of the filters.
        chosen: the entries that are trained.
    """

    variant: str
    draw: int
    degradation: str
    filters: int
    chosen: Chosen


def switches(
    context: StudyContext,
    percent: Annotated[float, Field(gt=0, le=100)] = 3.0,
    iterations: Annotated[int, Field(ge=1)] = 300,
    *,
    start: Literal["target", "baseline"] = "target",
    rate: Annotated[float, Field(gt=0)] = 2.0,
    rivals: Sequence[str] = ("learned_mask",),
    draws: Annotated[int, Field(ge=0)] = 1,
) -> StudyResult:
    """Train a set of filters for each degradation, and compare the switched networks with one blind network.

    A set is trained on samples that all have its degradation, since the switch shows the set nothing else. On clean
    input the switch takes the shared weights.

    Args:
        context: two networks and their attribution; `context.retraining` trains.
        percent: of the filters, in each set.
        iterations: of the training of each set. The blind network is trained for as many iterations as all sets
            together, on the mix that the target was trained on.
        start: the weights that are shared, and where all trainings start.
        rate: learning rate of the sets as a multiple of the target's; whole networks always have the target's.
        rivals: comparison methods beside the run's own; methods without scores in the run are left out.
        draws: of random filters.

    Returns:
        Table `switches`: variant ("start", "blind", a method, "random", "whole_network"), draw, percent, filters (in
        the set of the input), input, psnr, gain over the baseline, against_blind (both in dB). Metrics
        `switches/<variant>/<input>` (PSNR minus the blind network's) and `switches/gain/<variant>/<input>`, means over
        draws. Nothing for data without photographs to train on.

    Raises:
        UserError: a training diverged.
    """
    if context.retraining is None:
        return without_photographs("switches")
    train = context.retraining.train
    shared = context.target if start == "target" else context.baseline
    names = context.attribution.degradations
    sets = list(_sets(context, percent, rivals, draws))
    rows: list[TableRow] = []
    with context.bar("switches", len(sets) + 1) as advance:
        rows += _rows(
            context, {"variant": START, "percent": 0.0, "filters": 0}, dict.fromkeys(_inputs(context), shared)
        )
        blind = context.placed(train(shared, context.everything(), names, len(names) * iterations))
        whole: TableRow = {"variant": BLIND, "percent": 100.0, "filters": len(context.attribution.layout)}
        rows += _rows(context, whole, dict.fromkeys(_inputs(context), blind))
        advance(BLIND)
        for one in sets:
            times = 1.0 if one.variant == WHOLE else rate
            state = context.placed(train(shared, one.chosen, [one.degradation], iterations, times, always=True))
            share = 100.0 if one.variant == WHOLE else percent
            label: TableRow = {"variant": one.variant, "draw": one.draw, "percent": share, "filters": one.filters}
            rows += _rows(context, label, {one.degradation: state})
            advance(f"{one.variant}, {one.degradation}")
    _compare(rows)
    metrics = means(rows, "against_blind", "switches/{variant}/{input}")
    return StudyResult({"switches": rows}, metrics | means(rows, "gain", "switches/gain/{variant}/{input}"))


def _inputs(context: StudyContext) -> list[str]:
    """Return every degradation, and clean input if the images have it."""
    clean = [name for name in context.evaluator.inputs if name == CLEAN]
    return [*context.attribution.degradations, *clean]


def _sets(context: StudyContext, percent: float, rivals: Sequence[str], draws: int) -> Iterator[Switched]:
    """Yield the sets of every method and draw for each degradation, and whole networks."""
    layout, scores = context.attribution.layout, context.attribution.scores
    names = context.attribution.degradations
    for method in dict.fromkeys((context.method, *rivals)):
        for k, name in enumerate(names if method in scores else ()):
            filters = discovered(scores[method][0, k], percent)
            yield Switched(method, 0, name, len(filters), layout.mask(filters))
    count = count_of(percent, len(layout))
    for draw in range(draws):
        for name in names:
            order = sample_rng(context.problem.seed, f"switches/{name}", draw).permutation(len(layout))
            yield Switched(RANDOM, draw, name, count, layout.mask(torch.from_numpy(order[:count])))
    for name in names:
        yield Switched(WHOLE, 0, name, len(layout), context.everything())


def _rows(context: StudyContext, label: TableRow, states: dict[str, State]) -> Iterator[TableRow]:
    """Yield the PSNR of the network that the switch chooses for each input."""
    evaluator = context.evaluator
    for name, state in states.items():
        psnr = evaluator.psnr(evaluator.outputs(state, name))
        gain = psnr - mean(evaluator.ends(name).baseline)
        yield {"variant": label["variant"], "draw": label.get("draw", 0)} | label | {
            "input": name, "psnr": psnr, "gain": gain, "against_blind": None,
        }  # fmt: skip


def _compare(rows: Sequence[TableRow]) -> None:
    """Write the difference to the blind network into each row."""
    blind = {row["input"]: float(str(row["psnr"])) for row in rows if row["variant"] == BLIND}
    for row in rows:
        row["against_blind"] = float(str(row["psnr"])) - blind[row["input"]]


def _label(variant: str) -> str:
    words = {START: "shared weights", BLIND: "blind network", WHOLE: "whole networks, switched"}
    return words.get(variant, f"{method_label(variant)}, switched")


def _mean(run: RunFolder, variant: str, name: str, column: str) -> float | None:
    return mean_of(select(run.table("switches"), variant=variant, input=name), column)


def _sentence(run: RunFolder) -> str:
    told = [
        f"{signed(_mean(run, run.chosen, name, 'against_blind'))} dB on {degraded(name)} input (whole networks "
        f"{signed(_mean(run, WHOLE, name, 'against_blind'))} dB)"
        for name in run.degradations
    ]
    percents = numbers(select(run.table("switches"), variant=run.chosen), "percent")
    size = f"{as_percent(percents[0])} of the {run.units} for each degradation, " if percents else ""
    return f"Against the blind network: {size}chosen by {method_label(run.chosen)}, bring {listed(told)}."


@drawing()
def _figure(run: RunFolder) -> Figure:
    """Draw a row per variant, with a dot per training and input."""
    rows = run.table("switches")
    variants = [variant for variant in unique(rows, "variant") if variant != BLIND]
    labels = {variant: sentence_case(_label(variant)) for variant in variants}
    figure = new_figure(0.9 + 0.3 * len(variants))
    panel = figure.subplots()
    series = [
        Dots(
            f"{degraded(name)} input", input_colour(run.degradations, name),
            {labels[v]: numbers(select(rows, variant=v, input=name), "against_blind") for v in variants},
        )
        for name in run.degradations
    ]  # fmt: skip
    dot_rows(panel, list(labels.values()), series)
    panel.axvline(0, color=MUTED, linewidth=0.8)
    panel.set_xlabel("PSNR minus that of the blind network, dB, held-out images")
    legend_above(figure, panel)
    return figure


def _table(run: RunFolder) -> Table:
    inputs = unique(run.table("switches"), "input")
    head = ["gain over the baseline, dB", *(sentence_case(f"{degraded(name)} input") for name in inputs)]
    lines = [
        [sentence_case(_label(variant)), *(signed(_mean(run, variant, name, "gain")) for name in inputs)]
        for variant in unique(run.table("switches"), "variant")
    ]
    return Table(head, lines)


SECTION = Section(
    name="switches",
    order=37,
    title="Does a set of {units} for each degradation beat one blind network?",
    link="Switches",
    method=(
        "Each degradation gets a set of {units} of its own: the discovered {units}, trained on input with this "
        "degradation alone. All other weights are shared and keep their bits. A switch that knows the degradation of "
        "the input chooses the set (after ADMS, Park and others, 2023). The blind network has no switch: all its "
        "weights are trained on the target's mix, for as many iterations as all sets together. Random {units} and "
        "whole networks for each degradation are the references."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plot of the PSNR of switched networks minus that of the blind network, a row per choice of {units}",
    caption=(
        "PSNR minus that of the blind network; one dot per training. A value above 0 means that the switch is better."
    ),
    table=_table,
    note=(
        "The switch makes no errors. On clean input the switch takes the shared weights. The sets see their own "
        "degradation in every sample; the blind network sees the target's mix."
    ),
)
