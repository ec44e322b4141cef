"""A super-resolution network with a second branch that predicts the degradations of its input."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faig_lab.networks.srresnet import SLOPE, ResidualBlock, SRResNet


@runtime_checkable
class Predicting(Protocol):
    """A network that also predicts which degradations were applied to its input. The prediction has its own loss."""

    def predict(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """LR (N, 3, H, W) → SR (N, 3, sH, sW) and logits (N, K)."""

    def prediction_loss(self, logits: Tensor, applied: Sequence[frozenset[str]]) -> Tensor:
        """Return the scalar that is added to the loss of the restoration.

        Args:
            logits: (N, K), from `predict`.
            applied: for each of the N samples the names of the degradations that were applied to it.
        """


SECOND_BRANCH = "predictor."
"""Prefix of the names of the predictor's parameters. All other parameters have the names of an SRResNet."""

FLOOR = 1e-4
"""Added to energies, so that an image of one colour has no contrast: 1e-4 is the energy of 1 % of the range."""


class ModulatedBlock(ResidualBlock):
    """x + conv2(relu((1 + scale)·conv1(x) + shift)). With scale = shift = 0 it is the block of the SRResNet."""

    # The modulation is an argument that the block of the SRResNet does not have.
    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:  # type: ignore[override]  # the modulation comes beside x
        """(N, C, H, W) and modulation (N, 2·C): scales, then shifts → (N, C, H, W)."""
        scale, shift = modulation[..., None, None].chunk(2, dim=1)
        residual: Tensor = self.conv2(F.relu((1 + scale) * self.conv1(x) + shift, inplace=True))
        residual += x
        return residual


class Predictor(nn.Module):
    """LR (N, 3, H, W) → a logit per degradation (N, K), and a modulation (N, 2·C) for each of the blocks.

    The embedding is the logarithm of each channel's mean energy over the image, after three convolutions, two of them
    with stride 2. Logits and modulations are linear in the embedding. A degradation changes ratios of energies: a
    blurred image has little energy at high frequencies, compared with its energy at low frequencies. Ratios are
    differences of logarithms. Mean colour and contrast of the image are removed first, since they say nothing about
    the degradation; without them, zero padding makes no edge. The modulations are zero at the start.
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
        """(N, 3, H, W) → logits (N, K), and for each block a modulation (N, 2·C)."""
        x = lr - lr.mean(dim=(2, 3), keepdim=True)
        x = x / (x.square().mean(dim=(1, 2, 3), keepdim=True) + FLOOR).sqrt()
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = F.leaky_relu(convolution(x), SLOPE, inplace=True)
        embedding = (x.square().mean(dim=(2, 3)) + FLOOR).log()
        # A modulation adds up all channels of the embedding. The division keeps one step of Adam small.
        condition = embedding / embedding.shape[1]
        return self.logits(embedding), [modulation(condition) for modulation in self.modulations]


class TwoBranchSRResNet(SRResNet):
    """LR (N, 3, H, W) in [0, 1] → SR (N, 3, sH, sW): an SRResNet whose blocks a degradation predictor modulates.

    With the default widths it has as many parameters as the default SRResNet, within 3 %. At the start all modulations
    are the identity, and the network is an SRResNet. The predictor learns from the loss of the restoration, through the
    modulations, and from its own loss, through the logits.

    Args:
        scale: 1, 2, 3 or 4.
        features: channels of the restoring branch, > 0.
        blocks: residual blocks of the restoring branch, > 0.
        predictor_features: channels of the predicting branch, > 0.
        degradations: names of the degradations that are predicted; the logits have this order.
        prediction_weight: factor of the prediction's loss; the loss of the restoration has the factor 1. It is >= 0.

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
        """(N, 3, H, W) → SR (N, 3, sH, sW) and a logit per degradation (N, K); above 0 it is predicted."""
        logits, modulations = self.predictor(lr)
        x = F.leaky_relu(self.conv_first(lr), SLOPE, inplace=True)
        for block, modulation in zip(self.body, modulations, strict=True):
            x = block(x, modulation)
        return self.upscale(x, lr), logits

    def prediction_loss(self, logits: Tensor, applied: Sequence[frozenset[str]]) -> Tensor:
        """Return the weighted binary cross-entropy of logits (N, K) and the degradations applied to each sample."""
        labels = [[name in names for name in self.degradations] for names in applied]
        truth = torch.tensor(labels, dtype=logits.dtype, device=logits.device)
        return self.prediction_weight * F.binary_cross_entropy_with_logits(logits, truth)
