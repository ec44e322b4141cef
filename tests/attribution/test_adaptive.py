"""Adaptive quadrature: exact where the integrand is, honest where the budget ends, and never the same point twice."""

import dataclasses
import logging
import math

import numpy as np
import pytest
import torch
from torch import nn

from faig_lab.attribution import Adaptive, Problem, faig_scores, path, quadrature
from faig_lab.attribution.methods import OUTPUT_SUM
from faig_lab.attribution.path import integrate_together
from faig_lab.attribution.probe import LOSS, integrate_probe
from faig_lab.attribution.quadrature import assess, clenshaw_curtis
from faig_lab.attribution.scores import contrast
from faig_lab.data import PairedImage
from faig_lab.networks import SRResNet


def by_filter(integrals):
    """A criterion for integrands that are scores themselves, with nothing to complete."""
    return torch.stack([integral["x"] for integral in integrals]), torch.zeros(len(integrals))


def step_at(place, size=1.0):
    """Jumps from 0 to `size` at `place`; a second filter that does not change."""
    return lambda alphas: [{"x": torch.tensor([size * (a > place), 1.0], dtype=torch.float64)} for a in alphas]


LIKE = {"x": torch.zeros(2, dtype=torch.float64)}


@pytest.mark.parametrize(
    ("budget", "points"), [(5, [3, 5]), (16, [3, 5, 9]), (17, [3, 5, 9, 17]), (64, [3, 5, 9, 17, 33])]
)
def test_rules_double_within_the_budget(budget, points):
    assert [len(rule) for rule in Adaptive(budget, 0.01, 1).rules] == points


def test_a_budget_without_two_rules_to_compare_is_refused():
    with pytest.raises(ValueError, match="points must be at least 5"):
        Adaptive(4, 0.01, 1)


def test_nested_integrals_are_those_of_their_rules():
    adaptive, seen, found = Adaptive(33, 0.01, 1), [], []

    def integrand(alphas):
        seen.extend(alphas)
        return [{"x": torch.tensor([np.exp(alpha), np.sin(9 * alpha)])} for alpha in alphas]

    def never(integrals):
        found.append((integrals[0]["x"].tolist(), sorted(seen)))
        return torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.ones(1)

    integrate_together([integrand], LIKE, adaptive, never)
    assert len(found) == len(adaptive.rules)
    for rule, (integral, points) in zip(adaptive.rules, found, strict=True):
        expected = [(rule.weights * f(rule.points)).sum() for f in (np.exp, lambda x: np.sin(9 * x))]
        assert integral == pytest.approx(expected, abs=1e-14)
        assert points == rule.points.tolist()


def test_an_affine_integrand_stops_at_once_with_zero_error():
    affine = [lambda alphas: [{"x": torch.tensor([1 + 4 * a, -2 * a], dtype=torch.float64)} for a in alphas]] * 2
    integrals, effort = integrate_together(affine, LIKE, Adaptive(129, 1e-9, 50), by_filter)
    assert effort.points == 5
    assert effort.error.max() < 1e-15
    assert effort.settled.all()
    torch.testing.assert_close(integrals[0]["x"], torch.tensor([3.0, -1.0], dtype=torch.float64))


def test_an_adaptive_rule_without_a_criterion_is_refused():
    with pytest.raises(ValueError, match="convergence_criterion is required"):
        integrate_together([step_at(0.5)], LIKE, Adaptive(5, 0.1, 50))


def test_points_are_added_until_a_jump_has_settled():
    points = []
    for tolerance in (0.05, 0.03, 0.01, 0.001):
        integrals, effort = integrate_together([step_at(1 / 3)], LIKE, Adaptive(2049, tolerance, 50), by_filter)
        assert effort.settled.all()
        assert effort.error.max() <= tolerance
        assert abs(float(integrals[0]["x"][0]) - 2 / 3) <= 3 * tolerance
        points.append(effort.points)
    assert points == sorted(points)
    assert points[0] < points[-1]


def test_the_budget_ends_what_does_not_settle():
    _, effort = integrate_together([step_at(1 / 3)] * 2, LIKE, Adaptive(40, 1e-4, 50), by_filter)
    assert effort.points == 33
    assert effort.error.min() > 1e-4
    assert not effort.settled.any()


@pytest.mark.parametrize(
    ("verdicts", "points"),
    [
        # scores of two filters, and the completeness gap, after each rule
        ([([2.0, 1.0], 0), ([2.0, 1.0], 0)], 5),
        ([([2.0, 1.0], 0), ([3.0, 1.0], 0), ([3.0, 1.0], 0)], 9),  # the error was large
        ([([1.0, 1.001], 0), ([1.001, 1.0], 0), ([1.001, 1.0], 0)], 9),  # the top set had moved
        ([([2.0, 1.0], 0.5), ([2.0, 1.0], 0.5), ([2.0, 1.0], 0)], 9),  # the gap was open
        ([([2.0, 1.0], 0.5), ([2.0, 1.0], float("inf")), ([2.0, 1.0], float("nan")), ([2.0, 1.0], 0)], 17),
    ],
)
def test_error_top_set_and_gap_have_to_settle(verdicts, points):
    coming = iter(verdicts)

    def criterion(integrals):
        scores, gap = next(coming)
        return torch.tensor([scores], dtype=torch.float64), torch.tensor([gap])

    _, effort = integrate_together([step_at(0.5)], LIKE, Adaptive(65, 0.01, 50), criterion)
    assert effort.points == points
    assert effort.settled.all()


class Kinked(nn.Module):
    """One pixel, one weight before and one after a ReLU whose input changes sign on the way."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, lr):
        return self.last(torch.relu(self.first(lr)))


def problem_of(network, rule, size=1, kinds=("blur", "noise")):
    generator = torch.Generator().manual_seed(0)
    baseline = {n: v.double() for n, v in network.state_dict().items()}
    target = {n: v + 0.2 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for n, v in baseline.items()}
    hr = torch.rand(3, size, size, generator=generator)
    lr = {name: torch.rand(3, 6, 6, generator=generator) for name in ("clean", *kinds)}
    return Problem(network, baseline, target, (PairedImage("a", hr, lr),), kinds, rule)


@pytest.fixture
def kinked():
    torch.manual_seed(0)
    return problem_of(Kinked(), Adaptive(1025, 0.01, 10), size=6)


def test_a_kinked_network_takes_more_the_smaller_the_tolerance(kinked):
    exact = dataclasses.replace(kinked, rule=quadrature("midpoint", 2001)).integral
    expected = faig_scores(exact.magnitude)
    points = []
    for tolerance in (0.1, 0.01, 0.001):
        found = dataclasses.replace(kinked, rule=Adaptive(1025, tolerance, 10)).integral
        assert found.settled.all()
        assert (found.error <= tolerance).all()
        assert all(row["gap"] <= tolerance for row in found.rows())
        assert float((faig_scores(found.magnitude) - expected).norm() / expected.norm()) <= 3 * tolerance
        points.append(int(found.points.max()))
    assert points == sorted(points)
    assert points[0] < points[-1]


@pytest.mark.parametrize("function", [LOSS, OUTPUT_SUM], ids=lambda function: function.name)
def test_the_criterion_gets_the_scores_and_gaps_of_each_rule(kinked, monkeypatch, function):
    """Gradients along a path of inputs have no completeness, so they have no gap that could stay open."""
    seen = []

    def never(rule, points, scores, before, gaps):
        seen.append((scores, gaps))
        return assess(rule, points, scores, before, torch.full_like(gaps, math.inf))

    monkeypatch.setattr(path, "assess", never)
    rule = Adaptive(17, 0.01, 10)
    integrate_probe(kinked, rule, function=function)
    assert len(seen) == len(rule.rules) - 1 == 3  # the first rule has no rule before it
    for fixed, (scores, gaps) in zip(rule.rules[1:], seen, strict=True):
        alone = integrate_probe(kinked, fixed, function=function)
        if function is LOSS:
            torch.testing.assert_close(scores, contrast(alone.magnitude[0]), rtol=1e-9, atol=1e-12)
            expected = [row["gap"] for row in alone.rows()]
            assert min(expected) > 1e-6
            assert gaps.tolist() == pytest.approx(expected, rel=1e-6)
        else:
            torch.testing.assert_close(scores, alone.magnitude[0], rtol=1e-9, atol=1e-12)
            assert gaps.tolist() == [0, 0]


def test_results_are_deterministic_and_those_of_the_last_rule(kinked):
    first, second = kinked.integral, dataclasses.replace(kinked).integral
    assert torch.equal(first.magnitude, second.magnitude)
    assert torch.equal(first.error, second.error)
    fixed = dataclasses.replace(kinked, rule=clenshaw_curtis(int(first.points[0, 0]))).integral
    torch.testing.assert_close(first.signed, fixed.signed, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(first.loss_change, fixed.loss_change)


def test_no_point_costs_more_than_one_forward(kinked):
    """Both ends are points of every rule, so that the losses there cost nothing."""
    calls = []
    kinked.network.register_forward_hook(lambda *_: calls.append(1))
    assert len(calls) == 0
    points = kinked.integral.points
    assert len(calls) == int(points.sum())


def test_an_exhausted_budget_is_in_the_log_and_in_the_result(kinked, caplog):
    short = dataclasses.replace(kinked, rule=Adaptive(10, 1e-6, 10))
    with caplog.at_level(logging.WARNING, "faig_lab"):
        integral = short.integral
    assert "the budget of 10 points ended" in caplog.text
    assert "0 of 2 did" in caplog.text
    assert integral.effort()["settled"] == "0 of 2"
    assert integral.effort()["error_estimate"] > 1e-6
    for row in integral.rows():
        assert row["points"] == 9
        assert row["error_estimate"] > 1e-6


def test_a_settled_integral_warns_of_nothing(kinked, caplog):
    with caplog.at_level(logging.INFO, "faig_lab"):
        effort = kinked.integral.effort()
    assert effort["settled"] == "2 of 2"
    assert effort["evaluations"] == int(kinked.integral.points.sum())
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_fixed_rules_have_no_estimate(kinked):
    integral = dataclasses.replace(kinked, rule=quadrature("midpoint", 7)).integral
    assert integral.effort() == {"evaluations": 14, "points": [7, 7], "error_estimate": None, "settled": None}
    row = integral.rows()[0]
    assert list(row)[-3:] == ["gap", "points", "error_estimate"]
    assert (row["points"], row["error_estimate"]) == (7, None)


def test_each_image_takes_what_it_needs():
    """An image on which nothing changes stops at once beside one that does not."""
    torch.manual_seed(0)
    problem = problem_of(SRResNet(features=4, blocks=1), Adaptive(65, 1e-3, 10), size=12)
    black = PairedImage("black", torch.zeros(3, 12, 12), {n: torch.zeros(3, 6, 6) for n in ("clean", "blur", "noise")})
    weights = {n: v for n, v in problem.baseline.items() if n.endswith("weight")}
    baseline = {n: weights.get(n, torch.zeros_like(v)) for n, v in problem.baseline.items()}
    target = {n: problem.target[n] if n in weights else torch.zeros_like(v) for n, v in problem.target.items()}
    both = dataclasses.replace(problem, baseline=baseline, target=target, probe=(black, *problem.probe))
    assert both.integral.points[0].tolist() == [5, 5]
    assert both.integral.points[1, 0] > 5
