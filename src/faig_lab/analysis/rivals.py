"""What it takes to train another network the way a run trains its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from faig_lab.networks import State

Node = Mapping[str, Any]
"""A network as a `_target_` with its arguments."""


@dataclass(frozen=True)
class Pair:
    """A network's baseline and target, on the CPU; the module's own weights do not matter."""

    network: nn.Module
    baseline: State
    target: State


class TrainPair(Protocol):
    """Train a network's baseline and target, unless the store has them."""

    def __call__(self, network: Node | None, seed: int) -> Pair:
        """Baseline and target with the run's data, degradations, schedule, loss and optimizer.

        Args:
            network: which one; None is the run's own. Its scale, and its degradations where it names some, become
                those of the run.
            seed: of weights, patches and degradations.
        """


@dataclass(frozen=True)
class Rivals:
    """How a run's network is compared with others.

    Attributes:
        train: baseline and target of a network.
        step_seconds: networks (None is the run's own), steps → seconds of a training step of each.
        target: baseline, seed → the run's network trained again from this baseline, on the samples of another seed.
    """

    train: TrainPair
    step_seconds: Callable[[Sequence[Node | None], int], list[float]]
    target: Callable[[State, int], State]
