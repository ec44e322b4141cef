"""The signed path integral: what each weight contributed to the change of the loss between two networks.

a_j(x) = (θ_j − θ̄_j) ∫₀¹ ∂L(γ(α), x)/∂γ_j dα on the path γ(α) = θ̄ + α (θ − θ̄), with
L(θ, x) = ‖F(θ, x) − x_gt‖², summed over pixels and channels (method.md §3). Over all parameters, biases
included, the attributions add up to L(θ, x) − L(θ̄, x): completeness, whose gap is reported with every result.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from faig_lab.attribution.adaptive import NestedIntegral
from faig_lab.attribution.compute import DEFAULT, Compute, State, in_format, memory_format
from faig_lab.attribution.quadrature import Rule
from faig_lab.attribution.tiles import Tile

Evaluated = tuple[list[Tensor], list[dict[str, Tensor]]]
"""Loss, and gradients by name, at each of some points."""


@dataclass(frozen=True)
class PathIntegral:
    """The result for one input.

    Attributes:
        attributions: per parameter, shaped like it: its signed share of the loss change.
        loss_baseline: L(θ̄, x).
        loss_target: L(θ, x).
    """

    attributions: dict[str, Tensor]
    loss_baseline: float
    loss_target: float

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


def squared_error(output: Tensor, hr: Tensor) -> Tensor:
    """‖output − hr‖²: the sum over pixels and channels, in at least single precision."""
    return (output.to(hr.dtype) - hr).square().sum()


class LossPath:
    """The loss of one input along the straight line γ from a baseline to a target, and its gradients.

    The network itself is never changed: weights enter by `evaluate`, so there is nothing to restore, also when a
    forward raises. Of a tied parameter the value under the name that counts is used.

    Args:
        network: any module; its own weights do not matter.
        baseline: parameters θ̄ (and buffers) on the device and in the precision to compute in.
        target: parameters θ; the same names and shapes. Buffers are taken from here.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        compute: how: precision, memory, several points at once.

    Attributes:
        difference: θ − θ̄ of all parameters.

    Raises:
        UserError: the image cannot be cut into tiles that `compute.memory` is enough for.
    """

    def __init__(
        self,
        network: nn.Module,
        baseline: State,
        target: State,
        lr: Tensor,
        hr: Tensor,
        compute: Compute = DEFAULT,
    ) -> None:
        layout = memory_format(lr, compute.autocast)
        self.network, self.compute = network, compute
        self.baseline, self.target = in_format(baseline, layout), in_format(target, layout)
        self.lr, self.hr = lr.contiguous(memory_format=layout), hr
        self.difference = {n: self.target[n] - self.baseline[n] for n, _ in network.named_parameters()}
        self._buffers = {name: value for name, value in self.target.items() if name not in self.difference}
        self._tiles = compute.tiles(network, self.target, lr, hr.shape[-1] // lr.shape[-1])
        self._ends: dict[float, Tensor] = {}

    def gradients(self, alphas: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """∂L/∂γ of all parameters at γ(α) for each α: one forward and one backward; losses at ends are remembered."""
        for start in range(0, len(alphas), self.compute.together):
            yield from self._together(alphas[start : start + self.compute.together])

    def attribute(self, integral: State) -> PathIntegral:
        """What the integral of the gradients says: attributions and the losses at both ends.

        One forward for each end where no gradient was taken.
        """
        with torch.no_grad():
            for alpha, state in ((0.0, self.baseline), (1.0, self.target)):
                if alpha not in self._ends:
                    self._ends[alpha] = self._whole_loss({name: state[name] for name in self.difference})
        attributions = {name: total * self.difference[name] for name, total in integral.items()}
        return PathIntegral(attributions, float(self._ends[0.0]), float(self._ends[1.0]))

    def _together(self, alphas: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """Gradients at so many points at once, tile by tile."""
        points = [{n: torch.lerp(self.baseline[n], self.target[n], alpha) for n in self.difference} for alpha in alphas]
        losses, found = _added(self._gradients_of_tile(points, tile) for tile in self._tiles)
        self._ends |= {alpha: loss for alpha, loss in zip(alphas, losses, strict=True) if alpha in (0.0, 1.0)}
        yield from found

    def _gradients_of_tile(self, points: Sequence[State], tile: Tile) -> Evaluated:
        """Losses and gradients of a tile at some points."""
        lr, hr = tile.input(self.lr), tile.core_of_image(self.hr)
        if len(points) == 1:
            leaves = {name: value.requires_grad_() for name, value in points[0].items()}
            with torch.enable_grad():
                loss = self._loss(leaves, lr, hr, tile)
                gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
            return [loss.detach()], [dict(zip(leaves, gradients, strict=True))]
        stacked = {name: torch.stack([point[name] for point in points]) for name in self.difference}
        evaluate_all = vmap(grad_and_value(self._loss), in_dims=(0, None, None, None))
        together, losses = evaluate_all(stacked, lr, hr, tile)
        return list(losses), [{name: value[k] for name, value in together.items()} for k in range(len(points))]

    def _whole_loss(self, parameters: State) -> Tensor:
        losses = [self._loss(parameters, t.input(self.lr), t.core_of_image(self.hr), t) for t in self._tiles]
        return torch.stack(losses).sum()

    def _loss(self, parameters: State, lr: Tensor, hr: Tensor, tile: Tile) -> Tensor:
        output = self.compute.output(self.network, {**self._buffers, **parameters}, lr)
        return squared_error(tile.core_of_output(output), hr)


def _added(tiles: Iterable[Evaluated]) -> Evaluated:
    """The sums over the tiles of what is found in each of them."""
    pieces = iter(tiles)
    losses, gradients = next(pieces)
    for more, further in pieces:
        losses = [a + b for a, b in zip(losses, more, strict=True)]
        for total, values in zip(gradients, further, strict=True):
            for name, value in values.items():
                total[name] += value
    return losses, gradients


def integrate(
    network: nn.Module,
    baseline: State,
    target: State,
    lr: Tensor,
    hr: Tensor,
    rule: Rule,
    compute: Compute = DEFAULT,
) -> PathIntegral:
    """Integrate the loss gradient along the straight line from `baseline` to `target` by a fixed rule.

    One forward and one backward at each point of the rule, and a forward at each end that the rule does not
    visit.

    Args:
        network: any module; its own weights do not matter and are never changed.
        baseline: parameters θ̄ (and buffers) on the device and in the precision to compute in.
        target: parameters θ; the same names and shapes. Buffers are taken from here.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        rule: the quadrature.
        compute: how: precision, memory, several points at once.

    Returns:
        Attributions of all floating parameters, and the two losses.
    """
    path = LossPath(network, baseline, target, lr, hr, compute)
    return path.attribute(NestedIntegral(path.gradients, path.difference, [rule]).advance())
