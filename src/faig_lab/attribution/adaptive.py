"""Integrals by a fixed rule, or by nested rules of growing size until they have settled or a budget ends.

Knows no network: an integrand is a function from points α to tensors by name at each of them.

The nested rules are Clenshaw–Curtis with 3, 5, 9, 17, … points. On paths between real networks they are as good as
Gauss–Legendre of the same size, and every point is used again (benchmarks, part a). Halving the worst panels
instead gains nothing: ReLU kinks lie everywhere along the path.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from faig_lab.attribution.quadrature import Rule, clenshaw_curtis, over_pieces
from faig_lab.attribution.scores import discovered

Tensors = Mapping[str, Tensor]
Integrand = Callable[[Sequence[float]], Iterable[Tensors]]
"""Points α → tensors by name at each, in order; one gradient evaluation each."""

Judge = Callable[[Sequence[Tensors]], tuple[Tensor, Tensor]]
"""Integrals so far of the K integrands → scores (K, F), and the completeness gap of each (K,)."""

ERROR_PER_CHANGE = 3**-0.5
"""Error of a rule per change from the rule of half the size.

For an integrand with a kink or jump in every panel, which wanders between the points like a Brownian path, the
expected ratio is 1/√3 (the trapezoid rule); a smooth one has less. Measured: 0.5 to 0.6 from 17 points on. It
makes an estimate, no bound: where few kinks decide, the change can be small by chance.
"""


@dataclass(frozen=True)
class Adaptive:
    """Add points until error, top set and gap have settled.

    Args:
        budget: at most so many points for each integrand, at least 5.
        tolerance: bound of the estimated relative error of the scores, of the estimated share of the top set that
            is wrong, and of the completeness gap.
        percent: which top set, in percent of all filters.
        pieces: smooth pieces of the path; each gets an equal part of the budget.
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
    """What an integration took and how far it came.

    Attributes:
        points: evaluations of each integrand.
        error: (K,) estimated relative error of the scores; NaN for a fixed rule, which has no estimate.
        settled: (K,) whether error, top set and gap are within tolerance; False for a fixed rule.
    """

    points: int
    error: Tensor
    settled: Tensor


class NestedIntegral:
    """The integral of one integrand by one rule after the other; no point is evaluated twice.

    Nothing is stored per point: a point's weight in every rule is known when it is evaluated, so there is one sum
    for each rule that is still to come.

    Args:
        integrand: what is integrated.
        like: tensors shaped like its values.
        rules: each holds the points of those before it.
    """

    def __init__(self, integrand: Integrand, like: Tensors, rules: Sequence[Rule]) -> None:
        self._integrand = integrand
        self._waiting = [(rule, {name: torch.zeros_like(value) for name, value in like.items()}) for rule in rules]
        self._known: set[float] = set()

    def advance(self) -> dict[str, Tensor]:
        """Evaluate the points that the next rule adds, and return its integral."""
        new = [alpha for alpha in self._waiting[0][0].points.tolist() if alpha not in self._known]
        for alpha, values in zip(new, self._integrand(new), strict=True):
            self._add(alpha, values)
        self._known.update(new)
        return self._waiting.pop(0)[1]

    def _add(self, alpha: float, values: Tensors) -> None:
        for rule, sums in self._waiting:
            weight = float(rule.weights[np.searchsorted(rule.points, alpha)])
            for name, value in values.items():
                sums[name].add_(value, alpha=weight)


def integrate_together(
    integrands: Sequence[Integrand], like: Tensors, rule: Rule | Adaptive, judge: Judge
) -> tuple[list[dict[str, Tensor]], Effort]:
    """Integrate K integrands whose scores are compared with each other, all at the same points.

    Args:
        integrands: the K of them.
        like: tensors shaped like their values.
        rule: a fixed rule, or an adaptive one.
        judge: asked after each rule of an adaptive one.

    Returns:
        The K integrals, and what they took.
    """
    if isinstance(rule, Adaptive):
        return _refine(rule, [NestedIntegral(integrand, like, rule.rules) for integrand in integrands], judge)
    integrals = [NestedIntegral(integrand, like, [rule]).advance() for integrand in integrands]
    unknown = torch.full((len(integrals),), torch.nan, dtype=torch.float64)
    return integrals, Effort(len(rule), unknown, torch.zeros(len(integrals), dtype=torch.bool))


def _refine(
    adaptive: Adaptive, running: Sequence[NestedIntegral], judge: Judge
) -> tuple[list[dict[str, Tensor]], Effort]:
    """Go from rule to rule until all have settled; the first is there to compare the second with."""
    before, _ = judge([integral.advance() for integral in running])
    for rule in adaptive.rules[1:]:
        integrals = [integral.advance() for integral in running]
        scores, gaps = judge(integrals)
        effort = _assess(adaptive, len(rule), scores, before, gaps)
        if effort.settled.all():
            break
        before = scores
    return integrals, effort


def _assess(adaptive: Adaptive, points: int, scores: Tensor, before: Tensor, gaps: Tensor) -> Effort:
    """Compare the scores (K, F) of a rule with those of the one before."""
    size = torch.linalg.vector_norm(scores, dim=1)
    change = torch.linalg.vector_norm(scores - before, dim=1)
    error = torch.where(change == 0, 0.0, change / size) * ERROR_PER_CHANGE
    moved = [_moved(now, then, adaptive.percent) for now, then in zip(scores, before, strict=True)]
    worst = torch.stack([error, torch.tensor(moved).to(error) * ERROR_PER_CHANGE, gaps.to(error)]).amax(0)
    return Effort(points, error, worst <= adaptive.tolerance)


def _moved(scores: Tensor, before: Tensor, percent: float) -> float:
    """The share of the top set that was not in the top set before."""
    now, then = (set(discovered(values, percent).tolist()) for values in (scores, before))
    return len(now - then) / max(len(now), 1)
