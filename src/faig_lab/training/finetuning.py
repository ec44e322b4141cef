"""Training of chosen weights: all other weights keep their bits, whatever the optimizer does (method.md §5, §11).

`Freezing` trains one choice of weights from start to end. `Turns` trains groups of weights in turns, for a planted
target. In both, the gradient of frozen weights is zero, which keeps it out of moments and of clipping by norm. Weight
decay, momentum or noise may still move a weight without gradient, so each optimizer step is followed by a reset of the
frozen weights.

The groups of a planted pair are a set of filters for each degradation, and all other weights. A set learns to restore
samples of its own degradation. On samples of every other input, clean ones included, the set learns to leave the output
as it would be with the set at its start: else each set would learn to repair what the others do. All other weights
learn to restore clean samples. One optimizer serves all groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from faig_lab.data import CLEAN, Degradation, PatchDataset
from faig_lab.filters import State, evaluate, tied, under_every_name
from faig_lab.training.fitting import fit
from faig_lab.training.module import SRModule
from faig_lab.training.plan import Chosen, Loop, Trained


def fit_chosen(
    module: SRModule,
    chosen: Chosen,
    patches: PatchDataset,
    *,
    loop: Loop,
    callbacks: Sequence[pl.Callback] = (),
) -> Trained:
    """Train the chosen entries of `module` for its schedule, without validation.

    Buffers are frozen as well: modules with buffers (batch norm) run in evaluation mode.

    Args:
        module: training starts from its weights; its parameters' `requires_grad` is changed.
        chosen: the entries to train.
        patches: the endless stream of training patches.
        loop: batch size, averaging, devices.
        callbacks: further callbacks.

    Returns:
        The averaged weights, in the module's precision. Entries that were not chosen have the bits of the start.

    Raises:
        KeyError: `chosen` names a parameter that the network does not have.
        InputError: the loss became infinite or NaN.
    """
    start = {name: value.detach().cpu().clone() for name, value in module.network.state_dict().items()}
    freezing = Freezing(module.network, chosen)
    if not freezing.trained:
        return Trained(start, [])
    quiet = loop.without_validation()
    trained = fit(module, patches, (), loop=quiet, callbacks=[freezing, *callbacks], name="chosen weights")
    # The average of equal numbers need not have their bits (−0 becomes +0).
    state, every_name = dict(start), under_every_name(module.network, chosen)
    for name in start.keys() & every_name.keys():
        state[name] = torch.where(every_name[name].cpu(), trained.state[name].to(start[name]), start[name])
    return Trained(state, trained.history)


class _Frozen(pl.Callback):
    """Keeps frozen entries as they are; the optimizers' hooks are removed at the end of training.

    Attributes:
        kept: the parameters with frozen entries, each with booleans that are True where it is frozen, and its values.
    """

    def __init__(self) -> None:
        self.kept: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._hooks: list[Any] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Set the gradient of frozen entries to zero, also where it is infinite."""
        for parameter, frozen, _ in self.kept:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(frozen, 0)

    @torch.no_grad()
    def reset(self, optimizer: Optimizer, *_: object) -> None:
        """Set frozen entries back after an optimizer step, before the weights are averaged."""
        for parameter, frozen, values in self.kept:
            parameter.copy_(torch.where(frozen, values, parameter))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the optimizers' hooks."""
        for hook in self._hooks:
            hook.remove()


class Freezing(_Frozen):
    """Keep every entry that is not chosen as it is at the start of training, bit for bit.

    A tensor without a chosen entry takes no gradient, so no optimizer touches it.

    Args:
        network: the network to train; its parameters' `requires_grad` is changed at once.
        chosen: the entries to train.

    Attributes:
        trained: the parameters with a chosen entry, by name.

    Raises:
        KeyError: `chosen` names a parameter that the network does not have.
    """

    def __init__(self, network: nn.Module, chosen: Chosen) -> None:
        super().__init__()
        parameters, first_names = dict(network.named_parameters()), tied(network)
        chosen = {first_names.get(name, name): mask for name, mask in chosen.items()}
        unknown = sorted(set(chosen) - set(parameters))
        if unknown:
            raise KeyError(f"the network has no parameter {', '.join(unknown)}")
        self.network, self.chosen = network, chosen
        self.trained = {name: parameters[name] for name, mask in chosen.items() if bool(mask.any())}
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in self.trained)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the start of the parameters of which some entries are chosen and some frozen."""
        _freeze_buffers(self.network)
        self.kept = [
            (parameter, ~self.chosen[name].to(parameter.device).expand_as(parameter), parameter.detach().clone())
            for name, parameter in self.trained.items()
            if not bool(self.chosen[name].all())
        ]
        self._hooks = [optimizer.register_step_post_hook(self.reset) for optimizer in trainer.optimizers]


@dataclass(frozen=True)
class Group:
    """Weights that are trained together.

    Attributes:
        input: the input that the group learns to restore: the name of one degradation, or "clean".
        chosen: the entries to train, for every parameter.
        rate: the learning rate, in times that of the schedule, > 0.
    """

    input: str
    chosen: Chosen
    rate: float


def planted_groups(network: nn.Module, sets: Mapping[str, Chosen], rate: float, drift: float) -> tuple[Group, ...]:
    """Divide all weights into the groups of a planted pair: a set for each degradation, and the rest for clean input.

    Biases, and all other parameters without an entry in a set, belong to the last group.

    Args:
        network: the network to train.
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


class Turns(_Frozen):
    """Train the groups one after the other for some steps each, over and over.

    The step alone determines whose turn it is, so a training that continues from a checkpoint takes the same turns.
    Modules with buffers (batch norm) run in evaluation mode. The optimizer's moments of a group fade during the others'
    turns.

    Args:
        groups: in the order of their turns.
        start: weights that training starts from.
        steps: of a turn.
        first: steps at the start in which the last group alone is trained; it has no turns afterwards. With 0 it takes
            turns like the others.
    """

    def __init__(self, groups: Sequence[Group], start: State, steps: int, *, first: int = 0) -> None:
        super().__init__()
        self.groups, self.steps, self.first = tuple(groups), steps, first
        self._network: nn.Module | None = None
        self._start = dict(start)
        self._group = self.groups[0]
        self._frozen: dict[str, dict[str, Tensor]] = {}
        self._rates: list[float] = []
        self._degradations: dict[str, Degradation] = {}

    def group_at(self, step: int) -> Group:
        """Return the group that is trained in a step; the first step is 0."""
        if step < self.first:
            return self.groups[-1]
        cycle = self.groups[:-1] if self.first else self.groups
        return cycle[(step - self.first) // self.steps % len(cycle)]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the entries that each group does not train: at this point they are on the device where they stay."""
        assert isinstance(pl_module, SRModule)
        _freeze_buffers(pl_module.network)
        named = dict(pl_module.network.named_parameters())
        self._frozen = {
            group.input: {name: ~group.chosen[name].to(value.device).expand_as(value) for name, value in named.items()}
            for group in self.groups
        }
        self._degradations = {group.input: _one_part(pl_module.degradation, group.input) for group in self.groups}
        self._network = pl_module.network
        self._start = {name: self._start[name].to(value) for name, value in named.items()}
        for optimizer in trainer.optimizers:
            self._hooks.append(optimizer.register_step_pre_hook(self._scale_rates))
            self._hooks.append(optimizer.register_step_post_hook(self.reset))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Save all weights before the step, and let the module degrade this batch as the current group needs it."""
        assert isinstance(pl_module, SRModule)
        self._group = self.group_at(trainer.global_step)
        frozen = self._frozen[self._group.input]
        named = pl_module.network.named_parameters()
        self.kept = [(value, frozen[name], value.detach().clone()) for name, value in named]
        pl_module.degradation = self._degradations[self._group.input]
        pl_module.clean = self._group.input == CLEAN
        pl_module.retarget = None if pl_module.clean else self._retarget

    @torch.no_grad()
    def _retarget(self, lr: Tensor, hr: Tensor, names: Sequence[frozenset[str]]) -> Tensor:
        """Return HR for samples of the group's input, and for others the output with the group at its start."""
        assert self._network is not None
        others = [place for place, name in enumerate(names) if name != {self._group.input}]
        if not others:
            return hr
        frozen = self._frozen[self._group.input]
        named = self._network.named_parameters()
        state = {name: torch.where(frozen[name], value, self._start[name]) for name, value in named}
        hr = hr.clone()
        hr[others] = evaluate(self._network, state, lr[others]).to(hr)
        return hr

    def _scale_rates(self, optimizer: Optimizer, *_: object) -> None:
        """Set the learning rate of the group for the step."""
        self._rates = [settings["lr"] for settings in optimizer.param_groups]
        for settings in optimizer.param_groups:
            settings["lr"] = settings["lr"] * self._group.rate

    def reset(self, optimizer: Optimizer, *_: object) -> None:
        """Set frozen entries and the learning rate back after an optimizer step."""
        super().reset(optimizer)
        for settings, rate in zip(optimizer.param_groups, self._rates, strict=True):
            settings["lr"] = rate


@dataclass(frozen=True)
class _OnePart(Degradation):
    """Training samples get one part alone, or nothing; the margin of patches is that of all parts.

    A sample gets the part `part` with the part's probability, else another part or nothing, each equally likely.
    """

    part: str = CLEAN

    def draw(self, rng: np.random.Generator) -> frozenset[str]:
        """Draw one part, or nothing."""
        if rng.random() < self.parts[self.part].probability:
            return frozenset({self.part})
        others = [frozenset[str](), *(frozenset({name}) for name in self.parts if name != self.part)]
        return others[int(rng.integers(len(others)))]


def _one_part(degradation: Degradation, name: str) -> Degradation:
    """Return the degradation of the samples of a group."""
    return _with_draw(_OnePart, degradation, part=name) if name in degradation.parts else degradation


@dataclass(frozen=True)
class _AllParts(Degradation):
    """Every training sample gets all parts, whatever their probabilities."""

    def draw(self, rng: np.random.Generator) -> frozenset[str]:
        """Return all parts."""
        return frozenset(self.parts)


def with_all_parts(degradation: Degradation) -> Degradation:
    """Return the degradation whose training samples all have every part."""
    return _with_draw(_AllParts, degradation)


def _with_draw(kind: type[Degradation], degradation: Degradation, **more: Any) -> Degradation:
    """Return the degradation as one of another kind, which draws parts in another way."""
    shared = {field.name: getattr(degradation, field.name) for field in fields(Degradation)}
    return kind(**shared, **more)


def _freeze_buffers(network: nn.Module) -> None:
    """Set modules with buffers to evaluation mode."""
    for part in network.modules():
        if next(part.buffers(recurse=False), None) is not None:
            part.eval()
