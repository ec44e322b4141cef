"""Attribution methods: each method is a function of a problem that returns scores (draws, K, F).

A new method is one function, here or in any importable module, and one file in conf/attribution. Deterministic methods
have one draw. A higher score means more responsible for that degradation.

Four methods use the same path integral and have the same form, score_f^D = v_f^D − mean_{D'≠D} |v_f^{D'}|. They differ
in v (method.md §4), so a comparison of the four shows which part of the formula makes a difference:

| v_f^D | contrast of sums | contrast of shares of ΔL^D |
| --- | --- | --- |
| absolute value per weight | `faig`: Σ|a_j| | `faig_shares`: Σ|a_j| / |ΔL^D| |
| signed | `signed_sum`: sign(ΔL^D) Σ a_j | `signed_share`: Σ a_j / ΔL^D |
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from faig_lab.attribution.compute import DEFAULT, Compute, in_format, memory_format
from faig_lab.attribution.path import ConvergenceCriterion, GradientPath, Tensors
from faig_lab.attribution.probe import ProbeFunction, Problem, integrate_probe, on_device, per_filter
from faig_lab.attribution.quadrature import Adaptive, quadrature
from faig_lab.attribution.scores import Contrast, faig_scores, others, shares, signed_share_scores
from faig_lab.attribution.weight_paths import Fixed, PathSpec
from faig_lab.data import CLEAN, PairedImage, sample_rng
from faig_lab.filters import FilterLayout, State, trainable

Method = Callable[[Problem], Tensor]

LineRule = Literal["left", "right", "midpoint", "gauss_legendre"]
"""Rules that are defined for every number of points."""


def faig(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """FAIG: Σ|a_j| per filter, contrasted with the other degradations, mean over the probe (method.md §3).

    Args:
        problem: two networks and a probe.
        contrast: subtract the mean or the maximum over the other degradations; for K = 2 both are the same.
    """
    return faig_scores(problem.integral.magnitude, contrast)[None]


def faig_reference(problem: Problem) -> Tensor:
    """The authors' published scores: FAIG summed over the probe, not averaged.

    With `rule: right, points: 100` the method reproduces the authors' numbers. The ranking is that of `faig`.
    """
    return faig(problem) * len(problem.probe)


def signed_share(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """Each filter's exact share of the loss change, minus its absolute share of the others' (method.md §4).

    Args:
        problem: two networks and a probe.
        contrast: subtract the mean or the maximum over the other degradations; for K = 2 both are the same.
    """
    return signed_share_scores(problem.integral.signed, problem.integral.loss_change, contrast)[None]


def faig_shares(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """FAIG's Σ|a_j| per filter in units of each degradation's loss change, contrasted (method.md §4).

    A degradation with a larger loss change does not outweigh the others.

    Args:
        problem: two networks and a probe.
        contrast: subtract the mean or the maximum over the other degradations; for K = 2 both are the same.
    """
    integral = problem.integral
    share = shares(integral.magnitude, integral.loss_change).abs()
    return (share - others(share, contrast))[None]


def signed_sum(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """Each filter's signed part of the loss change, minus its absolute part of the others' (method.md §4).

    This is the signed share without the division by ΔL^D. The value is multiplied by the sign of the loss change. So a
    filter that carries a part of the change has a positive value, also if the loss falls from baseline to target.

    Args:
        problem: two networks and a probe.
        contrast: subtract the mean or the maximum over the other degradations; for K = 2 both are the same.
    """
    integral = problem.integral
    direction = torch.sign(integral.loss_change.sum(0))[:, None]
    value = direction * integral.signed.mean(0)
    return (value - others(value.abs(), contrast))[None]


def taylor(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """First-order Taylor expansion of the loss at the target: Σ |(θ_j − θ̄_j) ∂L(θ, x)/∂θ_j|, contrasted like FAIG.

    Source: the pruning criterion of Molchanov et al. (Pruning Convolutional Neural Networks for Resource Efficient
    Inference, ICLR 2017; Importance Estimation for Neural Network Pruning, CVPR 2019). Here a filter is set back to the
    baseline instead of zero. The method is FAIG with the one-point right rule: one gradient evaluation per image and
    degradation.

    Args:
        problem: two networks and a probe; its rule is not used.
        contrast: subtract the mean or the maximum over the other degradations.
    """
    return faig_scores(problem.at_target.magnitude, contrast)[None]


def fisher(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """Fisher information at the target: Σ (θ_j − θ̄_j)² (∂L(θ, x)/∂θ_j)² / 2, contrasted like FAIG.

    This is the second-order estimate of the loss change, with squared gradients in place of the Hessian's diagonal
    (Theis et al., Faster Gaze Prediction with Dense Networks and Fisher Pruning, 2018, arXiv 1801.05787). Here a filter
    is set back to the baseline instead of zero. The mean over the probe is the expectation.

    Args:
        problem: two networks and a probe; its rule is not used.
        contrast: subtract the mean or the maximum over the other degradations.
    """
    return faig_scores(problem.at_target.squared / 2, contrast)[None]


class InputPath(GradientPath):
    """The sum of the output, with the target's weights, on the line from the clean to the degraded input.

    Args:
        network: any module; its own weights are not used.
        target: parameters θ and buffers, on the device and in the precision of the computation.
        clean: input (N, 3, H, W) at α = 0.
        degraded: input at α = 1.
        hr: ground truth (N, 3, sH, sW); only its size is used.
        compute: precision and memory; the points are evaluated one by one.
    """

    def __init__(
        self, network: nn.Module, target: State, clean: Tensor, degraded: Tensor, hr: Tensor, compute: Compute = DEFAULT
    ) -> None:
        layout = memory_format(clean, compute.autocast)
        target = in_format(target, layout)
        self.degraded = degraded.contiguous(memory_format=layout)
        weights = Fixed({name: target[name] for name in trainable(network)})
        clean = clean.contiguous(memory_format=layout)
        super().__init__(network, target, weights, clean, hr, replace(compute, points_per_batch=1))

    def input(self, alpha: float) -> Tensor:
        """Return clean + α (degraded − clean)."""
        return torch.lerp(self.lr, self.degraded, alpha)

    def value(self, output: Tensor, hr: Tensor) -> Tensor:
        """Compute the sum of the output."""
        return output.to(hr.dtype).sum()

    def kind(self) -> Hashable:
        """Return the kind of a pass."""
        return self._kind()


def _input_path(problem: Problem, image: PairedImage, degradation: str, path: PathSpec) -> InputPath:
    clean, degraded, hr = on_device(problem, image.lr[CLEAN], image.lr[degradation], image.hr)
    return InputPath(problem.network, problem.target, clean, degraded, hr, problem.compute)


def _sizes(paths: Sequence[GradientPath], layout: FilterLayout) -> ConvergenceCriterion:
    """Return a criterion: Σ|·| per filter, and gaps of 0, since gradients along an input path have no completeness."""

    def criterion(integrals: Sequence[Tensors]) -> tuple[Tensor, Tensor]:
        results = [path.attribute(integral) for path, integral in zip(paths, integrals, strict=True)]
        return torch.stack([per_filter(result, layout, torch.abs) for result in results]), torch.zeros(len(results))

    return criterion


OUTPUT_SUM = ProbeFunction("input-gradients", _input_path, _sizes)
"""Σ F(θ, x(α)) along the line from the clean to the degraded input. The path in weight space is not used."""


def input_gradients(problem: Problem, rule: LineRule | None = None) -> Tensor:
    """Integrated gradients on weights (IG): the authors' comparison method (method.md §4).

    The gradients of Σ F(θ, x) with respect to the weights are averaged along the straight line from the clean to the
    degraded LR. The score is Σ|·| per filter, mean over the probe. There is no contrast between degradations.

    Args:
        problem: two networks and a probe.
        rule: another rule for this line, with as many points as the problem's rule, or as its budget if that rule is
            adaptive. None: the problem's rule. The authors' points for this method begin at the clean input, which is
            the left rule.
    """
    on_line = problem.rule
    if rule is not None:
        on_line = quadrature(rule, problem.rule.budget if isinstance(problem.rule, Adaptive) else len(problem.rule))
    return integrate_probe(problem, on_line, function=OUTPUT_SUM).magnitude.mean(0)[None]


def weight_change(problem: Problem) -> Tensor:
    """Σ|θ − θ̄| / Σ|θ̄| per filter: the authors' relative form. The scores are equal for all degradations."""
    size = problem.layout.gather({layer.name: problem.baseline[layer.name].abs() for layer in problem.layout.layers})
    # A changed filter that is all zero in the baseline has an infinite relative change; it gets the largest number.
    relative = _change(problem) / size.clamp_min(torch.finfo(size.dtype).tiny)
    return _same_for_all(problem, relative.clamp_max(torch.finfo(size.dtype).max))


def weight_change_absolute(problem: Problem) -> Tensor:
    """Σ|θ − θ̄| per filter. The scores are equal for all degradations."""
    return _same_for_all(problem, _change(problem))


def random_filters(problem: Problem, draws: int = 10) -> Tensor:
    """Seeded permutations, an independent permutation for every draw and degradation.

    Args:
        problem: its seed is used.
        draws: number of draws, > 0.
    """
    if draws < 1:
        raise ValueError(f"draws must be > 0, not {draws}")
    permutations = [
        [
            sample_rng(problem.seed, f"random/{name}", draw).permutation(len(problem.layout))
            for name in problem.degradations
        ]
        for draw in range(draws)
    ]
    return torch.from_numpy(np.array(permutations, dtype=np.float64))


def _change(problem: Problem) -> Tensor:
    """Return (F,) Σ|θ − θ̄|, in the precision of the weights."""
    names = [layer.name for layer in problem.layout.layers]
    return problem.layout.gather({n: (problem.target[n] - problem.baseline[n]).abs() for n in names})


def _same_for_all(problem: Problem, scores: Tensor) -> Tensor:
    """Return scores (F,) as (1, K, F), equal for all degradations."""
    return scores.double().cpu().expand(1, *problem.shape).clone()
