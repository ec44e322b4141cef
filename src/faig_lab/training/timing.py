"""What a training step costs: measured for several networks in turn, so that a busy machine burdens all alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import pytorch_lightning as pl

from faig_lab.data import PatchDataset
from faig_lab.training.fitting import fit
from faig_lab.training.module import SRModule
from faig_lab.training.plan import Loop

ROUNDS = 3
_WARM_UP = 3  # steps of each round that do not count: memory is allocated, kernels are chosen


def step_seconds(
    makers: Sequence[Callable[[int], SRModule]], patches: PatchDataset, loop: Loop, steps: int
) -> list[float]:
    """The median seconds of a training step of each network, everything included that happens in every step.

    Args:
        makers: number of steps → the module to train, with that schedule; a fresh one each time.
        patches: what is trained on.
        loop: as in training.
        steps: that count in each of the ROUNDS, > 0.
    """
    quiet = replace(loop, trainer={**loop.trainer, "limit_val_batches": 0})
    watches = [Stopwatch() for _ in makers]
    for _ in range(ROUNDS):
        for make, watch in zip(makers, watches, strict=True):
            fit(make(steps + _WARM_UP), patches, (), quiet, lambda trained: None, callbacks=[watch], name="timing")
    return [median(watch.seconds) for watch in watches]


class Stopwatch(pl.Callback):
    """Seconds from the end of one training step to the end of the next, without the first few of each training."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time."""
        now = time.perf_counter()
        if batch_idx >= _WARM_UP:
            self.seconds.append(now - self._last)
        self._last = now
