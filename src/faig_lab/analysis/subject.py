"""What every analysis works on, and what it hands back.

An analysis is a function of a subject that returns findings: tables and headline numbers. Adding one is a
function, a YAML in conf/analysis and, to be shown, a section in reporting/sections.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from faig_lab.analysis.examples import Example
from faig_lab.analysis.judge import Judge
from faig_lab.analysis.masking import TableRow
from faig_lab.analysis.rivals import Rivals
from faig_lab.attribution import Attribution, Method, Problem
from faig_lab.data import Degradation, StudyData
from faig_lab.networks import State
from faig_lab.training import Retraining

Bar = Callable[[str, int], AbstractContextManager[Callable[[str], None]]]
"""(name, steps) → a context that yields a function to call after each step."""


@contextmanager
def no_bar(name: str, steps: int) -> Iterator[Callable[[str], None]]:
    """Progress that nobody watches."""
    yield lambda what: None


@dataclass(frozen=True)
class Subject:
    """Two networks, their attribution and the images to judge on.

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
        rivals: how other networks are trained like the run's; None without photographs to train on.
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
    rivals: Rivals | None = field(default=None, repr=False)
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
    def judge(self) -> Judge:
        """Held-out images between the two networks."""
        scale = self.degradation.scale
        return Judge(self.network, self.baseline, self.target, self.data.held_out, scale, self.autocast)


@dataclass(frozen=True)
class Findings:
    """What an analysis found.

    Attributes:
        tables: name → rows, which become tables/<name>.csv.
        metrics: headline numbers for metrics.json; None where a number is not defined.
        examples: pictures for the analysis's section to draw; the keys of `restored` are its own.
    """

    tables: dict[str, list[TableRow]]
    metrics: dict[str, float | None] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()


Analysis = Callable[[Subject], Findings]
