"""One training from settings to weights: Lightning does the loop."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.contrib.logging import logging_redirect_tqdm

from faig_lab.data import PairedImage, PatchDataset, StepSampler, patch_loader
from faig_lab.networks import snapshot
from faig_lab.training.callbacks import History, Progress, Row, StopOnDivergence, exponential_average
from faig_lab.training.module import SRModule, ValidationItem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loop:
    """What the training loop needs beside module and data.

    Attributes:
        batch_size: patches per step, over all ranks.
        ema_decay: of the averaged weights.
        validate_every: steps between validations.
        workers: processes that cut patches; 0 cuts them in this one.
        trainer: keyword arguments of Lightning's Trainer (accelerator, devices, strategy, precision …).
    """

    batch_size: int
    ema_decay: float
    validate_every: int
    workers: int
    trainer: Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """What a training yields: the averaged weights on the CPU, and the training record."""

    state: dict[str, Tensor]
    history: list[Row]


def fit(
    module: SRModule,
    patches: PatchDataset,
    validation: Sequence[PairedImage],
    loop: Loop,
    publish: Callable[[Trained], None],
    callbacks: Sequence[pl.Callback] = (),
    on_row: Callable[[Row], None] | None = None,
    name: str | None = None,
) -> Trained:
    """Train `module` for its schedule.

    Args:
        module: the network with its degradation and schedule.
        patches: the endless stream of training patches.
        validation: images that the record is measured on; nothing is selected by them.
        loop: batch size, averaging, devices.
        publish: called with the result as soon as training has ended, before `callbacks` see the end of fit,
            so that a failure in one of them loses nothing.
        callbacks: further callbacks, e.g. the attribution.
        on_row: called with every row of the record as it is made.
        name: what log and progress bar call this training; the module's stream if None.

    Raises:
        UserError: the loss became infinite or NaN.
        KeyboardInterrupt: the user stopped it.
    """
    history = History(name or module.stream, on_row)
    publisher = _Publisher(history, publish)
    shown = [Progress(name or module.stream)] if sys.stderr.isatty() else []
    average = exponential_average(loop.ema_decay)
    with warnings.catch_warnings():
        _quiet()
        trainer = _trainer(
            loop,
            module.schedule.iterations,
            [average, StopOnDivergence(), history, *shown, publisher, *callbacks],
        )
        sampler = StepSampler(trainer.max_steps, loop.batch_size, rank=trainer.global_rank, world=trainer.world_size)
        items = [ValidationItem(image) for image in validation]
        images: DataLoader[ValidationItem] = DataLoader(items, batch_size=None)  # type: ignore[arg-type]
        with logging_redirect_tqdm() if shown else nullcontext():  # lines of the log above the bar, not inside it
            _run(trainer, module, patch_loader(patches, sampler, loop.workers), images)
    assert publisher.result is not None
    return publisher.result


def _trainer(loop: Loop, steps: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer for a number of steps that are one epoch of the endless stream of patches."""
    return pl.Trainer(
        **loop.trainer,
        max_steps=steps,
        max_epochs=1,
        val_check_interval=min(loop.validate_every, steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=any(isinstance(callback, Progress) for callback in callbacks),
        callbacks=callbacks,
    )


def _run(trainer: pl.Trainer, *arguments: Any) -> None:
    """Fit, and let Ctrl-C reach the caller: Lightning would end the process and ignore the signal from then on."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(*arguments)
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


class _Publisher(pl.Callback):
    """Hand the averaged weights over as soon as training has ended."""

    def __init__(self, history: History, publish: Callable[[Trained], None]) -> None:
        self.history, self.publish = history, publish
        self.result: Trained | None = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The averaging callback comes first in the list, so the module holds the averaged weights by now."""
        assert isinstance(pl_module, SRModule)
        state = {name: value.cpu() for name, value in snapshot(pl_module.network).items()}
        self.result = Trained(state, self.history.rows)
        self.publish(self.result)


def _quiet() -> None:
    """Silence what does not concern the user, each for its reason."""
    # Lightning's own list of devices and advertisements; the run's log says what matters.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning 2.6 against torch >= 2.13: a rename inside torch's tree utilities.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    # Patches are cut from photographs in memory in well under a millisecond: workers would only cost.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The samples are numbered by the sampler itself, in any order and for any number of ranks.
    warnings.filterwarnings("ignore", message=".*DistributedSampler.*")


def resolve_precision(setting: str, accelerator: str) -> str:
    """`auto` → bf16-mixed where the device has bfloat16 arithmetic of its own, else 32-true.

    Args:
        setting: `trainer.precision`.
        accelerator: `trainer.accelerator`; auto means a GPU where there is one.
    """
    if setting != "auto":
        return setting
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available())
    return "bf16-mixed" if on_cpu and _cpu_has_bfloat16() else "32-true"


def _cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; elsewhere it is emulated, and slower than float32."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
