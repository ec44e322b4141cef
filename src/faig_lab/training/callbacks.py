"""Lightning callbacks: averaged weights, the training record, the stop on a diverged loss."""

import logging
import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar, WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from faig_lab.errors import InputError
from faig_lab.training.plan import Row

log = logging.getLogger(__name__)

CHECK_EVERY = 50
"""Steps between checks of the loss: reading it on the host every step would stall a GPU."""


class ExponentialAverage(WeightAveraging):
    """Lightning's weight averaging as an EMA with warm-up: after n steps the decay is min(decay, (1 + n)/(10 + n)).

    Without the warm-up the random initial weights would still make up e⁻³ of the average after 3/(1 − decay) steps.
    Lightning puts the average into the module at the end of training and during validation. The update here replaces
    that of torch's AveragedModel, which reads a counter from the device in every step, so that a GPU has to stop, and
    walks through the modules twice. `_average_model` and `_latest_update_step` are private attributes of Lightning's
    callback: it has no public access to the average, and saves the step of the last update in checkpoints.

    Args:
        decay: of the average, per step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False)
        self.decay = decay
        self._averages: list[Tensor] = []
        self._current: list[Tensor] = []
        self._has_buffers = False

    def parameters_of(self, part: str) -> dict[str, Tensor]:
        """Return a copy of the averaged parameters of one part of the module, by name, on the CPU."""
        assert self._average_model is not None
        module = self._average_model.module.get_submodule(part)
        return {name: value.detach().cpu().clone() for name, value in module.named_parameters()}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the weights: at this point they are on the device where they stay."""
        assert self._average_model is not None
        # Lightning created the average before it moved the module to its device.
        self._average_model.to(pl_module.device)
        self._averages = list(self._average_model.module.parameters())
        self._current = list(pl_module.parameters())
        self._has_buffers = next(pl_module.buffers(), None) is not None

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Move the average towards the weights, if an optimizer step was taken."""
        steps, average = trainer.global_step, self._average_model
        if steps <= self._latest_update_step:
            return
        assert average is not None
        decay = min(self.decay, steps / (9 + steps)) if steps > 1 else 0.0
        # The average of a network in bfloat16 is in float32.
        current = [value.to(mean) for mean, value in zip(self._averages, self._current, strict=True)]
        # Torch ships this function without types.
        get_ema_multi_avg_fn(decay)(self._averages, current, steps)  # type: ignore[no-untyped-call]  # torch's has no types
        if self._has_buffers:
            for averaged, buffer in zip(average.module.buffers(), pl_module.buffers(), strict=True):
                averaged.copy_(buffer)
        average.n_averaged += 1  # for the checkpoint
        self._latest_update_step = steps


class Trajectory(Callback):
    """Save the averaged parameters on the way from the start of a training to its end.

    State k of n is saved at step N (k / (n + 1))² of N, since weights move most at the start. Place this callback after
    the averaging callback.

    Args:
        average: the averaging callback.
        count: number of states, ≥ 0.

    Attributes:
        states: parameters of the network by name, on the CPU, in order.
    """

    def __init__(self, average: ExponentialAverage, count: int) -> None:
        self.average, self.count = average, count
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Save a state if one is due."""
        done, step = len(self.states), trainer.global_step
        while done < self.count and step >= trainer.max_steps * ((done + 1) / (self.count + 1)) ** 2:
            self.states.append(self.average.parameters_of("network"))
            done += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the states saved so far, for a checkpoint."""
        return {"states": list(self.states)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the states of a checkpoint."""
        self.states = list(state_dict["states"])


class StopOnDivergence(Callback):
    """Stop a training whose loss is no longer finite, with an InputError that says what to change."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Check the loss every CHECK_EVERY steps, at the first step and at the last."""
        step = trainer.global_step
        if step % CHECK_EVERY and step not in (1, trainer.max_steps):
            return
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise InputError(
                "schedule",
                f"the loss became {loss} by step {step}; lower `learning_rate` or use `trainer.precision`=32-true",
            )


class History(Callback):
    """The training record: one row per validation with the mean loss since the last one.

    Args:
        name: of the network, for the log.
        on_row: called with every new row (live curves).

    Attributes:
        rows: step, loss, learning_rate and the validation's metrics.
    """

    def __init__(self, name: str, on_row: Callable[[Row], None] | None = None) -> None:
        self.name, self.on_row = name, on_row
        self.rows: list[Row] = []
        self._losses: list[Tensor] = []
        self._learning_rate = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Save the learning rate of this step: after the step the schedule has changed it."""
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Save the loss, on the device."""
        self._losses.append(outputs["loss"].detach())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row with the validation's metrics."""
        if self._losses:
            measured = {name: float(v) for name, v in trainer.callback_metrics.items() if "/" in name}
            self._add(trainer, measured)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row for the last step, also if no validation falls on it."""
        if self._losses:
            self._add(trainer, {})

    def state_dict(self) -> dict[str, Any]:
        """Return the record so far, for a checkpoint."""
        return {"rows": list(self.rows), "losses": self._stacked() if self._losses else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the record of a checkpoint; `on_row` is called with its rows again."""
        losses = state_dict["losses"]
        self.rows, self._losses = list(state_dict["rows"]), [] if losses is None else list(losses.unbind())
        if self.on_row is not None:
            for row in self.rows:
                self.on_row(row)

    def _stacked(self) -> Tensor:
        """Return the losses since the last row, on the device; the losses of a checkpoint come from the CPU."""
        device = self._losses[-1].device
        return torch.stack([loss.to(device) for loss in self._losses])

    def _add(self, trainer: pl.Trainer, measured: Row) -> None:
        """Add a row with the mean loss since the last row."""
        loss = self._stacked().mean()
        row = {
            "step": float(trainer.global_step),
            "loss": float(trainer.strategy.reduce(loss, reduce_op="mean")),  # over all ranks
            "learning_rate": self._learning_rate,
            **measured,
        }
        self._losses.clear()
        self.rows.append(row)
        inputs = [key.removeprefix("psnr/") for key in row if key.startswith("psnr/")]
        psnr = "  ".join(f"{name} {row[f'psnr/{name}']:.2f} ({row[f'over_bicubic/{name}']:+.2f})" for name in inputs)
        line = f"{self.name} {row['step']:.0f}/{trainer.max_steps}  loss {row['loss']:.4f}"
        # A training without validation is a part of a study, which reports its own results.
        level = logging.INFO if trainer.limit_val_batches else logging.DEBUG
        log.log(level, "%s", f"{line}  dB (over bicubic): {psnr}" if psnr else line)
        if self.on_row is not None:
            self.on_row(row)


class Progress(TQDMProgressBar):
    """One bar per training with loss and PSNR, and no bar for validations."""

    def __init__(self, name: str) -> None:
        super().__init__(refresh_rate=10)
        self.name = name
        self._loss: Tensor | None = None

    def init_train_tqdm(self) -> Any:
        """Create the bar, which disappears at the end."""
        bar = super().init_train_tqdm()
        bar.leave = False
        return bar

    def init_validation_tqdm(self) -> Any:
        """Create a bar that is not shown."""
        return tqdm(disable=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Start the bar with the network's name instead of the epoch's number."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(self.name)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the loss on the device. The loss is read when the bar is drawn, every tenth step."""
        self._loss = outputs["loss"].detach()
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the loss, and the PSNR of the last validation."""
        metrics = trainer.callback_metrics
        shown = {"loss": f"{float(self._loss):.4f}"} if self._loss is not None else {}
        for name, value in metrics.items():
            if name.startswith("psnr/"):
                shown[name.removeprefix("psnr/")] = f"{float(value):.1f} dB"
        return shown
