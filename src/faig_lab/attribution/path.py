"""The integral on one page: points, weights, gradients, sum, completeness.

FAIG integrates the gradient of the loss along a path γ in weight space (method.md §3 and §10):

    a_j(x) = ∫₀¹ ∂L(γ(α), x)/∂γ_j γ'_j(α) dα        with L(θ, x) = ‖F(θ, x) − x_gt‖²

On the straight line γ' = θ − θ̄. Over all parameters, biases included, the attributions add up to L(θ, x) − L(θ̄, x):
completeness, whose gap is reported with every result.

`LossPath` is this integrand. Another function of the output, or a path of inputs, is another `GradientPath`
(`methods.InputPath`); `integrate_together` integrates all of them.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from faig_lab.attribution.compute import (
    DEFAULT,
    LOWER,
    SINGLE,
    Compute,
    full_precision,
    in_format,
    memory_format,
    points_agree,
)
from faig_lab.attribution.losses import SQUARED_ERROR, Loss
from faig_lab.attribution.quadrature import Adaptive, Effort, Rule, assess, over_pieces
from faig_lab.attribution.tiling import Tile, TileSum, remembered
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec, WeightPath, path_through
from faig_lab.errors import InputError
from faig_lab.filters import State

_AGREES: WeakKeyDictionary[nn.Module, dict[str, bool]] = WeakKeyDictionary()
"""Whether several points at once agree with one by one, by network."""

Tensors = Mapping[str, Tensor]
Integrand = Callable[[Sequence[float]], Iterable[Tensors]]
"""Points α → tensors by name at each, in order; one gradient evaluation each."""

ConvergenceCriterion = Callable[[Sequence[Tensors]], tuple[Tensor, Tensor]]
"""Integrals so far of the K integrands → scores (K, F), and the completeness gap of each (K,)."""


@dataclass(frozen=True)
class PathIntegral:
    """The result for one input.

    Attributes:
        attributions: per parameter, shaped like it: its signed share of the loss change.
        losses: α → L(γ(α), x), at both ends and at every point where a gradient was taken.
    """

    attributions: dict[str, Tensor]
    losses: Mapping[float, float]

    @property
    def loss_baseline(self) -> float:
        """L(θ̄, x)."""
        return self.losses[0.0]

    @property
    def loss_target(self) -> float:
        """L(θ, x)."""
        return self.losses[1.0]

    @property
    def loss_change(self) -> float:
        """L(θ, x) − L(θ̄, x)."""
        return self.loss_target - self.loss_baseline

    @property
    def total(self) -> float:
        """Σ_j a_j over all parameters, added in double precision."""
        return float(torch.stack([a.double().sum() for a in self.attributions.values()]).sum())

    @property
    def gap(self) -> float:
        """Relative completeness gap |Σ_j a_j − ΔL| / |ΔL|; 0 where both are 0."""
        return completeness_gap(self.total, self.loss_change)


def completeness_gap(total: float, loss_change: float) -> float:
    """|total − loss_change| / |loss_change|; 0 where both are 0, infinity where only the change is."""
    error = abs(total - loss_change)
    if error == 0:
        return 0.0
    return error / abs(loss_change) if loss_change else float("inf")


class GradientPath(ABC):
    """A function of the network's output along a path of weights or inputs, and its gradients by the weights.

    The network itself is never changed: weights enter by `filters.evaluate`, so there is nothing to restore, also when
    a forward raises. Of a tied parameter the value under the name that counts is used.

    Args:
        network: any module; its own weights do not matter.
        target: parameters θ and buffers, on the device and in the precision to compute in.
        weights: γ, the parameters at each point.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        compute: how: precision, memory, several points at once.

    Raises:
        InputError: the image cannot be cut into tiles that `compute.memory` is enough for; or, when gradients are
            taken, the network's output has none.
    """

    def __init__(
        self, network: nn.Module, target: State, weights: WeightPath, lr: Tensor, hr: Tensor, compute: Compute
    ) -> None:
        self.network, self.weights, self.lr, self.hr, self.compute = network, weights, lr, hr, compute
        self.names = trainable(network)
        self.buffers = {name: value for name, value in target.items() if name not in set(self.names)}
        self.tiles = compute.tiles(network, target, lr, hr.shape[-1] // lr.shape[-1])
        self._values: dict[float, Tensor] = {}

    @abstractmethod
    def value(self, output: Tensor, hr: Tensor) -> Tensor:
        """Compute the function on the core of a tile: a scalar, a sum over pixels."""

    def input(self, alpha: float) -> Tensor:
        """Return the input (N, 3, H, W) at a point; the same at all points unless a subclass moves it."""
        return self.lr

    def gradients(self, alphas: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """Yield the gradients of all parameters at each α, times γ'(α) where the weights move.

        One forward and one backward for each point and tile; the values of the function are remembered.
        """
        size = self.compute.points_per_batch
        for batch in (alphas[start : start + size] for start in range(0, len(alphas), size)):
            if len(batch) > 1 and self._can_batch(batch):
                yield from self._at_once(batch)
                continue
            for alpha in batch:
                weights = {name: value.detach().requires_grad_() for name, value in self.weights.at(alpha).items()}
                lr, total = self.input(alpha), TileSum()
                for tile in self.tiles:
                    with torch.enable_grad():
                        with self.compute.precision(lr):
                            output = self.compute.forward(self.network, {**self.buffers, **weights}, tile.input(lr))
                        value = self.value(tile.core_of_output(output), tile.core_of_image(self.hr))
                    total.add(value.detach(), self._backward(value, weights))
                yield self._at(alpha, total)

    def evaluate(self, alphas: Sequence[float]) -> dict[float, float]:
        """Return the function at each α, by one forward for each tile where it is not known yet."""
        for alpha in alphas:
            if alpha in self._values:
                continue
            weights, lr, total = self.weights.at(alpha), self.input(alpha), TileSum()
            for tile in self.tiles:
                with torch.no_grad():
                    with self.compute.precision(lr):
                        output = self.compute.forward(self.network, {**self.buffers, **weights}, tile.input(lr))
                    total.add(self.value(tile.core_of_output(output), tile.core_of_image(self.hr)))
            self._values[alpha] = total.value
        return {alpha: float(self._values[alpha]) for alpha in alphas}

    def attribute(self, integral: Tensors) -> PathIntegral:
        """Return the integral of the gradients as attributions, with the values along the path that are known."""
        return PathIntegral(dict(integral), {alpha: float(value) for alpha, value in sorted(self._values.items())})

    def _value(self, weights: Tensors, lr: Tensor, tile: Tile) -> Tensor:
        output = self.compute.output(self.network, {**self.buffers, **weights}, tile.input(lr))
        return self.value(tile.core_of_output(output), tile.core_of_image(self.hr))

    def _backward(self, value: Tensor, weights: Tensors) -> list[Tensor]:
        if not value.requires_grad:
            raise InputError("network", f"the output of {type(self.network).__name__} has no gradient")
        gradients = torch.autograd.grad(value, list(weights.values()), allow_unused=True, materialize_grads=True)
        # The next pass of a compiled network may replay the same CUDA graph, which writes into the same memory.
        return [gradient.clone() for gradient in gradients] if self.compute.compile else list(gradients)

    def _at_once(self, batch: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """Yield the gradients at several points, which are evaluated at once; the input must not move."""
        points = [self.weights.at(alpha) for alpha in batch]
        stacked = {name: torch.stack([point[name] for point in points]) for name in self.names}
        evaluate_all = vmap(grad_and_value(self._value), in_dims=(0, None, None))
        totals = [TileSum() for _ in batch]
        for tile in self.tiles:
            gradients, values = evaluate_all(stacked, self.lr, tile)
            for k, total in enumerate(totals):
                total.add(values[k], [gradients[name][k] for name in self.names])
        yield from map(self._at, batch, totals)

    def _at(self, alpha: float, total: TileSum) -> dict[str, Tensor]:
        """Remember the value at a point, and return the gradients times γ'(α)."""
        self._values[alpha] = total.value
        velocity = self.weights.velocity(alpha)
        gradients = dict(zip(self.names, total.gradients, strict=True))
        return gradients if velocity is None else {name: value * velocity[name] for name, value in gradients.items()}

    def _can_batch(self, batch: Sequence[float]) -> bool:
        """Compare the points at once with the points one by one, once for each size of an image; True if they agree."""
        one_by_one = copy.copy(self)
        one_by_one.compute = replace(self.compute, points_per_batch=1)
        bound = SINGLE if self.compute.autocast is None and self.lr.dtype.itemsize >= 4 else LOWER

        def compare() -> bool:
            return points_agree(lambda: list(self._at_once(batch)), list(one_by_one.gradients(batch)), bound)

        key = f"{len(batch)} points {tuple(self.lr.shape)} {self.lr.dtype} {self.lr.device.type} {self.compute}"
        return remembered(_AGREES, self.network, key, compare)


class LossPath(GradientPath):
    """The loss of one input along a path γ in weight space, from a baseline to a target.

    Args:
        network: any module; its own weights do not matter.
        baseline: parameters θ̄ (and buffers) on the device and in the precision to compute in.
        target: parameters θ; the same names and shapes. Buffers are taken from here.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        compute: how: precision, memory, several points at once.
        path: which path.
        loss: of the output; a sum over pixels.
    """

    def __init__(
        self,
        network: nn.Module,
        baseline: State,
        target: State,
        lr: Tensor,
        hr: Tensor,
        compute: Compute = DEFAULT,
        path: PathSpec = STRAIGHT,
        *,
        loss: Loss = SQUARED_ERROR,
    ) -> None:
        layout, names = memory_format(lr, compute.autocast), trainable(network)
        states = [in_format({name: state[name] for name in names}, layout) for state in (baseline, *path.inner, target)]
        weights = path_through(states[1:-1], path.kind, states[0], states[-1])
        lr = lr.contiguous(memory_format=layout)
        super().__init__(network, in_format(target, layout), weights, lr, hr, compute)
        self.loss = loss

    def value(self, output: Tensor, hr: Tensor) -> Tensor:
        """Compute the loss."""
        return self.loss(output, hr)

    def attribute(self, integral: Tensors) -> PathIntegral:
        """Return attributions and losses; it takes one forward for each end where no gradient was taken."""
        self.evaluate((0.0, 1.0))
        return super().attribute(integral)


def trainable(network: nn.Module) -> list[str]:
    """Return the names of the parameters that have gradients: those of a floating type."""
    return [name for name, parameter in network.named_parameters() if parameter.is_floating_point()]


def integrate_together(
    integrands: Sequence[Integrand],
    template: Tensors,
    rule: Rule | Adaptive,
    convergence_criterion: ConvergenceCriterion | None = None,
) -> tuple[list[dict[str, Tensor]], Effort]:
    """Integrate K integrands whose scores are compared with each other, all at the same points.

    Nothing is stored per point: a point's weight in every rule is known when it is evaluated, so there is one sum for
    each rule that is still to come. No point is evaluated twice.

    Args:
        integrands: the K of them. They need not be gradients of a network.
        template: tensors shaped like their values.
        rule: a fixed rule, or an adaptive one.
        convergence_criterion: asked after each rule of an adaptive one; needed for an adaptive rule alone.

    Returns:
        The K integrals, and what they took.

    Raises:
        ValueError: an adaptive rule without a criterion.
    """
    if isinstance(rule, Adaptive) and convergence_criterion is None:
        raise ValueError("convergence_criterion is required by an adaptive rule")
    rules = rule.rules if isinstance(rule, Adaptive) else (rule,)
    sums = [[{name: torch.zeros_like(value) for name, value in template.items()} for _ in rules] for _ in integrands]
    unknown = torch.full((len(integrands),), torch.nan, dtype=torch.float64)
    effort = Effort(len(rules[0]), unknown, torch.zeros(len(integrands), dtype=torch.bool))
    known, before = set[float](), None
    for step, current in enumerate(rules):
        new = [alpha for alpha in current.points.tolist() if alpha not in known]
        known.update(new)
        for integrand, totals in zip(integrands, sums, strict=True):
            for alpha, values in zip(new, integrand(new), strict=True):
                for later, total in zip(rules[step:], totals, strict=True):
                    weight = float(later.weights[np.searchsorted(later.points, alpha)])
                    for name, value in values.items():
                        total[name].add_(value, alpha=weight)
        integrals = [totals.pop(0) for totals in sums]
        if isinstance(rule, Adaptive) and convergence_criterion is not None:
            scores, gaps = convergence_criterion(integrals)
            if before is not None:  # the first rule is there to compare the second with
                effort = assess(rule, len(current), scores, before, gaps)
                if effort.settled.all():
                    break
            before = scores
    return integrals, effort


@full_precision()
def integrate(
    network: nn.Module,
    baseline: State,
    target: State,
    lr: Tensor,
    hr: Tensor,
    rule: Rule,
    compute: Compute = DEFAULT,
    path: PathSpec = STRAIGHT,
) -> PathIntegral:
    """Integrate the loss gradient along a path from `baseline` to `target` by a fixed rule.

    One forward and one backward at each point of the rule, and a forward at each end that the rule does not
    visit.

    Args:
        network: any module; its own weights do not matter and are never changed.
        baseline: parameters θ̄ (and buffers) on the device and in the precision to compute in.
        target: parameters θ; the same names and shapes. Buffers are taken from here.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        rule: the quadrature; of a path of several pieces it is applied to each piece.
        compute: how: precision, memory, several points at once.
        path: which path; its own rule plays no part.

    Returns:
        Attributions of all floating parameters, and the losses along the path.
    """
    loss = LossPath(network, baseline, target, lr, hr, compute, path)
    (integral,), _ = integrate_together([loss.gradients], loss.weights.at(0.0), over_pieces(rule, path.pieces))
    return loss.attribute(integral)
