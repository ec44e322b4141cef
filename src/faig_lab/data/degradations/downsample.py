"""The step from HR to LR pixels."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

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
        """How many HR pixels beyond its own an LR pixel sees, at most."""
        return 2 * scale

    def apply(self, images: Tensor, scale: int) -> Tensor:
        """(N, 3, H, W) → (N, 3, H/scale, W/scale); H and W are multiples of `scale`."""
        if scale == 1:
            return images
        size = (images.shape[-2] // scale, images.shape[-1] // scale)
        if self.mode in _CUBIC_AND_LINEAR:
            return F.interpolate(images, size=size, mode=self.mode, align_corners=False, antialias=self.antialias)
        return F.interpolate(images, size=size, mode="nearest-exact" if self.mode == "nearest" else self.mode)
