"""The plan of a training: its settings, its result, the sets of a planted target, and the version of its numbers.

Nothing here imports Lightning, whose import takes over a second.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import Tensor

from faig_lab.attribution.scores import count_of
from faig_lab.data import sample_rng
from faig_lab.errors import InputError
from faig_lab.filters import FilterLayout

NUMERICS_VERSION = 1
"""Raise this number by one if a change of the code makes a training with the same settings give other weights.

The number is part of the key of every trained network in the store. tests/training/test_numerics.py trains a few steps
and compares them with recorded numbers. While that test passes, the number stays, whatever was moved or renamed: every
trained network and every unfinished training is found again. When the test fails, either the change is a mistake, or
the number is raised and the recorded numbers are made again. Raise it also if a checkpoint of an unfinished training
can no longer be read (a renamed callback).
"""

Row = dict[str, float]
"""One row of the training record."""

Chosen = Mapping[str, Tensor]
"""Parameter's name → booleans that broadcast against it, True where it is trained; all other entries are frozen.

A tied parameter may have any of its names.
"""


@dataclass(frozen=True)
class Schedule:
    """Number of steps and learning rate: cosine annealing with restarts, after a linear rise.

    Attributes:
        iterations: optimizer steps.
        learning_rate: at the start of each period.
        restart_every: steps of a period.
        minimum_learning_rate: at the end of each period.
        warmup: steps at the start in which the learning rate is also multiplied by 1/warmup, 2/warmup, … 1.
    """

    iterations: int
    learning_rate: float
    restart_every: int
    minimum_learning_rate: float = 1e-7
    warmup: int = 0


def one_fall(iterations: int, warmup: int) -> dict[str, int]:
    """Return the fields of a schedule of other steps: the learning rate falls once, after a rise of `warmup` steps.

    The rise takes a tenth of the steps at most.
    """
    return {"iterations": iterations, "restart_every": iterations, "warmup": min(warmup, iterations // 10)}


@dataclass(frozen=True)
class Loop:
    """The settings of the training loop.

    Attributes:
        batch_size: patches per step, over all ranks.
        ema_decay: of the averaged weights.
        validate_every: steps between validations.
        workers: processes that cut patches; 0: this process cuts them.
        trainer: keyword arguments of Lightning's Trainer (accelerator, devices, strategy, precision …).
        checkpoint_every: steps between checkpoints, if the training has a folder for them.
        on_device: cut and degrade patches on the device of the training (`PatchesOnDevice`).
        cuda_graphs: on one GPU, replay forward and backward pass as CUDA graphs.
    """

    batch_size: int
    ema_decay: float
    validate_every: int
    workers: int
    trainer: Mapping[str, Any]
    checkpoint_every: int = 500
    on_device: bool = False
    cuda_graphs: bool = False

    def without_validation(self) -> "Loop":
        """Return the same loop without validations."""
        return replace(self, trainer={**self.trainer, "limit_val_batches": 0})


@dataclass(frozen=True)
class Trained:
    """The result of a training, on the CPU.

    Attributes:
        state: the averaged weights.
        history: the training record.
        trajectory: averaged parameters saved on the way, in order; empty unless snapshots were requested.
        channels_last: whether the training ran in this memory format; None if that is not known.
        on_device: whether patches were cut and degraded on the device of the training.
    """

    state: dict[str, Tensor]
    history: list[Row]
    trajectory: tuple[dict[str, Tensor], ...] = ()
    channels_last: bool | None = None
    on_device: bool = False


class Train(Protocol):
    """A function that trains chosen weights as a run trains its target."""

    def __call__(
        self,
        start: Mapping[str, Tensor],
        chosen: Chosen,
        parts: Sequence[str],
        iterations: int,
        rate: float = 1.0,
        *,
        always: bool = False,
    ) -> dict[str, Tensor]:
        """Return the averaged weights after training.

        Args:
            start: weights that training starts from.
            chosen: the entries to train.
            parts: the degradations of training samples, drawn as in the run (`Degradation.choose`).
            iterations: optimizer steps, > 0; the learning rate falls once from its start to the target's minimum,
                after the target's warm-up or a tenth of the steps, whichever is shorter.
            rate: the learning rate at the start, in times the target's, > 0.
            always: every sample has all of `parts` instead.
        """


@dataclass(frozen=True)
class Retraining:
    """Functions that train a run's network again.

    Attributes:
        train: trains chosen weights with the data, loss and optimizer of the run's target.
        fresh: seed → the weights of an untrained network.
    """

    train: Train
    fresh: Callable[[int], dict[str, Tensor]]


def planted_sets(
    layout: FilterLayout,
    degradations: Sequence[str],
    percent: float,
    seed: int,
    *,
    layers: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Draw a random set of filters for each degradation. The sets have one size and share no filter.

    Args:
        layout: the filters of the network.
        degradations: the degradations that get a set, in order.
        percent: the percent of all filters in each set.
        seed: the seed of the run; the same seed draws the same sets.
        layers: names of the layers that filters are drawn from, with * and ?; None: all layers.

    Returns:
        degradation → flat indices, ascending.

    Raises:
        InputError: a name fits no layer, a set is empty, or the layers have too few filters.
    """
    names = [layer.name.removesuffix(".weight") for layer in layout.layers]
    patterns = names if layers is None else layers
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError("layers", f"{pattern} fits no layer; the layers are {', '.join(names)}")
    inside = torch.tensor([any(fnmatchcase(name, pattern) for pattern in patterns) for name in names])
    places = torch.nonzero(inside[layout.layer_of()]).flatten()
    count = count_of(percent, len(layout))
    if count == 0:
        least = math.ceil(1e6 / len(layout)) / 1e4
        raise InputError("percent", f"{percent:g} % of {len(layout)} filters is none; at least {least:g}")
    if count * len(degradations) > len(places):
        most = math.floor(1e6 * (len(places) // len(degradations)) / len(layout)) / 1e4
        raise InputError(
            "percent", f"{len(degradations)} sets of {count} filters do not fit into {len(places)}; at most {most:g}"
        )
    order = places[torch.from_numpy(sample_rng(seed, "planted").permutation(len(places)))]
    return {name: order[k * count : (k + 1) * count].sort().values for k, name in enumerate(degradations)}


def resolve_precision(setting: str, accelerator: str) -> str:
    """Resolve `auto` to bf16-mixed if the device's hardware computes in bfloat16, else to 32-true.

    Args:
        setting: Lightning's `precision`, or auto.
        accelerator: Lightning's `accelerator`; auto means a GPU if there is one.
    """
    if setting != "auto":
        return setting
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if trains_on_processor(accelerator) and cpu_has_bfloat16() else "32-true"


def trains_on_processor(accelerator: str) -> bool:
    """Whether Lightning trains on the processor with this `accelerator`; auto takes a GPU if there is one."""
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return accelerator == "cpu" or (accelerator == "auto" and not gpu)


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; without that it is emulated, and slower than float32."""
    # Private, since torch before 2.13 has no torch.cpu.get_capabilities.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported())
