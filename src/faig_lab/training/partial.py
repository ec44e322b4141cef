"""Training of chosen weights only: everything else keeps its bits, whatever the optimizer does (method.md §5).

A tensor without a chosen entry takes no gradient, so no optimizer touches it. In the others the gradient of the
rest is zero, which keeps it out of moments and of clipping by norm; and right after each optimizer step the rest
is put back, since weight decay, momentum or noise may move what has no gradient. The averaged weights are put
back at the end: an average of equal numbers need not have their bits (−0 becomes +0).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from faig_lab.data import PatchDataset
from faig_lab.filters import State, tied, under_every_name
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
