"""Where the change of the loss sits: the part of it that each layer and each other parameter carries."""

import torch

from faig_lab.attribution.probe import ProbeIntegral
from faig_lab.filters import FilterLayout

KERNEL, OTHER = "kernel", "other"


def share_rows(integral: ProbeIntegral, layout: FilterLayout) -> list[dict[str, object]]:
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
    found: dict[str, float | None] = {}
    for row in rows:
        share, key = row["share"], f"share/{row['kind']}/{row['degradation']}"
        if isinstance(share, float):
            found[key] = (found.get(key) or 0.0) + share
    return found
