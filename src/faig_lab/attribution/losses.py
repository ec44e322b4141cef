"""Losses to attribute: distances between an output and the truth, each a sum over pixels and channels.

Since a loss is a sum over pixels, the loss of an image is the sum of the losses of its tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""Output and truth, (N, 3, H, W) each → a scalar, which is a sum over pixels."""

Truth = Literal["ground_truth", "target"]
"""The image that the output is compared with: the ground truth, or the target's own output for the same input."""


@dataclass(frozen=True)
class SquaredError:
    """‖output − truth‖², the loss of the paper. The PSNR is a function of this loss."""

    def __call__(self, output: Tensor, truth: Tensor) -> Tensor:
        """Sum the squares over all pixels, in at least single precision."""
        return (output.to(truth.dtype) - truth).square().sum()


SQUARED_ERROR = SquaredError()


@dataclass(frozen=True)
class AbsoluteError:
    """|output − truth|, the L1 loss. Most restoration networks are trained with it."""

    def __call__(self, output: Tensor, truth: Tensor) -> Tensor:
        """Sum the absolute differences over all pixels, in at least single precision."""
        return (output.to(truth.dtype) - truth).abs().sum()


@dataclass(frozen=True)
class Charbonnier:
    """√((output − truth)² + ε²) − ε, the L1 loss without its kink (Lai et al., LapSRN, CVPR 2017).

    Args:
        epsilon: width of the rounded part, > 0, in the units of images in [0, 1].

    Raises:
        ValueError: epsilon is not above 0.
    """

    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be > 0, not {self.epsilon}")

    def __call__(self, output: Tensor, truth: Tensor) -> Tensor:
        """Sum over all pixels, in at least single precision. The loss of equal images is 0."""
        difference = output.to(truth.dtype) - truth
        return ((difference.square() + self.epsilon**2).sqrt() - self.epsilon).sum()
