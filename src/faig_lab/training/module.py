"""The LightningModule that trains a baseline or a target, and its training step as CUDA graphs."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from faig_lab.cuda_graphs import record, warm_up
from faig_lab.data import Batch, Degradation, DegradedBatch, PairedImage, applied, degrade
from faig_lab.filters import first_floating
from faig_lab.metrics import as_image, bicubic, psnr, quality
from faig_lab.networks.two_branch import Predicting
from faig_lab.training.plan import Schedule

log = logging.getLogger(__name__)

Retarget = Callable[[Tensor, Tensor, Sequence[frozenset[str]]], Tensor]
"""(LR in the network's precision, HR, the parts applied to each sample) → the images to compare the output with."""


class ValidationItem:
    """A wrapper around a paired image, which Lightning passes on unchanged; it takes apart dataclasses."""

    def __init__(self, image: PairedImage) -> None:
        self.image = image


class CosineAnnealing(CosineAnnealingWarmRestarts):
    """Cosine annealing with restarts, times a factor that rises linearly to 1 in the first `warmup` steps."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        self.warmup = schedule.warmup  # the parent's __init__ computes the first learning rate
        super().__init__(optimizer, T_0=schedule.restart_every, eta_min=schedule.minimum_learning_rate)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each group of parameters at the present step."""
        rates = super().get_lr()
        step = self.last_epoch + 1
        return rates if step >= self.warmup else [rate * step / self.warmup for rate in rates]


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


class SRModule(pl.LightningModule):
    """Train a network to map LR to HR; the same module for baseline and target.

    Args:
        network: LR (N, 3, H, W) → SR (N, 3, sH, sW).
        degradation: the way from HR to LR.
        schedule: iterations and learning rate.
        loss: function of (SR, HR).
        optimizer: function of (parameters, lr) that returns an optimizer.
        seed: the run's seed; every sample is a function of the seed, the stream and the sample's number.
        stream: "baseline" or "target".
        clean: LR is only downsampled (the baseline).
        channels_last: run in torch's memory format of this name, which is faster on most devices; else in NCHW. A
            training that goes on from a checkpoint keeps the format of the checkpoint.

    Attributes:
        channels_last: as the argument.
        retarget: computes the images that replace HR in the loss; None for HR itself.
        graphs: forward and backward pass as CUDA graphs; None: they run as they are. `fit` sets it.
    """

    def __init__(
        self,
        network: nn.Module,
        degradation: Degradation,
        schedule: Schedule,
        *,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        seed: int,
        stream: str,
        clean: bool,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self._take_format(channels_last)
        self.degradation = degradation
        self.schedule = schedule
        self.loss = loss
        self.make_optimizer = optimizer
        self.seed, self.stream, self.clean = seed, stream, clean
        self.predicts = isinstance(network, Predicting)
        self.retarget: Retarget | None = None
        self.graphs: StepGraphs | None = None

    def _take_format(self, channels_last: bool) -> None:
        self.channels_last = channels_last
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.network.to(memory_format=self.format)  # type: ignore[call-overload]  # no overload for a format alone

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the memory format, with which the rest of the training gives the same bits."""
        checkpoint["channels_last"] = self.channels_last

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on in the memory format of the checkpoint; one of earlier versions has none."""
        self._take_format(checkpoint.get("channels_last", self.channels_last))

    def forward(self, lr: Tensor) -> Tensor:
        """Restore LR (N, 3, H, W) to SR (N, 3, sH, sW)."""
        return self.network(self._input(lr))  # type: ignore[no-any-return]  # a module's call is untyped

    def _input(self, lr: Tensor) -> Tensor:
        dtype = first_floating(self.network.parameters()).dtype  # bf16-true and 64-true are not float32
        # A copy, since some networks write into their input, which may be an image of the probe.
        return lr.to(dtype, memory_format=self.format, copy=True)

    def training_step(self, batch: Batch | DegradedBatch, batch_idx: int) -> Tensor:
        """Degrade the batch on the device, unless it is degraded already, and return the loss."""
        if isinstance(batch, DegradedBatch):
            lr, hr = batch.lr, batch.hr
        else:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                lr, hr = degrade(batch, self.degradation, self.seed, self.stream, self.clean)
        if self.retarget is not None:
            hr = self.retarget(self._input(lr), hr, self._applied(batch))
        if self.predicts:
            network = cast(Predicting, self.network)
            sr, logits = network.predict(self._input(lr))  # both from one forward pass
            restoration: Tensor = self.loss(sr.float(), hr)
            return restoration + network.prediction_loss(logits.float(), self._applied(batch))
        return self.restoration_loss(lr, hr) if self.graphs is None else self.graphs(lr, hr)

    def restoration_loss(self, lr: Tensor, hr: Tensor) -> Tensor:
        """Return the loss of restoring LR (N, 3, H, W) to HR (N, 3, sH, sW)."""
        loss: Tensor = self.loss(self(lr).float(), hr)
        return loss

    def _applied(self, batch: Batch | DegradedBatch) -> list[frozenset[str]]:
        if isinstance(batch, DegradedBatch):
            return list(batch.names)
        return applied(batch, self.degradation, self.seed, self.stream, self.clean)

    def validation_step(self, item: "ValidationItem", batch_idx: int) -> None:
        """Log every metric of every input of one paired image, and its PSNR above bicubic upscaling.

        Lightning averages over the images.
        """
        image = item.image
        scale, hr = self.degradation.scale, image.hr[None].to(self.device)
        for name, small in image.lr.items():
            lr = small[None].to(self.device)
            output = self(lr)
            with torch.autocast(self.device.type, enabled=False):  # metrics are not computed in low precision
                values = quality(output, hr, scale)
                values["over_bicubic"] = values["psnr"] - psnr(as_image(bicubic(lr, scale)), hr, scale)
            for metric, value in values.items():
                self.log(f"{metric}/{name}", value.mean(), batch_size=1, on_epoch=True)

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the schedule of its learning rate, which is stepped every iteration."""
        optimizer = self.make_optimizer(self.network.parameters(), lr=self.schedule.learning_rate)
        if isinstance(optimizer, torch.optim.Adam):
            for group in optimizer.param_groups:
                if group["fused"] is None and group["foreach"] is None and not group["differentiable"]:
                    # One pass over all weights. Not as an argument: Adam would then refuse to have gradients clipped.
                    group["fused"] = True
        scheduler = CosineAnnealing(optimizer, self.schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
