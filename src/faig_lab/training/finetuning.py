"""Training of chosen weights only: everything else keeps its bits, whatever the optimizer does (method.md §5).

A tensor without a chosen entry takes no gradient, so no optimizer touches it. In the others the gradient of the
rest is zero, which keeps it out of moments and of clipping by norm; and right after each optimizer step the rest
is put back, since weight decay, momentum or noise may move what has no gradient. The averaged weights are put
back at the end: an average of equal numbers need not have their bits (−0 becomes +0).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from faig_lab.data import CLEAN, Degradation, PatchDataset
from faig_lab.networks import State, evaluate, tied, under_every_name
from faig_lab.training.fitting import fit
from faig_lab.training.module import SRModule
from faig_lab.training.plan import Chosen, Loop, Trained


def fit_chosen(
    module: SRModule,
    chosen: Chosen,
    patches: PatchDataset,
    loop: Loop,
    callbacks: Sequence[pl.Callback] = (),
) -> Trained:
    """Train the chosen entries of `module` for its schedule, without validation.

    Buffers are frozen as well: modules that own some (batch norm) run in evaluation mode.

    Args:
        module: its weights are where training starts; its parameters' `requires_grad` is changed.
        chosen: which entries are trained.
        patches: the endless stream of training patches.
        loop: batch size, averaging, devices.
        callbacks: further callbacks.

    Returns:
        The averaged weights, of the module's precision; what was not chosen has the bits of the start.

    Raises:
        KeyError: `chosen` names a parameter that the network does not have.
        UserError: the loss became infinite or NaN.
    """
    start = {name: value.detach().cpu().clone() for name, value in module.network.state_dict().items()}
    freezing = Freezing(module.network, chosen)
    if not freezing.trained:
        return Trained(start, [])
    quiet = replace(loop, trainer={**loop.trainer, "limit_val_batches": 0})
    trained = fit(
        module, patches, (), quiet, lambda trained: None, callbacks=[freezing, *callbacks], name="chosen weights"
    )
    return Trained(_put_back(trained.state, start, under_every_name(module.network, chosen)), trained.history)


class Freezing(pl.Callback):
    """Keep everything that is not chosen as it is at the start of training, bit for bit.

    Args:
        network: what is trained; its parameters' `requires_grad` is changed at once.
        chosen: which entries are trained.

    Attributes:
        trained: the parameters with a chosen entry, by name.

    Raises:
        KeyError: `chosen` names a parameter that the network does not have.
    """

    def __init__(self, network: nn.Module, chosen: Chosen) -> None:
        parameters, further = dict(network.named_parameters()), tied(network)
        chosen = {further.get(name, name): mask for name, mask in chosen.items()}
        unknown = sorted(set(chosen) - set(parameters))
        if unknown:
            raise KeyError(f"the network has no parameter {', '.join(unknown)}")
        self.network, self.chosen = network, chosen
        self.trained = {name: parameters[name] for name, mask in chosen.items() if bool(mask.any())}
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in self.trained)
        self._held: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._hooks: list[Any] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the start; from now on it is put back after each optimizer step, before anything averages."""
        for part in self.network.modules():
            if next(part.buffers(recurse=False), None) is not None:
                part.eval()
        self._held = [
            (parameter, ~self.chosen[name].to(parameter.device).expand_as(parameter), parameter.detach().clone())
            for name, parameter in self.trained.items()
            if not bool(self.chosen[name].all())
        ]
        self._hooks = [optimizer.register_step_post_hook(self._restore) for optimizer in trainer.optimizers]

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """No gradient for what is frozen: zero, also where it was infinite."""
        for parameter, frozen, _ in self._held:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(frozen, 0)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let go of the optimizers."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _restore(self, *_: object) -> None:
        for parameter, frozen, start in self._held:
            parameter.copy_(torch.where(frozen, start, parameter))


def _put_back(state: State, start: State, chosen: Chosen) -> dict[str, Tensor]:
    """The trained values where they are chosen, the start everywhere else."""
    return {
        name: torch.where(chosen[name].cpu(), state[name].to(value), value) if name in chosen else value
        for name, value in start.items()
    }


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
