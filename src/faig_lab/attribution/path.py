"""The signed path integral: what each weight contributed to the change of the loss between two networks.

a_j(x) = (θ_j − θ̄_j) ∫₀¹ ∂L(γ(α), x)/∂γ_j dα on the path γ(α) = θ̄ + α (θ − θ̄), with
L(θ, x) = ‖F(θ, x) − x_gt‖², summed over pixels and channels (method.md §3). Over all parameters, biases
included, the attributions add up to L(θ, x) − L(θ̄, x): completeness, whose gap is reported with every result.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faig_lab.attribution.adaptive import NestedIntegral
from faig_lab.attribution.quadrature import Rule
from faig_lab.networks import evaluate

State = Mapping[str, Tensor]
"""Parameters (and buffers) of a network by name."""


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
        return sum(float(a.double().sum()) for a in self.attributions.values())

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
        autocast: run the network in this lower precision (e.g. bfloat16); the sums stay as they are.

    Attributes:
        difference: θ − θ̄ of all parameters.
    """

    def __init__(
        self,
        network: nn.Module,
        baseline: State,
        target: State,
        lr: Tensor,
        hr: Tensor,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.network, self.baseline, self.target = network, baseline, target
        self.lr, self.hr, self.autocast = lr, hr, autocast
        self.difference = {name: target[name] - baseline[name] for name, _ in network.named_parameters()}
        self._buffers = {name: value for name, value in target.items() if name not in self.difference}
        self._ends: dict[float, Tensor] = {}

    def gradients(self, alpha: float) -> dict[str, Tensor]:
        """∂L/∂γ at γ(α) of all parameters: one forward and one backward; a loss at an end is remembered."""
        point = {n: torch.lerp(self.baseline[n], self.target[n], alpha).requires_grad_() for n in self.difference}
        with torch.enable_grad():
            loss = self._loss(point)
            gradients = torch.autograd.grad(loss, list(point.values()), allow_unused=True, materialize_grads=True)
        if alpha in (0.0, 1.0):
            self._ends[alpha] = loss.detach()
        return dict(zip(point, gradients, strict=True))

    def attribute(self, integral: State) -> PathIntegral:
        """What the integral of the gradients says: attributions and the losses at both ends.

        One forward for each end where no gradient was taken.
        """
        with torch.no_grad():
            for alpha, state in ((0.0, self.baseline), (1.0, self.target)):
                if alpha not in self._ends:
                    self._ends[alpha] = self._loss({name: state[name] for name in self.difference})
        attributions = {name: total * self.difference[name] for name, total in integral.items()}
        return PathIntegral(attributions, float(self._ends[0.0]), float(self._ends[1.0]))

    def _loss(self, parameters: State) -> Tensor:
        with torch.autocast(self.lr.device.type, self.autocast, enabled=self.autocast is not None):
            output = evaluate(self.network, {**self._buffers, **parameters}, self.lr)
        return squared_error(output, self.hr)


def integrate(
    network: nn.Module,
    baseline: State,
    target: State,
    lr: Tensor,
    hr: Tensor,
    rule: Rule,
    autocast: torch.dtype | None = None,
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
        autocast: run the network in this lower precision (e.g. bfloat16); the sums stay as they are.

    Returns:
        Attributions of all floating parameters, and the two losses.
    """
    path = LossPath(network, baseline, target, lr, hr, autocast)
    return path.attribute(NestedIntegral(path.gradients, path.difference, [rule]).advance())
