"""The input and the result of a study, and the training of further networks like those of the run."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from faig_lab.attribution import Attribution, Method, Problem, discovered
from faig_lab.data import CLEAN, Degradation, StudyData
from faig_lab.evaluation.evaluator import Evaluation, Evaluator, Example, isolation_of, pooled
from faig_lab.evaluation.intervals import number_or_none
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import State, mask
from faig_lab.metrics import back, off, side
from faig_lab.runs.tables import Rows, frame, records
from faig_lab.training import Chosen, Retraining

log = logging.getLogger(__name__)

Node = Mapping[str, Any]
"""A network as a `_target_` with its arguments."""


@dataclass(frozen=True)
class Pair:
    """A network's baseline and target, on the CPU; the module's own weights are not used."""

    network: nn.Module
    baseline: State
    target: State


class TrainTarget(Protocol):
    """Train a target of the run's network from a given baseline, unless the store has the target."""

    def __call__(
        self, baseline: State, seed: int, parts: Sequence[str] | None = None, *, iterations: int | None = None
    ) -> State:
        """Return the averaged weights of the target, on the CPU.

        Args:
            baseline: weights that training starts from, on the CPU.
            seed: of patches and degradations.
            parts: degradations of the training samples, drawn as in the run (`Degradation.choose`); None is all.
            iterations: optimizer steps with one fall of the learning rate; None is the run's schedule.
        """


@dataclass(frozen=True)
class NetworkTrainer:
    """The training of networks that a study compares with the run's network.

    Attributes:
        train: network, seed → its baseline and target, trained with the run's data, degradations, schedule, loss and
            optimizer, unless the store has them. The network None is the run's own. The run sets the scale of a
            network, and its degradations if it names degradations. The seed is that of weights, patches and
            degradations.
        step_seconds: networks (None is the run's own), steps → seconds of a training step of each.
        target: a target of the run's network from a given baseline, with other samples or fewer degradations.
    """

    train: Callable[[Node | None, int], Pair]
    step_seconds: Callable[[Sequence[Node | None], int], list[float]]
    target: TrainTarget


Bar = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]
"""(name, steps) → a context that yields a function to call after each step."""


@contextmanager
def no_bar(name: str, steps: int) -> Iterator[Callable[[str], None]]:
    """Show no progress."""
    yield lambda text: None


@dataclass(frozen=True)
class StudyContext:
    """Two networks, their attribution and the images to evaluate on.

    Args:
        problem: network, θ̄ and θ (in the attribution's precision), probe, quadrature, seed.
        methods: all attribution methods of the run by name.
        attribution: their scores.
        method: the run's method, a key of `attribution.scores`.
        data: photographs, probe, held-out images.
        degradation: the degradation from HR to LR that the target was trained on.
        percents: q, ascending.
        headline: the percent of the report's main numbers.
        autocast: lower precision for restoring held-out images, or None.
        bar: progress.
        retraining: trains chosen weights again; None without photographs to train on.
        trainer: trains other networks like the run's; None without photographs to train on.
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
        """The module; its own weights are not used."""
        return self.problem.network

    @cached_property
    def baseline(self) -> State:
        """θ̄ in single precision, to restore with."""
        return single_precision(self.problem.baseline)

    @cached_property
    def target(self) -> State:
        """θ in single precision."""
        return single_precision(self.problem.target)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Held-out images between the two networks."""
        scale = self.degradation.scale
        return Evaluator(self.network, self.baseline, self.target, self.data.held_out, scale, self.autocast)

    @property
    def inputs(self) -> list[str]:
        """The degradations, then clean input if the held-out images have it."""
        return [*self.attribution.degradations, *(name for name in self.evaluator.inputs if name == CLEAN)]

    def discovered(self, method: str, percent: float) -> dict[str, Tensor]:
        """Return degradation → flat indices of the discovered filters, by the first draw of a method."""
        rows = zip(self.attribution.degradations, self.attribution.scores[method][0], strict=True)
        return {name: discovered(scores, percent) for name, scores in rows}

    def masked(self, filters: Tensor) -> dict[str, Tensor]:
        """Return the target with the given filters set back to the baseline."""
        return mask(self.target, self.baseline, self.attribution.layout, filters)

    def measured(self, state: State) -> Iterator[tuple[str, float, float | None]]:
        """Yield each degradation with the PSNR of a network in dB, and the share of the target's gain that it lacks.

        Args:
            state: the weights of the network.
        """
        for name in self.attribution.degradations:
            psnr = self.evaluator.psnr(self.evaluator.outputs(state, name))
            yield name, psnr, self.evaluator.removed(psnr, name)

    def placed(self, state: State) -> dict[str, Tensor]:
        """Return weights with the device and the type of the target's."""
        return {name: value.to(self.target[name]) for name, value in state.items()}

    def trained_target(self, seed: int, parts: Sequence[str] | None = None, iterations: int | None = None) -> State:
        """Return a target that is trained from the run's baseline (`TrainTarget`), placed like the run's target."""
        if self.trainer is None:
            raise ValueError("the data has no photographs to train on")
        start = {name: value.cpu() for name, value in self.baseline.items()}
        return self.placed(self.trainer.target(start, seed, parts, iterations=iterations))

    def everything(self) -> Chosen:
        """Return all entries of all parameters, for the training of a whole network."""
        return {name: torch.ones((), dtype=torch.bool) for name, _ in self.network.named_parameters()}

    def with_scores(self, methods: Iterable[str]) -> list[str]:
        """Return the run's method and those of the given methods that the run has scores of, each method once."""
        return [name for name in dict.fromkeys((self.method, *methods)) if name in self.attribution.scores]

    def deterministic(self, methods: Iterable[str]) -> list[str]:
        """Return the given methods that the run has and that draw no random numbers, each method once."""
        scores = self.attribution.scores
        return [name for name in dict.fromkeys(methods) if name in self.methods and len(scores.get(name, ())) == 1]


def parts_of_edit(effects: Mapping[str, Evaluation], own: str) -> dict[str, TableRow]:
    """Return back, off, side and isolation of an edit (method.md §9) by input, as cells of a table.

    Args:
        effects: input → the effect of the edit.
        own: the degradation whose function the edit should change; `side` is None on this input.
    """
    sums, whole = {name: pooled(effect) for name, effect in effects.items()}, isolation_of(effects, own)
    return {
        name: {
            "back": number_or_none(back(of_input)),
            "off": number_or_none(off(of_input)),
            "side": None if name == own else number_or_none(side(of_input, sums[own])),
            "isolation": whole,
        }
        for name, of_input in sums.items()
    }


def single_precision(state: State) -> dict[str, Tensor]:
    """Convert the floating parameters of a state to float32."""
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


class StudyResult:
    """The result of a study.

    Args:
        tables: name → table, or its rows, which become tables/<name>.csv.
        metrics: headline numbers for metrics.json; None and NaN where a number is not defined.
        examples: pictures for the section of the study; the study chooses the keys of `restored`.

    Attributes:
        tables: name → table.
    """

    def __init__(
        self,
        tables: Mapping[str, Rows],
        metrics: Mapping[str, float | None] | None = None,
        examples: Sequence[Example] = (),
    ) -> None:
        self.tables: dict[str, pd.DataFrame] = {name: frame(rows) for name, rows in tables.items()}
        self.metrics = dict(metrics or {})
        self.examples = tuple(examples)

    def __eq__(self, other: object) -> bool:
        """Return whether tables and metrics are the same; the pictures do not count."""
        if not isinstance(other, StudyResult) or self.tables.keys() != other.tables.keys():
            return False
        same = all(table.equals(other.tables[name]) for name, table in self.tables.items())
        return same and self.metrics == other.metrics

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table as dicts of Python's own values; None is a missing cell."""
        return records(self.tables[table])


def without_photographs(study: str) -> StudyResult:
    """Return an empty result for data without photographs to train on, and log the reason."""
    log.warning("%s: left out, since the data has no photographs to train on", study)
    return StudyResult({})


Analysis = Callable[[StudyContext], StudyResult]

Keep = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""(name, compute) → the result, from the cache or computed."""


def kept(keep: Keep, name: str, compute: Callable[[], StudyResult]) -> StudyResult:
    """Return the result of a study from the cache, or compute the result.

    The cache has dicts and lists of Python's own numbers, and tensors on the CPU.
    """

    def packed() -> dict[str, Any]:
        result = compute()
        examples = [{f.name: getattr(example, f.name) for f in fields(Example)} for example in result.examples]
        tables = {table: result.rows(table) for table in result.tables}
        return {"tables": tables, "metrics": _plain(result.metrics), "examples": _plain(examples)}

    found = keep(name, packed)
    return StudyResult(found["tables"], found["metrics"], [Example(**example) for example in found["examples"]])


def _plain(value: Any) -> Any:
    """Convert numbers of NumPy and torch to Python's (tables write both alike), and move tensors to the CPU."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor) and value.ndim:
        return value.detach().cpu().contiguous().clone()
    item = getattr(value, "item", None)
    return item() if callable(item) else value
