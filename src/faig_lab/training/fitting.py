"""One training from start to averaged weights: Lightning runs the loop, a checkpoint lets a killed training continue.

The checkpoint is Lightning's own: raw weights, averaged weights, optimizer, schedule, position and the training record.
Samples are a function of the step. So a continued training ends with the same bits as an uninterrupted one. The file is
written under another name and then renamed, so the last complete checkpoint survives whatever happens. It is read with
`weights_only=True`: no code in it is executed.
"""

import logging
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.plugins import TorchCheckpointIO
from torch.utils.data import DataLoader
from tqdm.contrib.logging import logging_redirect_tqdm

from faig_lab.data import PairedImage, PatchDataset, PatchesOnDevice, StepSampler, patch_loader
from faig_lab.files import read_tensors, reason, remove_leftovers, write_tensors
from faig_lab.filters import snapshot
from faig_lab.training.callbacks import ExponentialAverage, History, Progress, StopOnDivergence, Trajectory
from faig_lab.training.module import SRModule, StepGraphs, ValidationItem
from faig_lab.training.plan import Loop, Row, Trained

log = logging.getLogger(__name__)


def fit(
    module: SRModule,
    patches: PatchDataset,
    validation: Sequence[PairedImage],
    *,
    loop: Loop,
    publish: Callable[[Trained], None] | None = None,
    callbacks: Sequence[pl.Callback] = (),
    on_row: Callable[[Row], None] | None = None,
    name: str | None = None,
    checkpoint: Path | None = None,
    snapshots: int = 0,
) -> Trained:
    """Train `module` for its schedule, from its checkpoint if there is one.

    Args:
        module: the network with its degradation and schedule.
        patches: the endless stream of training patches.
        validation: images that the record is measured on; no weights are selected by them.
        loop: batch size, averaging, devices.
        publish: called with the result as soon as training has ended, before the `on_fit_end` of `callbacks`, so that
            a failing callback does not lose the result.
        callbacks: further callbacks, e.g. the attribution.
        on_row: called with every new row of the record.
        name: the name of this training in log and progress bar; the module's stream if None.
        checkpoint: folder for the state of this training while it runs. A checkpoint in it must be of the same
            training. None: no state is saved.
        snapshots: number of states to save on the way, see `Trajectory`.

    Raises:
        InputError: the loss became infinite or NaN.
        KeyboardInterrupt: the user stopped the training.
    """
    title = name or module.stream
    history = History(title, on_row)
    shown = [Progress(title)] if sys.stderr.isatty() else []
    checkpoints = [Checkpoints(checkpoint, loop.checkpoint_every)] if checkpoint is not None else []
    start = saved_step(checkpoint) if checkpoint is not None else None
    average = ExponentialAverage(loop.ema_decay)
    trajectory = Trajectory(average, snapshots)
    saved = [trajectory] if snapshots else []
    results: list[Trained] = []

    def finish(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the weights from the module: the averaging callback comes first and has put the average there."""
        state = {name: value.cpu() for name, value in snapshot(module.network).items()}
        results.append(
            Trained(state, history.rows, tuple(trajectory.states), module.channels_last, on_device=loop.on_device)
        )
        if publish is not None:
            publish(results[0])

    with warnings.catch_warnings():
        _ignore_warnings()
        own = [average, StopOnDivergence(), history, *saved, *checkpoints, *shown, LambdaCallback(on_train_end=finish)]
        trainer = _trainer(loop, module.schedule.iterations, [*own, *callbacks])
        if start is not None:
            log.info("%s: goes on from the checkpoint at step %d of %d", title, start, trainer.max_steps)
        sampler = _ResumedSampler(
            trainer.max_steps, loop.batch_size, start or 0, trainer.global_rank, trainer.world_size
        )
        items = [ValidationItem(image) for image in validation]
        images: DataLoader[ValidationItem] = DataLoader(items, batch_size=None)  # type: ignore[arg-type]  # a list is a dataset
        with logging_redirect_tqdm() if shown else nullcontext():  # lines of the log above the bar, not inside it
            device = trainer.strategy.root_device
            loader: Iterable[Any] = (
                PatchesOnDevice(patches, sampler, module.degradation, module.clean, device)
                if loop.on_device
                else patch_loader(patches, sampler, loop.workers)
            )
            one_pass = trainer.world_size == 1 and trainer.accumulate_grad_batches == 1  # for each step
            if loop.cuda_graphs and device.type == "cuda" and one_pass:
                module.graphs = StepGraphs(module.network, module.restoration_loss)
            path = checkpoints[0].path if start is not None else None
            _run(partial(trainer.fit, module, loader, images, ckpt_path=path, weights_only=True))
    return results[0]


def _trainer(loop: Loop, steps: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Return Lightning's Trainer for a number of steps, which are one epoch of the endless stream of patches."""
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


class _ResumedSampler(StepSampler):
    """Samples from a step on. Its length is that of all steps, since Lightning counts the earlier steps as done."""

    def __len__(self) -> int:
        return self.steps


def _run(fit: Callable[[], None]) -> None:
    """Fit, and pass Ctrl-C to the caller: Lightning would end the process and ignore the signal from then on."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        fit()
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _ignore_warnings() -> None:
    """Ignore messages that do not concern the user, each for its reason."""
    # Lightning lists devices and advertises; the run's log has what matters.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning 2.6 against torch >= 2.13: a rename inside torch's tree utilities.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    # A patch is cut in less than a millisecond: workers would only cost time.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # Our sampler numbers the samples for any number of ranks, from any step on.
    warnings.filterwarnings("ignore", message=".*DistributedSampler.*")
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # Every rank measures all of the few images, so that no image counts twice.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    # Lightning expects other checkpoints beside ours, but there is only this one, which is overwritten.
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")


_FILE = "training.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes complete checkpoints or none. Lightning's own writer may copy from another file system, which can stop."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write under another name in the same folder, and rename."""
        write_tensors(Path(path), checkpoint)


class Checkpoints(pl.Callback):
    """Save the state of a training while it runs.

    Place this callback after every callback whose state counts (average, history).

    Args:
        folder: a folder for this training alone; it need not exist.
        every: steps between checkpoints; a killed training loses this many steps at most.

    Attributes:
        path: the checkpoint.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.path, self.every = folder / _FILE, every
        self._after_validation = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let this trainer write complete files."""
        trainer.strategy.checkpoint_io = WholeFiles()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any) -> None:
        """Save after `every` steps. If a validation follows the step, save after it, so that its row is not lost."""
        step = trainer.global_step
        if step % self.every or step >= trainer.max_steps:
            return
        if not trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(outputs["loss"]))):  # on every rank
            return
        self._after_validation = trainer.enable_validation and step % (trainer.val_check_batch or 1) == 0
        if not self._after_validation:
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the checkpoint that was due before the validation."""
        if self._after_validation:
            self._after_validation = False
            trainer.save_checkpoint(self.path)


def saved_step(folder: Path) -> int | None:
    """Return the step that a training in `folder` can continue from; None if there is no checkpoint.

    A checkpoint that cannot be read is reported and removed.
    """
    path = folder / _FILE
    remove_leftovers(folder)
    if not path.is_file():
        return None
    try:
        content: Mapping[str, Any] = read_tensors(path)
        return int(content["global_step"])
    except Exception as error:  # reading arbitrary bytes as a pickle, torch raises almost anything
        log.warning("the checkpoint %s cannot be read (%s): the training starts again", path, reason(error))
        shutil.rmtree(folder, ignore_errors=True)
        return None


ROUNDS = 3
_WARM_UP = 3  # steps of each round that do not count: memory is allocated, kernels are chosen


def step_seconds(
    makers: Sequence[Callable[[int], SRModule]], patches: PatchDataset, *, loop: Loop, steps: int
) -> list[float]:
    """Return the median seconds of a training step of each network, with everything that happens in every step.

    The networks are measured in turn, so that load on the machine affects all of them equally.

    Args:
        makers: number of steps → the module to train, with that schedule; a fresh one each time.
        patches: the stream of training patches.
        loop: as in training.
        steps: number of steps that count in each of the ROUNDS, > 0.
    """
    loop = loop.without_validation()
    watches = [Stopwatch() for _ in makers]
    for _ in range(ROUNDS):
        for make, watch in zip(makers, watches, strict=True):
            fit(make(steps + _WARM_UP), patches, (), loop=loop, callbacks=[watch], name="timing")
    return [median(watch.seconds) for watch in watches]


class Stopwatch(pl.Callback):
    """Measures the seconds from the end of one training step to the end of the next, without the first few steps.

    A GPU works behind the processor, so there only the mean of all steps is measured, between two waits for the GPU.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        on_gpu, last = pl_module.device.type == "cuda", trainer.global_step == trainer.max_steps
        if on_gpu and not last and batch_idx != _WARM_UP - 1:
            return
        if on_gpu:
            torch.cuda.synchronize(pl_module.device)
        now = time.perf_counter()
        if batch_idx >= _WARM_UP:
            self.seconds.append((now - self._last) / (batch_idx - _WARM_UP + 1 if on_gpu else 1))
        self._last = now
