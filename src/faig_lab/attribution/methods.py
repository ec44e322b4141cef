"""Attribution methods behind one interface: a function of a problem that returns scores (draws, K, F).

Adding a method is one function here (or anywhere importable) and one file in conf/attribution. Deterministic
methods have one draw. A higher score means more responsible for that degradation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from faig_lab.attribution.path import State
from faig_lab.attribution.probe import ProbeIntegral, Progress, integrate_probe
from faig_lab.attribution.quadrature import Rule
from faig_lab.attribution.scores import faig_scores, signed_share_scores
from faig_lab.data import CLEAN, PairedImage, sample_rng
from faig_lab.networks import FilterLayout


@dataclass(frozen=True)
class Problem:
    """Two networks and a probe: what every method works from.

    Args:
        network: the module; its own weights do not matter and are never changed.
        baseline: θ̄ on the device and in the precision to compute in.
        target: θ.
        probe: paired images.
        degradations: the K degradations to tell apart.
        rule: the quadrature.
        seed: of the methods that draw.
        autocast: lower precision for the network's operations, or None.
        progress: told after each integral.
    """

    network: nn.Module
    baseline: State
    target: State
    probe: tuple[PairedImage, ...]
    degradations: tuple[str, ...]
    rule: Rule
    seed: int = 0
    autocast: torch.dtype | None = None
    progress: Progress | None = field(default=None, repr=False)

    @cached_property
    def layout(self) -> FilterLayout:
        """The filters of the network."""
        return FilterLayout.of(self.network)

    @cached_property
    def integral(self) -> ProbeIntegral:
        """The signed path integrals, computed once, by whichever method asks first."""
        return integrate_probe(
            self.network,
            self.baseline,
            self.target,
            self.probe,
            self.degradations,
            self.layout,
            self.rule,
            self.autocast,
            self.progress,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(K, F)."""
        return len(self.degradations), len(self.layout)


Method = Callable[[Problem], Tensor]


def faig(problem: Problem) -> Tensor:
    """FAIG: Σ|a_j| per filter, contrasted with the other degradations, mean over the probe (method.md §3)."""
    return faig_scores(problem.integral.magnitude)[None]


def faig_reference(problem: Problem) -> Tensor:
    """The authors' published scores: FAIG summed over the probe, not averaged.

    With `rule: right, points: 100` it reproduces their numbers; the order is that of `faig`.
    """
    return faig(problem) * len(problem.probe)


def signed_share(problem: Problem) -> Tensor:
    """Each filter's exact share of the loss change, minus its mean absolute share of the others' (§4)."""
    return signed_share_scores(problem.integral.signed, problem.integral.loss_change)[None]


def input_gradients(problem: Problem) -> Tensor:
    """Input-space integrated gradients read on the weights (the authors' IG rival, §4).

    Gradients of Σ F(θ, x) with respect to the weights, averaged along the straight line from the clean to the
    degraded LR; then Σ|·| per filter and the mean over the probe. There is no contrast between degradations.
    """
    scores = torch.zeros(problem.shape, dtype=torch.float64)
    for image in problem.probe:
        for k, degradation in enumerate(problem.degradations):
            scores[k] += _input_gradients_of(problem, image, degradation)
            if problem.progress is not None:
                problem.progress(f"{image.name}, {degradation}")
    return scores[None] / len(problem.probe)


def _input_gradients_of(problem: Problem, image: PairedImage, degradation: str) -> Tensor:
    """(F,) Σ over each filter's weights of |∫ ∂ΣF/∂w| for one image."""
    weights = {layer.name: problem.target[layer.name] for layer in problem.layout.layers}
    like = next(iter(weights.values()))
    clean, degraded = image.lr[CLEAN][None].to(like), image.lr[degradation][None].to(like)
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for alpha, share in zip(problem.rule.points.tolist(), problem.rule.weights.tolist(), strict=True):
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        with (
            torch.enable_grad(),
            torch.autocast(like.device.type, problem.autocast, enabled=problem.autocast is not None),
        ):
            output = functional_call(
                problem.network, {**problem.target, **leaves}, (clean + alpha * (degraded - clean),)
            )
        gradients = torch.autograd.grad(output.to(like.dtype).sum(), list(leaves.values()))
        for name, gradient in zip(leaves, gradients, strict=True):
            sums[name].add_(gradient, alpha=share)
    return problem.layout.gather({name: total.abs() for name, total in sums.items()}).double().cpu()


def weight_change(problem: Problem) -> Tensor:
    """Σ|θ − θ̄| / Σ|θ̄| per filter: the authors' relative form. It knows no degradation."""
    size = problem.layout.gather({name: value.abs() for name, value in problem.baseline.items()})
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
