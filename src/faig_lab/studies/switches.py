"""Switches: a small set of filters of its own for each degradation, chosen by a switch that knows the degradation.

After ADMS (Park, Lee and Chun, All-in-One Image Restoration for Unknown Degradations Using Adaptive Discriminative
Filters for Specific Degradations, CVPR 2023): about 3 % of the weights are dedicated to each degradation, all others
are shared, and a classifier chooses. Here the shared weights are those of one network and keep their bits. Each set is
trained on input with its degradation. The switch is an oracle, so that no wrong choice counts. How ADMS trains the
shared weights could not be verified.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import count_of, discovered
from faig_lab.data import sample_rng
from faig_lab.evaluation.evaluator import mean
from faig_lab.evaluation.masking import TableRow, means
from faig_lab.filters import State
from faig_lab.plotting.charts import Dots, dot_rows, legend_above
from faig_lab.plotting.style import MUTED, drawing, input_colour, new_figure
from faig_lab.plotting.words import as_percent, degraded, listed, method_label, sentence_case, signed
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import frame, mean_of, numbers, select, unique
from faig_lab.studies.context import StudyContext, StudyResult, without_photographs
from faig_lab.studies.section import Section, Table

START = "start"
"""The network that all trainings start from: the weights that all switched networks share."""
BLIND = "blind"
"""One network without a switch, trained on the mix for as many steps as all sets together."""
RANDOM = "random"
"""Filters drawn from all, others for each degradation and draw."""
WHOLE = "whole_network"
"""A whole network for each degradation: the reference for the sets."""


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
    train, layout, names = context.retraining.train, context.attribution.layout, context.attribution.degradations
    shared = context.target if start == "target" else context.baseline
    sets = list(_sets(context, percent, rivals, draws))
    with context.bar("switches", len(sets) + 1) as advance:
        rows = _rows(context, dict.fromkeys(context.inputs, shared), variant=START, draw=0, percent=0.0, filters=0)
        blind = context.placed(train(shared, context.everything(), names, len(names) * iterations))
        whole: TableRow = {"percent": 100.0, "filters": len(layout)}
        rows += _rows(context, dict.fromkeys(context.inputs, blind), variant=BLIND, draw=0, **whole)
        advance(BLIND)
        for variant, draw, name, filters in sets:
            chosen = context.everything() if filters is None else layout.mask(filters)
            times = 1.0 if filters is None else rate
            state = context.placed(train(shared, chosen, [name], iterations, times, always=True))
            size = whole if filters is None else {"percent": percent, "filters": len(filters)}
            rows += _rows(context, {name: state}, variant=variant, draw=draw, **size)
            advance(f"{variant}, {name}")
    table = frame(rows)
    table["against_blind"] = table["psnr"] - table["input"].map(select(table, variant=BLIND).set_index("input")["psnr"])
    metrics = means(table, "against_blind", "switches/{variant}/{input}")
    return StudyResult({"switches": table}, metrics | means(table, "gain", "switches/gain/{variant}/{input}"))


def _sets(
    context: StudyContext, percent: float, rivals: Sequence[str], draws: int
) -> Iterator[tuple[str, int, str, Tensor | None]]:
    """Yield variant, draw, degradation and filters of every set that is trained; None is a whole network."""
    count, total = count_of(percent, len(context.attribution.layout)), len(context.attribution.layout)
    names = context.attribution.degradations
    for method in context.with_scores(rivals):
        for name, scores in zip(names, context.attribution.scores[method][0], strict=True):
            yield method, 0, name, discovered(scores, percent)
    for draw in range(draws):
        for name in names:
            order = sample_rng(context.problem.seed, f"switches/{name}", draw).permutation(total)
            yield RANDOM, draw, name, torch.from_numpy(order[:count])
    for name in names:
        yield WHOLE, 0, name, None


def _rows(context: StudyContext, states: dict[str, State], **label: object) -> list[TableRow]:
    """Return the PSNR of the network that the switch chooses for each input."""
    rows = []
    for name, state in states.items():
        psnr = context.evaluator.psnr(context.evaluator.outputs(state, name))
        gain = psnr - mean(context.evaluator.ends(name).baseline)
        rows.append(label | {"input": name, "psnr": psnr, "gain": gain})
    return rows


def _label(variant: str) -> str:
    words = {START: "shared weights", BLIND: "blind network", WHOLE: "whole networks, switched"}
    return sentence_case(words.get(variant, f"{method_label(variant)}, switched"))


def _mean(run: RunFolder, variant: str, name: str, column: str) -> str:
    """Return the mean over draws in dB, with its sign."""
    return signed(mean_of(select(run.table("switches"), variant=variant, input=name), column))


def _sentence(run: RunFolder) -> str:
    told = [
        f"{_mean(run, run.chosen, name, 'against_blind')} dB on {degraded(name)} input (whole networks "
        f"{_mean(run, WHOLE, name, 'against_blind')} dB)"
        for name in run.degradations
    ]
    percents = numbers(select(run.table("switches"), variant=run.chosen), "percent")
    size = f"{as_percent(percents[0])} of the {run.units} for each degradation, " if percents else ""
    return f"Against the blind network: {size}chosen by {method_label(run.chosen)}, bring {listed(told)}."


@drawing()
def _figure(run: RunFolder) -> Figure:
    """Draw a row per variant, with a dot per training and input."""
    rows = run.table("switches")
    labels = {variant: _label(variant) for variant in unique(rows, "variant") if variant != BLIND}
    figure = new_figure(0.9 + 0.3 * len(labels))
    panel = figure.subplots()
    series = []
    for name in run.degradations:
        of_input = select(rows, input=name)
        dots = {label: numbers(select(of_input, variant=v), "against_blind") for v, label in labels.items()}
        series.append(Dots(f"{degraded(name)} input", input_colour(run.degradations, name), dots))
    dot_rows(panel, list(labels.values()), series)
    panel.axvline(0, color=MUTED, linewidth=0.8)
    panel.set_xlabel("PSNR minus that of the blind network, dB, held-out images")
    legend_above(figure, panel)
    return figure


def _table(run: RunFolder) -> Table:
    inputs = unique(run.table("switches"), "input")
    head = ["gain over the baseline, dB", *(sentence_case(f"{degraded(name)} input") for name in inputs)]
    variants = unique(run.table("switches"), "variant")
    return Table(head, [[_label(v), *(_mean(run, v, name, "gain") for name in inputs)] for v in variants])


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
