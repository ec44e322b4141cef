"""Attribution of a network that is not ours: every kind of convolution, and a linear layer beside them."""

from collections import OrderedDict

import pytest
import torch
from odd_networks import SmallUNet
from torch import nn

from faig_lab.attribution import Adaptive, Problem, quadrature
from faig_lab.attribution.methods import faig, fisher, signed_share, taylor, weight_change
from faig_lab.data import PairedImage
from faig_lab.filters import mask

SHAPES = {  # first axis, second axis, kernel
    "stem": (4, 3, (3, 3)),
    "down": (8, 4, (3, 3)),
    "dilated": (8, 8, (3, 3)),
    "grouped": (8, 2, (1, 3)),
    "squeeze": (2, 8, ()),
    "excite": (8, 2, ()),
    "up": (8, 2, (2, 2)),
    "mix": (4, 8, (1, 1)),
    "out": (4, 3, (4, 4)),
}


@pytest.fixture
def problem():
    torch.manual_seed(0)
    network = SmallUNet().eval()
    baseline = {n: v.double() if v.is_floating_point() else v for n, v in network.state_dict().items()}
    weights = dict(network.named_parameters())
    target = {n: v + 0.1 * torch.randn_like(v) if n in weights else v for n, v in baseline.items()}
    images = tuple(
        PairedImage(f"{k}", torch.rand(3, 16, 16), {name: torch.rand(3, 8, 8) for name in ("clean", "blur", "noise")})
        for k in range(2)
    )
    return Problem(network, baseline, target, images, ("blur", "noise"), quadrature("gauss_legendre", 64))


def test_layout_holds_every_weight_in_the_order_of_the_state_dict(problem):
    layout = problem.layout
    assert {x.name: (*x.shape[:2], x.shape[2:]) for x in layout.layers} == {f"{n}.weight": s for n, s in SHAPES.items()}
    weights = {n: v for n, v in problem.target.items() if n.removesuffix(".weight") in SHAPES}
    assert [x.name for x in layout.layers] == list(weights)
    assert int(layout.weights_per_unit().sum()) == sum(v.numel() for v in weights.values())
    ones = layout.gather({n: torch.ones_like(v) for n, v in weights.items()})
    assert torch.equal(ones.long(), layout.weights_per_unit())


class Pixelwise(nn.Module):
    """A linear layer on the channels of every pixel."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, lr):
        return self.layer(lr.movedim(1, -1)).movedim(-1, 1)


def test_a_linear_layer_is_a_1x1_convolution():
    """The same function, the same filters, the same scores."""
    torch.manual_seed(0)
    linear, convolution = Pixelwise(), nn.Sequential(OrderedDict(layer=nn.Conv2d(3, 3, 1)))
    first = {n: v.double() for n, v in linear.state_dict().items()}
    second = {n: v + 0.1 * torch.randn_like(v) for n, v in first.items()}
    image = PairedImage("a", torch.rand(3, 4, 4), {name: torch.rand(3, 4, 4) for name in ("clean", "blur", "noise")})

    def wide(state):
        return {n: v[..., None, None] if n == "layer.weight" else v for n, v in state.items()}

    rule = quadrature("midpoint", 3)
    plain = Problem(linear, first, second, (image,), ("blur", "noise"), rule)
    square = Problem(convolution, wide(first), wide(second), (image,), ("blur", "noise"), rule)
    assert len(plain.layout) == len(square.layout) == 9
    assert plain.layout.address(5) == ("layer.weight", (1, 2))
    for method in (faig, signed_share, taylor, fisher, weight_change):
        torch.testing.assert_close(method(plain), method(square), rtol=1e-9, atol=1e-15)


def test_adaptive_quadrature_settles(problem):
    adaptive = Problem(
        problem.network, problem.baseline, problem.target, problem.probe, problem.degradations, Adaptive(257, 0.01, 5)
    )
    assert adaptive.integral.settled.all()
    difference = adaptive.integral.magnitude - problem.integral.magnitude
    assert float(difference.norm() / problem.integral.magnitude.norm()) < 0.01


@pytest.mark.parametrize("name", SHAPES)
def test_masking_sets_one_slice_back(problem, name):
    layout, key = problem.layout, f"{name}.weight"
    out, in_, _ = SHAPES[name]
    masked = mask(problem.target, problem.baseline, layout, torch.tensor([layout.index(key, out - 1, in_ - 1)]))
    changed = {n for n, v in masked.items() if not torch.equal(v, problem.target[n])}
    assert changed == {key}
    assert torch.equal(masked[key][-1, -1], problem.baseline[key][-1, -1])
    masked[key][-1, -1] = problem.target[key][-1, -1]
    assert torch.equal(masked[key], problem.target[key])
