"""Small networks, images and scores to intervene on."""

import pytest
import torch
from torch import nn

from faig_lab.attribution import Attribution
from faig_lab.data import PairedImage
from faig_lab.evaluation.evaluator import Evaluator
from faig_lab.filters import FilterLayout
from faig_lab.networks import SRResNet


def state_of(network, seed=None, size=0.05):
    """The network's weights, moved by some noise."""
    generator = torch.Generator().manual_seed(seed or 0)
    noise = {
        n: size * torch.randn(v.shape, generator=generator, dtype=v.dtype) for n, v in network.state_dict().items()
    }
    return {n: v + (0 if seed is None else noise[n]) for n, v in network.state_dict().items()}


def image(name, size=(8, 8), kinds=("blur", "noise"), seed=0):
    generator = torch.Generator().manual_seed(seed)
    lr = {kind: torch.rand(3, *size, generator=generator) for kind in ("clean", *kinds)}
    return PairedImage(name, torch.rand(3, 2 * size[0], 2 * size[1], generator=generator), lr)


class Plain(nn.Module):
    """Two convolutions without biases, and a pixel shuffle: filters are all there is."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.last = nn.Conv2d(4, 12, 3, padding=1, bias=False)

    def forward(self, lr):
        upscaled = nn.functional.interpolate(lr, scale_factor=2.0)
        return upscaled + 0.3 * nn.functional.pixel_shuffle(self.last(torch.relu(self.first(lr))), 2)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SRResNet(features=4, blocks=1)


@pytest.fixture
def plain():
    torch.manual_seed(0)
    return Plain()


@pytest.fixture
def make_evaluator():
    def make(network, images=None, **changes):
        images = images or (image("a"), image("b", (9, 8), seed=1), image("c", seed=2))
        given = {"baseline": state_of(network), "target": state_of(network, 1)} | changes
        return Evaluator(network, given["baseline"], given["target"], tuple(images), scale=2)

    return make


@pytest.fixture
def make_attribution():
    def make(network, methods=(("faig", 1), ("random", 3)), degradations=("blur", "noise")):
        layout = FilterLayout.of(network)
        generator = torch.Generator().manual_seed(5)
        shape = len(degradations), len(layout)
        scores = {name: torch.rand(draws, *shape, generator=generator, dtype=torch.float64) for name, draws in methods}
        return Attribution(scores, tuple(degradations), layout)

    return make
