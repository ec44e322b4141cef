"""Degradations: what is done to HR on the way to LR (method.md §2).

HR patch with a margin ─ parts of domain "hr" (blur) ─► downsample ─► parts of domain "lr" (noise) ─► 8 bits.
Everything runs on a batch and on its device; randomness comes from one NumPy generator per sample, so a
degraded sample is the same bytes in any batch and for any number of workers or ranks.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

CLEAN = "clean"
"""The name of an input that is only downsampled."""


def sample_rng(seed: int, stream: str, *index: int) -> np.random.Generator:
    """The generator of one sample: a pure function of its arguments, independent of every other sample.

    Args:
        seed: the run's seed, >= 0.
        stream: what the numbers are for ("target", "evaluation/blur/coffee"); streams do not overlap.
        index: position in the stream, e.g. the sample's number since the start of training.
    """
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), *index])


class Part(Protocol):
    """One degradation: a degree of freedom of its own in the mix."""

    domain: Literal["hr", "lr"]
    probability: float

    @property
    def reach(self) -> int:
        """How many HR pixels away an output pixel still sees (0 for a pointwise part)."""

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Degrade (N, 3, H, W) in [0, 1]; one generator per image."""


@dataclass(frozen=True)
class GaussianBlur:
    """Isotropic Gaussian blur of HR before downsampling.

    Args:
        sigma: standard deviation in HR pixels, > 0.
        kernel_size: side of the square kernel in HR pixels, odd.
        probability: how often a training sample of the target gets it, 0..1.
    """

    sigma: float = 2.0
    kernel_size: int = 21
    probability: float = 0.5
    domain: Literal["hr"] = "hr"

    def __post_init__(self) -> None:
        if self.sigma <= 0:
            raise ValueError(f"sigma must be > 0 HR pixels, not {self.sigma}")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, not {self.kernel_size}")
        _check_probability(self.probability)

    @property
    def reach(self) -> int:
        """Half the kernel, in HR pixels."""
        return self.kernel_size // 2

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Blur (N, 3, H, W); `rngs` are not used. The outermost `reach` pixels see a reflected border."""
        size = (self.kernel_size, self.kernel_size)
        return gaussian_blur2d(images, size, (self.sigma, self.sigma), border_type="reflect")


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise on LR, independent per pixel and channel.

    Args:
        sigma: standard deviation as a fraction of the range [0, 1], >= 0.
        probability: how often a training sample of the target gets it, 0..1.
    """

    sigma: float = 0.1
    probability: float = 0.5
    domain: Literal["lr"] = "lr"

    def __post_init__(self) -> None:
        if self.sigma < 0:
            raise ValueError(f"sigma must be >= 0 (range [0, 1]), not {self.sigma}")
        _check_probability(self.probability)

    @property
    def reach(self) -> int:
        """0: noise is pointwise."""
        return 0

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Add noise to (N, 3, H, W). It is drawn on the CPU: the same bytes on every device."""
        shape = images.shape[1:]
        noise = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs])
        return images + self.sigma * torch.from_numpy(noise).to(images.device, images.dtype)


@dataclass(frozen=True)
class Downsample:
    """Downsampling by an integer factor.

    Args:
        mode: "bicubic" or "bilinear".
        antialias: widen the kernel by the factor, as MATLAB's imresize and Pillow do. Antialiased bicubic is
            the field's convention; bilinear without antialiasing is what the authors' training code does
            (it passes cv2.INTER_CUBIC as `dst`; method.md §8).
    """

    mode: Literal["bicubic", "bilinear"] = "bicubic"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.mode not in ("bicubic", "bilinear"):
            raise ValueError(f"mode must be bicubic or bilinear, not {self.mode}")

    def reach(self, scale: int) -> int:
        """How many HR pixels beyond its own an LR pixel sees."""
        return 2 * scale

    def apply(self, images: Tensor, scale: int) -> Tensor:
        """(N, 3, H, W) → (N, 3, H/scale, W/scale); H and W are multiples of `scale`."""
        if scale == 1:
            return images
        size = (images.shape[-2] // scale, images.shape[-1] // scale)
        return F.interpolate(images, size=size, mode=self.mode, align_corners=False, antialias=self.antialias)


@dataclass(frozen=True)
class Degradation:
    """The way from HR to LR: named parts around a downsampling.

    Args:
        parts: name → part; HR parts are applied before downsampling and LR parts after it, in order.
        downsample: the downsampling of every sample, degraded or not.
        scale: the network's factor, HR pixels per LR pixel.
        quantise: round LR to 8 bits and clip it to [0, 1], as images on disk are.
    """

    parts: Mapping[str, Part]
    downsample: Downsample
    scale: int
    quantise: bool = True

    @property
    def margin(self) -> int:
        """HR pixels to cut around a patch so that no pixel of its LR sees a border; a multiple of `scale`."""
        reach = sum(part.reach for part in self.parts.values() if part.domain == "hr")
        return -(-(reach + self.downsample.reach(self.scale)) // self.scale) * self.scale

    def inputs(self) -> dict[str, frozenset[str]]:
        """The inputs that are evaluated: clean, each part alone, and all parts together where there are several."""
        inputs = {CLEAN: frozenset[str](), **{name: frozenset({name}) for name in self.parts}}
        if len(self.parts) > 1:
            inputs["+".join(self.parts)] = frozenset(self.parts)
        return inputs

    def apply(self, hr: Tensor, names: Sequence[frozenset[str]], rngs: Sequence[np.random.Generator]) -> Tensor:
        """Degrade a batch.

        Args:
            hr: (N, 3, H + 2·margin, W + 2·margin) in [0, 1]; H and W multiples of `scale`.
            names: per sample, which parts it gets.
            rngs: per sample, where its randomness comes from.

        Returns:
            (N, 3, H/scale, W/scale); in [0, 1] where `quantise` is on, else noise may leave the range.
        """
        for name, part in self.parts.items():
            if part.domain == "hr":
                hr = _apply_where(part, hr, [name in chosen for chosen in names], rngs)
        lr = self.downsample.apply(hr, self.scale)
        border = self.margin // self.scale
        lr = lr[..., border : lr.shape[-2] - border, border : lr.shape[-1] - border]
        for name, part in self.parts.items():
            if part.domain == "lr":
                lr = _apply_where(part, lr, [name in chosen for chosen in names], rngs)
        return torch.round(lr.clamp(0, 1) * 255) / 255 if self.quantise else lr

    def draw(self, rng: np.random.Generator) -> frozenset[str]:
        """Which parts a training sample of the target gets: each with its own probability, independently."""
        return frozenset(name for name, part in self.parts.items() if rng.random() < part.probability)


def _apply_where(part: Part, images: Tensor, chosen: Sequence[bool], rngs: Sequence[np.random.Generator]) -> Tensor:
    """Apply `part` to the chosen images of the batch and leave the others as they are."""
    index = [i for i, yes in enumerate(chosen) if yes]
    if not index:
        return images
    degraded = part.apply(images[index], [rngs[i] for i in index])
    if len(index) == len(chosen):
        return degraded
    images = images.clone()
    images[index] = degraded
    return images


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in 0..1, not {probability}")
