"""The restoration along the path: PSNR on the probe at every point, and the barrier (method.md §10).

On a path with a barrier the integral measures the barrier and not the function: the loss rises and falls again for
reasons that no degradation has.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from faig_lab.attribution.compute import full_precision
from faig_lab.attribution.methods import Problem
from faig_lab.attribution.path import LossPath
from faig_lab.data import CLEAN
from faig_lab.filters import first_floating
from faig_lab.metrics import PSNR_CEILING

BARRIER_LIMIT = 0.5
"""Barriers above this many dB are warned about. Pairs where the target was trained from the baseline have 0."""


@dataclass(frozen=True)
class PathProfile:
    """PSNR along the path for every input.

    Attributes:
        inputs: the degradations and clean input.
        alphas: (P,) ascending, from 0 to 1.
        psnr: (inputs, P) dB on RGB, mean over the probe images, at most PSNR_CEILING each; outputs neither clipped nor
            rounded.
    """

    inputs: tuple[str, ...]
    alphas: Tensor
    psnr: Tensor

    @property
    def barriers(self) -> dict[str, float]:
        """Input → how far the PSNR falls below its worse end on the way, in dB, ≥ 0."""
        worse_end = torch.minimum(self.psnr[:, 0], self.psnr[:, -1])
        return dict(zip(self.inputs, (worse_end - self.psnr.amin(1)).clamp_min(0).tolist(), strict=True))

    def rows(self) -> list[dict[str, object]]:
        """One row per input and point: input, alpha, psnr (dB)."""
        return [
            {"input": name, "alpha": alpha, "psnr": value}
            for name, values in zip(self.inputs, self.psnr.tolist(), strict=True)
            for alpha, value in zip(self.alphas.tolist(), values, strict=True)
        ]

    def warnings(self) -> list[str]:
        """Return one line if a barrier is above `BARRIER_LIMIT`, else nothing."""
        high = {name: value for name, value in self.barriers.items() if value > BARRIER_LIMIT}
        if not high:
            return []
        found = ", ".join(f"{name} {value:.1f} dB" for name, value in high.items())
        return [
            f"path: PSNR falls below both ends of the path ({found}; limit {BARRIER_LIMIT:g} dB). The scores measure "
            "this barrier rather than the functions, and masked networks may break; attribution.path=curve may avoid it"
        ]


@full_precision()
def profile(problem: Problem) -> PathProfile:
    """Return the PSNR along the problem's path.

    The losses of the degradations come from the path integral. Clean input takes one forward at each point.

    Args:
        problem: two networks and a probe.
    """
    integral = problem.integral
    known = ~integral.losses.isnan().flatten(0, 1).any(0)
    alphas = integral.alphas[known]
    pixels = torch.tensor([image.hr.numel() for image in problem.probe], dtype=torch.float64)
    losses = integral.losses[..., known]
    losses = torch.cat([losses, _clean_losses(problem, alphas.tolist())[:, None]], 1)
    error = (losses / pixels[:, None, None]).clamp_min(10 ** (-PSNR_CEILING / 10))
    return PathProfile((*problem.degradations, CLEAN), alphas, (-10 * error.log10()).mean(0))


def _clean_losses(problem: Problem, alphas: list[float]) -> Tensor:
    """Return (I, P) the loss on clean input at each point."""
    like = first_floating(problem.target.values())
    rows = []
    for image in problem.probe:
        lr, hr = (pixels[None].to(like) for pixels in (image.lr[CLEAN], image.hr))
        line = LossPath(problem.network, problem.baseline, problem.target, lr, hr, problem.compute, problem.path)
        rows.append(list(line.evaluate(alphas).values()))
    return torch.tensor(rows, dtype=torch.float64)
