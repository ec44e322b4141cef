"""The features of a network: what one of its layers reads, and how well groups of feature vectors are separated."""

from collections.abc import Hashable, Sequence
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor, nn

from faig_lab.errors import InputError
from faig_lab.evaluation.intervals import Floats
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
