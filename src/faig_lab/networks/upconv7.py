"""UpConv7: the ×2 network of waifu2x, whose published weights were trained by its author."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1


class UpConv7(nn.Module):
    """LR (N, 3, H, W) in [0, 1] → SR (N, 3, 2H, 2W): 3×3 convolutions and one transposed convolution; not clipped.

    Every layer takes only the places where its kernel lies inside the image. LR is enlarged at each side by repetition
    of its border (7 pixels with the default widths), so that SR has exactly twice the size. Parameter names are those
    of the author's files for Caffe and ncnn: `conv1_layer` to `conv7_layer`. With the default widths there are 60,720
    filters. Source: nagadomi/waifu2x, `appendix/caffe_prototxt/upconv_7.prototxt`.

    Args:
        scale: 2.
        widths: channels after each 3×3 convolution, all > 0.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, scale: int = 2, widths: Sequence[int] = (16, 32, 64, 128, 128, 256)) -> None:
        super().__init__()
        if scale != 2:
            raise ValueError(f"scale must be 2, not {scale}")
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must be one or more positive numbers, not {list(widths)}")
        self.scale = scale
        self.margin = len(widths) + 1
        for number, (before, after) in enumerate(pairwise((3, *widths)), start=1):
            self.add_module(f"conv{number}_layer", nn.Conv2d(before, after, 3))
        last = nn.ConvTranspose2d(widths[-1], 3, 4, stride=2, padding=3)
        self.add_module(f"conv{len(widths) + 1}_layer", last)
        for layer in self.children():
            assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, mode="fan_in" if layer is not last else "fan_out")
            nn.init.zeros_(layer.bias)

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, 3, 2H, 2W)."""
        x = F.pad(lr, [self.margin] * 4, mode="replicate")
        *convolutions, last = self.children()
        for layer in convolutions:
            x = F.leaky_relu(layer(x), SLOPE)
        return last(x)  # type: ignore[no-any-return]  # a module's call is untyped
