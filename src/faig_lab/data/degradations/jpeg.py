"""JPEG compression of LR."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from faig_lab.data.degradations.severity import WholeSeverity, check_probability, draw_whole, ends


@dataclass(frozen=True)
class JPEG:
    """LR written as a JPEG file and read again: 8 bits, colour at half resolution (4:2:0).

    It is Pillow's codec, image by image, on the CPU: kornia's differentiable JPEG upsamples colour and rounds in
    its own way and differs from a decoded file by one grey level on average, by ten at edges. Each input is a file
    of its own: the grid of 8×8 blocks starts at its top left corner.

    Args:
        quality: 1 (smallest file) to 100, libjpeg's scale; or a range [low, high] of whole numbers.
        probability: how often a training sample of the target gets it, 0..1.
    """

    quality: WholeSeverity = 30
    probability: float = 0.5
    domain: Literal["lr"] = "lr"

    def __post_init__(self) -> None:
        low, high = ends("quality", self.quality)
        if low < 1 or high > 100:
            raise ValueError(f"quality must lie in 1..100, not {self.quality}")
        check_probability(self.probability)

    @property
    def reach(self) -> int:
        """0: whole inputs are compressed, after their margin is cut off."""
        return 0

    def apply(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Compress (N, 3, H, W); rounded to 8 bits and clipped to [0, 1] before and after."""
        pixels = (images.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        qualities = [draw_whole(self.quality, rng) for rng in rngs]
        decoded = np.stack([_round_trip(*pair) for pair in zip(pixels, qualities, strict=True)])
        channels_first = torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous()
        return channels_first.to(images.device, images.dtype) / 255


def _round_trip(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Encode (H, W, 3) and decode it."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as image:
        return np.asarray(image)
