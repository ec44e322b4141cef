"""Paths in weight space from a baseline to a target, along which the gradient is integrated (method.md §10).

The integral is complete along any piecewise smooth path γ: Σ_j ∫ ∂L/∂γ_j γ'_j dα = L(θ) − L(θ̄). A path is data: its
states and its pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from faig_lab.attribution.quadrature import Adaptive, Rule
from faig_lab.filters import State

PathName = Literal["straight", "trajectory", "curve"]
"""The values of `attribution.path`."""


class WeightPath(Protocol):
    """γ from α = 0 (the baseline) to α = 1 (the target), for all parameters by name."""

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return γ(α). The ends are the baseline and the target, bit for bit."""

    def velocity(self, alpha: float) -> dict[str, Tensor] | None:
        """Return γ'(α); None if the weights are constant."""


@dataclass(frozen=True, eq=False)
class Fixed:
    """The same weights at every point, for a path of inputs.

    Args:
        state: parameters by name.
    """

    state: State

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return the weights."""
        return dict(self.state)

    def velocity(self, alpha: float) -> None:
        """Return None, since the weights are constant."""


@dataclass(frozen=True, eq=False)
class Polyline:
    """Straight pieces through n ≥ 2 states. Each piece has the same length in α: α = k/(n − 1) is state k.

    Two states give the straight line of the authors' code. Averaged weights that were saved during the target's
    training give the trajectory of the training (cf. Loss Change Allocation, Lan et al., NeurIPS 2019).

    Args:
        states: parameters by name; all have the same names and shapes.
    """

    states: tuple[State, ...]

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return γ(α)."""
        piece, place = self._place(alpha)
        first, second = self._ends(piece)
        return dict(zip(self.states[piece], torch._foreach_lerp(first, second, place), strict=True))

    def velocity(self, alpha: float) -> dict[str, Tensor]:
        """Return γ'(α), which is constant on each piece. At a joint it is the value of the later piece."""
        piece, _ = self._place(alpha)
        first, second = self._ends(piece)
        differences = torch._foreach_sub(second, first)
        torch._foreach_mul_(differences, len(self.states) - 1)
        return dict(zip(self.states[piece], differences, strict=True))

    def _ends(self, piece: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return the tensors at both ends of a piece. Functions of lists take a GPU one launch for all tensors."""
        first, second = self.states[piece], self.states[piece + 1]
        return list(first.values()), [second[name] for name in first]

    def _place(self, alpha: float) -> tuple[int, float]:
        """Return the piece that contains α, and the share of the piece before α."""
        pieces = len(self.states) - 1
        piece = min(int(alpha * pieces), pieces - 1)
        return piece, alpha * pieces - piece


@dataclass(frozen=True, eq=False)
class Bezier:
    """The quadratic Bézier curve (1 − α)² θ̄ + 2α(1 − α) m + α² θ (Garipov et al., NeurIPS 2018).

    Args:
        baseline: θ̄, parameters by name.
        middle: m, the control point that bends the curve. The curve does not pass through m.
        target: θ.
    """

    baseline: State
    middle: State
    target: State

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return γ(α)."""
        return {
            name: torch.lerp(torch.lerp(start, self.middle[name], alpha), self._later(name, alpha), alpha)
            for name, start in self.baseline.items()
        }

    def velocity(self, alpha: float) -> dict[str, Tensor]:
        """Return γ'(α) = 2(1 − α)(m − θ̄) + 2α(θ − m)."""
        return {
            name: 2 * (self._later(name, alpha) - torch.lerp(start, self.middle[name], alpha))
            for name, start in self.baseline.items()
        }

    def _later(self, name: str, alpha: float) -> Tensor:
        """Return the point of the second half of the control polygon (de Casteljau)."""
        return torch.lerp(self.middle[name], self.target[name], alpha)


@dataclass(frozen=True, eq=False)
class PathSpec:
    """The path along which a problem is integrated.

    Args:
        kind: straight, trajectory or curve.
        inner: the states between baseline and target that define the path, see `path_through`.
        rule: the quadrature of each smooth piece; None: the rule of the problem.
    """

    kind: PathName = "straight"
    inner: tuple[State, ...] = ()
    rule: Rule | Adaptive | None = None

    @property
    def pieces(self) -> int:
        """Number of smooth pieces."""
        return 1 if self.kind == "curve" else len(self.inner) + 1


STRAIGHT = PathSpec()
"""The straight line of the authors' code."""


def path_through(inner: Sequence[State], kind: PathName, baseline: State, target: State) -> WeightPath:
    """Return the path of a kind from its inner states.

    Args:
        inner: no state for the straight line, the saved states for a trajectory, the middle point for a curve.
        kind: straight, trajectory or curve.
        baseline: θ̄.
        target: θ.
    """
    if kind == "curve":
        (middle,) = inner
        return Bezier(baseline, middle, target)
    return Polyline((baseline, *inner, target))
