"""Gaussian noise of the electronics, Poisson noise of the light, and JPEG compression.

They come after downsampling, or before it with `domain: hr`. Poisson noise and JPEG run on the CPU, so that every
device gets the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from faig_lab.data.degradations.draws import (
    Severity,
    WholeSeverity,
    bounds,
    check_share,
    draw_chosen,
    draw_each,
    draw_normal,
    draw_whole,
)

_RAREST = 1e-12
"""Probability at which the tails of the Poisson distribution are cut off: seven standard deviations."""

_LUMA = (0.299, 0.587, 0.114)
"""Of R, G and B (ITU-R BT.601)."""


@dataclass(frozen=True)
class GaussianNoise:
    """Additive white Gaussian noise, independent per pixel and, unless it is grey, per channel.

    Args:
        sigma: standard deviation as a fraction of the range [0, 1], >= 0; or a range [low, high].
        probability: share of the target's training samples that get this degradation, 0..1.
        grey: share of the samples whose noise is the same in all channels, 0..1.
        domain: "lr" after downsampling, "hr" before it.
    """

    sigma: Severity = 0.1
    probability: float = 0.5
    grey: float = 0.0
    domain: Literal["hr", "lr"] = "lr"

    def __post_init__(self) -> None:
        if bounds("sigma", self.sigma)[0] < 0:
            raise ValueError(f"sigma must be >= 0 (range [0, 1]), not {self.sigma}")
        check_share("probability", self.probability)
        check_share("grey", self.grey)

    reach = 0  # noise is pointwise

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Add noise to (N, 3, H, W)."""
        sigmas = torch.tensor(draw_each(self.sigma, rngs), dtype=images.dtype).to(images.device)
        grey = draw_chosen(self.grey, rngs)
        noise = draw_normal(images.shape[1:], rngs, images)
        if grey.any():
            noise = torch.where(torch.from_numpy(grey).to(noise.device)[:, None, None, None], noise[:, :1], noise)
        return images + sigmas[:, None, None, None] * noise


@dataclass(frozen=True)
class PoissonNoise:
    """Photon noise, independent per pixel and, unless it is grey, per channel: Poisson(peak · image) / peak.

    The mean is the image and the variance image / peak: bright pixels are noisier than dark ones, unlike with
    `GaussianNoise`. At mid-grey, peak 50 is as noisy as a Gaussian sigma of 0.1. Grey noise is that of the luma
    0.299 R + 0.587 G + 0.114 B, added to all channels.

    Args:
        peak: photons that a white pixel collects, > 0; fewer photons give more noise; or a range [low, high].
        probability: share of the target's training samples that get this degradation, 0..1.
        grey: share of the samples whose noise is the same in all channels, 0..1.
        domain: "lr" after downsampling, "hr" before it.
    """

    peak: Severity = 50.0
    probability: float = 0.5
    grey: float = 0.0
    domain: Literal["hr", "lr"] = "lr"

    def __post_init__(self) -> None:
        if bounds("peak", self.peak)[0] <= 0:
            raise ValueError(f"peak must be > 0 photons, not {self.peak}")
        check_share("probability", self.probability)
        check_share("grey", self.grey)

    reach = 0  # noise is pointwise

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Count the photons of (N, 3, H, W). A pixel below 0 has none.

        A pixel's count depends on the uniform number and the brightness of this pixel alone. NumPy's sampler takes a
        varying number of random numbers per pixel: there one rounding error would change the noise of all pixels that
        follow.
        """
        peaks = torch.tensor(draw_each(self.peak, rngs), dtype=torch.float64)[:, None, None, None]
        grey = draw_chosen(self.grey, rngs)
        uniform = torch.from_numpy(np.stack([rng.random(images.shape[1:]) for rng in rngs]))
        light = images.detach().cpu().double().clamp(min=0)
        noisy = poisson_quantile(uniform, light * peaks) / peaks
        if grey.any():
            luma = (light[grey] * light.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
            noisy[grey] = light[grey] + poisson_quantile(uniform[grey, :1], luma * peaks[grey]) / peaks[grey] - luma
        return noisy.to(images.device, images.dtype)


def poisson_quantile(probability: Tensor, rate: Tensor) -> Tensor:
    """Return the smallest count whose cumulative Poisson probability reaches `probability`, elementwise.

    `scipy.special.pdtrik` gives the same counts, but searches for each of them, which takes several times as long.

    Args:
        probability: 0..1, float64.
        rate: expected counts, >= 0, float64, of the same shape.

    Returns:
        Whole numbers, float64.
    """

    def poisson(count: Tensor) -> Tensor:
        logarithm: Tensor = torch.xlogy(count, rate) - rate - torch.lgamma(count + 1)
        return logarithm.exp()

    probability = probability.clamp(_RAREST, 1 - _RAREST)
    normal: Tensor = torch.special.ndtri(probability)
    # Cornish and Fisher's expansion is rarely off by more than 1; the loops make it exact.
    count = (rate + rate.sqrt() * normal + (normal.square() - 1) / 6).floor().clamp(min=0)
    cumulated = torch.special.gammaincc(count + 1, rate)
    while (below := cumulated < probability).any():
        count = count + below.double()
        cumulated = cumulated + below * poisson(count)
    while (above := (count > 0) & (cumulated - (last := poisson(count)) >= probability)).any():
        count = count - above.double()
        cumulated = cumulated - above * last
    return count


@dataclass(frozen=True)
class JPEG:
    """The image written as a JPEG file and read again: 8 bits, colour at half resolution (4:2:0).

    Pillow's codec compresses image by image on the CPU. Kornia's differentiable JPEG upsamples colour and rounds in
    another way: it differs from a decoded file by one grey level on average, by ten at edges. Each input is a separate
    file: the grid of 8×8 blocks (16×16 for colour) starts at its top left corner, or `shift` pixels outside of it. Two
    parts of this class compress twice; a shift keeps the second grid from being the first one.

    Args:
        quality: 1 (smallest file) to 100, libjpeg's scale; or a range [low, high] of whole numbers.
        probability: share of the target's training samples that get this degradation, 0..1.
        shift: pixels by which the grid starts above and to the left of the image, 0..15; or a range of whole numbers,
            from which the shifts down and to the right are drawn.
        domain: "lr" after downsampling, "hr" before it.
    """

    quality: WholeSeverity = 30
    probability: float = 0.5
    shift: WholeSeverity = 0
    domain: Literal["hr", "lr"] = "lr"

    def __post_init__(self) -> None:
        low, high = bounds("quality", self.quality)
        if low < 1 or high > 100:
            raise ValueError(f"quality must lie in 1..100, not {self.quality}")
        if bounds("shift", self.shift)[0] < 0 or bounds("shift", self.shift)[1] > 15:
            raise ValueError(f"shift must lie in 0..15, not {self.shift}")
        check_share("probability", self.probability)

    @property
    def reach(self) -> int:
        """On LR 0: the input itself is the file, without a margin. On HR 16: a block of colour and its neighbour."""
        return 0 if self.domain == "lr" else 16

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Compress (N, 3, H, W). Pixels are rounded to 8 bits and clipped to [0, 1] before and after."""
        pixels = (images.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        decoded = []
        for image, rng in zip(pixels, rngs, strict=True):
            quality, down, right = (draw_whole(severity, rng) for severity in (self.quality, self.shift, self.shift))
            file = BytesIO()
            padded = np.pad(image, ((down, 0), (right, 0), (0, 0)), mode="edge")
            Image.fromarray(padded).save(file, "JPEG", quality=quality, subsampling="4:2:0")
            with Image.open(file) as compressed:
                decoded.append(np.asarray(compressed)[down:, right:])
        channels_first = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
        return channels_first.to(images.device, images.dtype) / 255
