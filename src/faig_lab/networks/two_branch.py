"""What a network with a degradation predictor offers beside its output."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faig_lab.networks.srresnet import SLOPE, ResidualBlock, SRResNet


@runtime_checkable
class Predicting(Protocol):
    """A network that also predicts what its input suffered, and learns that by a loss of its own."""

    def predict(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """LR (N, 3, H, W) → SR (N, 3, sH, sW) and logits (N, K)."""

    def prediction_loss(self, logits: Tensor, suffered: Sequence[frozenset[str]]) -> Tensor:
        """What is added to the loss of the restoration, from logits and what each sample suffered."""


SECOND_BRANCH = "predictor."
"""What the names of the predictor's parameters begin with; the others are those of an SRResNet."""

FLOOR = 1e-4
"""Added to energies, so that a flat image stays one: a hundredth of the range is no contrast."""


class ModulatedBlock(ResidualBlock):
    """x + conv2(relu((1 + scale)·conv1(x) + shift)); with scale = shift = 0 the block of the SRResNet."""

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:  # type: ignore[override]
        """(N, C, H, W) and modulation (N, 2·C): scales, then shifts → (N, C, H, W)."""
        scale, shift = modulation[..., None, None].chunk(2, dim=1)
        residual: Tensor = self.conv2(F.relu((1 + scale) * self.conv1(x) + shift, inplace=True))
        residual += x
        return residual


class Predictor(nn.Module):
    """LR (N, 3, H, W) → a logit per degradation (N, K), and a modulation (N, 2·C) for each of the blocks.

    Three convolutions, two of them with stride 2, and the logarithm of each channel's mean energy over the image: the
    embedding, from which both are linear. A degradation shows in ratios of energies (a blurred image lacks high
    frequencies in proportion to its low ones), which are differences of logarithms. For the same reason colour and
    contrast of the image are taken out first; so the zeros around it are no edge. The modulations are zero at the
    start.
    """

    def __init__(self, width: int, degradations: int, features: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.logits = nn.Linear(width, degradations)
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * features) for _ in range(blocks))
        for layer in self.modulations.children():
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, lr: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits and modulations."""
        x = lr - lr.mean(dim=(2, 3), keepdim=True)
        x = x / (x.square().mean(dim=(1, 2, 3), keepdim=True) + FLOOR).sqrt()
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = F.leaky_relu(convolution(x), SLOPE, inplace=True)
        embedding = (x.square().mean(dim=(2, 3)) + FLOOR).log()
        # Divided by its width, or one step of Adam would move a modulation by as many steps as there are channels.
        condition = embedding / embedding.shape[1]
        return self.logits(embedding), [modulation(condition) for modulation in self.modulations]


class TwoBranchSRResNet(SRResNet):
    """LR (N, 3, H, W) in [0, 1] → SR (N, 3, sH, sW): an SRResNet whose blocks a degradation predictor modulates.

    With the default widths it has the size of the default SRResNet, within 3 %; at the start, where all modulations
    are the identity, it is an SRResNet. The predictor learns from the restoration, through the modulations, and from
    its own loss, through the logits.

    Args:
        scale: 1, 2, 3 or 4.
        features: channels of the restoring branch, > 0.
        blocks: its residual blocks, > 0.
        predictor_features: channels of the predicting branch, > 0.
        degradations: what is predicted: one logit for each, in this order.
        prediction_weight: of the prediction's loss beside that of the restoration, >= 0.

    Raises:
        ValueError: an argument is out of range.
    """

    block = ModulatedBlock

    def __init__(
        self,
        scale: int = 2,
        features: int = 60,
        blocks: int = 16,
        predictor_features: int = 56,
        degradations: Sequence[str] = ("blur", "noise"),
        prediction_weight: float = 0.1,
    ) -> None:
        super().__init__(scale, features, blocks)
        if predictor_features < 1:
            raise ValueError(f"predictor_features must be > 0, not {predictor_features}")
        if not degradations or len(set(degradations)) < len(degradations):
            raise ValueError(f"degradations must be one or more different names, not {list(degradations)}")
        if prediction_weight < 0:
            raise ValueError(f"prediction_weight must be >= 0, not {prediction_weight}")
        self.degradations, self.prediction_weight = tuple(degradations), prediction_weight
        self.predictor = Predictor(predictor_features, len(self.degradations), features, blocks)

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, 3, sH, sW)."""
        return self.predict(lr)[0]

    def predict(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) → SR (N, 3, sH, sW), and a logit per degradation (N, K): above 0 it is seen in the input."""
        logits, modulations = self.predictor(lr)
        x = F.leaky_relu(self.conv_first(lr), SLOPE, inplace=True)
        for block, modulation in zip(self.body, modulations, strict=True):
            x = block(x, modulation)
        return self.upscale(x, lr), logits

    def prediction_loss(self, logits: Tensor, suffered: Sequence[frozenset[str]]) -> Tensor:
        """The weighted binary cross-entropy of logits (N, K) and what each of the N samples suffered."""
        labels = [[name in names for name in self.degradations] for names in suffered]
        truth = torch.tensor(labels, dtype=logits.dtype, device=logits.device)
        return self.prediction_weight * F.binary_cross_entropy_with_logits(logits, truth)
