"""Blurs and resizing, which remove detail: Gaussian, anisotropic, motion of the camera, ringing sinc, smaller and back.

A part of the domain "hr" comes before downsampling, and its pixels are HR pixels. With `domain: lr` it comes after
downsampling, and its pixels are LR pixels. Every kernel of a blur sums to 1, also where it is cut off.

Angles are in degrees, counter-clockwise as displayed: 0 is horizontal, 90 vertical.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import filter2d, gaussian_blur2d, get_motion_kernel2d
from torch import Tensor

from faig_lab.data.degradations.draws import (
    Severity,
    WholeSeverity,
    bounds,
    check_share,
    draw,
    draw_each,
    draw_each_whole,
)
from faig_lab.data.degradations.pipeline import Part


class _SquareKernel:
    """A filter with a square kernel."""

    kernel_size: int

    def __post_init__(self) -> None:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, not {self.kernel_size}")

    @property
    def reach(self) -> int:
        """Half the kernel, in pixels of the domain."""
        return self.kernel_size // 2


@dataclass(frozen=True)
class GaussianBlur(_SquareKernel):
    """Isotropic Gaussian blur of HR before downsampling.

    Args:
        sigma: standard deviation in HR pixels, > 0; or a range [low, high].
        kernel_size: side of the square kernel in HR pixels, odd.
        probability: share of the target's training samples that get this blur, 0..1.
        domain: "hr" before downsampling, "lr" after it.
    """

    sigma: Severity = 2.0
    kernel_size: int = 21
    probability: float = 0.5
    domain: Literal["hr", "lr"] = "hr"

    def __post_init__(self) -> None:
        _check_sigma("sigma", self.sigma)
        super().__post_init__()
        check_share("probability", self.probability)

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Blur (N, 3, H, W); `rngs` serve a range. The outermost `reach` pixels depend on a reflected border."""
        size = (self.kernel_size, self.kernel_size)
        if isinstance(self.sigma, int | float):  # one kernel for the whole batch
            return gaussian_blur2d(images, size, (self.sigma, self.sigma), border_type="reflect")
        sigmas = torch.tensor(draw_each(self.sigma, rngs), dtype=images.dtype)  # kornia checks and moves them
        return gaussian_blur2d(images, size, sigmas[:, None].expand(-1, 2), border_type="reflect")


@dataclass(frozen=True)
class AnisotropicGaussianBlur(_SquareKernel):
    """Gaussian blur of HR whose strength depends on the direction, as of an astigmatic lens.

    The kernel is exp(-½ (u²/sigma_x² + v²/sigma_y²)), normalised, with u along `angle` and v across it. With
    sigma_x = sigma_y the blur equals `GaussianBlur`.

    Args:
        sigma_x: standard deviation along `angle` in HR pixels, > 0; or a range [low, high].
        sigma_y: standard deviation across `angle`, likewise.
        angle: of the first axis, in degrees counter-clockwise from horizontal; or a range; None: any direction.
        kernel_size: side of the square kernel in HR pixels, odd.
        probability: share of the target's training samples that get this blur, 0..1.
        domain: "hr" before downsampling, "lr" after it.
    """

    sigma_x: Severity = 4.0
    sigma_y: Severity = 1.0
    angle: Severity | None = None
    kernel_size: int = 21
    probability: float = 0.5
    domain: Literal["hr", "lr"] = "hr"

    def __post_init__(self) -> None:
        _check_sigma("sigma_x", self.sigma_x)
        _check_sigma("sigma_y", self.sigma_y)
        bounds("angle", _directions(self.angle))
        super().__post_init__()
        check_share("probability", self.probability)

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Blur (N, 3, H, W), each with its own kernel. The outermost `reach` pixels depend on a reflected border."""
        return filter2d(images, self.kernels(rngs), border_type="reflect")

    def kernels(self, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Return the samples' kernels: (N, kernel_size, kernel_size), float64, each summing to 1."""
        drawn = [draw_each(self.sigma_x, rngs), draw_each(self.sigma_y, rngs), draw_each(_directions(self.angle), rngs)]
        along, across, angle = torch.tensor(drawn, dtype=torch.float64)[..., None, None]
        place = torch.arange(self.kernel_size, dtype=torch.float64) - self.kernel_size // 2
        right, up = place[None, None, :], -place[None, :, None]
        cosine, sine = torch.cos(torch.deg2rad(angle)), torch.sin(torch.deg2rad(angle))
        u, v = cosine * right + sine * up, cosine * up - sine * right
        kernels = torch.exp(-0.5 * ((u / along).square() + (v / across).square()))
        return kernels / kernels.sum(dim=(1, 2), keepdim=True)


@dataclass(frozen=True)
class MotionBlur:
    """Blur of a camera that moves steadily along a straight line while the shutter is open.

    Args:
        length: of the line in HR pixels, odd and at least 3; or a range of two such numbers, from which each odd
            number is drawn with equal probability.
        angle: of the line, in degrees counter-clockwise from horizontal; or a range; None: any direction.
        probability: share of the target's training samples that get this blur, 0..1.
        domain: "hr" before downsampling, "lr" after it.
    """

    length: WholeSeverity = 15
    angle: Severity | None = None
    probability: float = 0.5
    domain: Literal["hr", "lr"] = "hr"

    def __post_init__(self) -> None:
        low, high = bounds("length", self.length)
        if low < 3 or low % 2 == 0 or high % 2 == 0:
            raise ValueError(f"length must be odd and at least 3 HR pixels, not {self.length}")
        bounds("angle", _directions(self.angle))
        check_share("probability", self.probability)

    @property
    def reach(self) -> int:
        """Half the longest line, in HR pixels."""
        return int(bounds("length", self.length)[1]) // 2

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Blur (N, 3, H, W), each with its own kernel. The outermost `reach` pixels depend on a reflected border."""
        return filter2d(images, self.kernels(rngs), border_type="reflect")

    def kernels(self, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Return the samples' kernels: (N, k, k) with k = 2·reach + 1, float32, each summing to 1."""
        own = self.length
        halves = draw_each_whole(own // 2 if isinstance(own, int) else (own[0] // 2, own[1] // 2), rngs)
        lengths = [2 * half + 1 for half in halves]
        drawn = draw_each(_directions(self.angle), rngs)
        kernels = torch.zeros(len(rngs), 2 * self.reach + 1, 2 * self.reach + 1)
        for length in set(lengths):
            index = [i for i, other in enumerate(lengths) if other == length]
            angles = torch.tensor([drawn[i] for i in index])
            # Bilinear, because the length of a line of nearest pixels jumps with the angle.
            lines = get_motion_kernel2d(length, angles, torch.zeros_like(angles), mode="bilinear")
            kernels[index] = F.pad(lines, [self.reach - length // 2] * 4)
        return kernels


@dataclass(frozen=True)
class Sinc(_SquareKernel):
    """Ideal low-pass filter of a round passband: what is left of sharp edges rings, as after over-sharpening.

    The kernel is k(r) = ω J₁(ω r) / (2π r), with r in pixels and k(0) = ω² / 4π, cut off to a square and normalised
    (Wang et al., Real-ESRGAN, ICCVW 2021). The result is clipped to [0, 1], because the kernel has negative lobes.

    Args:
        cutoff: ω in radians per pixel, above 0 and at most π; lower removes more; or a range [low, high]. Real-ESRGAN
            has π/3 to π.
        kernel_size: side of the square kernel in pixels, odd.
        probability: share of the target's training samples that get this filter, 0..1.
        domain: "hr" before downsampling, "lr" after it.
    """

    cutoff: Severity = math.pi / 3
    kernel_size: int = 21
    probability: float = 0.5
    domain: Literal["hr", "lr"] = "hr"

    def __post_init__(self) -> None:
        low, high = bounds("cutoff", self.cutoff)
        if low <= 0 or high > math.pi:
            raise ValueError(f"cutoff must be > 0 and at most π = 3.1415 radians per pixel, not {self.cutoff}")
        super().__post_init__()
        check_share("probability", self.probability)

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Filter (N, 3, H, W), each with its own kernel. The outermost `reach` pixels depend on a reflected border."""
        return filter2d(images, self.kernels(rngs), border_type="reflect").clamp(0, 1)

    def kernels(self, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Return the samples' kernels: (N, kernel_size, kernel_size), float64, each summing to 1."""
        cutoff = torch.tensor(draw_each(self.cutoff, rngs), dtype=torch.float64)[:, None, None]
        place = torch.arange(self.kernel_size, dtype=torch.float64) - self.kernel_size // 2
        radius = torch.hypot(place[:, None], place[None, :])
        # J₁(x) / x is ½ at 0; ω² / 2π is a factor of all taps, which the normalisation removes.
        argument = cutoff * radius
        kernels = torch.where(argument > 0, _bessel_j1(argument) / argument.clamp(min=1e-300), 0.5)
        return kernels / kernels.sum(dim=(1, 2), keepdim=True)


def _bessel_j1(argument: Tensor) -> Tensor:
    """Return J₁, elementwise, to about 1e-15: Bessel's integral, the mean of cos(τ − x sin τ) over 0 < τ < π.

    The integrand is smooth and periodic, so that the midpoint rule is exact with somewhat more points than the largest
    |x|. `torch.special.bessel_j1` is off by up to 4e-7.
    """
    points = int(argument.abs().max()) + 40
    angle = (torch.arange(points, dtype=torch.float64) + 0.5) * (math.pi / points)
    return torch.cos(angle - argument[..., None] * torch.sin(angle)).mean(dim=-1)


_LOST = 0.01
"""Share of a Gaussian outside its kernel above which a user is told."""


def clipped_kernels(parts: Mapping[str, Part]) -> Iterator[str]:
    """Yield one line for each Gaussian blur of which more than 1 % lies outside the kernel.

    A kernel that is cut off is normalised, and then blurs less than its sigma says. The share is that of the largest
    sigma: 1 − erf(k / √8 σ_x) · erf(k / √8 σ_y) for a kernel of k × k pixels, exact where the axes are those of the
    pixels and nearly so elsewhere.

    Args:
        parts: name → part, as in `Degradation`; parts within a `Composed` are looked at too.
    """
    for name, part in parts.items():
        inner = getattr(part, "parts", None)
        if isinstance(inner, Mapping):
            yield from clipped_kernels({f"{name}.parts.{key}": value for key, value in inner.items()})
        if not isinstance(part, GaussianBlur | AnisotropicGaussianBlur):
            continue
        axes = ("sigma",) if isinstance(part, GaussianBlur) else ("sigma_x", "sigma_y")
        sigmas = [bounds(axis, getattr(part, axis))[1] for axis in axes]
        lost = _outside(part.kernel_size, sigmas[0], sigmas[-1])
        if lost > _LOST:
            enough = part.kernel_size
            while _outside(enough, sigmas[0], sigmas[-1]) > _LOST:
                enough += 2
            said = ", ".join(f"{axis} = {sigma:g}" for axis, sigma in zip(axes, sigmas, strict=True))
            yield (
                f"degradation.parts.{name}.kernel_size: {lost * 100:.2g} % of the Gaussian with {said} lies outside "
                f"{part.kernel_size}×{part.kernel_size} pixels; kernel_size={enough} holds 99 %"
            )


def _outside(kernel_size: int, sigma_x: float, sigma_y: float) -> float:
    """Return the share of a Gaussian outside a square."""
    return 1 - math.prod(math.erf(kernel_size / (math.sqrt(8) * sigma)) for sigma in (sigma_x, sigma_y))


def _check_sigma(name: str, sigma: Severity) -> None:
    if bounds(name, sigma)[0] <= 0:
        raise ValueError(f"{name} must be > 0 HR pixels, not {sigma}")


def _directions(angle: Severity | None) -> Severity:
    """Return an angle; for None all directions: the kernels are symmetric about their centre."""
    return (0.0, 180.0) if angle is None else angle


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
            check_share("enlarged", self.enlarged)
            if not low < 1 < high:
                raise ValueError(f"enlarged must be null where the factors {self.factor} are not on both sides of 1")
        check_share("probability", self.probability)

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
            # Rounded up, so that no pixel of the small image is wider than 1 / factor.
            sides = [max(1, math.ceil(length * factor - 1e-9)) for length in (height, width)]
            small = self._resized(image, (sides[0], sides[1]), there)
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
