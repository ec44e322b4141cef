"""Training of a planted target: in turns, one group of weights learns one input while everything else stays.

The groups of a planted pair (method.md §11) are a set of filters for each degradation, and all other weights. A set
learns to restore samples of its own degradation. On samples of every other input, clean ones included, it learns to
leave the output as it would be with the set at its start: else each set would learn to repair what the others do. All
other weights learn to restore clean samples. One optimizer serves all groups. During a turn the gradient of all other
groups is zero, and their weights are put back bit for bit after each optimizer step, since momentum or weight decay
would move them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from faig_lab.data import CLEAN, Degradation
from faig_lab.filters import State, evaluate, under_every_name
from faig_lab.training.module import SRModule
from faig_lab.training.plan import Chosen


@dataclass(frozen=True)
class Group:
    """Weights that are trained together.

    Attributes:
        input: what the group learns to restore: the name of one degradation, or "clean".
        chosen: which entries are trained, for every parameter.
        rate: the learning rate, in times that of the schedule, > 0.
    """

    input: str
    chosen: Chosen
    rate: float


def planted_groups(network: nn.Module, sets: Mapping[str, Chosen], rate: float, drift: float) -> tuple[Group, ...]:
    """Divide all weights into the groups of a planted pair: a set for each degradation, and the rest on clean input.

    Biases, and all other parameters that no set has an entry of, belong to the last group.

    Args:
        network: whose parameters are trained.
        sets: degradation → its filters; no two sets share a filter.
        rate: learning rate of the sets, in times that of the schedule.
        drift: learning rate of the rest, likewise.
    """
    nothing = torch.zeros((), dtype=torch.bool)
    every = {name: under_every_name(network, chosen) for name, chosen in sets.items()}
    parameters = [name for name, _ in network.named_parameters()]
    planted = {
        degradation: {name: chosen.get(name, nothing) for name in parameters} for degradation, chosen in every.items()
    }
    rest = {name: ~sum((chosen[name] for chosen in planted.values()), nothing) for name in parameters}
    groups = [Group(degradation, chosen, rate) for degradation, chosen in planted.items()]
    return *groups, Group(CLEAN, rest, drift)


class Turns(pl.Callback):
    """Train the groups one after the other for some steps each, over and over.

    The step alone says whose turn it is, so a training that goes on from a checkpoint takes the same turns. Modules
    with buffers (batch norm) run in evaluation mode. The optimizer's moments of a group fade during the others' turns.

    Args:
        groups: in the order of their turns.
        start: weights that training starts from.
        steps: of a turn.
        first: steps at the start in which the last group alone is trained; it has no turns afterwards. With 0 it takes
            turns like the others.
    """

    def __init__(self, groups: Sequence[Group], start: State, steps: int, first: int = 0) -> None:
        self.groups, self.steps, self.first = tuple(groups), steps, first
        self._network: nn.Module | None = None
        self._start = dict(start)
        self._group = self.groups[0]
        self._parameters: list[nn.Parameter] = []
        self._frozen: dict[str, list[Tensor]] = {}
        self._before: list[Tensor] = []
        self._rates: list[float] = []
        self._inputs: dict[str, Degradation] = {}
        self._hooks: list[Any] = []

    def group_at(self, step: int) -> Group:
        """The group that is trained in a step, counted from 0."""
        if step < self.first:
            return self.groups[-1]
        cycle = self.groups[:-1] if self.first else self.groups
        return cycle[(step - self.first) // self.steps % len(cycle)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the weights: by now they are where they stay."""
        assert isinstance(pl_module, SRModule)
        for part in pl_module.network.modules():
            if next(part.buffers(recurse=False), None) is not None:
                part.eval()
        named = dict(pl_module.network.named_parameters())
        self._parameters = list(named.values())
        self._frozen = {
            group.input: [~group.chosen[name].to(value.device).expand_as(value) for name, value in named.items()]
            for group in self.groups
        }
        self._inputs = {group.input: _own(pl_module.degradation, group.input) for group in self.groups}
        self._network = pl_module.network
        self._start = {name: self._start[name].to(value) for name, value in named.items()}
        for optimizer in trainer.optimizers:
            self._hooks += [
                optimizer.register_step_pre_hook(self._remember),
                optimizer.register_step_post_hook(self._put_back),
            ]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Let the module degrade this batch as the group's samples are."""
        assert isinstance(pl_module, SRModule)
        self._group = self.group_at(trainer.global_step)
        pl_module.degradation = self._inputs[self._group.input]
        pl_module.clean = self._group.input == CLEAN
        pl_module.retarget = None if pl_module.clean else self._retarget

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """No gradient for what is frozen: zero, also where it was infinite."""
        for parameter, frozen in zip(self._parameters, self._frozen[self._group.input], strict=True):
            if parameter.grad is not None:
                parameter.grad.masked_fill_(frozen, 0)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go of the optimizers."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _retarget(self, lr: Tensor, hr: Tensor, names: Sequence[frozenset[str]]) -> Tensor:
        """HR for samples of the group's own input; for others the output with the group's weights at their start."""
        assert self._network is not None
        others = [place for place, name in enumerate(names) if name != {self._group.input}]
        if not others:
            return hr
        named, frozen = dict(self._network.named_parameters()), self._frozen[self._group.input]
        state = {
            name: torch.where(stays, value, self._start[name])
            for (name, value), stays in zip(named.items(), frozen, strict=True)
        }
        hr = hr.clone()
        hr[others] = evaluate(self._network, state, lr[others]).to(hr)
        return hr

    def _remember(self, optimizer: Optimizer, *_: object) -> None:
        """Keep all weights as they are before the step, which is taken at the group's learning rate."""
        self._before = [parameter.detach().clone() for parameter in self._parameters]
        self._rates = [settings["lr"] for settings in optimizer.param_groups]
        for settings in optimizer.param_groups:
            settings["lr"] = settings["lr"] * self._group.rate

    @torch.no_grad()
    def _put_back(self, optimizer: Optimizer, *_: object) -> None:
        for settings, rate in zip(optimizer.param_groups, self._rates, strict=True):
            settings["lr"] = rate
        frozen = self._frozen[self._group.input]
        for parameter, before, stays in zip(self._parameters, self._before, frozen, strict=True):
            parameter.copy_(torch.where(stays, before, parameter))


@dataclass(frozen=True)
class _Own(Degradation):
    """Training samples suffer the part `own` with its probability, else another part alone or nothing, evenly.

    The margin of patches is that of all parts.
    """

    own: str = CLEAN

    def draw(self, rng: np.random.Generator) -> frozenset[str]:
        """One part alone, or nothing."""
        if rng.random() < self.parts[self.own].probability:
            return frozenset({self.own})
        others = [frozenset[str](), *(frozenset({name}) for name in self.parts if name != self.own)]
        return others[int(rng.integers(len(others)))]


def _own(degradation: Degradation, name: str) -> Degradation:
    if name not in degradation.parts:
        return degradation
    return _Own(degradation.parts, degradation.downsample, degradation.scale, degradation.quantise, name)
