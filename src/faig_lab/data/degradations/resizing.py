"""Images that were made smaller or larger, and brought back to their size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from faig_lab.data.degradations.pipeline import Severity, bounds, check_probability, draw

Kernel = Literal["area", "bilinear", "bicubic"]
_KERNELS: tuple[Kernel, ...] = ("area", "bilinear", "bicubic")
_TAPS = {"bilinear": 1, "bicubic": 2}
"""Half the width of a kernel, in pixels of the grid that it runs on."""


@dataclass(frozen=True)
class Resize:
    """Resizing by a factor and back to the size before, as of a picture that was shared more than once.

    Each way has a kernel of its own, drawn from `kernels` with equal probability. The result is clipped to [0, 1],
    because cubic kernels overshoot. A side of n pixels becomes ⌈n · factor⌉ pixels. Resizing runs on the CPU, so that
    every device gets the same bytes.

    Args:
        factor: new side in sides of the image, > 0: below 1 smaller, above 1 larger; or a range [low, high].
        kernels: "area" (means of blocks), "bilinear" and "bicubic", each at most once.
        antialias: widen a bilinear or bicubic kernel where the image becomes smaller, as MATLAB and Pillow do; false
            is what Real-ESRGAN's training does.
        enlarged: share of the samples whose factor is drawn from the part of the range above 1, 0..1; null: the factor
            is uniform over the range.
        probability: share of the target's training samples that get this degradation, 0..1.
        domain: "hr" before downsampling, "lr" after it.
    """

    factor: Severity = (0.2, 0.6)
    kernels: Sequence[Kernel] = _KERNELS
    antialias: bool = True
    enlarged: float | None = None
    probability: float = 0.5
    domain: Literal["hr", "lr"] = "hr"

    def __post_init__(self) -> None:
        low, high = bounds("factor", self.factor)
        if low <= 0:
            raise ValueError(f"factor must be > 0, not {self.factor}")
        unknown = [kernel for kernel in self.kernels if kernel not in _KERNELS]
        if unknown or not self.kernels or len(set(self.kernels)) < len(self.kernels):
            raise ValueError(f"kernels must be one or more of {', '.join(_KERNELS)}, not {list(self.kernels)}")
        if self.enlarged is not None:
            if not 0 <= self.enlarged <= 1:
                raise ValueError(f"enlarged must lie in 0..1, not {self.enlarged}")
            if not low < 1 < high:
                raise ValueError(f"enlarged must be null where the factors {self.factor} are not on both sides of 1")
        check_probability(self.probability)

    @property
    def reach(self) -> int:
        """The widest kernel there and the widest back, at the smallest factor."""
        pixel = max(1.0, 1 / bounds("factor", self.factor)[0])  # of the small image, in pixels of the image
        block = pixel / 2 + 1
        there = max(_TAPS[k] * (pixel if self.antialias else 1) if k in _TAPS else block for k in self.kernels)
        back = max(_TAPS[k] * pixel if k in _TAPS else block for k in self.kernels)
        return math.ceil(there + back)

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Resize (N, 3, H, W) and bring each image back to (3, H, W)."""
        height, width = images.shape[-2:]
        on_cpu = images.detach().cpu()
        resized = []
        for image, rng in zip(on_cpu[:, None], rngs, strict=True):
            factor = self._draw_factor(rng)
            there, back = (self.kernels[int(rng.integers(len(self.kernels)))] for _ in range(2))
            small = self._resized(image, (_side(height, factor), _side(width, factor)), there)
            resized.append(self._resized(small, (height, width), back))
        return torch.cat(resized).clamp(0, 1).to(images.device)

    def _draw_factor(self, rng: np.random.Generator) -> float:
        if self.enlarged is None:
            return draw(self.factor, rng)
        low, high = bounds("factor", self.factor)
        return draw((1.0, high) if rng.random() < self.enlarged else (low, 1.0), rng)

    def _resized(self, image: Tensor, size: tuple[int, int], kernel: Kernel) -> Tensor:
        if kernel == "area":
            return F.interpolate(image, size=size, mode="area")
        return F.interpolate(image, size=size, mode=kernel, align_corners=False, antialias=self.antialias)


def _side(length: int, factor: float) -> int:
    """Return the new side: rounded up, so that no pixel of it is wider than 1 / factor."""
    return max(1, math.ceil(length * factor - 1e-9))
