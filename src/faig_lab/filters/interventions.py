"""Interventions on weights: pure functions from states to states. No network is changed in place."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from faig_lab.filters.functional import State
from faig_lab.filters.layout import FilterLayout


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


def modulate(
    target: State,
    baseline: State,
    layout: FilterLayout,
    filters: Tensor | Sequence[Tensor],
    strength: float | Sequence[float],
) -> dict[str, Tensor]:
    """Set the given filters to θ̄ + λ(θ − θ̄); λ = 0 is `mask` and λ = 1 the target, both bit for bit.

    Everything else, biases included, stays the target's, bit for bit.

    Args:
        target: θ.
        baseline: θ̄.
        layout: the filters of the network.
        filters: flat indices, or several sets of them.
        strength: λ, any finite number: one λ for all sets, or one for each set.

    Raises:
        ValueError: a λ is not finite, the numbers of λ and sets differ, or a filter would get two different λ.
    """
    sets = [filters] if isinstance(filters, Tensor) else list(filters)
    strengths = list(strength) if isinstance(strength, Sequence) else [strength] * len(sets)
    per_filter = layout.scatter(_per_filter(len(layout), sets, strengths))
    return {n: _between(baseline[n], v, per_filter[n]) if n in per_filter else v for n, v in target.items()}


def _per_filter(count: int, sets: Sequence[Tensor], strengths: Sequence[float]) -> Tensor:
    """Return (filters,) the λ of every filter. It is 1 outside of the sets."""
    values = torch.full((count,), torch.nan, dtype=torch.float64)
    for filters, strength in zip(sets, strengths, strict=True):
        if not math.isfinite(strength):
            raise ValueError(f"a strength must be finite, not {strength}")
        before = values[filters]
        shared = int((~before.isnan() & (before != strength)).sum())
        if shared:
            raise ValueError(f"{shared} filters are in two sets that are to have different strengths")
        values[filters] = float(strength)
    return values.nan_to_num(1.0)


def _between(baseline: Tensor, target: Tensor, strength: Tensor) -> Tensor:
    """Return θ̄ + λ(θ − θ̄) with λ per filter. For λ = 0 and 1 the endpoint itself is used, since the sum may round."""
    strength = strength.to(target.device)
    moved = baseline + strength.to(target.dtype) * (target - baseline)
    return torch.where(strength == 1, target, torch.where(strength == 0, baseline, moved))
