"""Prediction of the degradation of an input from its most responsible filters, without ground truth (method.md §6).

Top-k overlap: the target's own output takes the place of the ground truth. The filters with the highest path integral
are compared with the discovered filters of each degradation. The study evaluates top-k overlap and two comparison
methods on held-out crops.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import Problem, Rule, discovered, integrate, quadrature
from faig_lab.data import CLEAN
from faig_lab.data.evaluation import paired_images
from faig_lab.errors import InputError
from faig_lab.evaluation.intervals import Floats
from faig_lab.evaluation.masking import TableRow
from faig_lab.evaluation.prediction import (
    Classifier,
    Crop,
    Guess,
    accuracies,
    choose_evenly,
    confusion,
    cut_crops,
    features,
    fit_linear,
    fit_thresholds,
    guess_metrics,
    image_numbers,
)
from faig_lab.filters import first_floating
from faig_lab.plotting.charts import matrix
from faig_lab.plotting.style import INK, drawing, input_colour, new_figure
from faig_lab.plotting.words import count, degraded, listed, removal, sentence_case, share, with_ends
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import frame, groups, numbers, over_photographs, records, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table

OVERLAP, ESTIMATOR, LINEAR = "overlap", "image_estimator", "linear_probe"

_SMALLEST = 8  # LR pixels per side that the image estimator needs.


def prediction(
    context: StudyContext,
    percent: Annotated[float, Field(gt=0, le=100)] = 3.0,
    points: Annotated[int, Field(ge=1)] = 4,
    *,
    crop: Annotated[int, Field(ge=16)] = 96,
    most: Annotated[int, Field(ge=1)] = 128,
    training_crops: Annotated[int, Field(ge=1)] = 64,
) -> StudyResult:
    """Predict the degradation of held-out crops by top-k overlap, by two numbers of the image and by a linear probe.

    Top-k overlap predicts the degradation with the largest overlap among those above their threshold, or "clean" if
    no overlap is above its threshold. The thresholds (`calibrate`) and the image estimator are calibrated on probe
    crops. The linear probe is trained on crops of the training photographs, or of the probe without such photographs.

    Args:
        context: networks, attribution and images; the discovered filters are those of the run's method.
        percent: the percent of the filters that are compared.
        points: of the Gauss–Legendre rule along the path.
        crop: side of the square crops in HR pixels; a smaller image is used whole.
        most: the largest number of held-out crops, and of probe crops.
        training_crops: about the number of crops for the linear probe.

    Returns:
        Tables `prediction` (method, truth, predicted, count; "clean" allowed), `prediction_overlaps` (image, truth,
        overlap/<D>) and `prediction_accuracy`; metrics `prediction/…`.
    """
    if crop // context.degradation.scale < _SMALLEST:
        needed = _SMALLEST * context.degradation.scale
        raise InputError("crop", f"{crop} HR pixels is too small; at least {needed}")
    names = context.attribution.degradations
    probe = choose_evenly(cut_crops(context.data.probe, crop, overlapping=True), most)
    held_out = choose_evenly(cut_crops(context.data.held_out, crop, overlapping=False), most)
    rule, sets = quadrature("gauss_legendre", points), context.discovered(context.method, percent)

    def overlap_rows(crops: Sequence[Crop], inputs: Sequence[str]) -> list[TableRow]:
        rows: list[TableRow] = []
        for one in crops:
            for truth in inputs:
                values = overlaps(top_filters(context.problem, one.inputs[truth], rule, percent), sets)
                row: TableRow = {"image": one.image, "truth": truth}
                rows.append(row | {f"overlap/{name}": value for name, value in values.items()})
            advance(one.image)
        return rows

    with context.bar("prediction", len(probe) + len(held_out)) as advance:
        on_probe = frame(overlap_rows(probe, (CLEAN, *names)))
        on_held_out = overlap_rows(held_out, tuple(held_out[0].inputs))
    thresholds: dict[str, float] = {}
    for name in names:
        degraded, clean = (numbers(select(on_probe, truth=truth), f"overlap/{name}") for truth in (name, CLEAN))
        thresholds[name] = calibrate(degraded, clean)
    guesses = []
    for row in on_held_out:
        values = {name: float(str(row[f"overlap/{name}"])) for name in names}
        forced = max(names, key=lambda name: values[name])
        guesses.append(Guess(OVERLAP, str(row["image"]), str(row["truth"]), decide(values, thresholds), forced))
    training, source = _training_crops(context, crop, training_crops, probe)
    for method, fit, vector, crops in (
        (ESTIMATOR, fit_thresholds, image_numbers, probe),
        (LINEAR, fit_linear, lambda lr: features(context.network, context.target, lr), training),
    ):
        guesses += _guesses(method, fit, vector, names=names, fitted_to=crops, crops=held_out)
    fitted = {OVERLAP: ("probe", len(probe)), ESTIMATOR: ("probe", len(probe)), LINEAR: (source, len(training))}
    scenes = {image.name: image.scene or image.name for image in context.data.held_out}
    accuracy = accuracies(guesses, names, fitted, scenes=scenes, seed=context.problem.seed)
    tables = {
        "prediction": confusion(guesses, names),
        "prediction_overlaps": on_held_out,
        "prediction_accuracy": accuracy,
    }
    limits: dict[str, float | None] = {f"prediction/threshold/{name}": value for name, value in thresholds.items()}
    return StudyResult(tables, guess_metrics(guesses, accuracy, names, main=OVERLAP) | limits)


def top_filters(problem: Problem, lr: Tensor, rule: Rule, percent: float) -> Tensor:
    """Find S_x: the top q % of filters by FAIG_f(x) = Σ|a_j|, with L(θ', x) = ‖F(θ', x) − F(θ, x)‖².

    Args:
        problem: network, θ̄ and θ.
        lr: (3, h, w), without ground truth.
        rule: the quadrature.
        percent: q.

    Returns:
        Flat indices, the strongest first.
    """
    batch = lr[None].to(first_floating(problem.target.values()))
    with torch.no_grad():
        reference = problem.compute.output(problem.network, problem.target, batch).to(batch.dtype)
    args = (problem.network, problem.baseline, problem.target, batch, reference, rule, problem.compute)
    attributions = integrate(*args).attributions
    strength = problem.layout.gather({name: values.abs() for name, values in attributions.items()})
    return discovered(strength.double().cpu(), percent)


def overlaps(top: Tensor, sets: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute |top ∩ S_D| / |S_D| for each set; 0 for an empty set."""
    return {name: int(torch.isin(s, top).sum()) / max(1, len(s)) for name, s in sets.items()}


def calibrate(degraded: Sequence[float], clean: Sequence[float]) -> float:
    """Find the threshold above which an overlap means "degraded": best balanced accuracy on these crops.

    Candidates are the middles between neighbouring values. Of equally good candidates the widest gap counts.

    Args:
        degraded: overlaps with S_D of crops that have D.
        clean: overlaps with S_D of clean crops.
    """
    values = np.unique([*degraded, *clean])
    candidates = [*((values[:-1] + values[1:]) / 2), values[-1]]
    gaps = [*np.diff(values), 0.0]

    def quality(index: int) -> tuple[float, float]:
        above = [np.mean(np.array(side) > candidates[index]) for side in (degraded, clean)]
        return float((above[0] + 1 - above[1]) / 2), float(gaps[index])

    return float(candidates[max(range(len(candidates)), key=quality)])


def decide(overlaps: Mapping[str, float], thresholds: Mapping[str, float]) -> str:
    """Return the degradation with the largest overlap above its threshold; "clean" where no overlap is above."""
    passing = {name: value for name, value in overlaps.items() if value > thresholds[name]}
    return max(passing, key=lambda name: passing[name]) if passing else CLEAN


def _guesses(
    method: str,
    fit: Callable[[Floats, Sequence[str]], Classifier],
    vector: Callable[[Tensor], Floats],
    *,
    names: Sequence[str],
    fitted_to: Sequence[Crop],
    crops: Sequence[Crop],
) -> list[Guess]:
    """Fit a classifier with "clean" and one without to labelled crops, and return their answers for other crops."""
    labels = [CLEAN, *names] * len(fitted_to)
    vectors = np.stack([vector(crop.inputs[name]) for crop in fitted_to for name in (CLEAN, *names)])
    degraded = np.array([label != CLEAN for label in labels])
    shown = [(crop, truth) for crop in crops for truth in crop.inputs]
    asked = np.stack([vector(crop.inputs[truth]) for crop, truth in shown])
    predicted = fit(vectors, labels)(asked)
    forced = fit(vectors[degraded], list(names) * len(fitted_to))(asked)
    return [
        Guess(method, crop.image, truth, *said) for (crop, truth), *said in zip(shown, predicted, forced, strict=True)
    ]


def _training_crops(context: StudyContext, crop: int, count: int, probe: list[Crop]) -> tuple[list[Crop], str]:
    """Return the crops that train the linear probe, and their source."""
    photographs = context.data.train[:count]
    if not photographs:
        return probe, "probe"
    images = paired_images(photographs, context.degradation, crop=crop, crops=-(-count // len(photographs)))
    return cut_crops(images, crop, overlapping=False), "training photographs"


_METHOD = {
    OVERLAP: "top-k overlap",
    ESTIMATOR: "noise level and sharpness",
    LINEAR: "linear probe on features",
}
_UPRIGHT = 3  # With more answers their names would overlap.


def _names(run: RunFolder) -> list[str]:
    """Return the degradations that can be predicted."""
    return [name for name in unique(run.table("prediction"), "predicted") if name != CLEAN]


def _method(method: str) -> str:
    return _METHOD.get(method, method.replace("_", " "))


def _accuracies(run: RunFolder, method: str) -> list[dict[str, Any]]:
    """Return the rows of balanced accuracy and accuracy of a predictor; a row is empty without this measure."""
    rows = {row["measure"]: row for row in records(select(run.table("prediction_accuracy"), method=method))}
    return [rows.get(measure, {}) for measure in ("balanced_accuracy", "accuracy")]


def _shown(row: Mapping[str, Any]) -> str:
    """Return a value with its interval as text, e.g. `98 % (92 % to 100 %)`."""
    return with_ends([row.get(column) for column in ("value", "low", "high")], share)


def _either(run: RunFolder) -> str:
    """Return the degradations as text, e.g. `blurred or noisy`."""
    return listed([degraded(name) for name in _names(run)]).replace(" and ", " or ")


def _sentence(run: RunFolder) -> str:
    balanced, clean = _accuracies(run, OVERLAP)
    between = f"{_shown(balanced)} of the answers between {_either(run)} are right (balanced accuracy)"
    parts = [*([between] if balanced else []), f"{_shown(clean)} with clean as a further answer"]
    ends = over_photographs(select(run.table("prediction_accuracy"), method=OVERLAP, measure="accuracy"))
    return (
        f"Top-k overlap on {count(clean.get('inputs'))} inputs from {count(clean.get('photographs'))} held-out "
        f"photographs: {listed(parts)}. The brackets hold the {ends}."
    )


@drawing()
def _figure(run: RunFolder) -> Figure | None:
    names, truths = _names(run), unique(run.table("prediction"), "truth")
    methods = groups(run.table("prediction"), "method")
    if not names:
        return None
    labels = [degraded(truth).replace(" and ", "\nand ") for truth in truths]
    heights = [0.6 + 0.26 * len(truths), 0.85 + 0.3 * len(truths)]
    figure = new_figure(sum(heights) + 0.4)
    (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)
    for panel, name in zip(_row(above, len(names), labels), names, strict=True):
        _overlap_panel(panel, run, name, truths)
        panel.set_title(f"{removal(name)} set")
    above.supxlabel(f"overlap: share of the discovered {run.units} in the top set of a crop", fontsize=8)
    for panel, (method, rows) in zip(_row(below, len(methods), labels), methods.items(), strict=True):
        _confusion_panel(panel, rows)
        panel.set_title(_method(method).replace(" and ", "\nand ").replace(" on ", "\non "))
    below.supxlabel("answer", fontsize=8)
    return figure


def _row(figure: SubFigure, columns: int, labels: Sequence[str]) -> list[Axes]:
    """Return panels with a row for each input."""
    panels = list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    panels[0].set_ylabel("input")
    return panels


def _overlap_panel(panel: Axes, run: RunFolder, name: str, truths: Sequence[str]) -> None:
    """Draw a dot per crop and a row of dots per input; the dashed line is the threshold of this degradation."""
    for place, truth in enumerate(truths):
        overlaps = numbers(select(run.table("prediction_overlaps"), truth=truth), f"overlap/{name}")
        heights = place + 0.28 * np.sin(2.4 * np.arange(len(overlaps)))  # scattered, the same in every drawing
        colour = input_colour(run.degradations, truth)
        panel.scatter(overlaps, heights, s=9, color=colour, alpha=0.75, linewidths=0)
    threshold = run.metrics.get(f"prediction/threshold/{name}")
    if threshold is not None:
        panel.axvline(threshold, color=INK, linewidth=0.9, linestyle="--")
    panel.set_xlim(0, 1)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _confusion_panel(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw a matrix of true inputs (rows) and predictions (columns); the shade is the share of the row."""
    counts = rows.pivot_table("count", "truth", "predicted", fill_value=0, sort=False)
    shares = (counts.div(counts.sum(axis=1).clip(lower=1), axis=0)).to_numpy()
    right = counts.index.to_numpy()[:, None] == counts.columns.to_numpy()
    matrix(panel, shares, [[f"{times:.0f}" for times in row] for row in counts.to_numpy()], right, fontsize=9)
    panel.set_xticks(range(len(counts.columns)), [degraded(str(answer)) for answer in counts])
    panel.tick_params(axis="x", rotation=30 if len(counts.columns) > _UPRIGHT else 0)


def _table(run: RunFolder) -> Table:
    rows = []
    for method in unique(run.table("prediction_accuracy"), "method"):
        balanced, accuracy = _accuracies(run, method)
        fitted = f"{count(accuracy['fitted_crops'])} crops, {accuracy['fitted_on']}"
        rows.append([sentence_case(_method(method)), _shown(balanced), _shown(accuracy), fitted])
    head = ["Method", f"{sentence_case(_either(run))}?", "Clean as well?", "Calibrated or trained on"]
    return Table(head, rows)


SECTION = Section(
    name="prediction",
    order=40,
    title="Do the {units} predict the degradation of an input?",
    link="Prediction",
    method=(
        "For an input without ground truth, the target's own output takes the place of the ground truth. The path "
        "integral from baseline to target then shows which {units} act on this input. The prediction is the "
        "degradation whose discovered {units} have the largest overlap with these {units} (top-k overlap). An input is "
        "predicted clean if no overlap is above its threshold, which is set on probe crops. Two comparison methods "
        "predict the degradation directly, both fitted to labelled crops: thresholds on noise level and sharpness of "
        "the input alone, and a linear classifier of the target's mean features."
    ),
    sentence=_sentence,
    figure=_figure,
    alt=(
        "Above: dots of overlap with each set of discovered {units}, a row of dots per input. "
        "Below: confusion matrices of three predictors"
    ),
    caption=(
        "Above: each dot is one held-out crop; the dashed line is the threshold from the probe. Below: the number of "
        "times that each input (row) got each answer (column), with clean allowed; right answers are bold. A mix has "
        "no single right answer."
    ),
    table=_table,
    note=(
        "Every predictor uses labels: the discovered {units}, too, come from probe images with known degradations. "
        "Every degradation has the severity of the training; weaker degradations are harder to distinguish from clean. "
        "Intervals resample held-out photographs; with fewer than 10 photographs the range over photographs is given."
    ),
)
