"""Crops of paired images without their ground truth: what a prediction has to do with."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from faig_lab.data import CLEAN, PairedImage
from faig_lab.evaluation.intervals import scene_interval
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import FilterLayout, State, evaluate, first_floating


@dataclass(frozen=True, eq=False)
class Crop:
    """The inputs of one part of an image. There is no ground truth in it, so nothing that predicts can see one."""

    image: str
    inputs: dict[str, Tensor]


def cut_crops(images: Sequence[PairedImage], crop: int, *, overlapping: bool) -> list[Crop]:
    """Cut the inputs of images into square crops, spread evenly over each image.

    Args:
        images: with their inputs at hand, so nothing is degraded anew.
        crop: side in HR pixels, cut down to a multiple of the scale; a smaller image is used whole along that axis.
        overlapping: as many as cover the image; else as many as fit side by side.
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


def spread(crops: Sequence[Crop], most: int) -> list[Crop]:
    """At most `most` of them, evenly spread."""
    chosen = np.unique(np.linspace(0, len(crops) - 1, min(most, len(crops))).round().astype(int))
    return [crops[i] for i in chosen]


def _places(length: int, size: int, overlapping: bool) -> list[int]:
    count = -(-length // size) if overlapping else length // size
    return [int(place) for place in np.linspace(0, length - size, count).round()]


ACCURACY, BALANCED = "accuracy", "balanced_accuracy"
"""Clean and each degradation alone, "clean" allowed; and the degradations alone, told apart by `forced`."""


@dataclass(frozen=True)
class Guess:
    """What one predictor said of one input.

    Attributes:
        method: the predictor's name.
        image: what the input was cut from; crops of one image are not independent.
        truth: the input: "clean", a degradation, or a mix.
        predicted: "clean" or a degradation.
        forced: its choice among the degradations alone.
    """

    method: str
    image: str
    truth: str
    predicted: str
    forced: str


def confusion(guesses: Sequence[Guess], names: Sequence[str]) -> list[TableRow]:
    """Rows of method, truth, predicted, count, for every answer that there can be."""
    counts = Counter((guess.method, guess.truth, guess.predicted) for guess in guesses)
    asked = dict.fromkeys((guess.method, guess.truth) for guess in guesses)
    return [
        {"method": method, "truth": truth, "predicted": answer, "count": counts[method, truth, answer]}
        for method, truth in asked
        for answer in (CLEAN, *names)
    ]


def accuracies(
    guesses: Sequence[Guess],
    names: Sequence[str],
    fitted: Mapping[str, tuple[str, int]],
    scenes: Mapping[str, str],
    seed: int,
) -> list[TableRow]:
    """Accuracy of each method with its interval over photographs.

    A mix has no right answer and is left out. Whole photographs are drawn, with all of their crops.

    Args:
        guesses: of all methods.
        names: the degradations; with one there is nothing to tell apart, and no balanced accuracy.
        fitted: method → which crops it was calibrated or trained on, and how many.
        scenes: image → what it shows; images of one scene are not independent.
        seed: of the bootstrap.

    Returns:
        Rows of method, measure, fitted_on, fitted_crops, images, photographs, inputs, value, low, high,
        interval (what low and high are the ends of). Both measures
        are means over the true classes of the share that is right (balanced).
    """
    rows: list[TableRow] = []
    for method, (source, crops) in fitted.items():
        own = [guess for guess in guesses if guess.method == method]
        for measure, classes in ((ACCURACY, (CLEAN, *names)), (BALANCED, tuple(names))):
            if len(classes) > 1:
                what: TableRow = {"method": method, "measure": measure, "fitted_on": source, "fitted_crops": crops}
                counts: TableRow = {"images": len({guess.image for guess in own})}
                rows.append(what | counts | _accuracy(_hits(own, classes, measure, scenes), seed))
    return rows


def guess_metrics(
    guesses: Sequence[Guess], accuracy: Sequence[TableRow], names: Sequence[str], main: str
) -> dict[str, float | None]:
    """`prediction/<measure>` with `…_low` and `…_high` of the main method, `prediction/<method>/<measure>` of others.

    And `prediction/mixed/<input>/<D>`: how often the main method calls a mix D.
    """
    metrics: dict[str, float | None] = {}
    for row in accuracy:
        name = str(row["measure"]) if row["method"] == main else f"{row['method']}/{row['measure']}"
        for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            metrics[f"prediction/{name}{suffix}"] = None if row[key] is None else float(str(row[key]))
    own = [guess for guess in guesses if guess.method == main]
    for mix in dict.fromkeys(guess.truth for guess in own if guess.truth not in (CLEAN, *names)):
        said = [guess.predicted for guess in own if guess.truth == mix]
        metrics |= {f"prediction/mixed/{mix}/{name}": said.count(name) / len(said) for name in (CLEAN, *names)}
    return metrics


def _hits(
    guesses: Sequence[Guess], classes: Sequence[str], measure: str, scenes: Mapping[str, str]
) -> NDArray[np.float64]:
    """(photographs, classes, 2): how many inputs of a class were named rightly, and how many there are."""
    shown = list(dict.fromkeys(scenes[guess.image] for guess in guesses))
    hits = np.zeros((len(shown), len(classes), 2))
    for guess in guesses:
        if guess.truth in classes:
            said = guess.forced if measure == BALANCED else guess.predicted
            hits[shown.index(scenes[guess.image]), classes.index(guess.truth)] += (said == guess.truth, 1)
    return hits


def _accuracy(hits: NDArray[np.float64], seed: int) -> TableRow:
    def mean_recall(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        right, asked = np.moveaxis(drawn, -1, 0)
        return np.asarray((right / asked).mean(axis=-1))

    low, high, kind = scene_interval(hits, [*map(str, range(len(hits)))], mean_recall, seed=seed)
    counts: TableRow = {"photographs": len(hits), "inputs": int(hits[..., 1].sum())}
    ends: TableRow = {name: None if np.isnan(end) else float(end) for name, end in (("low", low), ("high", high))}
    return counts | {"value": float(mean_recall(hits.mean(0)))} | ends | {"interval": kind}


Vectors = NDArray[np.float64]
Classifier = Callable[[Vectors], list[str]]
"""(n, d) vectors → n names."""

_IMMERKAER = torch.tensor([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
_LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
_BINOMIAL = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
_EMPTY = 1e-8  # A flat image has no contrast to compare detail with.


def noise_level(image: Tensor) -> float:
    """The standard deviation of white noise by Immerkær's mask (1996): √(π/2) · mean |I * N| / 6.

    N is the difference of two Laplacians, which is 0 on any quadratic surface; texture is taken for noise.

    Args:
        image: (C, h, w) in [0, 1], at least 3×3.

    Returns:
        As a fraction of the range, mean over channels; the expectation is exact for Gaussian noise alone.
    """
    return float(np.sqrt(np.pi / 2) / 6 * _filtered(image.double(), _IMMERKAER).abs().mean())


def sharpness(image: Tensor) -> float:
    """Fine detail after smoothing: variance of the Laplacian, less what noise of that level adds, over the variance.

    Args:
        image: (C, h, w) in [0, 1], at least 5×5.

    Returns:
        Of the grey image, >= 0; it falls with blur and does not change with contrast.
    """
    grey = image.double().mean(0, keepdim=True)
    smooth = _filtered(grey, _BINOMIAL)
    noise = noise_level(grey) ** 2 * _energy_of_smoothed_laplacian()
    detail = _filtered(smooth, _LAPLACIAN).var(correction=0) - noise
    return float(detail.clamp_min(0) / (smooth.var(correction=0) + _EMPTY))


def image_numbers(image: Tensor) -> Vectors:
    """(2,) noise level and sharpness of an LR image."""
    return np.array([noise_level(image), sharpness(image)])


def features(network: nn.Module, state: State, image: Tensor) -> Vectors:
    """The mean over all places of what the last layer of a network reads: one number per channel.

    Args:
        network: the module; its own weights do not matter.
        state: the weights to use.
        image: LR (3, h, w).
    """
    last = network.get_submodule(FilterLayout.of(network).layers[-1].name.rpartition(".")[0])
    read: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    try:
        with torch.no_grad():
            evaluate(network, state, image[None].to(first_floating(state.values())))
    finally:
        hook.remove()
    channel = read[-1].ndim - 1 if isinstance(last, nn.Linear) else 1
    return read[-1].movedim(channel, 0).flatten(1).mean(1).double().cpu().numpy()


def fit_thresholds(vectors: Vectors, labels: Sequence[str]) -> Classifier:
    """Thresholds on single numbers: a decision tree with one leaf per name, each cut in the middle of its gap."""
    from sklearn.tree import DecisionTreeClassifier

    leaves = max(2, len(set(labels)))
    return _fitted(DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0), vectors, labels)


def fit_linear(vectors: Vectors, labels: Sequence[str]) -> Classifier:
    """Logistic regression (L2, C = 1) on vectors scaled to unit variance."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _fitted(make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000)), vectors, labels)


def _fitted(model: Any, vectors: Vectors, labels: Sequence[str]) -> Classifier:
    """The model as a function; with one name there is nothing to fit."""
    if len(set(labels)) == 1:
        return lambda vectors: [labels[0]] * len(vectors)
    model.fit(vectors, np.array(labels))
    return lambda vectors: [str(name) for name in model.predict(vectors)]


def _filtered(image: Tensor, kernel: Tensor) -> Tensor:
    """(C, h, w) → (C, h − 2, w − 2): every channel with the 3×3 kernel, no padding."""
    return F.conv2d(image[:, None], kernel[None, None])[:, 0]


def _energy_of_smoothed_laplacian() -> float:
    """Variance of the Laplacian of smoothed white noise of variance 1: the energy of the two kernels in one."""
    kernel = F.conv2d(F.pad(_BINOMIAL[None, None], (2, 2, 2, 2)), _LAPLACIAN[None, None])
    return float(kernel.square().sum())
