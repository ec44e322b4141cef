"""What it takes to train another network the way a run trains its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from faig_lab.attribution import Attribution, Method, Problem
from faig_lab.data import Degradation, StudyData
from faig_lab.evaluation.evaluator import Evaluator
from faig_lab.evaluation.examples import Example
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import State
from faig_lab.training import Retraining

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
class NetworkTrainer:
    """How a run's network is compared with others.

    Attributes:
        train: baseline and target of a network.
        step_seconds: networks (None is the run's own), steps → seconds of a training step of each.
        target: baseline, seed → the run's network trained again from this baseline, on the samples of another seed.
    """

    train: TrainPair
    step_seconds: Callable[[Sequence[Node | None], int], list[float]]
    target: Callable[[State, int], State]


Bar = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]
"""(name, steps) → a context that yields a function to call after each step."""


@contextmanager
def no_bar(name: str, steps: int) -> Iterator[Callable[[str], None]]:
    """Progress that nobody watches."""
    yield lambda what: None


@dataclass(frozen=True)
class StudyContext:
    """Two networks, their attribution and the images to evaluate on.

    Args:
        problem: network, θ̄ and θ (in the attribution's precision), probe, quadrature, seed.
        methods: all attribution methods of the run by name.
        attribution: their scores.
        method: the run's method, a key of `attribution.scores`.
        data: photographs, probe, held-out images.
        degradation: the way from HR to LR that the target was trained on.
        percents: how many filters, ascending.
        headline: the percent that reports speak of.
        autocast: lower precision for restoring held-out images, or None.
        bar: progress.
        retraining: how chosen weights are trained again; None without photographs to train on.
        trainer: how other networks are trained like the run's; None without photographs to train on.
        planted: degradation → the filters that alone learned it; None where the target is not planted.
    """

    problem: Problem
    methods: dict[str, Method]
    attribution: Attribution
    method: str
    data: StudyData
    degradation: Degradation
    percents: tuple[float, ...]
    headline: float
    autocast: torch.dtype | None = None
    bar: Bar = field(default=no_bar, repr=False)
    retraining: Retraining | None = field(default=None, repr=False)
    trainer: NetworkTrainer | None = field(default=None, repr=False)
    planted: Mapping[str, Tensor] | None = field(default=None, repr=False)

    @property
    def network(self) -> nn.Module:
        """The module; its own weights do not matter."""
        return self.problem.network

    @cached_property
    def baseline(self) -> State:
        """θ̄ in single precision, to restore with."""
        return {n: v.float() if v.is_floating_point() else v for n, v in self.problem.baseline.items()}

    @cached_property
    def target(self) -> State:
        """θ in single precision."""
        return {n: v.float() if v.is_floating_point() else v for n, v in self.problem.target.items()}

    @cached_property
    def evaluator(self) -> Evaluator:
        """Held-out images between the two networks."""
        scale = self.degradation.scale
        return Evaluator(self.network, self.baseline, self.target, self.data.held_out, scale, self.autocast)


@dataclass(frozen=True)
class StudyResult:
    """What an analysis found.

    Attributes:
        tables: name → rows, which become tables/<name>.csv.
        metrics: headline numbers for metrics.json; None where a number is not defined.
        examples: pictures for the analysis's section to draw; the keys of `restored` are its own.
    """

    tables: dict[str, list[TableRow]]
    metrics: dict[str, float | None] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()


Analysis = Callable[[StudyContext], StudyResult]


Keep = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""(name, compute) → the result, from where it is kept or computed."""


def kept(keep: Keep, name: str, compute: Callable[[], StudyResult]) -> StudyResult:
    """The findings of an analysis, computed unless they are kept."""
    return _unpacked(keep(name, lambda: _packed(compute())))


def _packed(findings: StudyResult) -> dict[str, Any]:
    """Dicts, lists, tensors on the CPU and Python's own numbers."""
    return {
        "tables": {name: [_plain(row) for row in rows] for name, rows in findings.tables.items()},
        "metrics": _plain(findings.metrics),
        "examples": [
            {f.name: _value(getattr(example, f.name)) for f in fields(Example)} for example in findings.examples
        ],
    }


def _unpacked(packed: Mapping[str, Any]) -> StudyResult:
    examples = tuple(Example(**example) for example in packed["examples"])
    return StudyResult(packed["tables"], packed["metrics"], examples)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    """A number of numpy or torch as Python's (tables write them the same), a tensor of many on the CPU."""
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, Tensor) and value.ndim:
        return value.detach().cpu().contiguous().clone()
    item = getattr(value, "item", None)
    return item() if callable(item) else value
