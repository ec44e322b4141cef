"""Paths in weight space from a baseline to a target, along which the gradient is integrated (method.md §10).

The integral is complete along any piecewise smooth path γ: Σ_j ∫ ∂L/∂γ_j γ'_j dα = L(θ) − L(θ̄). A path is data: its
states and its pieces.

On a path with a barrier the loss rises and falls again for reasons that have nothing to do with a degradation. The
integral then measures the barrier and not the function. `profile` returns the PSNR along a path. `train_middle` trains
the middle point of a curve that keeps the loss low.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from faig_lab.attribution.compute import Compute, full_precision, in_format, memory_format
from faig_lab.attribution.losses import SQUARED_ERROR
from faig_lab.attribution.quadrature import Adaptive, Rule
from faig_lab.data import CLEAN, sample_rng
from faig_lab.filters import State, trainable
from faig_lab.metrics import PSNR_CEILING

if TYPE_CHECKING:
    from faig_lab.attribution.probe import Problem

BARRIER_LIMIT = 0.5
"""Largest barrier without a warning, in dB. A pair whose target was trained from the baseline has a barrier of 0."""

CROP = 64
"""Largest side of the training crops in LR pixels."""

_FLOOR = 1e-4
"""Squared error per value that is added to the losses of both ends, so that no loss is 0; it stands for 40 dB."""

_RATE = 0.1
"""Adam's learning rate in units of each tensor's root mean square change between the networks."""

PathName = Literal["straight", "trajectory", "curve"]
"""The values of `attribution.path`."""


class WeightPath(Protocol):
    """γ from α = 0 (the baseline) to α = 1 (the target), for all parameters by name."""

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return γ(α). The ends are the baseline and the target, bit for bit."""

    def velocity(self, alpha: float) -> dict[str, Tensor] | None:
        """Return γ'(α); None if the weights are constant."""


@dataclass(frozen=True, eq=False)
class Fixed:
    """The same weights at every point: for a path of inputs, and for a recorded pass.

    Args:
        state: parameters by name.
    """

    state: State

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return the weights."""
        return dict(self.state)

    def velocity(self, alpha: float) -> None:
        """Return None, since the weights are constant."""


@dataclass(frozen=True, eq=False)
class Polyline:
    """Straight pieces through n ≥ 2 states. Each piece has the same length in α: α = k/(n − 1) is state k.

    Two states give the straight line of the authors' code. Averaged weights that were saved during the target's
    training give the trajectory of the training (cf. Loss Change Allocation, Lan et al., NeurIPS 2019).

    Args:
        states: parameters by name; all have the same names and shapes.
    """

    states: tuple[State, ...]

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return γ(α)."""
        piece, place = self._place(alpha)
        first, second = self._ends(piece)
        return dict(zip(self.states[piece], torch._foreach_lerp(first, second, place), strict=True))

    def velocity(self, alpha: float) -> dict[str, Tensor]:
        """Return γ'(α), which is constant on each piece. At a joint it is the value of the later piece."""
        piece, _ = self._place(alpha)
        first, second = self._ends(piece)
        differences = torch._foreach_sub(second, first)
        torch._foreach_mul_(differences, len(self.states) - 1)
        return dict(zip(self.states[piece], differences, strict=True))

    def _ends(self, piece: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return the tensors at both ends of a piece. Functions of lists take a GPU one launch for all tensors."""
        first, second = self.states[piece], self.states[piece + 1]
        return list(first.values()), [second[name] for name in first]

    def _place(self, alpha: float) -> tuple[int, float]:
        """Return the piece that contains α, and the share of the piece before α."""
        pieces = len(self.states) - 1
        piece = min(int(alpha * pieces), pieces - 1)
        return piece, alpha * pieces - piece


@dataclass(frozen=True, eq=False)
class Bezier:
    """The quadratic Bézier curve (1 − α)² θ̄ + 2α(1 − α) m + α² θ (Garipov et al., NeurIPS 2018).

    Args:
        baseline: θ̄, parameters by name.
        middle: m, the control point that bends the curve. The curve does not pass through m.
        target: θ.
    """

    baseline: State
    middle: State
    target: State

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return γ(α)."""
        return {
            name: torch.lerp(torch.lerp(start, self.middle[name], alpha), self._later(name, alpha), alpha)
            for name, start in self.baseline.items()
        }

    def velocity(self, alpha: float) -> dict[str, Tensor]:
        """Return γ'(α) = 2(1 − α)(m − θ̄) + 2α(θ − m)."""
        return {
            name: 2 * (self._later(name, alpha) - torch.lerp(start, self.middle[name], alpha))
            for name, start in self.baseline.items()
        }

    def _later(self, name: str, alpha: float) -> Tensor:
        """Return the point of the second half of the control polygon (de Casteljau)."""
        return torch.lerp(self.middle[name], self.target[name], alpha)


@dataclass(frozen=True, eq=False)
class PathSpec:
    """The path along which a problem is integrated.

    Args:
        kind: straight, trajectory or curve.
        inner: the states between baseline and target that define the path, see `path_through`.
        rule: the quadrature of each smooth piece; None: the rule of the problem.
    """

    kind: PathName = "straight"
    inner: tuple[State, ...] = ()
    rule: Rule | Adaptive | None = None

    @property
    def pieces(self) -> int:
        """Number of smooth pieces."""
        return 1 if self.kind == "curve" else len(self.inner) + 1


STRAIGHT = PathSpec()
"""The straight line of the authors' code."""


def path_through(inner: Sequence[State], kind: PathName, baseline: State, target: State) -> WeightPath:
    """Return the path of a kind from its inner states.

    Args:
        inner: no state for the straight line, the saved states for a trajectory, the middle point for a curve.
        kind: straight, trajectory or curve.
        baseline: θ̄.
        target: θ.
    """
    if kind == "curve":
        (middle,) = inner
        return Bezier(baseline, middle, target)
    return Polyline((baseline, *inner, target))


@dataclass(frozen=True)
class PathProfile:
    """PSNR along the path for every input.

    Attributes:
        inputs: the degradations and clean input.
        alphas: (P,) ascending, from 0 to 1.
        psnr: (inputs, P) dB on RGB, mean over the probe images. The PSNR of an image is at most PSNR_CEILING. Outputs
            are neither clipped nor rounded.
    """

    inputs: tuple[str, ...]
    alphas: Tensor
    psnr: Tensor

    @property
    def barriers(self) -> dict[str, float]:
        """Input → difference of the lower end's PSNR and the lowest PSNR on the path, in dB, ≥ 0."""
        worse_end = torch.minimum(self.psnr[:, 0], self.psnr[:, -1])
        return dict(zip(self.inputs, (worse_end - self.psnr.amin(1)).clamp_min(0).tolist(), strict=True))

    def rows(self) -> list[dict[str, object]]:
        """Return one row per input and point: input, alpha, psnr (dB)."""
        return [
            {"input": name, "alpha": alpha, "psnr": value}
            for name, values in zip(self.inputs, self.psnr.tolist(), strict=True)
            for alpha, value in zip(self.alphas.tolist(), values, strict=True)
        ]

    def warnings(self) -> list[str]:
        """Return one line if a barrier is above `BARRIER_LIMIT`, otherwise an empty list."""
        high = {name: value for name, value in self.barriers.items() if value > BARRIER_LIMIT}
        if not high:
            return []
        listed = ", ".join(f"{name} {value:.1f} dB" for name, value in high.items())
        return [
            f"path: PSNR falls below both ends of the path ({listed}; limit {BARRIER_LIMIT:g} dB). The scores measure "
            "this barrier rather than the functions, and masked networks may break; `path`=curve may avoid it"
        ]


@full_precision()
def profile(problem: "Problem") -> PathProfile:
    """Return the PSNR along the problem's path.

    If squared errors were integrated, the squared errors of the degradations are taken from the path integral. Clean
    input takes one forward pass at each point. If another loss was integrated, the degradations take these passes too.

    Args:
        problem: two networks and a probe.
    """
    integral = problem.integral
    known = ~integral.losses.isnan().flatten(0, 1).any(0)
    alphas = integral.alphas[known]
    pixels = torch.tensor([image.hr.numel() for image in problem.probe], dtype=torch.float64)
    integrated = problem.loss == SQUARED_ERROR and problem.truth == "ground_truth"
    inputs = (CLEAN,) if integrated else (*problem.degradations, CLEAN)
    plain = replace(problem, loss=SQUARED_ERROR, truth="ground_truth")
    rows = [
        [list(plain.loss_path(image, name, problem.path).evaluate(alphas.tolist()).values()) for name in inputs]
        for image in problem.probe
    ]
    losses = torch.tensor(rows, dtype=torch.float64)
    losses = torch.cat([integral.losses[..., known], losses], 1) if integrated else losses
    error = (losses / pixels[:, None, None]).clamp_min(10 ** (-PSNR_CEILING / 10))
    return PathProfile((*problem.degradations, CLEAN), alphas, (-10 * error.log10()).mean(0))


@full_precision()
def train_middle(
    problem: "Problem", steps: int = 300, progress: Callable[[str], None] | None = None
) -> dict[str, Tensor]:
    """Train the middle point m of the quadratic Bézier curve from the baseline to the target on the probe.

    Garipov et al. (NeurIPS 2018) minimise the expected loss at α uniform in [0, 1]. This function minimises the mean
    over the inputs (degradations and clean) of log(1 + L / L_end). L_end is the larger loss of the two networks on the
    same crop. The reason is that a barrier is measured in dB below the worse end, and that each input has the same
    weight. The points α are a seeded low-discrepancy sequence. The learning rate falls to 0 along a cosine.

    Args:
        problem: two networks and a probe. Its seed is used, and its path is not used.
        steps: optimizer steps, > 0; each step uses all inputs of a crop of one probe image.
        progress: called after each step.

    Returns:
        m: parameters by name, detached. Equal arguments give equal parameters.

    Raises:
        ValueError: `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be > 0, not {steps}")
    names = trainable(problem.network)
    layout = memory_format(problem.target[names[0]], problem.compute.autocast)
    ends = [in_format({n: state[n] for n in names}, layout) for state in (problem.baseline, problem.target)]
    buffers = {name: value for name, value in problem.target.items() if name not in set(names)}
    middle = {n: torch.lerp(ends[0][n], ends[1][n], 0.5).requires_grad_() for n in names}
    # A tensor that is equal in both networks has a rate of 0.
    changes = {n: (ends[1][n] - ends[0][n]).double().square().mean().sqrt() for n in names}
    groups = [{"params": [middle[n]], "lr": _RATE * float(changes[n])} for n in names]
    optimizer = torch.optim.Adam(groups)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    compute = Compute(autocast=problem.compute.autocast)
    shift = sample_rng(problem.seed, "curve").random()
    for step in range(steps):
        alpha = (shift + (step + 1) * (math.sqrt(5) - 1) / 2) % 1
        image = problem.probe[step % len(problem.probe)]
        lr, hr = problem.crop(image, CROP, sample_rng(problem.seed, "curve/crop", step))
        lr = lr.contiguous(memory_format=layout)

        def losses(parameters: State, lr: Tensor = lr, hr: Tensor = hr) -> Tensor:
            output = compute.output(problem.network, {**buffers, **parameters}, lr)
            return torch.stack([SQUARED_ERROR(one, hr) for one in output])

        with torch.no_grad():
            worse_end = torch.maximum(losses(ends[0]), losses(ends[1])) + _FLOOR * hr.numel()
        with torch.enable_grad():
            loss = (losses(Bezier(ends[0], middle, ends[1]).at(alpha)) / worse_end).log1p().mean()
            gradients = torch.autograd.grad(loss, list(middle.values()), allow_unused=True, materialize_grads=True)
        for value, gradient in zip(middle.values(), gradients, strict=True):
            value.grad = gradient
        optimizer.step()
        annealing.step()
        if progress is not None:
            progress(f"step {step + 1}")
    return {name: value.detach() for name, value in middle.items()}
