"""Rivals for degradation prediction: two numbers of the image alone, and a linear probe on features.

Both are classifiers of short vectors that are fitted to labelled crops.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from faig_lab.networks import FilterLayout, State, evaluate, first_floating

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
