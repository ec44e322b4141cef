"""Seconds on a device: by CUDA's own events on a GPU, after a warm-up, and where the host waits for it."""

import statistics
import time
from collections.abc import Callable

import pytorch_lightning as pl
import torch

from benchmarks.measuring import settle


def on_device(run: Callable[[], object], device: str, repeats: int, warm_up: int = 3) -> float:
    """Median seconds of one call; on a GPU between events on its stream, so that the host's own time is in it only
    where the GPU waits for the host.
    """
    for _ in range(warm_up):
        run()
    settle()
    if device != "cuda":
        return statistics.median(_clock(run) for _ in range(repeats))
    found = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1000)
    return statistics.median(found)


def on_host(run: Callable[[], object], repeats: int, warm_up: int = 3) -> float:
    """Mean seconds of a call in a row of them, with one wait for the device at the end: the rate of a loop."""
    for _ in range(warm_up):
        run()
    settle()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    settle()
    return (time.perf_counter() - start) / repeats


def _clock(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Rate(pl.Callback):
    """Seconds of a step of a training: a row of them, with a wait for the device at both ends alone.

    Args:
        warm_up: steps before the first wait.
    """

    def __init__(self, warm_up: int) -> None:
        self.warm_up, self.steps, self.start, self.end = warm_up, 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: object, **more: object) -> None:
        """Count a step."""
        self.steps += 1
        if self.steps == self.warm_up:
            settle()
            self.start = time.perf_counter()
        if trainer.global_step == trainer.max_steps:
            settle()
            self.end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of one step."""
        return (self.end - self.start) / (self.steps - self.warm_up)
