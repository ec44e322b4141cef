"""Attribution methods: each method is a function of a problem that returns scores (draws, K, F).

A new method is one function, here or in any importable module, and one file in conf/attribution. Deterministic methods
have one draw. A higher score means more responsible for that degradation.

Four methods use the same path integral and have the same form, score_f^D = v_f^D − mean_{D'≠D} |v_f^{D'}|. They differ
in v (method.md §4), so a comparison of the four shows which part of the formula makes a difference:

| v_f^D | contrast of sums | contrast of shares of ΔL^D |
| --- | --- | --- |
| absolute value per weight | `faig`: Σ|a_j| | `faig_shares`: Σ|a_j| / |ΔL^D| |
| signed | `signed_sum`: sign(ΔL^D) Σ a_j | `signed_share`: Σ a_j / ΔL^D |

Three methods optimise isolation itself, without training, for a comparison with the learned mask (method.md §9). FAIG
and the signed share measure the part of the loss change that a filter carries. Isolation measures something else: the
output on one degradation should go back to the baseline's output, and the output on all other inputs should stay the
target's. Isolation needs no ground truth. It is a sum of squared distances, so it has a path integral of the same kind.
The outputs y_b of the baseline and y_t of the target take the place of the ground truth:

    1 − [ Σ ‖F(w, x^D) − y_b‖² + mean_{D'} Σ ‖F(w, x^D') − y_t‖² + Σ ‖F(w, x^clean) − y_t‖² ] / E_D

Here outputs are not clipped, and the path of the integrals is the straight line. The docstring of each method gives its
cost in units of FAIG's path integral.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from faig_lab.attribution.compute import DEFAULT, Compute, in_format, memory_format
from faig_lab.attribution.path import GradientPath
from faig_lab.attribution.probe import Cost, ProbeFunction, Problem, integrate_probe, on_device
from faig_lab.attribution.quadrature import Adaptive, quadrature
from faig_lab.attribution.scores import Contrast, faig_scores, others, ratio, shares, signed_share_scores
from faig_lab.attribution.weight_paths import Fixed, PathSpec
from faig_lab.data import CLEAN, PairedImage, sample_rng
from faig_lab.filters import State, trainable
from faig_lab.metrics import restore

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


def share_given_clean(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """The signed share, minus the filter's absolute part of the loss change on clean input in the same unit.

    score_f^D = share_f^D − mean_{D'≠D} |share_f^{D'}| − |Σ_x a_f(x^clean)| / |ΔL^D|. The loss change on clean input is
    nearly 0, so it cannot be a divisor. The method costs (K + 1) / K of FAIG's path integral.

    Args:
        problem: two networks and a probe.
        contrast: subtract the mean or the maximum over the other degradations.
    """
    integral = problem.integral
    share = shares(integral.signed, integral.loss_change)
    on_clean = replace(problem, degradations=(CLEAN,))
    clean = on_clean.integral.signed.sum(0).abs()
    problem.costs["share_given_clean"] = on_clean.costs["path_integral"]
    aside = ratio(clean, integral.loss_change.sum(0).abs()[:, None])
    return (share - others(share.abs(), contrast) - aside)[None]


def share_per_change(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """The signed share's score of a filter divided by the norm of its change ‖θ_f − θ̄_f‖; 0 for no change.

    The method prefers filters with a large effect and a small change. It costs no more than FAIG's path integral.

    Args:
        problem: two networks and a probe.
        contrast: subtract the mean or the maximum over the other degradations.
    """
    share = shares(problem.integral.signed, problem.integral.loss_change)
    names = [layer.name for layer in problem.layout.layers]
    squares = {name: (problem.target[name] - problem.baseline[name]).double().square() for name in names}
    norm = problem.layout.gather(squares).sqrt().cpu()
    return ratio(share - others(share.abs(), contrast), norm)[None]


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
        weights = Fixed({name: target[name] for name in trainable(network)})
        lr, lr_at_end = (image.contiguous(memory_format=layout) for image in (clean, degraded))
        super().__init__(network, target, weights, lr, hr, replace(compute, points_per_batch=1), lr_at_end=lr_at_end)

    def value(self, output: Tensor, hr: Tensor) -> Tensor:
        """Compute the sum of the output."""
        return output.to(hr.dtype).sum()

    def kind(self) -> Hashable:
        """Return the name of the function, which uses nothing but its arguments."""
        return "sum"


def _input_path(problem: Problem, image: PairedImage, degradation: str, path: PathSpec) -> InputPath:
    clean, degraded, hr = on_device(problem, image.lr[CLEAN], image.lr[degradation], image.hr)
    return InputPath(problem.network, problem.target, clean, degraded, hr, problem.compute)


OUTPUT_SUM = ProbeFunction("input-gradients", _input_path, is_complete=False)
"""Σ F(θ, x(α)) along the line from the clean to the degraded input; the path in weight space is not used.

Gradients with respect to weights along a path of inputs have no completeness.
"""


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


def isolation_integral(problem: Problem) -> Tensor:
    """Each filter's signed part of the isolation that is gained along the path from the target to the baseline.

    The integrals of all filters and other parameters add up to the isolation of the baseline; the isolation of the
    target is 0. The method costs (2K + 1) / K of FAIG's path integral, and twice as much as FAIG's for K = 1.

    Args:
        problem: two networks and a probe.
    """
    problem.costs["isolation_integral"] = Cost(0, 0, 0.0)
    return _gains(problem, "isolation_integral", _outputs(problem), absolute=False)[None]


def isolation_share(problem: Problem) -> Tensor:
    """A filter's signed part of the movement to the baseline, minus its absolute parts of the changes on other inputs.

    score_f^D = [ b_f^D − mean_{D'} |s_f^{D'}| − |s_f^clean| ] / E_D, with the signed attributions b of
    Σ ‖F(w, x^D) − y_b‖² and s of Σ ‖F(w, x) − y_t‖². In `isolation_integral` the parts s keep their sign: a filter
    gets a higher score if it compensates, on another input, for the other filters on the path to the baseline. If only
    a few filters are masked, the other filters stay the target's and there is nothing to compensate for. So this method
    takes absolute values. It costs (2K + 1) / K of FAIG's path integral, and twice as much as FAIG's for K = 1.

    Args:
        problem: two networks and a probe.
    """
    problem.costs["isolation_share"] = Cost(0, 0, 0.0)
    return _gains(problem, "isolation_share", _outputs(problem), absolute=True)[None]


def iterated_isolation(
    problem: Problem, rounds: Annotated[int, Field(ge=1)] = 5, percent: Annotated[float, Field(gt=0, le=100)] = 0.5
) -> Tensor:
    """Set the best filters by `isolation_share` back in several rounds; each round integrates from the masked network.

    In each round the best of the remaining filters are set back to the baseline's values. So later rounds include the
    effect of the earlier rounds on the other inputs. The last integral ranks the filters that were never set back. Only
    the order of the scores has a meaning. The method costs about rounds · (K + 1) of FAIG's path integral.

    Args:
        problem: two networks and a probe.
        rounds: the number of integrations of isolation, > 0.
        percent: the percent of all filters that is set back, in (0, 100], in equal parts over the rounds.

    Raises:
        ValueError: an argument is out of range.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be > 0, not {rounds}")
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be in (0, 100], not {percent}")
    problem.costs["iterated_isolation"] = Cost(0, 0, 0.0)
    outputs, count = _outputs(problem), len(problem.layout)
    total = max(1, round(count * percent / 100))
    scores = torch.empty(problem.shape, dtype=torch.float64)
    for row, degradation in zip(scores, problem.degradations, strict=True):
        state, chosen, order = dict(problem.target), list[int](), list[int]()
        for number in range(1, rounds + 1):
            (gains,) = _gains(problem, "iterated_isolation", outputs, [degradation], start=state, absolute=True)
            gains[chosen] = -torch.inf
            order = torch.argsort(gains, descending=True, stable=True).tolist()
            chosen += order[: round(total * number / rounds) - len(chosen)]
            for name, places in problem.layout.mask(chosen).items():
                state[name] = torch.where(places.to(state[name].device), problem.baseline[name], problem.target[name])
        taken = set(chosen)
        row[[*chosen, *(unit for unit in order if unit not in taken)]] = torch.arange(count, 0, -1, dtype=torch.float64)
    return scores[None]


Outputs = Mapping[tuple[str, str], Sequence[Tensor]]
"""("baseline" or "target", input) → the output of this network for each probe image."""


def _outputs(problem: Problem) -> Outputs:
    return {
        (end, kind): restore(problem.network, state, problem.probe, kind, problem.compute.autocast)
        for end, state in (("baseline", problem.baseline), ("target", problem.target))
        for kind in (CLEAN, *problem.degradations)
    }


def _gains(
    problem: Problem,
    method: str,
    outputs: Outputs,
    degradations: Sequence[str] | None = None,
    *,
    start: State | None = None,
    absolute: bool,
) -> Tensor:
    """Return each filter's part of the isolation that is gained on the path from a network to the baseline.

    Args:
        problem: two networks and a probe.
        method: the cost of the integrals is added to the problem's cost of this name. Each integral is computed once.
        outputs: outputs of the problem's two networks.
        degradations: the degradations whose functions should be removed; None: all degradations.
        start: the weights of the network at the start of the path; None: the target.
        absolute: count every change on other inputs as harm, whatever its sign.

    Returns:
        (degradations, F).
    """

    @cache
    def integral(end: str, kind: str) -> Tensor:
        """Return (F,) signed attributions of Σ ‖F(w, x) − y‖² from the baseline to the start, summed over the probe."""
        images = zip(problem.probe, outputs[end, kind], strict=True)
        probe = tuple(PairedImage(x.name, y, {CLEAN: x.lr[CLEAN], kind: x.lr[kind]}) for x, y in images)
        target = problem.target if start is None else start
        result, cost = problem.integrate(problem.rule, target=target, probe=probe, degradations=(kind,))
        problem.costs[method] = problem.costs[method].plus(cost)
        return result.signed.sum((0, 1))

    gains = []
    for degradation in problem.degradations if degradations is None else degradations:
        rest = [name for name in problem.degradations if name != degradation]
        sums = integral("baseline", degradation)
        for name in (CLEAN, *rest):
            aside = integral("target", name) / (1 if name == CLEAN else len(rest))
            sums = sums - aside.abs() if absolute else sums + aside
        pairs = zip(outputs["target", degradation], outputs["baseline", degradation], strict=True)
        energy = math.fsum(float((y_t.double() - y_b.double()).square().sum()) for y_t, y_b in pairs)
        # The integrals go from the baseline to the start: an increase of the bracket lowers isolation.
        gains.append(sums / energy if energy else torch.zeros_like(sums))
    return torch.stack(gains)


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
