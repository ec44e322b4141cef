"""Comparison of the run's network with a two-branch network of the same budget (method.md §7)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from faig_lab.attribution import Attribution, Problem
from faig_lab.data import PairedImage
from faig_lab.evaluation.comparison import removed_sides
from faig_lab.evaluation.intervals import Resampling, scene_interval
from faig_lab.evaluation.masking import TableRow, means, quality_rows
from faig_lab.evaluation.prediction import balanced_accuracy, cut_crops
from faig_lab.filters import FilterLayout, State, first_floating
from faig_lab.metrics import METRICS
from faig_lab.networks import SECOND_BRANCH
from faig_lab.networks.two_branch import Predicting
from faig_lab.plotting.charts import Dots, dot_rows, mark_cut, share_axis
from faig_lab.plotting.style import INK, MUTED, drawing, input_colour, legend_columns, new_figure
from faig_lab.plotting.words import count, decimal, degraded, listed, method_label, removal, share, signed, with_ends
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import frame, groups, mean_of, numbers, over_photographs, records, select, unique
from faig_lab.studies.context import Pair, StudyContext, StudyResult, without_photographs
from faig_lab.studies.section import Section, Table


def restoring(scores: Mapping[str, Tensor], problem: Problem) -> Attribution:
    """Keep the scores (1, K, F) of the filters outside of the predictor, with a layout of these filters alone."""
    layout = problem.layout
    outside = torch.tensor([not layer.name.startswith(SECOND_BRANCH) for layer in layout.layers])
    restoring = FilterLayout(tuple(layer for layer, keep in zip(layout.layers, outside, strict=True) if keep))
    kept = outside[layout.layer_of()]
    return Attribution({n: values[..., kept] for n, values in scores.items()}, problem.degradations, restoring)


def discriminative(study: StudyContext) -> Iterator[TableRow]:
    """Yield own and other removed share (clipped) of the discovered filters at the headline percent."""
    for method in study.attribution.scores:
        for masked, filters in study.discovered(method, study.headline).items():
            row: TableRow = {"method": method, "percent": study.headline, "filters": len(filters), "masked": masked}
            removed = {name: share for name, _, share in study.measured(study.masked(filters))}
            yield row | removed_sides(removed, masked)


def without_predictor(study: StudyContext) -> Iterator[TableRow]:
    """Yield the removed shares of the whole predictor set back to the baseline; nothing without a predictor."""
    evaluator = study.evaluator
    if any(name.startswith(SECOND_BRANCH) for name in evaluator.target):
        state = {n: evaluator.baseline[n] if n.startswith(SECOND_BRANCH) else v for n, v in evaluator.target.items()}
        for degradation, _, removed in study.measured(state):
            yield {"degradation": degradation, "removed": removed}


EVERYTHING = "everything"
"""All degradations of an input at once: an answer is right if every degradation is right."""


@dataclass(frozen=True)
class Answer:
    """The prediction for one crop with one input.

    Attributes:
        scene: the scene of the crop; crops of one scene are not independent.
        input: e.g. "clean", "blur" or "blur+noise".
        applied: degradation → whether the input has it.
        predicted: degradation → whether the predictor predicts it.
    """

    scene: str
    input: str
    applied: Mapping[str, bool]
    predicted: Mapping[str, bool]


class _Logits(nn.Module):
    """The logits of a network, as a module whose weights can be replaced by a call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        assert isinstance(self.network, Predicting)
        return self.network.predict(lr.clone())[1]  # some networks write into their input


@torch.no_grad()
def answers(
    network: nn.Module, state: State, images: Sequence[PairedImage], *, degradations: Sequence[str], crop: int
) -> list[Answer]:
    """Predict the degradations of every input of crops; no answers from a network without a predictor.

    Args:
        network: its logits stand for `degradations`, in their order.
        state: its weights, on the device to compute on.
        images: the images that crops are cut from.
        degradations: the names.
        crop: side in HR pixels; a smaller image is used whole.
    """
    if not isinstance(network, Predicting):
        return []
    like, module = first_floating(state.values()), _Logits(network)
    weights = {f"network.{name}": value for name, value in state.items()}
    scenes = {image.name: image.scene or image.name for image in images}
    predictions = []
    for piece in cut_crops(images, crop, overlapping=False):
        for name, lr in piece.inputs.items():
            logits = functional_call(module, weights, (lr[None].to(like),))[0]
            parts = name.split("+")
            applied = {degradation: degradation in parts for degradation in degradations}
            predicted = dict(zip(degradations, (logits > 0).tolist(), strict=True))
            predictions.append(Answer(scenes[piece.image], name, applied, predicted))
    return predictions


def accuracy_rows(predictions: Sequence[Answer], seed: int, resamples: int) -> list[TableRow]:
    """Compute balanced accuracy per degradation and for everything at once, with intervals over photographs.

    Returns:
        Rows of predicted (a degradation, or EVERYTHING), value, low, high, interval, inputs. A degradation's value is
        the mean of the share of right answers for inputs with the degradation and for inputs without. The value of
        EVERYTHING is the mean over the inputs of the share of answers that are right for all degradations.
    """
    scenes = [answer.scene for answer in predictions]
    rows = []
    for name in (*predictions[0].applied, EVERYTHING) if predictions else ():
        if name == EVERYTHING:
            classes = [answer.input for answer in predictions]
            right = [answer.predicted == answer.applied for answer in predictions]
        else:
            classes = [str(answer.applied[name]) for answer in predictions]
            right = [answer.predicted[name] == answer.applied[name] for answer in predictions]
        accuracy = balanced_accuracy(classes, right, scenes, seed=seed, number=resamples)
        rows.append({"predicted": name} | accuracy | {"inputs": len(predictions)})
    return rows


ONE, TWO = "one_branch", "two_branch"
"""The run's own network, and the network that it is compared with."""


def branches(
    context: StudyContext,
    rival: dict[str, Any],
    seeds: Sequence[Annotated[int, Field(ge=0)]] = (),
    methods: Sequence[str] = ("signed_share",),
    *,
    crop: Annotated[int, Field(ge=16)] = 96,
    resamples: Annotated[int, Field(ge=1)] = 2000,
    timed_steps: Annotated[int, Field(ge=0)] = 20,
) -> StudyResult:
    """Train a second network with the same budget, and compare the two networks on held-out images.

    Args:
        context: the run's network; `context.trainer` trains, or takes networks from the store.
        rival: `_target_` and arguments of the second network; its scale and degradations become the run's.
        seeds: further seeds beside the run's; each seed trains both networks.
        methods: the methods whose filters are masked in both networks, beside the run's method; methods that the run
            lacks are left out.
        crop: side in HR pixels of the held-out crops for a second network with a predictor.
        resamples: of the bootstrap over photographs.
        timed_steps: training steps of each network that are timed in each round; 0 times no step.

    Returns:
        Tables `branches` (measure, degradation, one_branch, two_branch, difference = one − two, its interval
        low … high over photographs, lowest and highest difference of a seed, seeds, photographs, images),
        `branches_images` (seed, network, degradation, image, PSNR, …), `branches_filters` (seed, network, method,
        percent, filters, masked, own, other, specificity; of the filters outside of the predictor). A second network
        with a predictor has `branches_prediction` and `branches_predictor` (seed, degradation, removed: removed share
        of the whole predictor set back to the baseline). Metrics `branches/…`. Nothing for data without photographs.

    Raises:
        UserError: a training diverged.
    """
    if context.trainer is None:
        return without_photographs("branches")
    every = list(dict.fromkeys((context.problem.seed, *seeds)))
    wanted = context.deterministic((context.method, *methods))
    images: list[TableRow] = []
    filters: list[TableRow] = []
    predictor: list[TableRow] = []
    predictions: list[Answer] = []
    metrics: dict[str, float | None] = {}
    with context.bar("branches", 2 * len(every)) as advance:
        for seed in every:
            for name, study in _studies(context, rival, seed, wanted):
                labels: TableRow = {"seed": seed, "network": name}
                for degradation in study.evaluator.inputs:
                    outputs = study.evaluator.restore(study.target, degradation)
                    rows = quality_rows(study.evaluator, outputs)
                    images += [labels | {"degradation": degradation} | row for row in rows]
                filters += [labels | row for row in discriminative(study)]
                if name == TWO:
                    predictor += [{"seed": seed} | row for row in without_predictor(study)]
                    held_out, names = study.data.held_out, study.problem.degradations
                    predictions += answers(study.network, study.target, held_out, degradations=names, crop=crop)
                metrics[f"branches/parameters/{name}"] = float(sum(p.numel() for p in study.network.parameters()))
                advance(f"seed {seed}, {name}")
    compared = compare(images, context.evaluator.scenes, Resampling(context.problem.seed, resamples))
    accuracy = accuracy_rows(predictions, context.problem.seed, resamples)
    tables = {"branches": compared, "branches_images": images, "branches_filters": filters}
    tables |= {"branches_prediction": accuracy} if accuracy else {}
    tables |= {"branches_predictor": predictor} if predictor else {}
    columns = (ONE, TWO, "difference", "low", "high")
    metrics |= means(compared, columns, "branches/{measure}/{degradation}/{column}")
    metrics |= means(accuracy, "value", "branches/prediction/{predicted}")
    metrics |= means(filters, "specificity", "branches/specificity/{network}/{method}/{percent:g}")
    if timed_steps:
        seconds = context.trainer.step_seconds([None, rival], timed_steps)
        metrics |= {f"branches/step_seconds/{name}": s for name, s in zip((ONE, TWO), seconds, strict=True)}
    return StudyResult(tables, metrics)


def compare(images: Sequence[TableRow], scenes: Sequence[str], how: Resampling) -> list[TableRow]:
    """Compare both networks by every measure on every input; the difference is paired by image and seed.

    Args:
        images: rows of seed, network, degradation, image and the measures.
        scenes: the scene of each image, in the order of the images.
        how: seed and number of the resamples.
    """
    table = frame(images)
    rows: list[TableRow] = []
    names = unique(table, "image")
    for measure in METRICS:
        for degradation, of_input in groups(table, "degradation").items():
            by_seed = of_input.pivot_table(measure, "image", ["network", "seed"]).loc[names]
            one, two = by_seed[ONE].to_numpy(), by_seed[TWO].to_numpy()
            difference = one - two
            interval = scene_interval([difference.mean(1)], scenes, lambda means: means, how)
            rows.append(
                {
                    "measure": measure,
                    "degradation": degradation,
                    ONE: float(one.mean()),
                    TWO: float(two.mean()),
                    "difference": float(difference.mean()),
                    **interval.row(),
                    "lowest_seed": float(difference.mean(0).min()),
                    "highest_seed": float(difference.mean(0).max()),
                    "seeds": table["seed"].nunique(),
                    "photographs": len(set(scenes)),
                    "images": len(scenes),
                }
            )
    return rows


def _studies(
    context: StudyContext, rival: Mapping[str, Any], seed: int, methods: Sequence[str]
) -> Iterator[tuple[str, StudyContext]]:
    """Yield both networks of a seed, each with scores of its filters outside of the predictor."""
    assert context.trainer is not None
    if seed == context.problem.seed:
        scores = {name: context.attribution.scores[name] for name in methods}
        yield ONE, replace(context, attribution=restoring(scores, context.problem))
    else:
        yield ONE, _study(context, context.trainer.train(None, seed), methods)
    yield TWO, _study(context, context.trainer.train(rival, seed), methods)


def _study(context: StudyContext, pair: Pair, methods: Sequence[str]) -> StudyContext:
    """Return the context with another pair of networks, which is attributed in the same way."""
    like = first_floating(context.problem.target.values())
    baseline, target = (
        {n: v.to(like) if v.is_floating_point() else v.to(like.device) for n, v in state.items()}
        for state in (pair.baseline, pair.target)
    )
    network = pair.network.to(like.device)  # moves buffers that are in no state
    problem = context.problem.straight(network=network, baseline=baseline, target=target)
    scores = {name: context.methods[name](problem) for name in methods}
    return replace(context, problem=problem, attribution=restoring(scores, problem))


_LABELS = {ONE: "one branch", TWO: "two branches"}


def _ends(row: Mapping[str, Any]) -> list[float | None]:
    """Return the difference of the networks and the ends of its interval."""
    return [row.get(column) for column in ("difference", "low", "high")]


def _sentence(run: RunFolder) -> str:
    """Return a sentence with the iterations of both trainings, and the differences in PSNR."""
    rows = select(run.table("branches"), measure="psnr")
    given = any((run.config.get(name) or {}).get("weights") for name in ("baseline", "target"))
    steps = [run.config.get("training", {}).get(name, {}).get("iterations") for name in ("baseline", "target")]
    training = "The run's own network was given and not trained by this run"
    if not given and None not in steps:
        training = f"Both were trained for {listed([count(n) for n in steps])} iterations (baseline and target)"
    differences = [
        f"{with_ends(_ends(row), signed)} dB on {degraded(row['degradation'])} input" for row in records(rows)
    ]
    ends = f" (in brackets the {over_photographs(rows)})" if numbers(rows, "low") else ""
    return f"{training}. PSNR, one branch minus two branches{ends}: {listed(differences)}."


@drawing()
def _figure(run: RunFolder) -> Figure:
    rows, methods = select(run.table("branches"), measure="psnr"), unique(run.table("branches_filters"), "method")
    figure = new_figure(1.1 + 0.34 * max(len(rows), 2 * len(methods), 3))
    left, right = figure.subplots(1, 2)
    _difference_panel(left, rows)
    _sets_panel(right, run, methods)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=legend_columns(labels))
    return figure


def _difference_panel(panel: Axes, rows: pd.DataFrame) -> None:
    differences = {}
    for place, row in enumerate(records(rows)):
        _, low, high = _ends(row)
        if low is not None and high is not None:
            panel.plot([low, high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt")
        if row.get("seeds", 1) > 1:
            seeds = [row["lowest_seed"], row["highest_seed"]]
            panel.plot(seeds, [place] * 2, "x", color=MUTED, markersize=4, markeredgewidth=0.8)
        differences[degraded(row["degradation"])] = [row["difference"]]
    dot_rows(panel, list(differences), [Dots("", INK, differences)])
    panel.axvline(0, color=MUTED, linewidth=0.8)
    panel.margins(x=0.12)
    panel.set_xlabel("PSNR, one branch − two, dB")
    panel.set_ylabel("input")


def _sets_panel(panel: Axes, run: RunFolder, methods: Sequence[str]) -> None:
    series = {f"{method_label(m)}, {label}": (m, network) for m in methods for network, label in _LABELS.items()}
    dots = []
    for name, rows in groups(run.table("branches_filters"), "masked").items():
        for side in ("other", "own"):
            shares = {
                label: [mean_of(select(rows, method=method, network=network), side)]
                for label, (method, network) in series.items()
            }
            label, hollow = (removal(name), ()) if side == "own" else ("", series)
            dots.append(Dots(label, input_colour(run.degradations, name), shares, lane=name, hollow=hollow))
    dot_rows(panel, list(series), dots, width=0.4)
    for edge in (0, 1):
        panel.axvline(edge, color=MUTED, linewidth=0.8)
    panel.set_xlim(-0.25, 1.5)
    panel.set_xlabel("share of a function that masking removes")
    share_axis(panel, "x")
    mark_cut(panel, share)


def _table(run: RunFolder) -> Table:
    lines = []
    for measure, unit, digits in (("psnr", "dB", 2), ("ssim", "", 3)):
        for row in records(select(run.table("branches"), measure=measure)):
            name = f"{measure.upper()}, {degraded(row['degradation'])} input"
            cells = [f"{decimal(row[network], digits)} {unit}".strip() for network in (ONE, TWO)]
            lines.append([name, *cells, with_ends(_ends(row), partial(signed, digits=digits))])
    for method, of_method in groups(run.table("branches_filters"), "method").items():
        for name, rows in groups(of_method, "masked").items():
            sets = [select(rows, network=network) for network in (ONE, TWO)]
            cells = [f"{share(mean_of(of_set, 'own'))} ({share(mean_of(of_set, 'other'))})" for of_set in sets]
            lines.append([f"{removal(name)} removed by the set of {method_label(method)} (of the other)", *cells, ""])
    for row in records(run.table("branches_prediction")):
        accuracy = with_ends([row["value"], row["low"], row["high"]], share)
        name = row["predicted"].replace("_", " ")
        lines.append([f"{name} predicted rightly (balanced accuracy)", "", accuracy, ""])
    for name, rows in groups(run.table("branches_predictor"), "degradation").items():
        lost = share(mean_of(rows, "removed"))
        lines.append([f"{removal(name)} lost with the predictor set back", "", lost, ""])
    for key, label, factor, digits in (("parameters", "parameters", 1, 0), ("step_seconds", "ms a step", 1000, 1)):
        values = [run.metrics.get(f"branches/{key}/{network}") for network in (ONE, TWO)]
        if None not in values:
            lines.append([label, *(decimal(factor * (value or 0), digits) for value in values), ""])
    return Table(["", "one branch", "two branches", "difference"], lines)


SECTION = Section(
    name="branches",
    order=60,
    title="Is one branch as good as two?",
    link="One branch or two",
    method=(
        "The paper claims that a plain one-branch network without information about the degradation reaches the "
        "quality of a two-branch network, where a predictor of the degradations modulates the restoration. Here a "
        "two-branch network of about the same size is trained like the run's own network: with the same samples, seed, "
        "iterations, loss and optimizer, and in addition the predictor's own loss. Differences are one branch minus "
        "two branches on the same held-out images. The 95 % intervals resample photographs, since crops of one "
        "photograph are not independent; with fewer than 10 photographs the range over photographs is given instead."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of the difference in PSNR per input, and of own and other removed shares in both networks",
    caption=(
        "Left: PSNR of one branch minus PSNR of two branches, with its interval over photographs (with fewer than 10 "
        "the range); crosses are the lowest and the highest seed. Right: the share of their own function (filled) and "
        "of the other function (hollow) that masking the discovered {units} removes; each masked set has a colour."
    ),
    table=_table,
    note=(
        "The comparison covers one kind of two-branch network and one budget. A longer training, another size or "
        "another conditioning may give another result."
    ),
)
