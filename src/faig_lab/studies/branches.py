"""Has a network discriminative filters outside of its predictor, and what does the predictor carry?"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from faig_lab.attribution import Attribution, Problem, discovered
from faig_lab.data import PairedImage
from faig_lab.evaluation.intervals import Floats, SceneInterval, scene_interval
from faig_lab.evaluation.masking import TableRow, means
from faig_lab.evaluation.prediction import cut_crops
from faig_lab.filters import FilterLayout, State, first_floating, mask
from faig_lab.metrics import METRICS, quality
from faig_lab.networks import SECOND_BRANCH
from faig_lab.networks.two_branch import Predicting
from faig_lab.plotting.charts import Dots, dot_rows, mark_cut, share_axis
from faig_lab.plotting.style import INK, MUTED, drawing, input_colour, legend_columns, new_figure
from faig_lab.plotting.words import count, decimal, degraded, listed, method_label, removal, share, signed, with_ends
from faig_lab.removed_shares import clipped, removed_share
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import Rows, mean_of, number_at, numbers, numbers_at, over_photographs, select, unique
from faig_lab.studies.context import Pair, StudyContext, StudyResult
from faig_lab.studies.section import Section, Table


def restoring(scores: Mapping[str, Tensor], problem: Problem) -> Attribution:
    """The scores (1, K, F) of the filters outside of the predictor, with a layout of these alone."""
    layout = problem.layout
    inside = torch.tensor([not layer.name.startswith(SECOND_BRANCH) for layer in layout.layers])
    restoring = FilterLayout(tuple(layer for layer, keep in zip(layout.layers, inside, strict=True) if keep))
    kept = inside[layout.layer_of()]
    return Attribution({n: values[..., kept] for n, values in scores.items()}, problem.degradations, restoring)


def discriminative(study: StudyContext) -> Iterator[TableRow]:
    """Own and other removed share (clipped) of the discovered filters at the headline percent."""
    attribution, evaluator = study.attribution, study.evaluator
    for method, scores in attribution.scores.items():
        for masked, values in zip(attribution.degradations, scores[0], strict=True):
            filters = discovered(values, study.headline)
            removed = _removed(study, mask(evaluator.target, evaluator.baseline, attribution.layout, filters))
            others = [clipped(share) for name, share in removed.items() if name != masked]
            own, other = clipped(removed[masked]), _mean(others)
            yield {
                "method": method,
                "percent": study.headline,
                "filters": len(filters),
                "masked": masked,
                "own": own,
                "other": other,
                "specificity": None if own is None or other is None else own - other,
            }


def without_predictor(study: StudyContext) -> Iterator[TableRow]:
    """What is lost when the whole predictor goes back to the baseline's values; nothing without a predictor."""
    evaluator = study.evaluator
    if any(name.startswith(SECOND_BRANCH) for name in evaluator.target):
        state = {n: evaluator.baseline[n] if n.startswith(SECOND_BRANCH) else v for n, v in evaluator.target.items()}
        for degradation, removed in _removed(study, state).items():
            yield {"degradation": degradation, "removed": removed}


def _removed(study: StudyContext, state: State) -> dict[str, float | None]:
    """Degradation → removed share of an intervention."""
    found = {}
    for name in study.problem.degradations:
        baseline, target, _ = study.evaluator.bounds(name)
        found[name] = removed_share(target, study.evaluator.psnr(study.evaluator.outputs(state, name)), baseline)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None for nothing, or where a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


EVERYTHING = "everything"
"""All degradations of an input named rightly, none too many."""


@dataclass(frozen=True)
class Answer:
    """What was said of one crop with one input.

    Attributes:
        scene: what the crop shows a part of; crops of one scene are not independent.
        input: e.g. "clean", "blur" or "blur+noise".
        suffered: degradation → whether the input suffers it.
        seen: degradation → whether the predictor says so.
    """

    scene: str
    input: str
    suffered: Mapping[str, bool]
    seen: Mapping[str, bool]


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
    network: nn.Module, state: State, images: Sequence[PairedImage], degradations: Sequence[str], crop: int
) -> list[Answer]:
    """Let a network name the degradations of every input of crops; nothing from a network that predicts none.

    Args:
        network: its logits stand for `degradations`, in their order.
        state: its weights, on the device to compute on.
        images: where crops are cut from.
        degradations: the names.
        crop: side in HR pixels; a smaller image is used whole.
    """
    if not isinstance(network, Predicting):
        return []
    like, module = first_floating(state.values()), _Logits(network)
    weights = {f"network.{name}": value for name, value in state.items()}
    scenes = {image.name: image.scene or image.name for image in images}
    found = []
    for piece in cut_crops(images, crop, overlapping=False):
        for name, lr in piece.inputs.items():
            logits = functional_call(module, weights, (lr[None].to(like),))[0]
            parts = name.split("+")
            suffered = {degradation: degradation in parts for degradation in degradations}
            seen = dict(zip(degradations, (logits > 0).tolist(), strict=True))
            found.append(Answer(scenes[piece.image], name, suffered, seen))
    return found


def accuracy_rows(found: Sequence[Answer], seed: int, resamples: int) -> list[TableRow]:
    """Balanced accuracy per degradation and for everything at once, with intervals over photographs.

    Returns:
        Rows of predicted (a degradation, or EVERYTHING), value, low, high, interval, inputs. A degradation's value is
        the mean of how often it is seen where it is and not seen where it is not; that of EVERYTHING the mean over the
        inputs of how often all is right.
    """
    rows = []
    for name in (*found[0].suffered, EVERYTHING) if found else ():
        if name == EVERYTHING:
            classes = [answer.input for answer in found]
            right = [answer.seen == answer.suffered for answer in found]
        else:
            classes = [str(answer.suffered[name]) for answer in found]
            right = [answer.seen[name] == answer.suffered[name] for answer in found]
        rows.append({"predicted": name} | _accuracy(found, classes, right, seed, resamples))
    return rows


def _accuracy(
    found: Sequence[Answer], classes: Sequence[str], right: Sequence[bool], seed: int, resamples: int
) -> TableRow:
    """The mean over the classes of the share that is right."""
    names = list(dict.fromkeys(classes))
    hits = np.zeros((len(found), len(names), 2))
    for place, (kind, correct) in enumerate(zip(classes, right, strict=True)):
        hits[place, names.index(kind)] = correct, 1

    def balanced(shares: Floats) -> Floats:
        correct, asked = np.moveaxis(shares, -1, 0)
        return np.asarray((correct / asked).mean(axis=-1))

    scenes = [answer.scene for answer in found]
    interval = scene_interval(hits, scenes, balanced, seed=seed, number=resamples)
    low, high = ends(interval)
    return {
        "value": float(balanced(hits.mean(0))),
        "low": low,
        "high": high,
        "interval": interval.kind,
        "inputs": len(found),
    }


def ends(found: SceneInterval) -> tuple[float | None, float | None]:
    """Low and high end of an interval of one number; None where there is none."""
    low, high = float(found.low), float(found.high)
    return None if np.isnan(low) else low, None if np.isnan(high) else high


log = logging.getLogger(__name__)

ONE, TWO = "one_branch", "two_branch"
"""The run's own network, and its rival."""


def branches(
    context: StudyContext,
    rival: dict[str, Any],
    seeds: Sequence[Annotated[int, Field(ge=0)]] = (),
    methods: Sequence[str] = ("signed_share",),
    crop: Annotated[int, Field(ge=16)] = 96,
    resamples: Annotated[int, Field(ge=1)] = 2000,
    timed_steps: Annotated[int, Field(ge=0)] = 20,
) -> StudyResult:
    """Train a rival of the run's network on the same budget, and compare the two on held-out images.

    Args:
        context: the run's network; `context.trainer` does the training, or finds it in the store.
        rival: `_target_` and arguments of the other network; its scale and degradations become the run's.
        seeds: further ones beside the run's; each trains both networks.
        methods: whose filters are masked in both, beside the run's method; one that the run lacks is left out.
        crop: side in HR pixels of the held-out crops whose degradations a rival with a predictor names.
        resamples: of the bootstrap over photographs.
        timed_steps: training steps of each network whose time is taken, in each round; 0 takes none.

    Returns:
        Tables `branches` (measure, degradation, one_branch, two_branch, difference = one − two, its interval
        low … high over photographs, lowest and highest difference of a seed, seeds, photographs, images),
        `branches_images` (seed, network, degradation, image, PSNR, …), `branches_filters` (seed, network, method,
        percent, filters, masked, own, other, specificity; of the filters outside of the predictor), and for a rival
        with a predictor `branches_prediction` and `branches_predictor` (seed, degradation, removed: with the whole
        predictor set back to the baseline's). Metrics `branches/…`. Nothing for data without photographs.

    Raises:
        UserError: a training diverged.
    """
    if context.trainer is None:
        log.warning("branches: left out, since the data has no photographs to train on")
        return StudyResult({})
    every = list(dict.fromkeys((context.problem.seed, *seeds)))
    wanted = [name for name in dict.fromkeys((context.method, *methods)) if _deterministic(context, name)]
    images: list[TableRow] = []
    filters: list[TableRow] = []
    predictor: list[TableRow] = []
    said: list[Answer] = []
    metrics: dict[str, float | None] = {}
    with context.bar("branches", 2 * len(every)) as advance:
        for seed in every:
            for name, study in _studies(context, rival, seed, wanted):
                what: TableRow = {"seed": seed, "network": name}
                images += [what | row for row in _restored(study)]
                filters += [what | row for row in discriminative(study)]
                if name == TWO:
                    predictor += [{"seed": seed} | row for row in without_predictor(study)]
                    said += answers(study.network, study.target, study.data.held_out, study.problem.degradations, crop)
                metrics[f"branches/parameters/{name}"] = float(sum(p.numel() for p in study.network.parameters()))
                advance(f"seed {seed}, {name}")
    compared = compare(images, context.evaluator.scenes, context.problem.seed, resamples)
    accuracy = accuracy_rows(said, context.problem.seed, resamples)
    tables = {"branches": compared, "branches_images": images, "branches_filters": filters}
    tables |= {"branches_prediction": accuracy} if accuracy else {}
    tables |= {"branches_predictor": predictor} if predictor else {}
    metrics |= _metrics(compared, filters, accuracy)
    if timed_steps:
        seconds = context.trainer.step_seconds([None, rival], timed_steps)
        metrics |= {f"branches/step_seconds/{name}": s for name, s in zip((ONE, TWO), seconds, strict=True)}
    return StudyResult(tables, metrics)


def compare(images: Sequence[TableRow], scenes: Sequence[str], seed: int, resamples: int) -> list[TableRow]:
    """Both networks by every measure on every input; the difference is paired by image and seed.

    Args:
        images: rows of seed, network, degradation, image and the measures.
        scenes: what each image shows, in the order of the images.
        seed: of the bootstrap.
        resamples: how many.
    """
    values = {
        (measure, row["degradation"], row["network"], row["seed"], row["image"]): float(str(row[measure]))
        for row in images
        for measure in METRICS
    }
    names, seeds = (list(dict.fromkeys(row[column] for row in images)) for column in ("image", "seed"))
    rows: list[TableRow] = []
    for measure in METRICS:
        for degradation in dict.fromkeys(row["degradation"] for row in images):
            one, two = (
                np.array([[values[measure, degradation, network, s, name] for s in seeds] for name in names])
                for network in (ONE, TWO)
            )
            rows.append({"measure": measure, "degradation": degradation} | _row(one, two, scenes, seed, resamples))
    return rows


def _row(
    one: NDArray[np.float64], two: NDArray[np.float64], scenes: Sequence[str], seed: int, resamples: int
) -> TableRow:
    """(images, seeds) of both networks → one row."""
    difference = one - two
    found = scene_interval(difference.mean(1), scenes, lambda means: means, seed=seed, number=resamples)
    low, high = ends(found)
    return {
        ONE: float(one.mean()),
        TWO: float(two.mean()),
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "interval": found.kind,
        "lowest_seed": float(difference.mean(0).min()),
        "highest_seed": float(difference.mean(0).max()),
        "seeds": one.shape[1],
        "photographs": len(set(scenes)),
        "images": len(scenes),
    }


def _studies(
    context: StudyContext, rival: Mapping[str, Any], seed: int, methods: Sequence[str]
) -> Iterator[tuple[str, StudyContext]]:
    """Both networks of a seed, each with scores of its filters outside of the predictor."""
    assert context.trainer is not None
    if seed == context.problem.seed:
        scores = {name: context.attribution.scores[name] for name in methods}
        yield ONE, replace(context, attribution=restoring(scores, context.problem))
    else:
        yield ONE, _study(context, context.trainer.train(None, seed), methods)
    yield TWO, _study(context, context.trainer.train(rival, seed), methods)


def _study(context: StudyContext, pair: Pair, methods: Sequence[str]) -> StudyContext:
    """The context with another pair of networks, attributed like its own."""
    like = first_floating(context.problem.target.values())
    baseline, target = (
        {n: v.to(like) if v.is_floating_point() else v.to(like.device) for n, v in state.items()}
        for state in (pair.baseline, pair.target)
    )
    network = pair.network.to(like.device)  # with what no state holds, buffers that are not saved
    problem = context.problem.straight(network=network, baseline=baseline, target=target)
    scores = {name: context.methods[name](problem) for name in methods}
    return replace(context, problem=problem, attribution=restoring(scores, problem))


def _deterministic(context: StudyContext, method: str) -> bool:
    return method in context.methods and len(context.attribution.scores.get(method, ())) == 1


def _restored(study: StudyContext) -> Iterator[TableRow]:
    """The target's quality on every held-out image with every input."""
    images, evaluator = study.data.held_out, study.evaluator
    for degradation in images[0].lr:
        for image, output in zip(images, evaluator.restore(evaluator.target, degradation), strict=True):
            values = quality(output[None], image.hr[None], evaluator.scale)
            yield {"degradation": degradation, "image": image.name} | {n: float(v) for n, v in values.items()}


def _metrics(
    compared: Sequence[TableRow], filters: Sequence[TableRow], accuracy: Sequence[TableRow]
) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for row in compared:
        for key in (ONE, TWO, "difference", "low", "high"):
            number = row[key]
            found[f"branches/{row['measure']}/{row['degradation']}/{key}"] = (
                None if number is None else float(str(number))
            )
    for row in accuracy:
        found[f"branches/prediction/{row['predicted']}"] = float(str(row["value"]))
    specific = means(filters, "specificity", ("network", "method", "percent"))
    return found | {f"branches/{name}": value for name, value in specific.items()}


_LABELS = {ONE: "one branch", TWO: "two branches"}
_ENDS = ("difference", "low", "high")


def _compared(run: RunFolder, measure: str) -> Rows:
    """The rows of one measure, one per input."""
    return select(run.table("branches"), measure=measure)


def _sentence(run: RunFolder) -> str:
    """What the trainings had in common, and the differences in PSNR."""
    rows = _compared(run, "psnr")
    given = any((run.config.get(name) or {}).get("weights") for name in ("baseline", "target"))
    steps = [run.config.get("training", {}).get(name, {}).get("iterations") for name in ("baseline", "target")]
    said = "The run's own network was given, not trained here"
    if not given and None not in steps:
        said = f"Both were trained for {listed([count(n) for n in steps])} iterations (baseline and target)"
    found = [
        f"{with_ends(numbers_at(row, *_ENDS), signed)} dB on {degraded(str(row['degradation']))} input" for row in rows
    ]
    ends = f" (in brackets the {over_photographs(rows)})" if numbers(rows, "low") else ""
    return f"{said}; PSNR, one branch minus two{ends}: {listed(found)}."


def _figure(run: RunFolder) -> Figure:
    rows, methods = _compared(run, "psnr"), unique(run.table("branches_filters"), "method")
    with drawing():
        figure = new_figure(1.1 + 0.34 * max(len(rows), 2 * len(methods), 3))
        left, right = figure.subplots(1, 2)
        _difference_panel(left, rows)
        _sets_panel(right, run, methods)
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=legend_columns(labels))
    return figure


def _difference_panel(panel: Axes, rows: Rows) -> None:
    for place, row in enumerate(rows):
        low, high = numbers([row], "low"), numbers([row], "high")
        if low and high:
            panel.plot([*low, *high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt")
        if (number_at(row, "seeds") or 1) > 1:
            seeds = numbers([row], "lowest_seed") + numbers([row], "highest_seed")
            panel.plot(seeds, [place] * len(seeds), "x", color=MUTED, markersize=4, markeredgewidth=0.8)
    names = [degraded(str(row["degradation"])) for row in rows]
    found = {name: numbers([row], "difference") for name, row in zip(names, rows, strict=True)}
    dot_rows(panel, names, [Dots("", INK, found)])
    panel.axvline(0, color=MUTED, linewidth=0.8)
    panel.margins(x=0.12)
    panel.set_xlabel("PSNR, one branch − two, dB")
    panel.set_ylabel("input")


def _sets_panel(panel: Axes, run: RunFolder, methods: Sequence[str]) -> None:
    rows = run.table("branches_filters")
    series = {f"{method_label(m)}, {label}": (m, network) for m in methods for network, label in _LABELS.items()}
    dots = []
    for name in unique(rows, "masked"):
        for side in ("other", "own"):
            found = {
                label: [shown]
                for label, (method, network) in series.items()
                if (shown := mean_of(select(rows, method=method, network=network, masked=name), side)) is not None
            }
            label, hollow = (removal(name), ()) if side == "own" else ("", series)
            dots.append(Dots(label, input_colour(run.degradations, name), found, lane=name, hollow=hollow))
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
        for row in _compared(run, measure):
            lines.append([
                f"{measure.upper()}, {degraded(str(row['degradation']))} input",
                *(f"{decimal(number_at(row, network), digits)} {unit}".strip() for network in (ONE, TWO)),
                with_ends(numbers_at(row, *_ENDS), partial(signed, digits=digits)),
            ])  # fmt: skip
    rows = run.table("branches_filters")
    for method in unique(rows, "method"):
        for name in unique(rows, "masked"):
            of = [select(rows, method=method, masked=name, network=network) for network in (ONE, TWO)]
            cells = [f"{share(mean_of(found, 'own'))} ({share(mean_of(found, 'other'))})" for found in of]
            lines.append([f"{removal(name)} removed by the set of {method_label(method)} (of the other)", *cells, ""])
    for row in run.table("branches_prediction"):
        what = "everything" if row["predicted"] == EVERYTHING else str(row["predicted"]).replace("_", " ")
        known = with_ends(numbers_at(row, "value", "low", "high"), share)
        lines.append([f"{what} predicted rightly (balanced accuracy)", "", known, ""])
    rows = run.table("branches_predictor")
    for name in unique(rows, "degradation"):
        lost = share(mean_of(select(rows, degradation=name), "removed"))
        lines.append([f"{removal(name)} lost with the predictor set back", "", lost, ""])
    for key, label, factor, digits in (("parameters", "parameters", 1, 0), ("step_seconds", "ms a step", 1000, 1)):
        found = [run.metrics.get(f"branches/{key}/{network}") for network in (ONE, TWO)]
        if None not in found:
            lines.append([label, *(decimal(factor * (x or 0), digits) for x in found), ""])
    return Table(["", "one branch", "two branches", "difference"], lines)


SECTION = Section(
    name="branches",
    order=60,
    title="Is one branch as good as two?",
    link="One branch or two",
    method=(
        "The paper sets out from the claim that a plain one-branch network, which is told nothing of the degradation, "
        "reaches a two-branch one, where a predictor of the degradations modulates the restoration. Here a two-branch "
        "network of about the same size is trained like the run's own: the same samples, seed, iterations, loss and "
        "optimizer, and beside them its predictor's own loss. Differences are one branch minus two on the same "
        "held-out images; the 95 % intervals resample photographs, since crops of one photograph are not independent. "
        "Of fewer than 10 photographs the range over them is given instead."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of the difference in PSNR per input, and of own and other removed shares in both networks",
    caption=(
        "Left: PSNR of one branch minus that of two, with its interval over photographs (of fewer than 10 the range); "
        "crosses: the lowest and the highest seed. Right: what masking the discovered {units} removes of their own "
        "function (filled) and of the other (hollow), a colour for each masked set."
    ),
    table=_table,
    note=(
        "One kind of two-branch network, and one budget: a longer training, another size or another way of "
        "conditioning may decide otherwise."
    ),
)
