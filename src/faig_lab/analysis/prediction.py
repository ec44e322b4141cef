"""Which degradation does an input suffer from? Named by the filters that work on it, without ground truth (§6).

Top-k overlap: the target's own output stands in for the ground truth, the filters that the path integral then ranks
highest are compared with the discovered ones of each degradation. Judged on held-out crops beside two rivals.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from faig_lab.analysis.crops import Crop, cut_crops, spread
from faig_lab.analysis.estimators import (
    Classifier,
    Vectors,
    features,
    fit_linear,
    fit_thresholds,
    image_numbers,
)
from faig_lab.analysis.guesses import Guess, accuracies, confusion, guess_metrics
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.attribution import Problem, Rule, discovered, integrate, quadrature
from faig_lab.data import CLEAN
from faig_lab.data.evaluation import paired_images
from faig_lab.errors import UserError
from faig_lab.networks import first_floating

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
    subject: Subject,
    percent: Annotated[float, Field(gt=0, le=100)] = 3.0,
    points: Annotated[int, Field(ge=1)] = 4,
    crop: Annotated[int, Field(ge=16)] = 96,
    most: Annotated[int, Field(ge=1)] = 128,
    training_crops: Annotated[int, Field(ge=1)] = 64,
) -> Findings:
    """Predict the degradation of held-out crops by top-k overlap, by two numbers of the image and by a linear probe.

    Top-k overlap names the degradation with the largest overlap among those that pass their threshold, and "clean"
    when none does. A threshold is calibrated on probe crops (`calibrate`), and so is the image estimator; the linear
    probe is trained on crops of the training photographs, or of the probe where the source has none.

    Args:
        subject: what is analysed; the discovered filters are those of its method.
        percent: how many filters are compared.
        points: of the Gauss–Legendre rule along the path.
        crop: side of the square crops in HR pixels; a smaller image is used whole.
        most: at most so many held-out crops, spread evenly; as many of the probe.
        training_crops: about so many crops for the linear probe.

    Returns:
        Tables `prediction` (method, truth, predicted, count; "clean" allowed), `prediction_overlaps` (image, truth,
        overlap/<D>) and `prediction_accuracy`; metrics `prediction/…`.
    """
    if crop // subject.degradation.scale < _SMALLEST:
        needed = _SMALLEST * subject.degradation.scale
        raise UserError(f"analysis.studies.prediction.crop: {crop} HR pixels is too small; at least {needed}")
    names = subject.attribution.degradations
    probe = spread(cut_crops(subject.data.probe, crop, overlapping=True), most)
    held_out = spread(cut_crops(subject.data.held_out, crop, overlapping=False), most)
    scores = subject.attribution.scores[subject.method][0]
    sets = {name: discovered(row, percent) for name, row in zip(names, scores, strict=True)}
    by_overlap = TopOverlap(subject.problem, quadrature("gauss_legendre", points), percent, sets)
    with subject.bar("prediction", len(probe) + len(held_out)) as advance:
        known = _overlap_rows(by_overlap, probe, (CLEAN, *names), advance)
        found = _overlap_rows(by_overlap, held_out, tuple(held_out[0].inputs), advance)
    thresholds = {n: calibrate(_of(known, n, n), _of(known, CLEAN, n)) for n in names}
    guesses = _overlap_guesses(found, thresholds)
    training, source = _training_crops(subject, crop, training_crops, probe)
    rivals = {
        ESTIMATOR: _learned(probe, names, image_numbers, fit_thresholds),
        LINEAR: _learned(training, names, lambda lr: features(subject.network, subject.target, lr), fit_linear),
    }
    for method, predictor in rivals.items():
        guesses += _guess(method, predictor, held_out)
    fitted = {OVERLAP: ("probe", len(probe)), ESTIMATOR: ("probe", len(probe)), LINEAR: (source, len(training))}
    scenes = {image.name: image.scene or image.name for image in subject.data.held_out}
    accuracy = accuracies(guesses, names, fitted, scenes, subject.problem.seed)
    tables = {"prediction": confusion(guesses, names), "prediction_overlaps": found, "prediction_accuracy": accuracy}
    limits: dict[str, float | None] = {f"prediction/threshold/{name}": value for name, value in thresholds.items()}
    return Findings(tables, guess_metrics(guesses, accuracy, names, main=OVERLAP) | limits)


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


def _training_crops(subject: Subject, crop: int, count: int, probe: list[Crop]) -> tuple[list[Crop], str]:
    """Crops to train the linear probe on, and where they are from."""
    photographs = subject.data.train[:count]
    if not photographs:
        return probe, "probe"
    images = paired_images(photographs, subject.degradation, crop=crop, crops=-(-count // len(photographs)))
    return cut_crops(images, crop, overlapping=False), "training photographs"


def _guess(method: str, predictor: Predictor, crops: Sequence[Crop]) -> list[Guess]:
    shown = [(crop, truth) for crop in crops for truth in crop.inputs]
    predicted, forced = predictor([crop.inputs[truth] for crop, truth in shown])
    return [
        Guess(method, crop.image, truth, *names) for (crop, truth), *names in zip(shown, predicted, forced, strict=True)
    ]
