"""From path integrals to scores, and from scores to discovered filters. Pure functions of tensors."""

import math

import torch
from torch import Tensor


def contrast(single: Tensor) -> Tensor:
    """Score of each degradation minus the mean score of the others (method.md §3).

    For K = 2 the two rows are exact negatives of each other, so their top sets are disjoint by construction.

    Args:
        single: (…, K, F) score per degradation and filter.

    Returns:
        (…, K, F); `single` itself for K = 1, where there is nothing to contrast with.
    """
    count = single.shape[-2]
    if count == 1:
        return single
    # K = 2 as a plain difference: the sum over K minus a row would not be antisymmetric to the last bit.
    if count == 2:
        return single - single.flip(-2)
    return single - (single.sum(-2, keepdim=True) - single) / (count - 1)


def faig_scores(magnitude: Tensor) -> Tensor:
    """FAIG_f^D: mean over the probe of FAIG_f(x^D) − mean_{D'≠D} FAIG_f(x^{D'}).

    Args:
        magnitude: (I, K, F) Σ_{j∈f} |a_j(x^D)|.

    Returns:
        (K, F).
    """
    # Contrast last: the mean of differences would not be antisymmetric to the last bit for K = 2.
    return contrast(magnitude.mean(0))


def signed_share_scores(signed: Tensor, loss_change: Tensor) -> Tensor:
    """share_f^D − mean_{D'≠D} |share_f^{D'}|, with share_f^D = Σ_x Σ_{j∈f} a_j(x^D) / ΔL^D (method.md §4).

    Args:
        signed: (I, K, F) Σ_{j∈f} a_j(x^D).
        loss_change: (I, K) L(θ, x^D) − L(θ̄, x^D).

    Returns:
        (K, F). All filters and all other parameters have shares that add up to 1 for each degradation.
        A degradation whose loss does not change at all has shares of 0.
    """
    change = loss_change.sum(0)[:, None]
    share = torch.where(change == 0, 0.0, signed.sum(0) / torch.where(change == 0, 1.0, change))
    count = share.shape[0]
    if count == 1:
        return share
    size = share.abs()
    return share - (size.sum(0, keepdim=True) - size) / (count - 1)


def ranking(scores: Tensor) -> Tensor:
    """Filter indices by descending score (…, F) → (…, F); ties keep the order of the layout."""
    return torch.argsort(scores, dim=-1, descending=True, stable=True)


def count_of(percent: float, filters: int) -> int:
    """How many filters q % are: ⌊n·q/100⌋, as in the authors' code."""
    return math.floor(filters * percent / 100 + 1e-9)


def discovered(scores: Tensor, percent: float) -> Tensor:
    """The discovered filters: indices of the top q % of (F,) scores, in descending order."""
    return ranking(scores)[: count_of(percent, len(scores))]
