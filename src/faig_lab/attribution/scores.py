"""From path integrals to scores and shares, and from scores to discovered filters. Pure functions of tensors."""

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from faig_lab.filters import FilterLayout

if TYPE_CHECKING:
    from faig_lab.attribution.probe import ProbeIntegral

KERNEL, OTHER = "kernel", "other"
"""What a share belongs to: the weight of a convolution or linear layer, or a bias or any other parameter."""

Contrast = Literal["mean", "max"]
"""What a degradation is told apart from: the mean or the maximum over the others."""


def others(single: Tensor, over: Contrast = "mean") -> Tensor:
    """Compute the mean or the maximum over the other rows, with which each row is contrasted.

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
    """Compute how many filters q % are: ⌊n·q/100⌋, as in the authors' code."""
    return math.floor(filters * percent / 100 + 1e-9)


def discovered(scores: Tensor, percent: float) -> Tensor:
    """Return the discovered filters: indices of the top q % of (F,) scores, in descending order."""
    return ranking(scores)[: count_of(percent, len(scores))]


def share_rows(integral: "ProbeIntegral", layout: FilterLayout) -> list[dict[str, object]]:
    """One row per degradation and parameter, ranked or not: its signed attribution over the probe, and its share.

    The shares of a degradation add up to 1, up to the completeness gap (method.md §4).

    Args:
        integral: of the probe.
        layout: what its units are.

    Returns:
        Rows of degradation, parameter, kind ("kernel": the weight of a convolution or linear layer, "other": a bias
        or any other parameter), weights (how many), attribution (Σ_x Σ_j a_j), share (of ΔL; None where ΔL is 0).
    """
    change = integral.loss_change.sum(0).tolist()
    ranked = torch.zeros(len(integral.degradations), len(layout.layers), dtype=integral.signed.dtype)
    ranked.index_add_(1, layout.layer_of(), integral.signed.sum(0))
    sums = torch.cat([ranked, integral.others.sum(0)], 1).tolist()
    return [
        {
            "degradation": name,
            "parameter": layer.name,
            "kind": KERNEL if layer.kernel else OTHER,
            "weights": layer.weights,
            "attribution": value,
            "share": value / change[k] if change[k] else None,
        }
        for k, name in enumerate(integral.degradations)
        for layer, value in zip((*layout.layers, *layout.others), sums[k], strict=True)
    ]


def share_metrics(rows: list[dict[str, object]]) -> dict[str, float | None]:
    """`share/<kernel|other>/<degradation>`: what all kernels and all other parameters carry.

    Args:
        rows: of `share_rows`.
    """
    total: dict[str, float | None] = {}
    for row in rows:
        share, key = row["share"], f"share/{row['kind']}/{row['degradation']}"
        if isinstance(share, float):
            total[key] = (total.get(key) or 0.0) + share
    return total
