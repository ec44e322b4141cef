"""The integral on one page: points, weights, gradients, sum, completeness.

FAIG integrates the gradient of the loss along a path γ in weight space (method.md §3 and §10):

    a_j(x) = ∫₀¹ ∂L(γ(α), x)/∂γ_j γ'_j(α) dα        with L(θ, x) = ‖F(θ, x) − x_gt‖²

On the straight line γ' = θ − θ̄. The attributions of all parameters, biases included, add up to L(θ, x) − L(θ̄, x).
This is completeness, and its gap is reported with every result.

`LossPath` is the integrand. A path of inputs, or another function of the output, is another `GradientPath`
(`methods.InputPath`). `integrate_together` integrates every `GradientPath`.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
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
from faig_lab.attribution.weight_paths import STRAIGHT, Fixed, PathSpec, WeightPath, path_through
from faig_lab.cuda_graphs import Replays, recorded_on
from faig_lab.errors import InputError
from faig_lab.filters import State, trainable

_REPLAYS: WeakKeyDictionary[nn.Module, Replays] = WeakKeyDictionary()
"""By network: its recorded passes."""

Tensors = Mapping[str, Tensor]
Integrand = Callable[[Sequence[float]], Iterable[Tensors]]
"""Points α → tensors by name at each point, in order. Each point takes one gradient evaluation."""

ConvergenceCriterion = Callable[[Sequence[Tensors]], tuple[Tensor, Tensor]]
"""The present integrals of the K integrands → scores (K, F), and the completeness gap of each integral (K,)."""


@dataclass(frozen=True)
class PathIntegral:
    """The path integral for one input.

    Attributes:
        attributions: parameter → its signed part of the loss change, with the shape of the parameter.
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
        """Σ_j a_j over all parameters, computed in double precision."""
        return float(torch.stack([a.double().sum() for a in self.attributions.values()]).sum())

    @property
    def gap(self) -> float:
        """The relative completeness gap |Σ_j a_j − ΔL| / |ΔL|; 0 if both are 0."""
        return completeness_gap(self.total, self.loss_change)


def completeness_gap(total: float, loss_change: float) -> float:
    """Compute |total − loss_change| / |loss_change|; 0 if both are 0, infinity if only the change is 0."""
    error = abs(total - loss_change)
    if error == 0:
        return 0.0
    return error / abs(loss_change) if loss_change else float("inf")


class GradientPath(ABC):
    """A function of the network's output along a path of weights or inputs, and its gradients by the weights.

    The network itself is never changed. Weights are passed by `filters.evaluate`, so nothing has to be restored, even
    if a forward pass raises an error. The value of a tied parameter is the value under its first name.

    Args:
        network: any module; its own weights are not used.
        target: parameters θ and buffers, on the device and in the precision of the computation.
        weights: γ, the parameters at each point.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        compute: precision, memory, several points at once.
        lr_at_end: the input at α = 1 of a straight line that begins at `lr`; None: the input is `lr` at all points.

    Raises:
        InputError: the image cannot be cut into tiles that fit into `compute.memory`; or gradients are requested and
            the network's output has no gradient.
    """

    def __init__(
        self,
        network: nn.Module,
        target: State,
        weights: WeightPath,
        lr: Tensor,
        hr: Tensor,
        compute: Compute,
        *,
        lr_at_end: Tensor | None = None,
    ) -> None:
        self.network, self.weights, self.compute = network, weights, compute
        self.lr, self.lr_at_end, self.hr = lr, lr_at_end, hr
        self.names = trainable(network)
        self.buffers = {name: value for name, value in target.items() if name not in set(self.names)}
        self.tiles = compute.tiles(network, target, lr, hr.shape[-1] // lr.shape[-1])
        self._values: dict[float, Tensor] = {}

    @abstractmethod
    def value(self, output: Tensor, hr: Tensor) -> Tensor:
        """Compute the function on the core of a tile. It is a scalar and a sum over pixels."""

    def input(self, alpha: float) -> Tensor:
        """Return the input (N, 3, H, W) at a point."""
        return self.lr if self.lr_at_end is None else torch.lerp(self.lr, self.lr_at_end, alpha)

    def gradients(self, alphas: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """Return an iterator over the gradients of all parameters at each α, times γ'(α) if the weights vary.

        Each point and tile takes one forward and one backward pass. The values of the function are stored.
        """
        return map(self.gradient, alphas) if self.compute.points_per_batch == 1 else self._in_batches(alphas)

    def gradient(self, alpha: float) -> dict[str, Tensor]:
        """Return the gradients at one α."""
        weights, lr, total = self.weights.at(alpha), self.input(alpha), TileSum()
        if self._is_recorded():
            total.add(*self._replayed(weights, lr))
            return self._at(alpha, total)
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        for tile in self.tiles:
            with torch.enable_grad():
                with self.compute.precision(lr):
                    output = self.compute.forward(self.network, {**self.buffers, **leaves}, tile.input(lr))
                value = self.value(tile.core_of_output(output), tile.core_of_image(self.hr))
            if not value.requires_grad:
                raise InputError("network", f"the output of {type(self.network).__name__} has no gradient")
            gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
            # The next pass of a compiled network may replay the same CUDA graph, which writes into the same memory.
            total.add(value.detach(), [g.clone() for g in gradients] if self.compute.compile else gradients)
        return self._at(alpha, total)

    def evaluate(self, alphas: Sequence[float]) -> dict[float, float]:
        """Return the value of the function at each α. An unknown value takes one forward pass for each tile."""
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
        """Return the integral of the gradients as attributions, with the known values along the path."""
        return PathIntegral(dict(integral), {alpha: float(value) for alpha, value in sorted(self._values.items())})

    def _value(self, weights: Tensors, lr: Tensor, tile: Tile) -> Tensor:
        output = self.compute.output(self.network, {**self.buffers, **weights}, tile.input(lr))
        return self.value(tile.core_of_output(output), tile.core_of_image(self.hr))

    def kind(self) -> Hashable:
        """Return all that `value` uses beside its arguments; None: that is not known.

        Passes of one kind are recorded as CUDA graphs. Passes of an unknown kind are not recorded.
        """
        return None

    def _is_recorded(self) -> bool:
        recordable = self.compute.records and len(self.tiles) == 1
        return recordable and recorded_on(self.lr) and self.kind() is not None

    def _replayed(self, weights: Tensors, lr: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the value of the function and its gradients by a recorded pass. The gradients last until the next."""
        buffers = tuple(self.buffers)

        def run(given: Sequence[Tensor]) -> list[Tensor]:
            """Run a pass that reads nothing but the given tensors: a pass at the only point of a constant path."""
            state = dict(zip((*self.names, *buffers), given, strict=False))
            one = copy.copy(self)
            one.compute, one._values = replace(self.compute, cuda_graphs=False), {}
            one.weights, one.buffers = Fixed({n: state[n] for n in self.names}), {n: state[n] for n in buffers}
            one.lr, one.lr_at_end, one.hr = given[-2], None, given[-1]
            gradients = one.gradient(0.0)
            return [one._values[0.0], *gradients.values()]

        key = type(self), self.kind(), self.compute, tuple(self.names), buffers, self.tiles, self.network.training
        inputs = [*(weights[name] for name in self.names), *self.buffers.values(), lr, self.hr]
        value, *gradients = _REPLAYS.setdefault(self.network, Replays())(key, run, inputs)
        return value.clone(), gradients

    def _in_batches(self, alphas: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """Yield the gradients of several points, evaluated at once where that gives the same numbers."""
        size = self.compute.points_per_batch
        for batch in (alphas[start : start + size] for start in range(0, len(alphas), size)):
            if len(batch) > 1 and self._can_batch(batch):
                yield from self._at_once(batch)
            else:
                yield from map(self.gradient, batch)

    def _at_once(self, batch: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """Yield the gradients at several points, evaluated at once. The input must be the same at all points."""
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
        """Store the value at a point, and return the gradients times γ'(α)."""
        self._values[alpha] = total.value
        velocity, gradients = self.weights.velocity(alpha), total.gradients
        if velocity is not None:
            gradients = list(torch._foreach_mul(gradients, [velocity[name] for name in self.names]))
        elif self._is_recorded():  # the next pass may be a replay, which writes into the same memory
            gradients = [gradient.clone() for gradient in gradients]
        return dict(zip(self.names, gradients, strict=True))

    def _can_batch(self, batch: Sequence[float]) -> bool:
        """Return whether gradients at several points at once agree with those one by one; tested once per size."""
        key = "points at once", len(batch), self.lr.shape, self.lr.dtype, self.lr.device.type, self.compute
        bound = SINGLE if self.compute.autocast is None and self.lr.dtype.itemsize >= 4 else LOWER

        def compare() -> bool:
            return points_agree(lambda: list(self._at_once(batch)), list(map(self.gradient, batch)), bound)

        return remembered(self.network, key, compare)


class LossPath(GradientPath):
    """The loss of one input along a path γ in weight space, from a baseline to a target.

    Args:
        network: any module; its own weights are not used.
        baseline: parameters θ̄ (and buffers), on the device and in the precision of the computation.
        target: parameters θ, with the same names and shapes. Its buffers are used.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        compute: precision, memory, several points at once.
        path: the path in weight space.
        loss: a function of output and ground truth, a sum over pixels.
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

    def kind(self) -> Hashable:
        """Return the loss; None if the loss has no hash."""
        try:
            hash(self.loss)
        except TypeError:
            return None
        return self.loss

    def attribute(self, integral: Tensors) -> PathIntegral:
        """Return attributions and losses. An end without a gradient takes one forward pass."""
        self.evaluate((0.0, 1.0))
        return super().attribute(integral)


def integrate_together(
    integrands: Sequence[Integrand],
    template: Tensors,
    rule: Rule | Adaptive,
    convergence_criterion: ConvergenceCriterion | None = None,
) -> tuple[list[dict[str, Tensor]], Effort]:
    """Integrate K integrands at the same points; their scores are compared with each other.

    Nothing is stored per point. The weight of a point in every rule is known when the point is evaluated, so there is
    one sum for each remaining rule. No point is evaluated twice.

    Args:
        integrands: the K integrands. They need not be gradients of a network.
        template: tensors with the shapes of the integrands' values.
        rule: a fixed or an adaptive rule.
        convergence_criterion: called after each nested rule of an adaptive rule, which needs a criterion.

    Returns:
        The K integrals and their effort.

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
                    torch._foreach_add_([total[name] for name in values], list(values.values()), alpha=weight)
        integrals = [totals.pop(0) for totals in sums]
        if isinstance(rule, Adaptive) and convergence_criterion is not None:
            scores, gaps = convergence_criterion(integrals)
            if before is not None:  # the first rule has no rule before it
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

    Each point of the rule takes one forward and one backward pass. Each end that is no point of the rule takes a
    forward pass.

    Args:
        network: any module; its own weights are neither used nor changed.
        baseline: parameters θ̄ (and buffers), on the device and in the precision of the computation.
        target: parameters θ, with the same names and shapes. Its buffers are used.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        rule: the quadrature; it is applied to each piece of a path of several pieces.
        compute: precision, memory, several points at once.
        path: the path in weight space; its own rule is not used.

    Returns:
        Attributions of all floating parameters, and the losses along the path.
    """
    loss = LossPath(network, baseline, target, lr, hr, compute, path)
    (integral,), _ = integrate_together([loss.gradients], loss.weights.at(0.0), over_pieces(rule, path.pieces))
    return loss.attribute(integral)
