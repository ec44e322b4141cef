"""SRResNet, and the upscaling factors that all networks of this package support."""

import torch.nn.functional as F
from torch import Tensor, nn

SCALES = (1, 2, 3, 4)
"""Upscaling factors. Factor 1 is restoration at the size of the input: denoising, deblurring, artefact removal."""


def check_scale(scale: int) -> None:
    """Raise ValueError if the factor is not one of SCALES."""
    if scale not in SCALES:
        raise ValueError(f"scale must be 1, 2, 3 or 4, not {scale}")


def upsampling_factors(scale: int) -> tuple[int, ...]:
    """Return the factor of each pixel-shuffle stage: ×4 has two stages of ×2, every other factor has one stage."""
    return (2, 2) if scale == 4 else (scale,)


SLOPE = 0.1


class ResidualBlock(nn.Module):
    """x + conv2(relu(conv1(x)))."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        # Residuals start small (Wang et al., ESRGAN), so that deep networks train from the first step.
        for convolution in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(convolution.weight)
            convolution.weight.data.mul_(0.1)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)."""
        residual: Tensor = self.conv2(F.relu(self.conv1(x), inplace=True))
        residual += x
        return residual


class SRResNet(nn.Module):
    """LR (N, 3, H, W) in [0, 1] → SR (N, 3, sH, sW), a correction of the bilinear upscaling; not clipped.

    At scale 1 the output is a correction of the input itself.

    Parameter names are those of the authors' checkpoints: `conv_first`, `body.N.conv1`, `body.N.conv2`,
    `upconv1` (and `upconv2` for ×4), `conv_hr`, `conv_last`. With 64 features, 16 blocks and ×2 it has
    151,936 filters.

    Args:
        scale: 1, 2, 3 or 4.
        features: channels of the trunk, > 0.
        blocks: residual blocks, > 0.

    Raises:
        ValueError: an argument is out of range.
    """

    block: type[ResidualBlock] = ResidualBlock

    def __init__(self, scale: int = 2, features: int = 64, blocks: int = 16) -> None:
        super().__init__()
        check_scale(scale)
        for name, value in (("features", features), ("blocks", blocks)):
            if value < 1:
                raise ValueError(f"{name} must be > 0, not {value}")
        self.scale = scale
        self.factors = upsampling_factors(scale)
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.Sequential(*(self.block(features) for _ in range(blocks)))
        self.upconv1 = nn.Conv2d(features, features * self.factors[0] ** 2, 3, padding=1)
        if len(self.factors) == 2:
            self.upconv2 = nn.Conv2d(features, features * self.factors[1] ** 2, 3, padding=1)
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, 3, sH, sW)."""
        return self.upscale(self.body(F.leaky_relu(self.conv_first(lr), SLOPE, inplace=True)), lr)

    def upscale(self, x: Tensor, lr: Tensor) -> Tensor:
        """Return SR from the features after the blocks (N, C, H, W) and LR."""
        x = F.leaky_relu(F.pixel_shuffle(self.upconv1(x), self.factors[0]), SLOPE, inplace=True)
        if len(self.factors) == 2:
            x = F.leaky_relu(F.pixel_shuffle(self.upconv2(x), self.factors[1]), SLOPE, inplace=True)
        correction: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE, inplace=True))
        return correction + F.interpolate(lr, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
