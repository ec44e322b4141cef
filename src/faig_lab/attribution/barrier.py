"""The barrier along a path: PSNR on the probe at every point, and a curve that avoids a barrier (method.md §10).

On a path with a barrier the loss rises and falls again for reasons that have nothing to do with a degradation. The
integral then measures the barrier and not the function. The middle point of a curve is trained to keep the loss on the
path low.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from faig_lab.attribution.compute import Compute, full_precision, in_format, memory_format
from faig_lab.attribution.losses import SQUARED_ERROR
from faig_lab.attribution.path import LossPath
from faig_lab.attribution.probe import Problem, on_device
from faig_lab.attribution.weight_paths import Bezier
from faig_lab.data import CLEAN, sample_rng
from faig_lab.filters import State, first_floating, trainable
from faig_lab.metrics import PSNR_CEILING

BARRIER_LIMIT = 0.5
"""Largest barrier without a warning, in dB. A pair whose target was trained from the baseline has a barrier of 0."""

CROP = 64
"""Largest side of the training crops in LR pixels."""

_FLOOR = 1e-4
"""Squared error per value that is added to the losses of both ends, so that no loss is 0; it stands for 40 dB."""

_RATE = 0.1
"""Adam's learning rate in units of each tensor's root mean square change between the networks."""


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
def profile(problem: Problem) -> PathProfile:
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
    losses = torch.stack([_squared_errors(problem, name, alphas.tolist()) for name in inputs], 1)
    losses = torch.cat([integral.losses[..., known], losses], 1) if integrated else losses
    error = (losses / pixels[:, None, None]).clamp_min(10 ** (-PSNR_CEILING / 10))
    return PathProfile((*problem.degradations, CLEAN), alphas, (-10 * error.log10()).mean(0))


def _squared_errors(problem: Problem, name: str, alphas: list[float]) -> Tensor:
    """Return (I, P) the squared error between the output for one input and the ground truth, at each point."""
    rows = []
    for image in problem.probe:
        lr, hr = on_device(problem, image.lr[name], image.hr)
        line = LossPath(problem.network, problem.baseline, problem.target, lr, hr, problem.compute, problem.path)
        rows.append(list(line.evaluate(alphas).values()))
    return torch.tensor(rows, dtype=torch.float64)


@full_precision()
def train_middle(
    problem: Problem, steps: int = 300, progress: Callable[[str], None] | None = None
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
    groups = [{"params": [middle[n]], "lr": _scale(ends[1][n] - ends[0][n])} for n in names]
    optimizer = torch.optim.Adam(groups)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    compute = Compute(autocast=problem.compute.autocast)
    shift = sample_rng(problem.seed, "curve").random()
    for step in range(steps):
        alpha = (shift + (step + 1) * (math.sqrt(5) - 1) / 2) % 1
        lr, hr = _crop(problem, step)
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


def _scale(difference: Tensor) -> float:
    """Return the learning rate of a tensor; 0 if the networks have the same values."""
    return _RATE * float(difference.double().square().mean().sqrt())


def _crop(problem: Problem, step: int) -> tuple[Tensor, Tensor]:
    """Return all inputs (N, 3, h, w) of a crop of one probe image, and its ground truth (3, s·h, s·w)."""
    image = problem.probe[step % len(problem.probe)]
    inputs = (*problem.degradations, CLEAN)
    weight = first_floating(problem.target.values())
    height, width = image.lr[inputs[0]].shape[-2:]
    scale = image.hr.shape[-1] // width
    rng = sample_rng(problem.seed, "curve/crop", step)
    top, left = (int(rng.integers(0, max(side - CROP, 0) + 1)) for side in (height, width))
    lr = torch.stack([image.lr[name][:, top : top + CROP, left : left + CROP] for name in inputs])
    hr = image.hr[:, scale * top : scale * (top + CROP), scale * left : scale * (left + CROP)]
    return lr.to(weight), hr.to(weight)
