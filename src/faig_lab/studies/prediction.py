"""Which degradation does an input suffer from? Named by the filters that work on it, without ground truth (§6).

Top-k overlap: the target's own output stands in for the ground truth, the filters that the path integral then ranks
highest are compared with the discovered ones of each degradation. Evaluated on held-out crops beside
two comparison methods.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import Problem, Rule, discovered, integrate, quadrature
from faig_lab.data import CLEAN
from faig_lab.data.evaluation import paired_images
from faig_lab.errors import InputError
from faig_lab.evaluation.masking import TableRow
from faig_lab.evaluation.prediction import (
    Classifier,
    Crop,
    Guess,
    Vectors,
    accuracies,
    confusion,
    cut_crops,
    features,
    fit_linear,
    fit_thresholds,
    guess_metrics,
    image_numbers,
    spread,
)
from faig_lab.filters import first_floating
from faig_lab.plotting.style import HEAT, INK, drawing, input_colour, new_figure
from faig_lab.plotting.words import count, degraded, listed, removal, sentence_case, share, with_ends
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import Row, number_at, numbers, numbers_at, over_photographs, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table

OVERLAP, ESTIMATOR, LINEAR = "overlap", "image_estimator", "linear_probe"

_SMALLEST = 8  # LR pixels per side that the image estimator needs to say anything.

Predictor = Callable[[Sequence[Tensor]], tuple[list[str], list[str]]]
"""LR images → for each a name with "clean" allowed, and one among the degradations alone."""


@dataclass(frozen=True, eq=False)
class TopOverlap:
    """Top-k overlap as a predictor.

    Args:
        problem: the two networks; its probe is not used.
        rule: the quadrature of the path integral.
        percent: how many of an input's filters are compared.
        sets: degradation → its discovered filters.
    """

    problem: Problem
    rule: Rule
    percent: float
    sets: Mapping[str, Tensor]

    def overlaps(self, lr: Tensor) -> dict[str, float]:
        """|S_x ∩ S_D| / |S_D| for each degradation D, from an LR image (3, h, w) alone."""
        return overlaps(top_filters(self.problem, lr, self.rule, self.percent), self.sets)


def prediction(
    context: StudyContext,
    percent: Annotated[float, Field(gt=0, le=100)] = 3.0,
    points: Annotated[int, Field(ge=1)] = 4,
    crop: Annotated[int, Field(ge=16)] = 96,
    most: Annotated[int, Field(ge=1)] = 128,
    training_crops: Annotated[int, Field(ge=1)] = 64,
) -> StudyResult:
    """Predict the degradation of held-out crops by top-k overlap, by two numbers of the image and by a linear probe.

    Top-k overlap names the degradation with the largest overlap among those that pass their threshold, and "clean"
    when none does. A threshold is calibrated on probe crops (`calibrate`), and so is the image estimator; the linear
    probe is trained on crops of the training photographs, or of the probe where the source has none.

    Args:
        context: what is analysed; the discovered filters are those of its method.
        percent: how many filters are compared.
        points: of the Gauss–Legendre rule along the path.
        crop: side of the square crops in HR pixels; a smaller image is used whole.
        most: at most so many held-out crops, spread evenly; as many of the probe.
        training_crops: about so many crops for the linear probe.

    Returns:
        Tables `prediction` (method, truth, predicted, count; "clean" allowed), `prediction_overlaps` (image, truth,
        overlap/<D>) and `prediction_accuracy`; metrics `prediction/…`.
    """
    if crop // context.degradation.scale < _SMALLEST:
        needed = _SMALLEST * context.degradation.scale
        raise InputError("crop", f"{crop} HR pixels is too small; at least {needed}")
    names = context.attribution.degradations
    probe = spread(cut_crops(context.data.probe, crop, overlapping=True), most)
    held_out = spread(cut_crops(context.data.held_out, crop, overlapping=False), most)
    scores = context.attribution.scores[context.method][0]
    sets = {name: discovered(row, percent) for name, row in zip(names, scores, strict=True)}
    by_overlap = TopOverlap(context.problem, quadrature("gauss_legendre", points), percent, sets)
    with context.bar("prediction", len(probe) + len(held_out)) as advance:
        known = _overlap_rows(by_overlap, probe, (CLEAN, *names), advance)
        found = _overlap_rows(by_overlap, held_out, tuple(held_out[0].inputs), advance)
    thresholds = {n: calibrate(_of(known, n, n), _of(known, CLEAN, n)) for n in names}
    guesses = _overlap_guesses(found, thresholds)
    training, source = _training_crops(context, crop, training_crops, probe)
    rivals = {
        ESTIMATOR: _learned(probe, names, image_numbers, fit_thresholds),
        LINEAR: _learned(training, names, lambda lr: features(context.network, context.target, lr), fit_linear),
    }
    for method, predictor in rivals.items():
        guesses += _guess(method, predictor, held_out)
    fitted = {OVERLAP: ("probe", len(probe)), ESTIMATOR: ("probe", len(probe)), LINEAR: (source, len(training))}
    scenes = {image.name: image.scene or image.name for image in context.data.held_out}
    accuracy = accuracies(guesses, names, fitted, scenes, context.problem.seed)
    tables = {"prediction": confusion(guesses, names), "prediction_overlaps": found, "prediction_accuracy": accuracy}
    limits: dict[str, float | None] = {f"prediction/threshold/{name}": value for name, value in thresholds.items()}
    return StudyResult(tables, guess_metrics(guesses, accuracy, names, main=OVERLAP) | limits)


def top_filters(problem: Problem, lr: Tensor, rule: Rule, percent: float) -> Tensor:
    """S_x: the top q % of filters by FAIG_f(x) = Σ|a_j|, with L(θ', x) = ‖F(θ', x) − F(θ, x)‖².

    Args:
        problem: network, θ̄ and θ.
        lr: (3, h, w); no ground truth is needed.
        rule: the quadrature.
        percent: q.

    Returns:
        Flat indices, the strongest first.
    """
    like = first_floating(problem.target.values())
    batch = lr[None].to(like)
    with torch.no_grad():
        reference = problem.compute.output(problem.network, problem.target, batch).to(like.dtype)
    args = (problem.network, problem.baseline, problem.target, batch, reference, rule, problem.compute)
    attributions = integrate(*args).attributions
    strength = problem.layout.gather({name: values.abs() for name, values in attributions.items()})
    return discovered(strength.double().cpu(), percent)


def overlaps(top: Tensor, sets: Mapping[str, Tensor]) -> dict[str, float]:
    """|top ∩ S_D| / |S_D| for each set; 0 for an empty one."""
    return {name: int(torch.isin(s, top).sum()) / max(1, len(s)) for name, s in sets.items()}


def calibrate(suffering: Sequence[float], clean: Sequence[float]) -> float:
    """The threshold above which an overlap says "degraded": best balanced accuracy on these crops.

    Candidates are the middles between neighbouring values; of equally good ones that in the widest gap.

    Args:
        suffering: overlaps with S_D of crops that have D.
        clean: overlaps with S_D of clean crops.
    """
    values = np.unique([*suffering, *clean])
    candidates = [*((values[:-1] + values[1:]) / 2), values[-1]]
    gaps = [*np.diff(values), 0.0]

    def quality(index: int) -> tuple[float, float]:
        above = [np.mean(np.array(side) > candidates[index]) for side in (suffering, clean)]
        return float((above[0] + 1 - above[1]) / 2), float(gaps[index])

    return float(candidates[max(range(len(candidates)), key=quality)])


def decide(found: Mapping[str, float], thresholds: Mapping[str, float]) -> str:
    """The degradation with the largest overlap of those above their threshold, "clean" where there is none."""
    passing = {name: value for name, value in found.items() if value > thresholds[name]}
    return max(passing, key=lambda name: passing[name]) if passing else CLEAN


def _overlap_rows(
    by_overlap: TopOverlap, crops: Sequence[Crop], inputs: Sequence[str], advance: Callable[[str], None]
) -> list[TableRow]:
    """The overlaps of every crop with every one of `inputs`."""
    rows: list[TableRow] = []
    for crop in crops:
        for truth in inputs:
            found = by_overlap.overlaps(crop.inputs[truth])
            rows.append({"image": crop.image, "truth": truth} | {f"overlap/{n}": v for n, v in found.items()})
        advance(crop.image)
    return rows


def _of(rows: Sequence[TableRow], truth: str, name: str) -> list[float]:
    """The overlaps with S_name of the crops with input `truth`."""
    return [float(str(row[f"overlap/{name}"])) for row in rows if row["truth"] == truth]


def _overlap_guesses(rows: Sequence[TableRow], thresholds: Mapping[str, float]) -> list[Guess]:
    guesses = []
    for row in rows:
        found = {name: float(str(row[f"overlap/{name}"])) for name in thresholds}
        forced = max(found, key=lambda name: found[name])
        guesses.append(Guess(OVERLAP, str(row["image"]), str(row["truth"]), decide(found, thresholds), forced))
    return guesses


def _learned(
    crops: Sequence[Crop],
    names: Sequence[str],
    vector: Callable[[Tensor], Vectors],
    fit: Callable[[Vectors, Sequence[str]], Classifier],
) -> Predictor:
    """A predictor from labelled crops: one classifier with "clean", one without."""
    labels = [CLEAN, *names] * len(crops)
    vectors = np.stack([vector(crop.inputs[name]) for crop in crops for name in (CLEAN, *names)])
    degraded = np.array([label != CLEAN for label in labels])
    with_clean, forced = fit(vectors, labels), fit(vectors[degraded], list(names) * len(crops))

    def predict(images: Sequence[Tensor]) -> tuple[list[str], list[str]]:
        vectors = np.stack([vector(lr) for lr in images])
        return with_clean(vectors), forced(vectors)

    return predict


def _training_crops(context: StudyContext, crop: int, count: int, probe: list[Crop]) -> tuple[list[Crop], str]:
    """Crops to train the linear probe on, and where they are from."""
    photographs = context.data.train[:count]
    if not photographs:
        return probe, "probe"
    images = paired_images(photographs, context.degradation, crop=crop, crops=-(-count // len(photographs)))
    return cut_crops(images, crop, overlapping=False), "training photographs"


def _guess(method: str, predictor: Predictor, crops: Sequence[Crop]) -> list[Guess]:
    shown = [(crop, truth) for crop in crops for truth in crop.inputs]
    predicted, forced = predictor([crop.inputs[truth] for crop, truth in shown])
    return [
        Guess(method, crop.image, truth, *names) for (crop, truth), *names in zip(shown, predicted, forced, strict=True)
    ]


_OVERLAP = "overlap"
_METHOD = {
    _OVERLAP: "top-k overlap",
    "image_estimator": "noise level and sharpness",
    "linear_probe": "linear probe on features",
}
_UPRIGHT = 3  # As many answers have room for their names side by side.


def _names(run: RunFolder) -> list[str]:
    """The degradations that are told apart."""
    return [name for name in unique(run.table("prediction"), "predicted") if name != "clean"]


def _method(method: str) -> str:
    return _METHOD.get(method, method.replace("_", " "))


def _accuracy(run: RunFolder, method: str, measure: str) -> Row:
    """The row of a predictor; empty where it was not measured, as with a single degradation."""
    return next(iter(select(run.table("prediction_accuracy"), method=method, measure=measure)), {})


def _shown(row: Row) -> str:
    """`98 % (92 % to 100 %)`."""
    return with_ends(numbers_at(row, "value", "low", "high"), share)


def _either(run: RunFolder) -> str:
    """`blurred or noisy`."""
    return listed([degraded(name) for name in _names(run)]).replace(" and ", " or ")


def _sentence(run: RunFolder) -> str:
    balanced, clean = (_accuracy(run, _OVERLAP, measure) for measure in ("balanced_accuracy", "accuracy"))
    parts = [f"{_shown(balanced)} of them right between {_either(run)} (balanced accuracy)"] if balanced else []
    parts.append(f"{_shown(clean)} with clean as a further answer")
    inputs, scenes = count(number_at(clean, "inputs")), count(number_at(clean, "photographs"))
    return (
        f"Top-k overlap on {inputs} inputs from {scenes} held-out photographs: {listed(parts)}; in brackets the "
        f"{over_photographs([clean])}."
    )


def _figure(run: RunFolder) -> Figure | None:
    names, truths = _names(run), unique(run.table("prediction"), "truth")
    methods = unique(run.table("prediction"), "method")
    if not names:
        return None
    labels = [degraded(truth).replace(" and ", "\nand ") for truth in truths]
    with drawing():
        heights = [0.6 + 0.26 * len(truths), 0.85 + 0.3 * len(truths)]
        figure = new_figure(sum(heights) + 0.4)
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)
        for panel, name in zip(_row(above, len(names), labels), names, strict=True):
            _overlap_panel(panel, run, name, truths)
            panel.set_title(f"{removal(name)} set")
        above.supxlabel(f"share of the discovered {run.units} that are found again on a crop", fontsize=8)
        for panel, method in zip(_row(below, len(methods), labels), methods, strict=True):
            _confusion_panel(panel, run, method, truths)
            panel.set_title(_method(method).replace(" and ", "\nand ").replace(" on ", "\non "))
        below.supxlabel("answer", fontsize=8)
    return figure


def _row(figure: SubFigure, columns: int, labels: Sequence[str]) -> list[Axes]:
    """Panels with a line for each kind of input."""
    panels = list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    panels[0].set_ylabel("input")
    return panels


def _overlap_panel(panel: Axes, run: RunFolder, name: str, truths: Sequence[str]) -> None:
    """A dot per crop, a line of dots per input; dashed the threshold of this degradation."""
    for place, truth in enumerate(truths):
        overlaps = numbers(select(run.table("prediction_overlaps"), truth=truth), f"overlap/{name}")
        heights = place + 0.28 * np.sin(2.4 * np.arange(len(overlaps)))  # apart, and the same in every drawing
        colour = input_colour(run.degradations, truth)
        panel.scatter(overlaps, heights, s=9, color=colour, alpha=0.75, linewidths=0)
    threshold = run.metrics.get(f"prediction/threshold/{name}")
    if threshold is not None:
        panel.axvline(threshold, color=INK, linewidth=0.9, linestyle="--")
    panel.set_xlim(0, 1)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _confusion_panel(panel: Axes, run: RunFolder, method: str, truths: Sequence[str]) -> None:
    """Rows = true input, columns = prediction; the shade is the share of the row."""
    answers = unique(run.table("prediction"), "predicted")
    found = {
        (str(row["truth"]), str(row["predicted"])): round(number_at(row, "count") or 0)
        for row in select(run.table("prediction"), method=method)
    }
    counts = np.array([[found.get((truth, answer), 0) for answer in answers] for truth in truths])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    panel.set_xticks(range(len(answers)), [degraded(answer) for answer in answers])
    panel.tick_params(axis="x", rotation=30 if len(answers) > _UPRIGHT else 0)
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    for (row, column), times in np.ndenumerate(counts):
        panel.text(
            column, row, str(times), ha="center", va="center", fontsize=9,
            fontweight="bold" if truths[row] == answers[column] else "normal",
            color="white" if shares[row, column] > 0.6 else INK,
        )  # fmt: skip


def _table(run: RunFolder) -> Table:
    rows = []
    for method in unique(run.table("prediction_accuracy"), "method"):
        balanced, accuracy = (_accuracy(run, method, measure) for measure in ("balanced_accuracy", "accuracy"))
        fitted = f"{count(number_at(accuracy, 'fitted_crops'))} crops, {accuracy['fitted_on']}"
        rows.append([sentence_case(_method(method)), _shown(balanced), _shown(accuracy), fitted])
    head = ["Method", f"{sentence_case(_either(run))}?", "Clean as well?", "Calibrated or trained on"]
    return Table(head, rows)


SECTION = Section(
    name="prediction",
    order=40,
    title="Do the {units} tell what an input suffers from?",
    link="Prediction",
    method=(
        "For an input without ground truth the target's own output takes its place: the path integral from baseline "
        "to target then tells which {units} work on this input. Their overlap with the discovered {units} of each "
        "degradation names the degradation (top-k overlap); an input is called clean when no overlap passes its "
        "threshold, which was set on probe crops. Beside it are two comparison methods that look for the degradation "
        "directly, "
        "both fitted to labelled crops: thresholds on noise level and sharpness of the input alone, and a linear "
        "classifier of the target's mean features."
    ),
    sentence=_sentence,
    figure=_figure,
    alt=(
        "Above: dots of overlap with each set of discovered {units}, a line of dots per kind of input. "
        "Below: confusion matrices of three predictors"
    ),
    caption=(
        "Above: each dot is one held-out crop; dashed, the threshold from the probe. Below: how often each input (row) "
        "got each answer (column), clean allowed; bold: right. A mix has no single right answer."
    ),
    table=_table,
    note=(
        "No predictor is without a teacher: the discovered {units}, too, were found on probe images whose degradations "
        "are known. Every degradation has the severity of the training here; weaker ones are harder to tell from "
        "clean. Intervals resample held-out photographs; of fewer than 10 the range over them is given."
    ),
)
