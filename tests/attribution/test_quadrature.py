import numpy as np
import pytest

from faig_lab.attribution import RULES, quadrature
from faig_lab.attribution.quadrature import clenshaw_curtis, gauss_legendre, left, midpoint, right, simpson, trapezoid

POINTS = {"simpson": (3, 5, 17), "trapezoid": (2, 3, 16)}


def integral(rule, power):
    return float((rule.weights * rule.points**power).sum())


@pytest.mark.parametrize("name", RULES)
def test_weights_sum_to_one_and_points_ascend_within_the_path(name):
    for points in POINTS.get(name, (1, 2, 7, 16)):
        rule = quadrature(name, points)
        assert len(rule) == points
        assert rule.weights.sum() == pytest.approx(1, abs=1e-14)
        assert (np.diff(rule.points) > 0).all()
        assert rule.points.min() >= 0
        assert rule.points.max() <= 1


@pytest.mark.parametrize(
    ("rule", "degree"),
    [(left(4), 0), (right(4), 0), (midpoint(4), 1), (trapezoid(4), 1), (simpson(5), 3)]
    + [(gauss_legendre(n), 2 * n - 1) for n in (1, 2, 3, 8)]
    # n − 1; an odd number of points is exact for one degree more, by symmetry
    + [(clenshaw_curtis(n), degree) for n, degree in ((2, 1), (3, 3), (4, 3), (5, 5), (7, 7))],
)
def test_degree_of_exactness(rule, degree):
    for power in range(degree + 1):
        assert integral(rule, power) == pytest.approx(1 / (power + 1), rel=1e-13)
    assert integral(rule, degree + 1) != pytest.approx(1 / (degree + 2), rel=1e-9)


def test_clenshaw_curtis_holds_the_points_of_the_rule_of_half_the_size():
    coarse = clenshaw_curtis(2)
    for level in range(1, 11):
        fine = clenshaw_curtis(2**level + 1)
        assert set(coarse.points) <= set(fine.points)
        assert len(set(fine.points)) == len(fine)
        assert (fine.points[0], fine.points[-1]) == (0, 1)
        assert (fine.weights > 0).all()
        assert fine.weights.sum() == pytest.approx(1, abs=1e-14)
        coarse = fine
    with pytest.raises(ValueError, match="at least 2"):
        clenshaw_curtis(1)


def test_authors_points_start_at_the_target_and_leave_out_the_baseline():
    rule = right(100)
    assert rule.points[-1] == 1
    assert rule.points[0] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("name", "points", "message"),
    [
        ("gaus", 4, "rule must be one of left, right"),
        ("left", 0, "points must be > 0"),
        ("trapezoid", 1, "at least 2"),
        ("simpson", 4, "odd number"),
        ("simpson", 1, "at least 3"),
    ],
)
def test_bad_rules_are_refused(name, points, message):
    with pytest.raises(ValueError, match=message):
        quadrature(name, points)
