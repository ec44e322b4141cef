"""Planted pairs (method.md §11): the true sets of filters, and measures of a ranking against the true sets."""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from faig_lab.attribution.scores import count_of
from faig_lab.data import sample_rng
from faig_lab.errors import InputError
from faig_lab.filters import FilterLayout, State


def planted_sets(
    layout: FilterLayout,
    degradations: Sequence[str],
    percent: float,
    seed: int,
    *,
    layers: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Draw a random set of filters for each degradation. The sets have one size and share no filter.

    Args:
        layout: the filters of the network.
        degradations: the degradations that get a set, in order.
        percent: the percent of all filters in each set.
        seed: the seed of the run; the same seed draws the same sets.
        layers: names of the layers that filters are drawn from, with * and ?; None: all layers.

    Returns:
        degradation → flat indices, ascending.

    Raises:
        InputError: a name fits no layer, a set is empty, or the layers have too few filters.
    """
    places = _places(layout, layers)
    count = count_of(percent, len(layout))
    if count == 0:
        least = math.ceil(1e6 / len(layout)) / 1e4
        raise InputError("percent", f"{percent:g} % of {len(layout)} filters is none; at least {least:g}")
    if count * len(degradations) > len(places):
        most = math.floor(1e6 * (len(places) // len(degradations)) / len(layout)) / 1e4
        raise InputError(
            "percent", f"{len(degradations)} sets of {count} filters do not fit into {len(places)}; at most {most:g}"
        )
    order = places[torch.from_numpy(sample_rng(seed, "planted").permutation(len(places)))]
    return {name: order[k * count : (k + 1) * count].sort().values for k, name in enumerate(degradations)}


def _places(layout: FilterLayout, layers: Sequence[str] | None) -> Tensor:
    """Return the flat indices of the filters of the named layers."""
    names = [layer.name.removesuffix(".weight") for layer in layout.layers]
    wanted = names if layers is None else layers
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError("layers", f"{pattern} fits no layer; the layers are {', '.join(names)}")
    inside = torch.tensor([any(fnmatchcase(name, pattern) for pattern in wanted) for name in names])
    return torch.nonzero(inside[layout.layer_of()]).flatten()


def average_precision(scores: Tensor, true: Tensor) -> float:
    """Compute the average precision of scores: Σ_n (R_n − R_{n−1}) P_n over the distinct scores, in descending order.

    P_n and R_n are precision and recall of all filters with at least the n-th highest score. So the order of filters
    with equal scores does not matter. 1 means that all true filters come first. If all scores are equal, the result is
    |true| / F, the chance level. The definition is that of `average_precision_score` of scikit-learn.

    Args:
        scores: (F,) higher = more responsible; finite.
        true: indices of the true filters, at least one.
    """
    hits, counts = _steps(scores, true)
    recall = hits / len(true)
    gained = torch.diff(recall, prepend=recall.new_zeros(1))
    return float((gained * hits / counts).sum())


def recall_at_count(scores: Tensor, true: Tensor) -> float:
    """Compute the share of the true filters that are among the |true| filters with the highest scores.

    If filters with equal scores are partly inside and partly outside of these filters, the result is the expected share
    over all orders of the equal filters.

    Args:
        scores: (F,) higher = more responsible; finite.
        true: indices of the true filters, at least one.
    """
    hits, counts = _steps(scores, true)
    ends = torch.searchsorted(counts, torch.tensor(float(len(true)), dtype=counts.dtype))
    before_hits, before = (float(values[ends - 1]) if ends else 0.0 for values in (hits, counts))
    share = (len(true) - before) / (float(counts[ends]) - before)
    return (before_hits + share * (float(hits[ends]) - before_hits)) / len(true)


def _steps(scores: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each distinct score in descending order, the numbers of true and of all filters with this or more."""
    order = torch.argsort(scores, descending=True, stable=True)
    ranked = scores[order]
    is_true = torch.zeros(len(scores), dtype=torch.float64)
    is_true[true] = 1
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool)])
    counts = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    return is_true[order].cumsum(0)[last], counts[last]


def changes(baseline: State, target: State, layout: FilterLayout) -> Tensor:
    """Return (F,) Σ|θ − θ̄| of each filter, computed in float64, on the CPU."""
    moved = {layer.name: (target[layer.name].double() - baseline[layer.name].double()).abs() for layer in layout.layers}
    return layout.gather(moved).cpu()
