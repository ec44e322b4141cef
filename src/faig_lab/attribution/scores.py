"""Scores and shares from path integrals, and discovered filters from scores. All are pure functions of tensors."""

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from faig_lab.filters import FilterLayout

if TYPE_CHECKING:
    from faig_lab.attribution.probe import ProbeIntegral

KERNEL, OTHER = "kernel", "other"
"""Kinds of parameters: the weight of a convolution or linear layer; a bias or any other parameter."""

Contrast = Literal["mean", "max"]
"""The value that is subtracted from the value of a degradation: the mean or the maximum over the others."""


def others(single: Tensor, over: Contrast = "mean") -> Tensor:
    """Compute for each row the mean or the maximum over the other rows.

    Args:
        single: (…, K, F) score per degradation and filter.
        over: mean or max; both have the same bits for K = 2.

    Returns:
        (…, K, F); zeros for K = 1, since there are no other rows.
    """
    count = single.shape[-2]
    if count == 1:
        return torch.zeros_like(single)
    # For K = 2 the other row itself: the sum over K minus a row would differ from it in the last bits.
    if count == 2:
        return single.flip(-2)
    if over == "mean":
        return (single.sum(-2, keepdim=True) - single) / (count - 1)
    rest = [[other for other in range(count) if other != row] for row in range(count)]
    return torch.stack([single[..., rows, :].amax(-2) for rows in rest], -2)


def contrast(single: Tensor, over: Contrast = "mean") -> Tensor:
    """Compute the score of each degradation minus the mean or maximum over the others (method.md §3).

    For K = 2 the two rows are exact negatives of each other, so their top sets are disjoint by construction.

    Args:
        single: (…, K, F) score per degradation and filter.
        over: mean or max.

    Returns:
        (…, K, F); `single` itself for K = 1.
    """
    return single - others(single, over)


def faig_scores(magnitude: Tensor, over: Contrast = "mean") -> Tensor:
    """Compute FAIG_f^D: mean over the probe of FAIG_f(x^D) − mean_{D'≠D} FAIG_f(x^{D'}), or − max.

    Args:
        magnitude: (I, K, F) Σ_{j∈f} |a_j(x^D)|.
        over: mean or max; the maximum is taken image by image.

    Returns:
        (K, F).
    """
    if over == "mean" or magnitude.shape[-2] <= 2:
        # The mean is taken first: for K = 2 a mean of differences would not be antisymmetric in the last bits.
        return contrast(magnitude.mean(0))
    return contrast(magnitude, over).mean(0)


def ratio(values: Tensor, total: Tensor) -> Tensor:
    """Compute values / total; 0 where the total is 0."""
    return torch.where(total == 0, 0.0, values / torch.where(total == 0, 1.0, total))


def shares(values: Tensor, loss_change: Tensor) -> Tensor:
    """Compute Σ_x values / ΔL^D, with ΔL^D = Σ_x [L(θ, x^D) − L(θ̄, x^D)] (method.md §4).

    Args:
        values: (I, K, F) for each probe image.
        loss_change: (I, K) L(θ, x^D) − L(θ̄, x^D).

    Returns:
        (K, F); 0 for a degradation whose loss does not change at all.
    """
    return ratio(values.sum(0), loss_change.sum(0)[:, None])


def signed_share_scores(signed: Tensor, loss_change: Tensor, over: Contrast = "mean") -> Tensor:
    """Compute share_f^D − mean_{D'≠D} |share_f^{D'}|, with share_f^D = Σ_x Σ_{j∈f} a_j(x^D) / ΔL^D (method.md §4).

    Args:
        signed: (I, K, F) Σ_{j∈f} a_j(x^D).
        loss_change: (I, K) L(θ, x^D) − L(θ̄, x^D).
        over: subtract the mean or the maximum over the other degradations.

    Returns:
        (K, F). For each degradation the shares of all filters and all other parameters add up to 1.
        A degradation whose loss does not change at all has shares of 0.
    """
    share = shares(signed, loss_change)
    return share - others(share.abs(), over)


def ranking(scores: Tensor) -> Tensor:
    """Return filter indices by descending score, (…, F) → (…, F). Equal scores keep the order of the layout."""
    return torch.argsort(scores, dim=-1, descending=True, stable=True)


def count_of(percent: float, filters: int) -> int:
    """Compute the number of filters in q % of n filters: ⌊n·q/100⌋, as in the authors' code."""
    return math.floor(filters * percent / 100 + 1e-9)


def discovered(scores: Tensor, percent: float) -> Tensor:
    """Return the discovered filters: indices of the top q % of (F,) scores, in descending order."""
    return ranking(scores)[: count_of(percent, len(scores))]


def share_rows(integral: "ProbeIntegral", layout: FilterLayout) -> list[dict[str, object]]:
    """Return the signed attribution over the probe and the share of every parameter, ranked or not.

    The shares of a degradation add up to 1, within the completeness gap (method.md §4).

    Args:
        integral: the path integrals of the probe.
        layout: the units of the integrals.

    Returns:
        One row per degradation and parameter: degradation, parameter, kind ("kernel": the weight of a convolution or
        linear layer, "other": a bias or any other parameter), weights (their number), attribution (Σ_x Σ_j a_j), share
        (of ΔL; None where ΔL is 0).
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
    """Return `share/<kernel|other>/<degradation>`: the shares of all kernels and of all other parameters.

    Args:
        rows: the rows of `share_rows`.
    """
    total: dict[str, float | None] = {}
    for row in rows:
        share, key = row["share"], f"share/{row['kind']}/{row['degradation']}"
        if isinstance(share, float):
            total[key] = (total.get(key) or 0.0) + share
    return total
