"""Forward and backward pass of a training step as CUDA graphs (`faig_lab.cuda_graphs`)."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from faig_lab.cuda_graphs import record, warm_up

log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor], Tensor]
"""(LR, HR) → loss."""


class StepGraphs:
    """The loss of a training step with its gradients, recorded at the first batch of each size.

    A pass that cannot be recorded runs as it is, and a line of the log says why. Such passes wait for the device, or
    have buffers, which recording would change, or hooks of parameters, which a replay would not call. `backward` of the
    result writes the gradients of the parameters; they must have none before.

    Args:
        network: the network that is trained; its parameters stay where they are.
        loss: (LR, HR) → loss, in the precision of autocast where it is on.
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        self._network, self._loss = network, loss
        self._recorded: dict[tuple[torch.Size, torch.Size], _Recorded | None] = {}

    def __call__(self, lr: Tensor, hr: Tensor) -> Tensor:
        """Return the loss of a batch: LR (N, 3, H, W), HR (N, 3, sH, sW)."""
        key = lr.shape, hr.shape
        if key not in self._recorded:
            self._recorded[key] = self._record(lr, hr)
        recorded = self._recorded[key]
        return self._loss(lr, hr) if recorded is None else recorded(lr, hr)

    def _record(self, lr: Tensor, hr: Tensor) -> "_Recorded | None":
        weights = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        hooks = any(weight._backward_hooks or weight._post_accumulate_grad_hooks for weight in weights)
        if hooks or next(self._network.buffers(), None) is not None:
            log.debug("CUDA graphs: not used, since the network has buffers or its parameters have hooks")
            return None
        try:
            found = _Recorded(weights, self._loss, lr, hr)
        except RuntimeError as error:
            log.warning("CUDA graphs: not used, since recording failed: %s", " ".join(str(error).split())[:200])
            return None
        log.debug("CUDA graphs: recorded a step of %s", tuple(lr.shape))
        return found


class _Recorded:
    """Forward and backward pass of one size of batch.

    PyTorch's own `make_graphed_callables` hands every parameter to autograd at each step, and keeps nodes of the
    recording's stream alive, for which the backward pass waits: a millisecond a step of the full SRResNet.
    """

    def __init__(self, weights: list[nn.Parameter], loss: Loss, lr: Tensor, hr: Tensor) -> None:
        self.weights, self.lr, self.hr = weights, lr.clone(), hr.clone()
        self.start = torch.zeros((), device=lr.device, requires_grad=True)  # stands for the weights in autograd
        kind = lr.device.type
        enabled = torch.is_autocast_enabled(kind)
        # Values cast by autocast are recorded too: a cache would hold those of the first step.
        with torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=enabled, cache_enabled=False):
            warm_up(lambda: torch.autograd.grad(loss(self.lr, self.hr), weights, allow_unused=True))
            self.forward, value = record(lambda: loss(self.lr, self.hr))
            self.scale = torch.ones_like(value)
            backward = partial(torch.autograd.grad, value, weights, self.scale, allow_unused=True)
            self.backward, self.gradients = record(backward, self.forward.pool())
        self.value = value.detach()

    def __call__(self, lr: Tensor, hr: Tensor) -> Tensor:
        """Return the loss of a batch of this size."""
        self.lr.copy_(lr)
        self.hr.copy_(hr)
        loss: Tensor = _Replay.apply(self.start, self)  # type: ignore[no-untyped-call]  # torch's has no types
        return loss


class _Replay(torch.autograd.Function):
    """The recorded passes as one function of autograd."""

    @staticmethod
    def forward(context: Any, start: Tensor, recorded: _Recorded) -> Tensor:
        """Replay the forward pass, and return a copy of the loss, which the next replay overwrites."""
        context.recorded = recorded
        recorded.forward.replay()
        return recorded.value.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, None]:
        """Replay the backward pass. The parameters get its gradients, which last until the next replay."""
        recorded: _Recorded = context.recorded
        recorded.scale.copy_(gradients[0])
        recorded.backward.replay()
        for weight, gradient in zip(recorded.weights, recorded.gradients, strict=True):
            weight.grad = gradient
        return None, None
