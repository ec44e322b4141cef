"""The signed path integral: what each weight contributed to the change of the loss between two networks.

a_j(x) = (θ_j − θ̄_j) ∫₀¹ ∂L(γ(α), x)/∂γ_j dα on the path γ(α) = θ̄ + α (θ − θ̄), with
L(θ, x) = ‖F(θ, x) − x_gt‖², summed over pixels and channels (method.md §3). Over all parameters, biases
included, the attributions add up to L(θ, x) − L(θ̄, x): completeness, whose gap is reported with every result.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from faig_lab.attribution.quadrature import Rule

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


def integrate(
    network: nn.Module,
    baseline: State,
    target: State,
    lr: Tensor,
    hr: Tensor,
    rule: Rule,
    autocast: torch.dtype | None = None,
) -> PathIntegral:
    """Integrate the loss gradient along the straight line from `baseline` to `target`.

    One forward and one backward at each point of the rule, and a forward at each end that the rule does not
    visit; nothing is stored per point. The network itself is never changed: weights enter by
    `functional_call`, so there is nothing to restore, also when a forward raises.

    Args:
        network: any module; its own weights do not matter.
        baseline: parameters θ̄ (and buffers) on the device and in the precision to compute in.
        target: parameters θ; the same names and shapes. Buffers are taken from here.
        lr: input (N, 3, H, W).
        hr: ground truth (N, 3, sH, sW).
        rule: the quadrature.
        autocast: run the network in this lower precision (e.g. bfloat16); the sums stay as they are.

    Returns:
        Attributions of all floating parameters, and the two losses.
    """
    names = [name for name, _ in network.named_parameters()]
    difference = {name: target[name] - baseline[name] for name in names}
    buffers = {name: value for name, value in target.items() if name not in difference}
    sums = {name: torch.zeros_like(difference[name]) for name in names}

    def loss_at(parameters: Mapping[str, Tensor]) -> Tensor:
        with torch.autocast(lr.device.type, autocast, enabled=autocast is not None):
            output = functional_call(network, {**parameters, **buffers}, (lr,))
        return squared_error(output, hr)

    ends: dict[float, Tensor] = {}
    for alpha, weight in zip(rule.points.tolist(), rule.weights.tolist(), strict=True):
        point = {name: torch.lerp(baseline[name], target[name], alpha).requires_grad_() for name in names}
        with torch.enable_grad():
            loss = loss_at(point)
            gradients = torch.autograd.grad(loss, list(point.values()), allow_unused=True, materialize_grads=True)
        for name, gradient in zip(names, gradients, strict=True):
            sums[name].add_(gradient, alpha=weight)
        if alpha in (0.0, 1.0):
            ends[alpha] = loss.detach()
    with torch.no_grad():
        for alpha, state in ((0.0, baseline), (1.0, target)):
            if alpha not in ends:
                ends[alpha] = loss_at({name: state[name] for name in names})
    attributions = {name: sums[name].mul_(difference[name]) for name in names}
    return PathIntegral(attributions, float(ends[0.0]), float(ends[1.0]))
