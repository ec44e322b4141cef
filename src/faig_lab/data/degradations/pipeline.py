"""The whole way from HR to LR: named parts around a downsampling, severities that samples draw, sharpened truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from faig_lab.data.degradations.draws import SampleDraws, check_share, draw_uniform

CLEAN = "clean"
"""The name of an input that is only downsampled."""

_CUBIC_AND_LINEAR = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Downsample:
    """Downsampling by an integer factor.

    Args:
        mode: "bicubic", "bilinear", "area" (the mean of each block) or "nearest" (the pixel at the block's centre,
            the one below and to the right of it where the factor is even; torch's `nearest-exact`).
        antialias: widen the kernel by the factor, as MATLAB's imresize and Pillow do; for bicubic and bilinear.
            Antialiased bicubic is the field's convention; bilinear without antialiasing is what the authors'
            training code does (it passes cv2.INTER_CUBIC as `dst`; method.md §8). Torch's cubic kernel has a = −0.5
            with antialiasing, as MATLAB and Pillow, and a = −0.75 without, as OpenCV. At the border the kernel's part
            inside the image is normalised, as in Pillow; MATLAB mirrors the image there.
    """

    mode: Literal["bicubic", "bilinear", "area", "nearest"] = "bicubic"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.mode not in (*_CUBIC_AND_LINEAR, "area", "nearest"):
            raise ValueError(f"mode must be bicubic, bilinear, area or nearest, not {self.mode}")
        if self.antialias and self.mode not in _CUBIC_AND_LINEAR:
            raise ValueError(f"antialias must be false for {self.mode}, which has no kernel to widen")

    def reach(self, scale: int) -> int:
        """Return how many HR pixels beyond its own block an LR pixel depends on, at most."""
        return 2 * scale if scale > 1 else 0

    def apply(self, images: Tensor, scale: int) -> Tensor:
        """Downsample (N, 3, H, W) to (N, 3, H/scale, W/scale); H and W are multiples of `scale`."""
        if scale == 1:
            return images
        size = (images.shape[-2] // scale, images.shape[-1] // scale)
        if self.mode in _CUBIC_AND_LINEAR:
            return F.interpolate(images, size=size, mode=self.mode, align_corners=False, antialias=self.antialias)
        return F.interpolate(images, size=size, mode="nearest-exact" if self.mode == "nearest" else self.mode)


class Part(Protocol):
    """One degradation. `Degradation.choose` says which samples get it."""

    domain: Literal["hr", "lr"]
    probability: float

    @property
    def reach(self) -> int:
        """How far an output pixel depends on input pixels, in pixels of the part's domain; 0 for a pointwise part."""

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Degrade (N, 3, H, W) in [0, 1]; one generator per image."""


@dataclass(frozen=True)
class Degradation:
    """The way from HR to LR: named parts around a downsampling.

    Args:
        parts: name → part; HR parts are applied before downsampling and LR parts after it, in order.
        downsample: the downsampling of every sample, degraded or not.
        scale: the network's factor, HR pixels per LR pixel.
        quantise: round LR to 8 bits and clip it to [0, 1], as images on disk are.
        sharpen_truth: compare with HR that is sharpened by Real-ESRGAN's unsharp mask, in the losses of training and
            attribution. LR comes from HR itself, and PSNR is measured against HR itself.
        choose: "each": a training sample gets each part with its probability, independently; "one": a sample gets
            exactly one part, in proportion to the probabilities.

    Raises:
        ValueError: `choose` is another word, or no part can be chosen.
    """

    parts: Mapping[str, Part]
    downsample: Downsample
    scale: int
    quantise: bool = True
    sharpen_truth: bool = False
    choose: Literal["each", "one"] = "each"

    def __post_init__(self) -> None:
        _check_choice(self.parts, self.choose)

    @property
    def margin(self) -> int:
        """HR pixels to cut around a patch so that its LR does not depend on a border; a multiple of `scale`."""
        hr, lr = (sum(part.reach for _, part in self._of(domain)) for domain in ("hr", "lr"))
        return (-(-(hr + self.downsample.reach(self.scale)) // self.scale) + lr) * self.scale

    def truth(self, hr: Tensor) -> Tensor:
        """Return what the losses compare with: HR (N, 3, H, W), sharpened if `sharpen_truth` is on."""
        return sharpened(hr) if self.sharpen_truth else hr

    def inputs(self) -> dict[str, frozenset[str]]:
        """Return the inputs to evaluate: clean, each part alone, and all parts together if there are several."""
        inputs = {CLEAN: frozenset[str](), **{name: frozenset({name}) for name in self.parts}}
        if len(self.parts) > 1:
            inputs["+".join(self.parts)] = frozenset(self.parts)
        return inputs

    def apply(self, hr: Tensor, names: Sequence[frozenset[str]], rngs: Sequence[np.random.Generator]) -> Tensor:
        """Degrade a batch.

        Args:
            hr: (N, 3, H + 2·margin, W + 2·margin) in [0, 1]; H and W multiples of `scale`.
            names: for each sample, the parts to apply.
            rngs: for each sample, the source of its randomness.

        Returns:
            (N, 3, H/scale, W/scale). With `quantise` the values lie in [0, 1]; without it noise may leave the range.
        """
        for name, part in self._of("hr"):
            hr = _apply_where(name, part, hr, names, rngs)
        border = self.margin // self.scale - sum(part.reach for _, part in self._of("lr"))
        lr = without_border(self.downsample.apply(hr, self.scale), border)
        for name, part in self._of("lr"):
            # The pixels that depend on a border go after each part, so that a last JPEG compresses LR alone.
            lr = without_border(_apply_where(name, part, lr, names, rngs), part.reach)
        return torch.round(lr.clamp(0, 1) * 255) / 255 if self.quantise else lr

    def draw(self, rng: np.random.Generator) -> frozenset[str]:
        """Draw the parts of a training sample of the target, as `choose` says."""
        return _draw_parts(self.parts, self.choose, [rng])[0]

    def draw_each(self, rngs: Sequence[np.random.Generator]) -> list[frozenset[str]]:
        """Draw the parts of several training samples, each as `draw` does."""
        if isinstance(rngs, SampleDraws) and type(self).draw is Degradation.draw:
            return _draw_parts(self.parts, self.choose, rngs)
        return [self.draw(rng) for rng in rngs]

    def _of(self, domain: str) -> list[tuple[str, Part]]:
        """Return the parts of one domain with their names, in order."""
        return [(name, part) for name, part in self.parts.items() if part.domain == domain]


@dataclass(frozen=True)
class Composed:
    """Several parts that are one degradation: applied in order, or one of them chosen for each sample.

    A composed part has no severity of its own, so the boundary analysis leaves it out.

    Args:
        parts: name → part, all of the domain of the composed part.
        choose: "each": every part is applied with its own probability, independently; "one": exactly one part, in
            proportion to the probabilities.
        probability: share of the target's training samples that get the composed part, 0..1.
        domain: "hr" before downsampling, "lr" after it.
    """

    parts: Mapping[str, Any]  # of Part; Any, since a configuration holds nodes here
    choose: Literal["each", "one"] = "each"
    probability: float = 0.5
    domain: Literal["hr", "lr"] = "hr"

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts must hold at least one part")
        for name, part in self.parts.items():
            if part.domain != self.domain:
                raise ValueError(f"parts.{name}.domain must be {self.domain}, the domain of all, not {part.domain}")
        _check_choice(self.parts, self.choose)
        check_share("probability", self.probability)

    @property
    def reach(self) -> int:
        """The sum over the parts; the largest where one of them is chosen."""
        reaches = [int(part.reach) for part in self.parts.values()]
        return max(reaches) if self.choose == "one" else sum(reaches)

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Apply the parts to (N, 3, H, W), each to the samples that draw it."""
        names = _draw_parts(self.parts, self.choose, rngs)
        for name, part in self.parts.items():
            images = _apply_where(name, part, images, names, rngs)
        return images


def _check_choice(parts: Mapping[str, Part], choose: str) -> None:
    if choose not in ("each", "one"):
        raise ValueError(f"choose must be each or one, not {choose}")
    if choose == "one" and parts and not any(part.probability for part in parts.values()):
        raise ValueError("parts must have a probability above 0 for at least one part with choose: one")


def _draw_parts(
    parts: Mapping[str, Part], choose: Literal["each", "one"], rngs: Sequence[np.random.Generator]
) -> list[frozenset[str]]:
    """Draw each part with its probability, independently, or exactly one part in proportion to the probabilities."""
    names, probabilities = list(parts), np.array([part.probability for part in parts.values()])
    if choose == "each" or not parts:
        chosen = draw_uniform(len(parts), rngs) < probabilities
        return [frozenset(name for name, yes in zip(names, row, strict=True) if yes) for row in chosen]
    edges = np.cumsum(probabilities / probabilities.sum())
    places = np.searchsorted(edges / edges[-1], draw_uniform(1, rngs)[:, 0], side="right")
    return [frozenset({names[place]}) for place in places]


def without_border(images: Tensor, border: int) -> Tensor:
    """Cut `border` pixels off each side of (N, C, H, W)."""
    return images[..., border : images.shape[-2] - border, border : images.shape[-1] - border]


def _apply_where(
    name: str, part: Part, images: Tensor, names: Sequence[frozenset[str]], rngs: Sequence[np.random.Generator]
) -> Tensor:
    """Apply a part to the images of the batch that have its name among theirs, and leave the others as they are."""
    index = [i for i, chosen in enumerate(names) if name in chosen]
    if not index:
        return images
    own = rngs.of(name, index) if isinstance(rngs, SampleDraws) else [rngs[i] for i in index]
    if len(index) == len(names):
        return part.apply(images, own)
    place = torch.tensor(index).to(images.device)
    return images.index_copy(0, place, part.apply(images[place], own))


_REACH = 25
"""Half of the kernel of 51 pixels, which Real-ESRGAN's radius of 50 becomes."""
_SIGMA = 8.0
"""HR pixels; what cv2.getGaussianKernel(51, 0) takes: 0.3 · (25 − 1) + 0.8."""
_WEIGHT = 0.5
_THRESHOLD = 10 / 255


def sharpened(images: Tensor) -> Tensor:
    """Return images sharpened by Real-ESRGAN's unsharp mask (`USMSharp`, Wang et al., ICCVW 2021).

    With G the Gaussian blur of σ = 8 HR pixels in 51 taps, the sharpened image is s = clip(x + ½ (x − Gx), 0, 1). The
    soft mask m = G[|x − Gx| > 10/255] selects edges: the result is m s + (1 − m) x. Each channel has its own mask.

    Args:
        images: (N, C, H, W) in [0, 1]; the border is reflected, as often as a small image needs it.

    Returns:
        The same shape, in [0, 1].
    """
    residual = images - _blurred(images)
    soft_mask = _blurred((residual.abs() > _THRESHOLD).to(images.dtype))
    sharp = (images + _WEIGHT * residual).clamp(0, 1)
    return soft_mask * sharp + (1 - soft_mask) * images


def _blurred(images: Tensor) -> Tensor:
    """Blur (N, C, H, W) by the Gaussian, row by row and column by column."""
    place = torch.arange(-_REACH, _REACH + 1, device=images.device, dtype=torch.float32).to(images.dtype)
    kernel = torch.exp(-place.square() / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    count, channels, height, width = images.shape
    rows, columns = (
        reflected(torch.arange(-_REACH, length + _REACH, device=images.device), length) for length in (height, width)
    )
    flat = images.reshape(count * channels, 1, height, width)
    flat = F.conv2d(flat[:, :, rows], kernel[None, None, :, None])
    flat = F.conv2d(flat[..., columns], kernel[None, None, None, :])
    return flat.reshape(images.shape)


Index = TypeVar("Index", NDArray[np.int64], Tensor)


def reflected(index: Index, length: int | Index) -> Index:
    """Fold places back into 0 … length − 1, without repeating the border pixel.

    Args:
        index: whole numbers, also below 0 and above length − 1.
        length: of the side, >= 1; one number, or numbers that broadcast with `index`.
    """
    last = length - 1
    return last - abs(index % (2 * last + (last == 0)) - last)
