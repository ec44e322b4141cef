"""The version of the numbers that a training gives: part of the key of every trained network in the store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

NUMERICS_VERSION = 1
"""Raise this number by one if a change of the code makes a training with the same settings give other weights.

tests/training/test_numerics.py trains a few steps and compares them with recorded numbers. While that test passes, the
number stays, whatever was moved or renamed: every trained network and every unfinished training is found again.
When the test fails, either the change is a mistake, or the number is raised and the recorded numbers are made anew.
Another reason to raise it: a checkpoint of an unfinished training can no longer be read (a renamed callback).
"""


Row = dict[str, float]
"""One row of the training record."""

Chosen = Mapping[str, Tensor]
"""Parameter's name → booleans that broadcast against it, True where it is trained; the others are frozen.

Of a tied parameter any of its names will do.
"""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: cosine annealing with restarts.

    Attributes:
        iterations: optimizer steps.
        learning_rate: at the start of each period.
        restart_every: steps of a period.
        minimum_learning_rate: at its end.
    """

    iterations: int
    learning_rate: float
    restart_every: int
    minimum_learning_rate: float = 1e-7


@dataclass(frozen=True)
class Loop:
    """What the training loop needs beside module and data.

    Attributes:
        batch_size: patches per step, over all ranks.
        ema_decay: of the averaged weights.
        validate_every: steps between validations.
        workers: processes that cut patches; 0 cuts them in this one.
        trainer: keyword arguments of Lightning's Trainer (accelerator, devices, strategy, precision …).
        checkpoint_every: steps between checkpoints, where there is a place for them.
    """

    batch_size: int
    ema_decay: float
    validate_every: int
    workers: int
    trainer: Mapping[str, Any]
    checkpoint_every: int = 500


@dataclass(frozen=True)
class Trained:
    """What a training yields, on the CPU.

    Attributes:
        state: the averaged weights.
        history: the training record.
        trajectory: averaged parameters saved on the way, in order; none unless they were asked for.
    """

    state: dict[str, Tensor]
    history: list[Row]
    trajectory: tuple[dict[str, Tensor], ...] = ()


class Train(Protocol):
    """Train chosen weights the way a run trains its target."""

    def __call__(
        self, start: Mapping[str, Tensor], chosen: Chosen, parts: Sequence[str], iterations: int, rate: float = 1.0
    ) -> dict[str, Tensor]:
        """Averaged weights after training.

        Args:
            start: weights to begin with.
            chosen: which of them are trained.
            parts: the degradations that training samples suffer, each with its own probability.
            iterations: optimizer steps, > 0; the learning rate falls once from its start to the target's minimum.
            rate: the learning rate at the start, in times the target's, > 0.
        """


@dataclass(frozen=True)
class Retraining:
    """What it takes to train a run's network again.

    Attributes:
        train: chosen weights, with the data, loss and optimizer of the run's target.
        fresh: seed → the weights of a network that was never trained.
    """

    train: Train
    fresh: Callable[[int], dict[str, Tensor]]


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
