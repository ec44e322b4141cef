"""Paths in weight space: ends, derivatives, completeness along any of them, and the rule over their pieces."""

import dataclasses

import numpy as np
import pytest
import torch
from study_case import context_of
from torch import nn

from faig_lab.attribution import Adaptive, integrate, quadrature
from faig_lab.attribution.quadrature import clenshaw_curtis, over_pieces
from faig_lab.attribution.weight_paths import Bezier, PathSpec, Polyline, path_through


def state(seed, like):
    generator = torch.Generator().manual_seed(seed)
    return {n: v.double() + 0.1 * torch.randn(v.shape, generator=generator).double() for n, v in like.items()}


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(5)
    return torch.rand(1, 3, 8, 8, generator=generator).double(), torch.rand(1, 3, 16, 16, generator=generator).double()


def paths(network):
    first, second, third, fourth = (state(seed, network.state_dict()) for seed in range(4))
    return {
        "line": Polyline((first, second)),
        "polyline": Polyline((first, third, fourth, second)),
        "curve": Bezier(first, third, second),
    }, (first, second)


@pytest.mark.parametrize("name", ["line", "polyline", "curve"])
def test_a_path_starts_at_the_baseline_and_ends_at_the_target_bit_for_bit(network, name):
    found, (baseline, target) = paths(network)
    for alpha, end in ((0.0, baseline), (1.0, target)):
        point = found[name].at(alpha)
        assert all(torch.equal(point[n], end[n]) for n in end)


@pytest.mark.parametrize("name", ["line", "polyline", "curve"])
@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.9])
def test_the_velocity_is_the_derivative(network, name, alpha):
    path = paths(network)[0][name]
    step, velocity = 1e-5, path.velocity(alpha)
    assert velocity.keys() == network.state_dict().keys()
    for n, value in velocity.items():
        difference = (path.at(alpha + step)[n] - path.at(alpha - step)[n]) / (2 * step)
        torch.testing.assert_close(value, difference, rtol=1e-8, atol=1e-8)


def test_a_polyline_passes_through_its_states(network):
    polyline = paths(network)[0]["polyline"]
    assert len(polyline.states) == 4
    for k, expected in enumerate(polyline.states):
        point = polyline.at(k / 3)
        assert all(torch.allclose(point[n], expected[n], rtol=0, atol=1e-14) for n in expected)


@pytest.mark.parametrize(("kind", "inner"), [("straight", 0), ("trajectory", 2), ("curve", 1)])
def test_the_attributions_add_up_along_every_path(network, images, kind, inner):
    baseline, target = (state(seed, network.state_dict()) for seed in (0, 1))
    spec = PathSpec(kind, tuple(state(7 + k, network.state_dict()) for k in range(inner)))
    result = integrate(network, baseline, target, *images, quadrature("gauss_legendre", 64), path=spec)
    assert result.gap < 2e-3
    straight = integrate(network, baseline, target, *images, quadrature("gauss_legendre", 64))
    assert result.loss_change == straight.loss_change
    moved = sum(float((a - straight.attributions[n]).abs().sum()) for n, a in result.attributions.items())
    size = sum(float(a.abs().sum()) for a in straight.attributions.values())
    assert (moved > 0.1 * size) is (kind != "straight")  # the allocation depends on the path, its sum does not


def test_on_a_quadratic_loss_every_piece_is_exact_with_one_midpoint(images):
    torch.manual_seed(1)
    network = nn.Conv2d(3, 3, 3, padding=1)
    lr, hr = images[0], images[0].flip(1)
    first, second, third = (state(seed, network.state_dict()) for seed in (0, 1, 2))
    bent = integrate(network, first, third, lr, hr, quadrature("midpoint", 1), path=PathSpec("trajectory", (second,)))
    ends = (first, second), (second, third)
    pieces = [integrate(network, *pair, lr, hr, quadrature("midpoint", 1)) for pair in ends]
    for name, value in bent.attributions.items():
        expected = sum(piece.attributions[name] for piece in pieces)
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    assert bent.gap < 1e-12


def test_the_losses_on_the_way_are_those_of_the_path(network, images):
    baseline, target = (state(seed, network.state_dict()) for seed in (0, 1))
    lr, hr = images
    result = integrate(network, baseline, target, lr, hr, quadrature("midpoint", 2))
    assert list(result.losses) == [0.0, 0.25, 0.75, 1.0]
    network = network.double()
    for alpha, loss in result.losses.items():
        network.load_state_dict({n: torch.lerp(v, target[n], alpha) for n, v in baseline.items()})
        assert loss == pytest.approx(float(((network(lr) - hr) ** 2).sum().detach()), rel=1e-12)


@pytest.mark.parametrize("rule", ["left", "right", "midpoint", "gauss_legendre", "trapezoid"])
def test_a_rule_over_pieces_integrates_a_function_with_a_jump_at_the_joint(rule):
    pieces = over_pieces(quadrature(rule, 4), 2)
    assert pieces.weights.sum() == pytest.approx(1)
    assert (np.diff(pieces.points) > 0).all()
    values = np.where(pieces.points < 0.5, 1.0, 3.0)
    # The right sum's point at α = 1 is on the later piece, so every rule is exact for a step.
    assert pieces.weights @ values == pytest.approx(2, abs=1e-12)


def test_nested_rules_stay_nested_over_pieces():
    few, many = (over_pieces(clenshaw_curtis(n), 3).points.tolist() for n in (5, 9))
    assert set(few) <= set(many)
    assert len(set(many)) == 27


def test_adaptive_shares_its_budget_out_over_the_pieces():
    adaptive = Adaptive(40, 0.01, 1.0, pieces=4)
    assert [len(rule) for rule in adaptive.rules] == [12, 20, 36]
    with pytest.raises(ValueError, match="at least 20"):
        Adaptive(19, 0.01, 1.0, pieces=4)


def test_the_straight_line_is_the_polyline_of_the_two_networks(network):
    baseline, target = (state(seed, network.state_dict()) for seed in (0, 1))
    path = path_through((), "straight", baseline, target)
    assert isinstance(path, Polyline)
    assert path.states == (baseline, target)


def test_a_problem_put_on_the_straight_line_loses_its_bends():
    problem = context_of().problem
    middle = state(5, problem.baseline)
    bent = dataclasses.replace(problem, path=PathSpec("curve", ({n: v.float() for n, v in middle.items()},)))
    assert not torch.equal(bent.integral.signed, problem.integral.signed)
    assert torch.equal(bent.straight().integral.signed, problem.integral.signed)
