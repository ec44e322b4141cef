"""Quadrature on [0, 1]: a rule is data, its points and weights, and is independent of networks.

ReLU networks have kinks along the path, which limit the gain of a high order. With the same number of points midpoint
and Gauss–Legendre have similar errors, and both need about a sixth of the points of a one-sided Riemann sum
(method.md §3).

An adaptive rule is a sequence of nested rules of growing size. It ends when the integrals have settled or the budget is
spent. The nested rules are Clenshaw–Curtis with 3, 5, 9, 17, … points. On paths between real networks their error is
that of Gauss–Legendre of the same size, and every point is used again (benchmarks, part a). Halving the worst panels
instead has no advantage, since ReLU kinks lie everywhere along the path.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faig_lab.attribution.scores import discovered

ERROR_PER_CHANGE = 3**-0.5
"""Error of a rule, divided by the change from the rule of half the size.

For an integrand with a kink or jump in every panel, modelled between the points as a Brownian path, the expected ratio
is 1/√3 (the trapezoid rule). For a smooth integrand the ratio is smaller. Measured: 0.5 to 0.6 from 17 points on. The
ratio gives an estimate and no bound: if few kinks dominate, the change can be small by chance.
"""


@dataclass(frozen=True)
class Rule:
    """∫₀¹ f(α) dα ≈ Σ weights[k] · f(points[k]).

    Attributes:
        points: (n,) in [0, 1], ascending.
        weights: (n,) with the sum 1.
    """

    points: NDArray[np.float64]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.points)


def left(points: int) -> Rule:
    """Left Riemann sum: α = 0, 1/n, …, (n − 1)/n; exact for constants."""
    return Rule(np.arange(points) / points, np.full(points, 1 / points))


def right(points: int) -> Rule:
    """Right Riemann sum: α = 1/n, …, 1; exact for constants.

    This is the rule of the authors' code: it starts at the target (α = 1) and leaves out the baseline (method.md §8).
    """
    return Rule(np.arange(1, points + 1) / points, np.full(points, 1 / points))


def midpoint(points: int) -> Rule:
    """Midpoint rule; exact for degree 1."""
    return Rule((np.arange(points) + 0.5) / points, np.full(points, 1 / points))


def trapezoid(points: int) -> Rule:
    """Trapezoid rule with both ends, at least 2 points; exact for degree 1.

    Raises:
        ValueError: fewer than 2 points.
    """
    if points < 2:
        raise ValueError(f"trapezoid needs at least 2 points, not {points}")
    weights = np.full(points, 1 / (points - 1))
    weights[[0, -1]] /= 2
    return Rule(np.linspace(0, 1, points), weights)


def simpson(points: int) -> Rule:
    """Composite Simpson rule with both ends, an odd number of at least 3 points; exact for degree 3.

    Raises:
        ValueError: fewer than 3 points, or an even number.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"simpson needs an odd number of at least 3 points, not {points}")
    weights = np.where(np.arange(points) % 2 == 1, 4.0, 2.0)
    weights[[0, -1]] = 1
    return Rule(np.linspace(0, 1, points), weights / (3 * (points - 1)))


def gauss_legendre(points: int) -> Rule:
    """Gauss–Legendre; exact for degree 2n − 1."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    return Rule((nodes + 1) / 2, weights / 2)


def clenshaw_curtis(points: int) -> Rule:
    """Clenshaw–Curtis rule with both ends, at least 2 points; exact for degree n − 1.

    The rule with 2n − 1 points contains all points of the rule with n points, bit for bit. Adaptive quadrature needs
    this.

    Raises:
        ValueError: fewer than 2 points.
    """
    if points < 2:
        raise ValueError(f"clenshaw_curtis needs at least 2 points, not {points}")
    panels = points - 1
    share = np.arange(points) / panels
    even = np.arange(1, panels // 2 + 1)
    terms = np.where(2 * even == panels, 1.0, 2.0) / (4 * even**2 - 1)
    weights = (1 - np.cos(2 * np.pi * np.outer(share, even)) @ terms) / panels
    weights[[0, -1]] /= 2
    return Rule(np.sin(np.pi / 2 * share) ** 2, weights)


def over_pieces(rule: Rule, pieces: int) -> Rule:
    """Return a rule for a path of several smooth pieces, which integrates each piece by itself.

    Args:
        rule: a rule on [0, 1], applied to each piece.
        pieces: number of pieces, ≥ 1.

    Returns:
        The points of all pieces, in order. Two points at a joint differ by the smallest possible number, since the
        derivative of the path differs between the two sides.
    """
    if pieces == 1:
        return rule
    points = np.concatenate([(rule.points + piece) / pieces for piece in range(pieces)])
    last = np.arange(len(rule), len(points), len(rule)) - 1  # the last point of every piece but the last piece
    joints = np.arange(1, pieces) / pieces
    points[last] = np.where(points[last] >= joints, np.nextafter(joints, 0), points[last])
    return Rule(points, np.tile(rule.weights, pieces) / pieces)


RULES: dict[str, Callable[[int], Rule]] = {
    rule.__name__: rule for rule in (left, right, midpoint, trapezoid, simpson, gauss_legendre)
}
"""Name of a rule, as in `attribution.rule` → the rule."""


def quadrature(rule: str, points: int) -> Rule:
    """Return the rule of this name with this number of points.

    Raises:
        ValueError: an unknown name, or a number of points for which the rule is not defined.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, not {rule}")
    if points < 1:
        raise ValueError(f"points must be > 0, not {points}")
    return RULES[rule](points)


@dataclass(frozen=True)
class Adaptive:
    """Adaptive quadrature: points are added until error, top set and gap have settled.

    Args:
        budget: the largest number of points for each integrand, at least 5 for each piece.
        tolerance: limit of the estimated relative error of the scores, of the estimated share of wrong filters in the
            top set, and of the completeness gap.
        percent: size of the top set, in percent of all filters.
        pieces: number of smooth pieces of the path; each piece gets an equal part of the budget.

    Raises:
        ValueError: the budget is too small.
    """

    budget: int
    tolerance: float
    percent: float
    pieces: int = 1

    def __post_init__(self) -> None:
        if self.budget < 5 * self.pieces:
            raise ValueError(
                f"points must be at least {5 * self.pieces} for adaptive quadrature"
                f"{f' on a path of {self.pieces} pieces' * (self.pieces > 1)}, not {self.budget}"
            )

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Nested rules of 3, 5, 9, … points for each piece, within the budget."""
        levels = int(np.log2(self.budget // self.pieces - 1))
        return tuple(over_pieces(clenshaw_curtis(2**level + 1), self.pieces) for level in range(1, levels + 1))


@dataclass(frozen=True)
class Effort:
    """The effort of an integration and its estimated error.

    Attributes:
        points: number of evaluations of each integrand.
        error: (K,) estimated relative error of the scores; NaN for a fixed rule, which has no estimate.
        settled: (K,) whether error, top set and gap are within the tolerance; False for a fixed rule.
    """

    points: int
    error: Tensor
    settled: Tensor


def assess(adaptive: Adaptive, points: int, scores: Tensor, before: Tensor, gaps: Tensor) -> Effort:
    """Compare the scores of a rule with those of the rule before it.

    Args:
        adaptive: its tolerance and top set are used.
        points: number of points of the rule.
        scores: (K, F) scores by the rule.
        before: (K, F) scores by the rule before it.
        gaps: (K,) completeness gaps.
    """
    size = torch.linalg.vector_norm(scores, dim=1)
    change = torch.linalg.vector_norm(scores - before, dim=1)
    error = torch.where(change == 0, 0.0, change / size) * ERROR_PER_CHANGE
    moved = [_moved(now, then, adaptive.percent) for now, then in zip(scores, before, strict=True)]
    worst = torch.stack([error, torch.tensor(moved).to(error) * ERROR_PER_CHANGE, gaps.to(error)]).amax(0)
    return Effort(points, error, worst <= adaptive.tolerance)


def _moved(scores: Tensor, before: Tensor, percent: float) -> float:
    """Compute the share of the top set that was not in the top set before."""
    now, then = (set(discovered(values, percent).tolist()) for values in (scores, before))
    return len(now - then) / max(len(now), 1)
