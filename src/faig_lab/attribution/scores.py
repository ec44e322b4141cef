"""From path integrals to scores, and from scores to discovered filters. Pure functions of tensors."""

import math
from typing import Literal

import torch
from torch import Tensor

Contrast = Literal["mean", "max"]
"""What a degradation is told apart from: the mean or the maximum over the others."""


def others(single: Tensor, over: Contrast = "mean") -> Tensor:
    """What each row is contrasted with: the mean or the maximum over the other rows.

    Args:
        single: (…, K, F) score per degradation and filter.
        over: mean or max; the same for K = 2, to the last bit.

    Returns:
        (…, K, F); zeros for K = 1, where there is nothing to contrast with.
    """
    count = single.shape[-2]
    if count == 1:
        return torch.zeros_like(single)
    # K = 2 as the other row itself: the sum over K minus a row would not be that to the last bit.
    if count == 2:
        return single.flip(-2)
    if over == "mean":
        return (single.sum(-2, keepdim=True) - single) / (count - 1)
    rest = [[other for other in range(count) if other != row] for row in range(count)]
    return torch.stack([single[..., rows, :].amax(-2) for rows in rest], -2)


def contrast(single: Tensor, over: Contrast = "mean") -> Tensor:
    """Score of each degradation minus the mean or maximum over the others (method.md §3).

    For K = 2 the two rows are exact negatives of each other, so their top sets are disjoint by construction.

    Args:
        single: (…, K, F) score per degradation and filter.
        over: mean or max.

    Returns:
        (…, K, F); `single` itself for K = 1.
    """
    return single - others(single, over)


def faig_scores(magnitude: Tensor, over: Contrast = "mean") -> Tensor:
    """FAIG_f^D: mean over the probe of FAIG_f(x^D) − mean_{D'≠D} FAIG_f(x^{D'}), or − max.

    Args:
        magnitude: (I, K, F) Σ_{j∈f} |a_j(x^D)|.
        over: mean or max; the maximum is taken image by image.

    Returns:
        (K, F).
    """
    if over == "mean" or magnitude.shape[-2] <= 2:
        # The contrast last: a mean of differences would not be antisymmetric to the last bit for K = 2.
        return contrast(magnitude.mean(0))
    return contrast(magnitude, over).mean(0)


def shares(values: Tensor, loss_change: Tensor) -> Tensor:
    """Σ_x values / ΔL^D, with ΔL^D = Σ_x [L(θ, x^D) − L(θ̄, x^D)] (method.md §4).

    Args:
        values: (I, K, F) for each probe image.
        loss_change: (I, K) L(θ, x^D) − L(θ̄, x^D).

    Returns:
        (K, F); 0 for a degradation whose loss does not change at all.
    """
    change = loss_change.sum(0)[:, None]
    return torch.where(change == 0, 0.0, values.sum(0) / torch.where(change == 0, 1.0, change))


def signed_share_scores(signed: Tensor, loss_change: Tensor, over: Contrast = "mean") -> Tensor:
    """share_f^D − mean_{D'≠D} |share_f^{D'}|, or − max, with share_f^D = Σ_x Σ_{j∈f} a_j(x^D) / ΔL^D (method.md §4).

    Args:
        signed: (I, K, F) Σ_{j∈f} a_j(x^D).
        loss_change: (I, K) L(θ, x^D) − L(θ̄, x^D).
        over: mean or max.

    Returns:
        (K, F). All filters and all other parameters have shares that add up to 1 for each degradation.
        A degradation whose loss does not change at all has shares of 0.
    """
    share = shares(signed, loss_change)
    return share - others(share.abs(), over)


def ranking(scores: Tensor) -> Tensor:
    """Filter indices by descending score (…, F) → (…, F); ties keep the order of the layout."""
    return torch.argsort(scores, dim=-1, descending=True, stable=True)


def count_of(percent: float, filters: int) -> int:
    """How many filters q % are: ⌊n·q/100⌋, as in the authors' code."""
    return math.floor(filters * percent / 100 + 1e-9)


def discovered(scores: Tensor, percent: float) -> Tensor:
    """The discovered filters: indices of the top q % of (F,) scores, in descending order."""
    return ranking(scores)[: count_of(percent, len(scores))]
