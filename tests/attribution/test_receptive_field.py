"""How far networks look, measured against what their layers say."""

import pytest
import torch
import torch.nn.functional as F
from odd_networks import SmallUNet
from torch import nn

from faig_lab.attribution.tiling import ReceptiveField, measure_receptive_field
from faig_lab.networks import SRCNNStyle, SRResNet, TwoBranchSRResNet


class Strided(nn.Module):
    """Down by 4 in two steps and up again, ×2 in all; no global operation."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.further = nn.Conv2d(4, 4, 2, stride=2)
        self.up = nn.ConvTranspose2d(4, 3, 8, stride=8)

    def forward(self, lr):
        return self.up(F.relu(self.further(F.relu(self.down(lr)))))


class Windows(nn.Module):
    """Attention within windows of 8×8 pixels."""

    def forward(self, lr):
        n, c, h, w = lr.shape
        tokens = lr.reshape(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
        seen = F.scaled_dot_product_attention(tokens, tokens, tokens)
        return seen.reshape(n, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


class Skipping(nn.Module):
    """Every third pixel, three times as large: the period is no power of two."""

    def forward(self, lr):
        return lr[..., ::3, ::3].repeat_interleave(3, -1).repeat_interleave(3, -2)[..., : lr.shape[-2], : lr.shape[-1]]


def of(network, scale):
    state = network.state_dict() or {"any": torch.zeros(1)}
    return measure_receptive_field(network, state, scale)


@pytest.mark.parametrize("blocks", [1, 2, 8])
def test_plain_convolutions_add_up(blocks):
    # One LR pixel for each 3×3 convolution at LR size, and two HR pixels.
    assert of(SRResNet(features=2, blocks=blocks), 2) == ReceptiveField(1 + 2 * blocks + 1 + 1, 1)


def test_both_stages_of_scale_4_count():
    assert of(SRResNet(scale=4, features=2, blocks=1), 4) == ReceptiveField(1 + 2 + 1 + 1, 1)


def test_a_network_that_is_all_convolutions_has_period_1():
    found = of(SRCNNStyle(), 2)
    assert found is not None
    assert found.period == 1


def test_a_stride_is_a_period():
    assert of(Strided(), 2) == ReceptiveField(4, 4)


def test_windows_of_attention_are_a_period():
    assert of(Windows(), 1) == ReceptiveField(7, 8)


@pytest.mark.parametrize(
    ("network", "scale"),
    [(SmallUNet().eval(), 2), (TwoBranchSRResNet(features=2, blocks=1), 2), (Skipping(), 1)],
    ids=["global pooling", "a second branch that sees all", "a period that is no power of two"],
)
def test_what_cannot_be_cut_has_no_reach(network, scale):
    assert of(network, scale) is None


def test_the_weights_play_no_part():
    network = SRResNet(features=2, blocks=1)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    assert of(network, 2) == ReceptiveField(5, 1)
