"""Interventions on weights: pure functions from states to states. No network is changed in place."""

from collections.abc import Mapping

import torch
from torch import Tensor

from faig_lab.networks import FilterLayout

State = Mapping[str, Tensor]


def mask(target: State, baseline: State, layout: FilterLayout, filters: Tensor) -> dict[str, Tensor]:
    """Set the given filters of the target back to the baseline's values (not to zero).

    Everything else, biases included, stays the target's, bit for bit.

    Args:
        target: θ.
        baseline: θ̄.
        layout: the filters of the network.
        filters: flat indices; an empty tensor gives the target itself.
    """
    chosen = layout.mask(filters)
    return {
        name: torch.where(chosen[name].to(value.device), baseline[name], value) if name in chosen else value
        for name, value in target.items()
    }


def removed_share(target: float, masked: float, baseline: float) -> float | None:
    """R = (PSNR(target) − PSNR(masked)) / (PSNR(target) − PSNR(baseline)); 0 = untouched, 1 = gone.

    Returns:
        The share; None where target and baseline restore equally well, so that there is nothing to remove.
    """
    gain = target - baseline
    return (target - masked) / gain if abs(gain) > 1e-6 else None
