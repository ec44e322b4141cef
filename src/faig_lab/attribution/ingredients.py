"""The two methods between FAIG and the signed share: each has one ingredient of either (method.md §4).

All four have one form, score_f^D = v_f^D − mean_{D'≠D} |v_f^{D'}|. They differ in v:

| v_f^D | contrast of sums | contrast of shares of ΔL^D |
| --- | --- | --- |
| absolute value per weight | `faig`: Σ|a_j| | `faig_shares`: Σ|a_j| / |ΔL^D| |
| signed | `signed_sum`: sign(ΔL^D) Σ a_j | `signed_share`: Σ a_j / ΔL^D |

So a comparison of the four says which ingredient makes a difference. All of them come out of one path integral.
"""

import torch
from torch import Tensor

from faig_lab.attribution.methods import Problem
from faig_lab.attribution.scores import Contrast, others, shares


def faig_shares(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """FAIG's Σ|a_j| per filter in units of each degradation's loss change, contrasted (method.md §4).

    A degradation whose loss changes more than the other's does not outweigh it.

    Args:
        problem: two networks and a probe.
        contrast: minus the mean or the maximum over the other degradations; for two of them the same.
    """
    integral = problem.integral
    share = shares(integral.magnitude, integral.loss_change).abs()
    return (share - others(share, contrast))[None]


def signed_sum(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """Each filter's signed part of the loss change, minus its absolute part of the others' (method.md §4).

    The signed share without the division by ΔL^D. The sign is the loss change's: a filter that carries a part of the
    change has a positive value, also where the loss falls, as it should from baseline to target.

    Args:
        problem: two networks and a probe.
        contrast: minus the mean or the maximum over the other degradations; for two of them the same.
    """
    integral = problem.integral
    direction = torch.sign(integral.loss_change.sum(0))[:, None]
    value = direction * integral.signed.mean(0)
    return (value - others(value.abs(), contrast))[None]
