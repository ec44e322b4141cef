"""What inputs and features tell about the degradation: features of a layer, their separation, crops, predictors."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faig_lab.data import CLEAN, PairedImage
from faig_lab.errors import InputError
from faig_lab.evaluation.intervals import Floats, Resampling, scene_interval
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import FilterLayout, State, evaluate, first_floating


def last_layer(network: nn.Module) -> str:
    """Return the name of the last layer that has filters, in the order of the state dict."""
    return FilterLayout.of(network).layers[-1].name.rpartition(".")[0]


def check_layer(network: nn.Module, layer: str) -> None:
    """Check that a network has a module of this name.

    Raises:
        InputError: there is no such module.
    """
    names = [name for name, _ in network.named_modules() if name]
    if layer not in names:
        near = get_close_matches(layer, names, 1, 0.0)
        raise InputError("layer", f"the network has no layer {layer!r}; nearest: {near[0] if near else 'none'}")


def layer_input(network: nn.Module, state: State, image: Tensor, layer: str) -> Tensor:
    """Return what a layer reads when the network restores one image, from the layer's last call.

    Args:
        network: the module; its own weights do not matter. It has no hook afterwards, also after an error.
        state: the weights to use.
        image: LR (3, h, w).
        layer: name of a module of the network.

    Returns:
        The first argument of the layer, with its batch axis.

    Raises:
        InputError: the network has no such layer, or never calls the layer.
    """
    check_layer(network, layer)
    read: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    try:
        with torch.no_grad():
            evaluate(network, state, image[None].to(first_floating(state.values())))
    finally:
        hook.remove()
    if not read:
        raise InputError("layer", f"the network never calls the layer {layer!r}; nearest: {last_layer(network)}")
    return read[-1]


def principal_components(vectors: Floats, components: int) -> Floats:
    """Compute the scores of the first principal components, by the inner products of the vectors.

    The memory is that of the vectors plus n × n numbers, however long the vectors are.

    Args:
        vectors: (n, d), any floating type; n at least 2.
        components: at most this many; there are at most n − 1.

    Returns:
        (n, components) float64, the largest variance first. The signs are scikit-learn's.
    """
    from sklearn.decomposition import KernelPCA

    centred = vectors - vectors.mean(0, dtype=np.float64).astype(vectors.dtype)
    products = np.zeros((len(vectors),) * 2)
    for start in range(0, vectors.shape[1], _COLUMNS):
        part = centred[:, start : start + _COLUMNS].astype(np.float64)
        products += part @ part.T
    number = min(components, len(vectors) - 1)
    fitted = KernelPCA(number, kernel="precomputed", eigen_solver="dense").fit_transform(products)
    return np.asarray(fitted, dtype=np.float64)


_COLUMNS = 2**16
"""Numbers of each vector that are converted to double precision at a time."""


def separation(points: Floats, labels: Sequence[Hashable]) -> float | None:
    """Compute the Calinski–Harabasz index: [B / (k − 1)] / [W / (n − k)], with k groups of n points.

    B is the dispersion of the groups' means around the mean of all points, weighted by the groups' sizes, and W the
    dispersion of the points around the mean of their group. The index does not change with scale or rotation.

    Args:
        points: (n, d).
        labels: (n,) the group of each point.

    Returns:
        0 where the groups have one mean, about 1 for labels given at random, large for groups that are far apart. None
        for one group, for groups of one point each, and where no group has any dispersion.
    """
    from sklearn.metrics import calinski_harabasz_score

    names, groups = np.unique([str(label) for label in labels], return_inverse=True)
    if not 1 < len(names) < len(points):
        return None
    within = sum(float(((points[groups == k] - points[groups == k].mean(0)) ** 2).sum()) for k in range(len(names)))
    return float(calinski_harabasz_score(points, groups)) if within > 0 else None


def embedding(points: Floats, seed: int) -> Floats:
    """Place points in the plane by t-SNE (perplexity 30, or a third of the points if there are fewer than 90).

    Args:
        points: (n, d).
        seed: the same seed gives the same places.

    Returns:
        (n, 2); with fewer than 4 points the first two coordinates.
    """
    from sklearn.manifold import TSNE

    points = np.pad(points, ((0, 0), (0, max(0, 2 - points.shape[1]))))
    if len(points) < 4:
        return points[:, :2]
    perplexity = min(30.0, (len(points) - 1) / 3)
    # The exact gradients are a matter of a second here, and give the same bits with any number of threads.
    placed = TSNE(2, perplexity=perplexity, init="pca", method="exact", random_state=seed).fit_transform(points)
    return np.asarray(placed, dtype=np.float64)


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

    interval = scene_interval([hits], scenes, mean_recall, Resampling(seed, number))
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
    # The variance of the Laplacian of smoothed white noise of variance 1 is the energy of the combined kernel.
    combined = F.conv2d(F.pad(_BINOMIAL[None, None], (2, 2, 2, 2)), _LAPLACIAN[None, None])
    noise = noise_level(grey) ** 2 * float(combined.square().sum())
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
