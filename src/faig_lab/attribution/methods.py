"""Attribution methods behind one interface: a function of a problem that returns scores (draws, K, F).

Adding a method is one function here (or anywhere importable) and one file in conf/attribution. Deterministic
methods have one draw. A higher score means more responsible for that degradation.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from faig_lab.attribution.adaptive import Adaptive, Integrand, integrate_together
from faig_lab.attribution.compute import DEFAULT, Compute, full_precision, in_format, memory_format
from faig_lab.attribution.costs import Cost
from faig_lab.attribution.identity import identity, of_image
from faig_lab.attribution.kept import Kept
from faig_lab.attribution.probe import ProbeIntegral, Progress, integrate_probe
from faig_lab.attribution.quadrature import Rule, quadrature, right
from faig_lab.attribution.scores import Contrast, faig_scores, signed_share_scores
from faig_lab.attribution.spread import Spread
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec
from faig_lab.data import CLEAN, PairedImage, sample_rng
from faig_lab.filters import FilterLayout, State, first_floating
from faig_lab.granularity import Granularity


@dataclass(frozen=True)
class Problem:
    """Two networks and a probe: what every method works from.

    Args:
        network: the module, in evaluation mode; its own weights do not matter and are never changed.
        baseline: θ̄ on the device and in the precision to compute in.
        target: θ. Buffers (running statistics, say) are no weights: they are the target's all along the path.
        probe: paired images.
        degradations: the K degradations to tell apart.
        rule: the quadrature, fixed or adaptive.
        seed: of the methods that draw.
        compute: how gradients are computed: precision, memory, several points at once.
        progress: told after each integral.
        granularity: what is scored: a filter, or a weight, a channel, a layer.
        rank_others: score the parameters that are no kernels (biases, say) as well.
        path: which path the loss gradient is integrated along.

    Attributes:
        kept: keeps the sums of each image for a run that is killed, once it is told where.
        spread: over which processes the images are spread; this one alone, unless it is told otherwise.
            A problem that is made of another one by `replace` keeps nothing and is this process's alone.
        costs: what has been computed → what it took: `path_integral`, which `faig` and `signed_share` share,
            `gradient_at_target`, `learned_mask`, and methods with path integrals of their own.
    """

    network: nn.Module
    baseline: State
    target: State
    probe: tuple[PairedImage, ...]
    degradations: tuple[str, ...]
    rule: Rule | Adaptive
    seed: int = 0
    compute: Compute = DEFAULT
    progress: Progress | None = field(default=None, repr=False)
    granularity: Granularity = "filter"
    rank_others: bool = False
    path: PathSpec = STRAIGHT
    kept: Kept = field(default_factory=Kept, init=False, repr=False, compare=False)
    spread: Spread = field(default_factory=Spread, init=False, repr=False, compare=False)
    costs: dict[str, Cost] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def layout(self) -> FilterLayout:
        """The filters of the network, or whatever else is scored."""
        return FilterLayout.of(self.network, self.granularity, self.rank_others)

    @cached_property
    def integral(self) -> ProbeIntegral:
        """The signed path integrals, computed once, by whichever method asks first."""
        integral, self.costs["path_integral"] = self.integrate(self.rule, self.path)
        return integral

    @cached_property
    def at_target(self) -> ProbeIntegral:
        """The path integrals with the gradient at the target for all of the path: (θ_j − θ̄_j) ∂L(θ, x)/∂θ_j."""
        integral, self.costs["gradient_at_target"] = self.integrate(right(1))
        return integral

    def straight(self, **changes: Any) -> "Problem":
        """A problem on the straight line with some fields changed: other networks have no bent path of their own."""
        return replace(self, path=STRAIGHT, progress=None, **changes)

    @property
    def is_integrated(self) -> bool:
        """Whether the path integrals have been computed."""
        return "integral" in vars(self)

    def integrate(self, rule: Rule | Adaptive, path: PathSpec = STRAIGHT, **changes: Any) -> tuple[ProbeIntegral, Cost]:
        """Path integrals over the probe and what they took; sums are kept and spread like those of `integral`.

        Args:
            rule: the quadrature.
            path: which path.
            changes: fields of the problem (target, probe, degradations) that are others for these integrals.
        """
        start, of = time.perf_counter(), replace(self, **changes)
        integral = integrate_probe(
            of.network,
            of.baseline,
            of.target,
            of.probe,
            of.degradations,
            self.layout,
            rule,
            of.compute,
            of.progress,
            self.kept,
            self.spread,
            path,
        )
        pixels = torch.tensor([image.lr[CLEAN][0].numel() for image in of.probe])
        seen = int((integral.points.sum(1) * pixels).sum())
        return integral, Cost(int(integral.points.sum()), seen, time.perf_counter() - start)

    @property
    def shape(self) -> tuple[int, int]:
        """(K, F)."""
        return len(self.degradations), len(self.layout)


Method = Callable[[Problem], Tensor]

LineRule = Literal["left", "right", "midpoint", "gauss_legendre"]
"""Rules that exist for every number of points."""


def faig(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """FAIG: Σ|a_j| per filter, contrasted with the other degradations, mean over the probe (method.md §3).

    Args:
        problem: two networks and a probe.
        contrast: against the mean or the maximum over the other degradations; for two of them the same.
    """
    return faig_scores(problem.integral.magnitude, contrast)[None]


def faig_reference(problem: Problem) -> Tensor:
    """The authors' published scores: FAIG summed over the probe, not averaged.

    With `rule: right, points: 100` it reproduces their numbers; the order is that of `faig`.
    """
    return faig(problem) * len(problem.probe)


def signed_share(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """Each filter's exact share of the loss change, minus its absolute share of the others' (method.md §4).

    Args:
        problem: two networks and a probe.
        contrast: minus the mean or the maximum over the other degradations; for two of them the same.
    """
    return signed_share_scores(problem.integral.signed, problem.integral.loss_change, contrast)[None]


def taylor(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """First-order Taylor expansion of the loss at the target: Σ |(θ_j − θ̄_j) ∂L(θ, x)/∂θ_j|, contrasted like FAIG.

    The criterion of Molchanov et al. (Pruning Convolutional Neural Networks for Resource Efficient Inference,
    ICLR 2017; Importance Estimation for Neural Network Pruning, CVPR 2019) for going back to the baseline in place
    of zero. It is FAIG with the one-point right rule: one gradient evaluation per image and degradation.

    Args:
        problem: two networks and a probe; its rule plays no part.
        contrast: against the mean or the maximum over the other degradations.
    """
    return faig_scores(problem.at_target.magnitude, contrast)[None]


def fisher(problem: Problem, contrast: Contrast = "mean") -> Tensor:
    """Fisher information at the target: Σ (θ_j − θ̄_j)² (∂L(θ, x)/∂θ_j)² / 2, contrasted like FAIG.

    The second-order estimate of the loss change with the Hessian's diagonal replaced by squared gradients (Theis
    et al., Faster Gaze Prediction with Dense Networks and Fisher Pruning, 2018, arXiv 1801.05787), for going back
    to the baseline in place of zero. The mean over the probe is the expectation.

    Args:
        problem: two networks and a probe; its rule plays no part.
        contrast: against the mean or the maximum over the other degradations.
    """
    return faig_scores(problem.at_target.squared / 2, contrast)[None]


@full_precision()
def input_gradients(problem: Problem, rule: LineRule | None = None) -> Tensor:
    """Input-space integrated gradients read on the weights (the authors' IG rival, §4).

    Gradients of Σ F(θ, x) with respect to the weights, averaged along the straight line from the clean to the
    degraded LR; then Σ|·| per filter and the mean over the probe. There is no contrast between degradations.

    Args:
        problem: two networks and a probe.
        rule: a rule of its own for this line, with as many points as the problem's rule (at most) has; None: the
            problem's rule. The authors' points here begin at the clean input, which is the left rule.
    """
    quadrature_rule = problem.rule
    if rule is not None:
        points = problem.rule.budget if isinstance(problem.rule, Adaptive) else len(problem.rule)
        quadrature_rule = quadrature(rule, points)
    weights = {layer.name: problem.target[layer.name] for layer in problem.layout.layers}

    def judge(integrals: Sequence[State]) -> tuple[Tensor, Tensor]:
        """Σ|·| per filter; there is no completeness to judge by."""
        sizes = [problem.layout.gather({n: total.abs() for n, total in integral.items()}) for integral in integrals]
        return torch.stack(sizes).double().cpu(), torch.zeros(len(sizes))

    def integrate(image: PairedImage) -> Tensor:
        """(K, F) of one image."""
        integrands = [_input_gradients(problem, weights, image, degradation) for degradation in problem.degradations]
        integrals, _ = integrate_together(integrands, weights, quadrature_rule, judge)
        return judge(integrals)[0]

    scores = torch.zeros(problem.shape, dtype=torch.float64)
    ends = problem.baseline, problem.target
    same = identity(problem.network, *ends, problem.degradations, problem.layout, quadrature_rule, problem.compute)
    for index, image in enumerate(problem.probe):
        if not problem.spread.own(index):
            continue
        scores += problem.kept(f"input-gradients-{of_image(image, same)}", partial(integrate, image))
        if problem.progress is not None:
            for degradation in problem.degradations:
                problem.progress(f"{image.name}, {degradation}")
    return problem.spread.total(scores)[None] / len(problem.probe)


def _input_gradients(problem: Problem, weights: State, image: PairedImage, degradation: str) -> Integrand:
    """α → ∂ΣF/∂w at clean + α (degraded − clean) for one image."""
    like = first_floating(weights.values())
    layout = memory_format(like, problem.compute.autocast)
    clean, degraded = (image.lr[n][None].to(like).contiguous(memory_format=layout) for n in (CLEAN, degradation))
    fixed, own = in_format(problem.target, layout), in_format(weights, layout)
    scale = image.hr.shape[-1] // clean.shape[-1]
    tiles = problem.compute.tiles(problem.network, fixed, clean, scale)

    def gradients(alpha: float) -> dict[str, Tensor]:
        leaves = {name: weight.detach().requires_grad_() for name, weight in own.items()}
        lr = torch.lerp(clean, degraded, alpha)
        sums = [torch.zeros_like(weight) for weight in own.values()]
        for tile in tiles:
            with torch.enable_grad():
                output = problem.compute.output(problem.network, {**fixed, **leaves}, tile.input(lr))
                total = tile.core_of_output(output).to(like.dtype).sum()
            found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
            for added, part in zip(sums, found, strict=True):
                added += part
        return dict(zip(leaves, sums, strict=True))

    return lambda alphas: map(gradients, alphas)


def weight_change(problem: Problem) -> Tensor:
    """Σ|θ − θ̄| / Σ|θ̄| per filter: the authors' relative form. It knows no degradation."""
    size = problem.layout.gather({layer.name: problem.baseline[layer.name].abs() for layer in problem.layout.layers})
    # A filter that is all zero in the baseline and was changed has an infinite relative change: largest, finite.
    relative = _change(problem) / size.clamp_min(torch.finfo(size.dtype).tiny)
    return _same_for_all(problem, relative.clamp_max(torch.finfo(size.dtype).max))


def weight_change_absolute(problem: Problem) -> Tensor:
    """Σ|θ − θ̄| per filter. It knows no degradation."""
    return _same_for_all(problem, _change(problem))


def random_filters(problem: Problem, draws: int = 10) -> Tensor:
    """Seeded permutations, an independent one for every draw and degradation.

    Args:
        problem: its seed is used.
        draws: how many, > 0.
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
    """(F,) Σ|θ − θ̄|."""
    names = [layer.name for layer in problem.layout.layers]
    return problem.layout.gather({n: (problem.target[n] - problem.baseline[n]).abs() for n in names})


def _same_for_all(problem: Problem, scores: Tensor) -> Tensor:
    """(F,) → (1, K, F)."""
    return scores.double().cpu().expand(1, *problem.shape).clone()
