"""The training checkpoint: a training that was killed goes on from its last one, to the same bits.

It is Lightning's own, so it holds raw weights, averaged weights, optimizer, schedule, position and the training
record; samples are a function of the step. A file is written beside and renamed, so the last whole one survives
whatever happens, and it is read with `weights_only=True`: nothing in it is executed.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from faig_lab.archives import read_tensors, reason
from faig_lab.files import remove_leftovers, write_tensors

log = logging.getLogger(__name__)

_FILE = "training.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are there completely or not at all, on one file system; Lightning copies across two."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside `path` and rename."""
        write_tensors(Path(path), checkpoint)


class Checkpoints(pl.Callback):
    """Keep the state of a training while it runs.

    Put it after every callback whose state counts (average, history).

    Args:
        folder: of this training alone; it need not exist.
        every: steps between checkpoints, which is what a kill loses at most.

    Attributes:
        path: the checkpoint.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.path, self.every = folder / _FILE, every
        self._after_validation = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let this trainer write and read whole files."""
        trainer.strategy.checkpoint_io = WholeFiles()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every so many steps; where a validation follows, after it, so that its row is not lost."""
        step = trainer.global_step
        if step % self.every or step >= trainer.max_steps:
            return
        if not trainer.strategy.reduce_boolean_decision(bool(torch.isfinite(outputs["loss"]))):  # on every rank
            return
        validates = trainer.enable_validation and step % (trainer.val_check_batch or 1) == 0
        if validates:
            self._after_validation = True
        else:
            trainer.save_checkpoint(self.path)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what was put off until the validation is over."""
        if self._after_validation:
            self._after_validation = False
            trainer.save_checkpoint(self.path)


def saved_step(folder: Path) -> int | None:
    """The step that a training in `folder` can go on from; None where there is no checkpoint.

    One that cannot be read is said to be so and removed.
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
