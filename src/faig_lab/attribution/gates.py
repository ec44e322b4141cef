"""Gates between baseline and target: weights, a given count of masked filters, and gradients that keep the count."""

import torch
from torch import Tensor

from faig_lab.attribution.methods import Problem


def gated(problem: Problem, gates: Tensor) -> dict[str, Tensor]:
    """The weights θ̄ + g (θ − θ̄); what no unit of the layout holds stays the target's.

    Args:
        problem: two networks.
        gates: (F,) from 0 to 1; a 0 gives the baseline's weights and a 1 the target's, bit for bit.
    """
    spread = problem.layout.scatter(gates)
    return {
        name: torch.lerp(problem.baseline[name], value, spread[name].to(value.dtype).expand_as(value))
        if name in spread
        else value
        for name, value in problem.target.items()
    }


def masked_parts(logits: Tensor, temperature: float, count: float) -> Tensor:
    """1 − g of gates g = σ((logits + b) / temperature), with the b for which Σ (1 − g) is the count.

    Args:
        logits: (F,) float64.
        temperature: above 0; the lower, the nearer the gates are to 0 or 1.
        count: above 0 and below F.

    Returns:
        (F,) falling with the logit, also where g itself rounds to 1.
    """
    low, high = -logits.max() - 40 * temperature, -logits.min() + 40 * temperature
    for _ in range(60):
        middle = (low + high) / 2
        more = torch.sigmoid(-(logits + middle) / temperature).sum() > count
        low, high = torch.where(more, middle, low), torch.where(more, high, middle)
    return torch.sigmoid(-(logits + high) / temperature)


def along_the_count(gradient: Tensor, masked: Tensor, temperature: float) -> Tensor:
    """The gradient with respect to the logits of `masked_parts`, whose b moves with them: the count stays.

    Args:
        gradient: (F,) with respect to the gates g.
        masked: (F,) what `masked_parts` returned.
        temperature: of `masked_parts`.
    """
    slope = masked * (1 - masked) / temperature
    price = (slope * gradient).sum() / slope.sum().clamp_min(1e-300)  # λ / F
    return slope * (gradient - price)
