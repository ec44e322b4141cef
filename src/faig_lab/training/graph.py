"""Forward and backward pass of a training step as CUDA graphs: one launch in place of some hundred.

A network of many small layers keeps a GPU waiting: the processor takes longer to launch its kernels than the GPU to run
them. A CUDA graph holds all launches of a pass, recorded once for one size of batch, and replays them.
"""

import logging
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

Loss = Callable[[Tensor, Tensor], Tensor]
"""(LR, HR) → loss."""


class _LossOf(nn.Module):
    """The loss as a module, whose parameters CUDA graphs give gradients to.

    Args:
        network: its parameters are those of the loss.
        loss: the function.
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, lr: Tensor, hr: Tensor) -> Tensor:
        """Return the loss of a batch."""
        return self.loss(lr, hr)


class StepGraphs:
    """The loss of a training step with its gradients, recorded at the first batch of each size.

    A pass that cannot be recorded runs as it is, and a line of the log says why. Such passes wait for the device, or
    have buffers, which recording would change, or hooks.

    Args:
        network: the network that is trained; its parameters stay where they are.
        loss: (LR, HR) → loss, in the precision of autocast where it is on.
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        self._network, self._loss = network, loss
        self._recorded: dict[tuple[torch.Size, torch.Size], Loss] = {}

    def __call__(self, lr: Tensor, hr: Tensor) -> Tensor:
        """Return the loss of a batch: LR (N, 3, H, W), HR (N, 3, sH, sW)."""
        key = lr.shape, hr.shape
        if key not in self._recorded:
            self._recorded[key] = self._record(lr, hr)
        # A copy: the next replay writes the loss into the same memory.
        return self._recorded[key](lr, hr).clone()

    def _record(self, lr: Tensor, hr: Tensor) -> Loss:
        if next(self._network.buffers(), None) is not None:
            log.debug("CUDA graphs: the network has buffers, which recording would change; it runs without")
            return self._loss
        kind = lr.device.type
        enabled = torch.is_autocast_enabled(kind)
        try:
            # Values cast by autocast are recorded too: a cache would hold those of the first step.
            with torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=enabled, cache_enabled=False):
                module = _LossOf(self._network, self._loss)
                recorded = cast(Loss, torch.cuda.make_graphed_callables(module, (lr.clone(), hr.clone())))
        except (RuntimeError, AssertionError) as error:  # torch asserts that a network has no hooks
            log.warning("CUDA graphs: not used, since recording failed: %s", " ".join(str(error).split())[:200])
            return self._loss
        log.debug("CUDA graphs: recorded a step of %s", tuple(lr.shape))
        return recorded
