"""The plain convolutional network of the FAIG paper. It has no skip connection."""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from faig_lab.networks.srresnet import check_scale, upsampling_factors

SLOPE = 0.1
IMAGE_CHANNELS = 3


class SRCNNStyle(nn.Module):
    """LR (N, 3, H, W) in [0, 1] → SR (N, 3, sH, sW) by a chain of 3×3 convolutions; not clipped.

    Parameter names are those of the authors' checkpoints: `features.N`. With the default widths and ×2 it
    has 156,224 filters.

    Args:
        scale: 1, 2, 3 or 4.
        widths: channels after each convolution at LR size, all > 0.
        pass_image: start as nearest-neighbour upscaling: Dirac kernels carry the image through three channels of
            every layer (after Zagoruyko and Komodakis, DiracNets, 2017). Without these kernels the result of a short
            training is worse than bicubic upscaling, because the network has no skip connection.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, scale: int = 2, widths: Sequence[int] = (64, 128, 128, 128, 128, 128), pass_image: bool = False
    ) -> None:
        super().__init__()
        check_scale(scale)
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must be one or more positive numbers, not {list(widths)}")
        if pass_image and min(widths) < IMAGE_CHANNELS:
            raise ValueError(f"pass_image needs widths of at least {IMAGE_CHANNELS}, not {min(widths)}")
        self.scale = scale
        layers: list[nn.Module] = []
        channels = 3
        for width in widths:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
            channels = width
        for factor in upsampling_factors(scale):
            layers += [nn.Conv2d(channels, channels * factor**2, 3, padding=1)]
            layers += [nn.PixelShuffle(factor), nn.LeakyReLU(SLOPE, inplace=True)]
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
        layers += [nn.Conv2d(channels, 3, 3, padding=1)]
        self.features = nn.Sequential(*layers)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        if pass_image:
            self._pass_image()

    @torch.no_grad()
    def _pass_image(self) -> None:
        """Make three channels of every layer a copy of the image. A leaky ReLU does not change values ≥ 0."""
        modules = list(self.features)
        for layer, after in zip_longest(modules, modules[1:]):
            if isinstance(layer, nn.Conv2d):
                copies = after.upscale_factor**2 if isinstance(after, nn.PixelShuffle) else 1
                for row in range(IMAGE_CHANNELS * copies):
                    layer.weight[row] = 0
                    layer.weight[row, row // copies, 1, 1] = 1

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, 3, sH, sW)."""
        return self.features(lr)  # type: ignore[no-any-return]  # a module's call is untyped
