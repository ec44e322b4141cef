"""The signed path integral: what each weight contributed to the change of the loss between two networks.

a_j(x) = ∫₀¹ ∂L(γ(α), x)/∂γ_j γ'_j(α) dα on a path γ from θ̄ to θ, with L(θ, x) = ‖F(θ, x) − x_gt‖², summed over
pixels and channels (method.md §3 and §10). On the straight line γ' = θ − θ̄. Over all parameters, biases included, the
attributions add up to L(θ, x) − L(θ̄, x): completeness, whose gap is reported with every result.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap

from faig_lab.attribution.adaptive import NestedIntegral
from faig_lab.attribution.agreement import AGREES, LOWER, SINGLE, points_agree, remembered
from faig_lab.attribution.compute import DEFAULT, Compute, full_precision, in_format, memory_format
from faig_lab.attribution.quadrature import Rule, over_pieces
from faig_lab.attribution.tiles import Tile
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec, path_through
from faig_lab.errors import UserError
from faig_lab.filters import State

Evaluated = tuple[list[Tensor], list[dict[str, Tensor]]]
"""Loss, and gradients by name, at each of some points."""


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


def squared_error(output: Tensor, hr: Tensor) -> Tensor:
    """‖output − hr‖²: the sum over pixels and channels, in at least single precision."""
    return (output.to(hr.dtype) - hr).square().sum()


class LossPath:
    """The loss of one input along a path γ from a baseline to a target, and its gradients.

    The network itself is never changed: weights enter by `evaluate`, so there is nothing to restore, also when a
    forward raises. Of a tied parameter the value under the name that counts is used.

    Args:
        network: any module; its own weights do not matter.
        baseline: parameters θ̄ (and buffers) on the device and in the precision to compute in.
        target: parameters θ; the same names and shapes. Buffers are taken from here.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        compute: how: precision, memory, several points at once.
        path: which path.

    Attributes:
        difference: θ − θ̄ of all parameters.

    Raises:
        UserError: the image cannot be cut into tiles that `compute.memory` is enough for; or, when gradients are taken,
            the network's output has none.
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
    ) -> None:
        layout = memory_format(lr, compute.autocast)
        self.network, self.compute = network, compute
        self.baseline, self.target = in_format(baseline, layout), in_format(target, layout)
        self.lr, self.hr = lr.contiguous(memory_format=layout), hr
        weights = [name for name, parameter in network.named_parameters() if parameter.is_floating_point()]
        self.difference = {name: self.target[name] - self.baseline[name] for name in weights}
        self._buffers = {name: value for name, value in self.target.items() if name not in self.difference}
        self._tiles = compute.tiles(network, self.target, lr, hr.shape[-1] // lr.shape[-1])
        ends = ({name: state[name] for name in self.difference} for state in (self.baseline, self.target))
        between = [in_format({name: state[name] for name in self.difference}, layout) for state in path.inner]
        self.path = path_through(between, path.kind, *ends)
        self._losses: dict[float, Tensor] = {}

    def gradients(self, alphas: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """∂L/∂γ γ'(α) of all parameters at each α: one forward and one backward; the losses are remembered."""
        for start in range(0, len(alphas), self.compute.together):
            yield from self._together(alphas[start : start + self.compute.together])

    def attribute(self, integral: State) -> PathIntegral:
        """What the integral of the gradients says: attributions and the losses along the path.

        One forward for each end where no gradient was taken.
        """
        self.evaluate((0.0, 1.0))
        return PathIntegral(dict(integral), {alpha: float(loss) for alpha, loss in sorted(self._losses.items())})

    def evaluate(self, alphas: Sequence[float]) -> dict[float, float]:
        """α → L(γ(α), x), by one forward at each α where the loss is not known yet."""
        with torch.no_grad():
            for alpha in alphas:
                if alpha not in self._losses:
                    self._losses[alpha] = self._whole_loss(self.path.at(alpha))
        return {alpha: float(self._losses[alpha]) for alpha in alphas}

    def _together(self, alphas: Sequence[float]) -> Iterator[dict[str, Tensor]]:
        """Gradients at so many points at once, tile by tile."""
        points = [self.path.at(alpha) for alpha in alphas]
        losses, found = _added(self._gradients_of_tile(points, tile) for tile in self._tiles)
        self._losses |= dict(zip(alphas, losses, strict=True))
        for alpha, gradients in zip(alphas, found, strict=True):
            velocity = self.path.velocity(alpha)
            yield {name: gradient * velocity[name] for name, gradient in gradients.items()}

    def _gradients_of_tile(self, points: Sequence[State], tile: Tile) -> Evaluated:
        """Losses and gradients of a tile at some points: at once, where that gives what one by one gives."""
        if len(points) == 1:
            return self._one_by_one(points, tile)
        lr = tile.input(self.lr)
        key = f"{len(points)} points {tuple(lr.shape)} {lr.dtype} {lr.device.type} {self.compute}"
        if not remembered(AGREES, self.network, key, lambda: self._agree(points, tile)):
            return self._one_by_one(points, tile)
        return self._at_once(points, tile)

    def _agree(self, points: Sequence[State], tile: Tile) -> bool:
        bound = SINGLE if self.compute.autocast is None and self.lr.dtype.itemsize >= 4 else LOWER
        _, one_by_one = self._one_by_one(points, tile)
        return points_agree(lambda: self._at_once(points, tile)[1], one_by_one, self.difference, bound)

    def _one_by_one(self, points: Sequence[State], tile: Tile) -> Evaluated:
        losses: list[Tensor] = []
        found: list[dict[str, Tensor]] = []
        for point in points:
            leaves = {name: value.detach().requires_grad_() for name, value in point.items()}
            with torch.enable_grad():
                loss = self._loss(leaves, tile.input(self.lr), tile.core_of_image(self.hr), tile)
                if not loss.requires_grad:
                    raise UserError(f"network: the output of {type(self.network).__name__} has no gradient")
                gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
            if self.compute.compile is not None and len(points) * len(self._tiles) > 1:
                # The next pass may replay the same CUDA graph, which writes its results into the same memory.
                loss, gradients = loss.clone(), tuple(gradient.clone() for gradient in gradients)
            losses.append(loss.detach())
            found.append(dict(zip(leaves, gradients, strict=True)))
        return losses, found

    def _at_once(self, points: Sequence[State], tile: Tile) -> Evaluated:
        stacked = {name: torch.stack([point[name] for point in points]) for name in self.difference}
        evaluate_all = vmap(grad_and_value(self._loss), in_dims=(0, None, None, None))
        together, losses = evaluate_all(stacked, tile.input(self.lr), tile.core_of_image(self.hr), tile)
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
    line = LossPath(network, baseline, target, lr, hr, compute, path)
    return line.attribute(NestedIntegral(line.gradients, line.difference, [over_pieces(rule, path.pieces)]).advance())
