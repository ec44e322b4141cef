"""Exact answers for the signed path integral, in float64."""

import copy

import pytest
import torch
from torch import nn

from faig_lab.attribution import Compute, completeness_gap, integrate, quadrature
from faig_lab.networks import SRResNet


def states(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    baseline = {n: v.double() for n, v in network.state_dict().items()}
    target = {n: v + 0.1 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for n, v in baseline.items()}
    return baseline, target


@pytest.fixture
def convolution():
    """One convolution with squared error: the integrand is affine in α."""
    torch.manual_seed(1)
    network = nn.Conv2d(3, 3, 3, padding=1)
    return network, *states(network), torch.rand(2, 3, 8, 8).double(), torch.rand(2, 3, 8, 8).double()


@pytest.fixture
def restoring():
    """A network with ReLU, in double precision, and one image."""
    torch.manual_seed(0)
    network = SRResNet(features=4, blocks=1)
    return network, *states(network), torch.rand(1, 3, 8, 8).double(), torch.rand(1, 3, 16, 16).double()


def exact(*arguments):
    """The affine integrand's integral: half the sum of the gradients at both ends."""
    return integrate(*arguments, quadrature("simpson", 41)).attributions


@pytest.mark.parametrize(
    ("rule", "points"), [("midpoint", 1), ("midpoint", 3), ("trapezoid", 2), ("gauss_legendre", 1)]
)
def test_affine_integrands_are_integrated_exactly(convolution, rule, points):
    result = integrate(*convolution, quadrature(rule, points))
    expected = exact(*convolution)
    for name, value in result.attributions.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-11, atol=1e-12)
    assert result.gap < 1e-12


@pytest.mark.parametrize(("rule", "sign"), [("left", -1), ("right", 1)])
def test_one_sided_sums_are_off_by_half_a_step_times_the_difference_of_the_ends(convolution, rule, sign):
    expected = exact(*convolution)
    start, end = (integrate(*convolution, quadrature(side, 1)).attributions for side in ("left", "right"))
    assert list(expected) == list(convolution[1])
    for points in (1, 4, 10):
        result = integrate(*convolution, quadrature(rule, points)).attributions
        for name in expected:
            error = sign * (end[name] - start[name]) / (2 * points)
            torch.testing.assert_close(result[name] - expected[name], error, rtol=1e-9, atol=1e-12)


def test_attributions_of_all_parameters_add_up_to_the_loss_change(restoring):
    network, baseline, target, lr, hr = restoring
    result = integrate(*restoring, quadrature("gauss_legendre", 200))
    losses = []
    for state in (baseline, target):
        net = copy.deepcopy(network).double()
        net.load_state_dict(state)
        losses.append(float(((net(lr) - hr) ** 2).sum().detach()))
    assert (result.loss_baseline, result.loss_target) == pytest.approx(losses)
    assert result.total == pytest.approx(losses[1] - losses[0], rel=1e-3)
    weights_only = sum(float(a.sum()) for n, a in result.attributions.items() if n.endswith("weight"))
    assert abs(weights_only - result.loss_change) > 10 * abs(result.total - result.loss_change)


def test_the_gap_shrinks_with_more_points(restoring):
    gaps = [integrate(*restoring, quadrature("right", n)).gap for n in (2, 8, 32, 128)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < gaps[0] / 20


def test_equal_networks_have_no_attribution(restoring):
    network, state, _, lr, hr = restoring
    result = integrate(network, state, state, lr, hr, quadrature("midpoint", 2))
    assert all((a == 0).all() for a in result.attributions.values())
    assert result.gap == 0


def test_a_network_is_left_as_it_was_also_when_its_forward_raises(convolution):
    network, baseline, target, lr, hr = convolution
    network.requires_grad_(True)
    before = copy.deepcopy(network.state_dict())
    integrate(network, baseline, target, lr, hr, quadrature("midpoint", 2))
    with pytest.raises(RuntimeError):
        integrate(network, baseline, target, lr[:, :2], hr, quadrature("midpoint", 2))
    assert all(torch.equal(before[n], v) for n, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert not any(v.requires_grad for v in (*baseline.values(), *target.values()))


def test_unused_parameters_and_buffers_are_no_obstacle():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.unused = nn.Parameter(torch.ones(2))
            self.register_buffer("offset", torch.tensor(0.5))

        def forward(self, x):
            return self.conv(x) + self.offset

    network = Odd()
    baseline, target = states(network)
    target["offset"] = baseline["offset"]
    lr, hr = torch.rand(2, 1, 3, 4, 4).double()
    result = integrate(network, baseline, target, lr, hr, quadrature("midpoint", 1))
    assert (result.attributions["unused"] == 0).all()
    assert "offset" not in result.attributions
    assert result.gap < 1e-12


def test_bfloat16_is_close_to_float32(restoring):
    network, *ends, lr, hr = restoring
    ends = [{n: v.float() for n, v in state.items()} for state in ends]
    arguments = network, *ends, lr.float(), hr.float(), quadrature("gauss_legendre", 8)
    full, half = integrate(*arguments), integrate(*arguments, Compute(autocast=torch.bfloat16))
    assert half.attributions["conv_hr.weight"].dtype == torch.float32
    a, b = (torch.cat([x.flatten() for x in r.attributions.values()]) for r in (full, half))
    assert 0 < float((a - b).norm() / a.norm()) < 0.1


@pytest.mark.parametrize(
    ("total", "change", "gap"),
    [(1.0, 1.0, 0), (0, 0, 0), (1.1, 1.0, 0.1), (-0.9, -1.0, 0.1), (1e-3, 0.0, float("inf"))],
)
def test_gap(total, change, gap):
    assert completeness_gap(total, change) == pytest.approx(gap)
