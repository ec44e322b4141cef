"""Prediction of the degradation of crops without ground truth: crops, accuracies, features and classifiers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faig_lab.data import CLEAN, PairedImage
from faig_lab.evaluation.features import last_layer, layer_input
from faig_lab.evaluation.intervals import Floats, scene_interval
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import State


@dataclass(frozen=True, eq=False)
class Crop:
    """The inputs of one part of an image, without ground truth, so that no predictor can read the ground truth."""

    image: str
    inputs: dict[str, Tensor]


def cut_crops(images: Sequence[PairedImage], crop: int, *, overlapping: bool) -> list[Crop]:
    """Cut the inputs of images into square crops, evenly over each image.

    Args:
        images: paired images; their inputs are cut, not computed again.
        crop: side in HR pixels, rounded down to a multiple of the scale; a smaller image is used whole along that axis.
        overlapping: as many crops as cover the image; else as many as fit side by side.
    """
    crops = []
    for image in images:
        height, width = image.lr[CLEAN].shape[-2:]
        size = (min(height, crop // image.scale), min(width, crop // image.scale))
        crops += [
            Crop(image.name, {n: lr[:, y : y + size[0], x : x + size[1]] for n, lr in image.lr.items()})
            for y in _places(height, size[0], overlapping)
            for x in _places(width, size[1], overlapping)
        ]
    return crops


def choose_evenly(crops: Sequence[Crop], most: int) -> list[Crop]:
    """Choose at most `most` of the crops, at even distances in their order."""
    chosen = np.unique(np.linspace(0, len(crops) - 1, min(most, len(crops))).round().astype(int))
    return [crops[i] for i in chosen]


def _places(length: int, size: int, overlapping: bool) -> list[int]:
    count = -(-length // size) if overlapping else length // size
    return [int(place) for place in np.linspace(0, length - size, count).round()]


ACCURACY, BALANCED = "accuracy", "balanced_accuracy"
"""Accuracy on clean input and each degradation with the answer "clean" allowed, and on the degradations by `forced`."""


@dataclass(frozen=True)
class Guess:
    """The answer of one predictor for one input.

    Attributes:
        method: the predictor's name.
        image: the image that the input was cut from; crops of one image are not independent.
        truth: the input: "clean", a degradation, or a mix.
        predicted: "clean" or a degradation.
        forced: the answer among the degradations alone.
    """

    method: str
    image: str
    truth: str
    predicted: str
    forced: str


def confusion(guesses: Sequence[Guess], names: Sequence[str]) -> list[TableRow]:
    """Return rows of method, truth, predicted, count for every possible answer."""
    counts = Counter((guess.method, guess.truth, guess.predicted) for guess in guesses)
    questions = dict.fromkeys((guess.method, guess.truth) for guess in guesses)
    return [
        {"method": method, "truth": truth, "predicted": answer, "count": counts[method, truth, answer]}
        for method, truth in questions
        for answer in (CLEAN, *names)
    ]


def accuracies(
    guesses: Sequence[Guess],
    names: Sequence[str],
    fitted: Mapping[str, tuple[str, int]],
    *,
    scenes: Mapping[str, str],
    seed: int,
) -> list[TableRow]:
    """Compute the accuracy of each method with its interval over photographs.

    A mix has no single right answer and is left out. Whole photographs are drawn with all of their crops.

    Args:
        guesses: of all methods.
        names: the degradations; a single degradation has no balanced accuracy.
        fitted: method → the source and the number of the crops that it was calibrated or trained on.
        scenes: image → scene; images of one scene are not independent.
        seed: of the bootstrap.

    Returns:
        Rows of method, measure, fitted_on, fitted_crops, images, photographs, inputs, value, low, high, interval (the
        kind of low and high). Both measures are means over the true classes of the share that is right.
    """
    rows: list[TableRow] = []
    for method, (source, crops) in fitted.items():
        for measure, classes in ((ACCURACY, (CLEAN, *names)), (BALANCED, tuple(names))):
            asked = [guess for guess in guesses if guess.method == method and guess.truth in classes]
            if len(classes) > 1:
                shown = [scenes[guess.image] for guess in asked]
                right = [(guess.forced if measure == BALANCED else guess.predicted) == guess.truth for guess in asked]
                accuracy = balanced_accuracy([guess.truth for guess in asked], right, shown, seed=seed)
                row: TableRow = {"method": method, "measure": measure, "fitted_on": source, "fitted_crops": crops}
                row["images"] = len({guess.image for guess in asked})
                rows.append(row | {"photographs": len(set(shown)), "inputs": len(asked)} | accuracy)
    return rows


def balanced_accuracy(
    classes: Sequence[str], right: Sequence[bool], scenes: Sequence[str], *, seed: int, number: int = 1000
) -> TableRow:
    """Compute the mean over the classes of the share of right answers, with its interval over scenes.

    Args:
        classes: (N,) true class of each input.
        right: (N,) whether the answer is right.
        scenes: (N,) scene of each input.
        seed: of the bootstrap.
        number: of resamples.

    Returns:
        value, low, high, interval.
    """
    names = list(dict.fromkeys(classes))
    hits = np.zeros((len(classes), len(names), 2))  # of each class right answers and inputs
    for position, (name, correct) in enumerate(zip(classes, right, strict=True)):
        hits[position, names.index(name)] = correct, 1

    def mean_recall(means: Floats) -> Floats:
        correct, asked = np.moveaxis(means, -1, 0)
        return np.asarray((correct / asked).mean(axis=-1))

    interval = scene_interval(hits, scenes, mean_recall, seed=seed, number=number)
    return {"value": float(mean_recall(hits.mean(0)))} | interval.row()


def guess_metrics(
    guesses: Sequence[Guess], accuracy: Sequence[TableRow], names: Sequence[str], main: str
) -> dict[str, float | None]:
    """Return `prediction/<measure>` with `…_low` and `…_high` of the main method, `prediction/<method>/…` of others.

    `prediction/mixed/<input>/<D>` is how often the main method answers D for a mix.
    """
    metrics: dict[str, float | None] = {}
    for row in accuracy:
        name = str(row["measure"]) if row["method"] == main else f"{row['method']}/{row['measure']}"
        for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            metrics[f"prediction/{name}{suffix}"] = None if row[key] is None else float(str(row[key]))
    of_main = [guess for guess in guesses if guess.method == main]
    for mix in dict.fromkeys(guess.truth for guess in of_main if guess.truth not in (CLEAN, *names)):
        answers = [guess.predicted for guess in of_main if guess.truth == mix]
        metrics |= {f"prediction/mixed/{mix}/{name}": answers.count(name) / len(answers) for name in (CLEAN, *names)}
    return metrics


Classifier = Callable[[Floats], list[str]]
"""(n, d) vectors → n names."""

_IMMERKAER = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
_LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
_BINOMIAL = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
_EMPTY = 1e-8  # A flat image has no contrast to compare detail with.


def noise_level(image: Tensor) -> float:
    """Estimate the standard deviation of white noise by Immerkær's mask (1996): √(π/2) · mean |I * N| / 6.

    N is the difference of two Laplacians, which is 0 on any quadratic surface. Texture counts as noise.

    Args:
        image: (C, h, w) in [0, 1], at least 3×3.

    Returns:
        As a fraction of the range, mean over channels; the expectation is exact for Gaussian noise alone.
    """
    return float(np.sqrt(np.pi / 2) / 6 * _filtered(image.double(), _IMMERKAER).abs().mean())


def sharpness(image: Tensor) -> float:
    """Measure fine detail after smoothing: (variance of the Laplacian − share of the noise) / variance.

    Args:
        image: (C, h, w) in [0, 1], at least 5×5.

    Returns:
        A number >= 0 of the grey image; it falls with blur and does not change with contrast.
    """
    grey = image.double().mean(0, keepdim=True)
    smooth = _filtered(grey, _BINOMIAL)
    noise = noise_level(grey) ** 2 * _energy_of_smoothed_laplacian()
    detail = _filtered(smooth, _LAPLACIAN).var(correction=0) - noise
    return float(detail.clamp_min(0) / (smooth.var(correction=0) + _EMPTY))


def image_numbers(image: Tensor) -> Floats:
    """Return (2,) noise level and sharpness of an LR image."""
    return np.array([noise_level(image), sharpness(image)])


def features(network: nn.Module, state: State, image: Tensor) -> Floats:
    """Compute the mean over all places of the input of a network's last layer: one number per channel.

    Args:
        network: the module; its own weights do not matter.
        state: the weights to use.
        image: LR (3, h, w).
    """
    layer = last_layer(network)
    values = layer_input(network, state, image, layer)
    last = network.get_submodule(layer)
    channel = values.ndim - 1 if isinstance(last, nn.Linear) else 1
    return values.movedim(channel, 0).flatten(1).mean(1).double().cpu().numpy()


def fit_thresholds(vectors: Floats, labels: Sequence[str]) -> Classifier:
    """Fit thresholds on single numbers: a decision tree with one leaf per name, each cut in the middle of its gap."""
    from sklearn.tree import DecisionTreeClassifier

    leaves = max(2, len(set(labels)))
    return _fitted(DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0), vectors, labels)


def fit_linear(vectors: Floats, labels: Sequence[str]) -> Classifier:
    """Fit a logistic regression (L2, C = 1) on vectors scaled to unit variance."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _fitted(make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000)), vectors, labels)


def _fitted(model: Any, vectors: Floats, labels: Sequence[str]) -> Classifier:
    """Fit the model and return its prediction; a single name needs no model."""
    if len(set(labels)) == 1:
        return lambda vectors: [labels[0]] * len(vectors)
    model.fit(vectors, np.array(labels))
    return lambda vectors: [str(name) for name in model.predict(vectors)]


def _filtered(image: Tensor, kernel: Tensor) -> Tensor:
    """Filter every channel with the 3×3 kernel without padding: (C, h, w) → (C, h − 2, w − 2)."""
    return F.conv2d(image[:, None], kernel[None, None])[:, 0]


def _energy_of_smoothed_laplacian() -> float:
    """Variance of the Laplacian of smoothed white noise of variance 1: the energy of the combined kernel."""
    kernel = F.conv2d(F.pad(_BINOMIAL[None, None], (2, 2, 2, 2)), _LAPLACIAN[None, None])
    return float(kernel.square().sum())
