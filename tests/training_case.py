"""What tests of trainings share: a training that is killed, one that is watched, and states compared bit by bit."""

import pytorch_lightning as pl
import torch


class Killed(BaseException):
    """What ends a training here; no code of ours or of Lightning's may tidy up after it."""


class KillAt(pl.Callback):
    """Kill the training before a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise Killed


class Watch(pl.Callback):
    """Keep the raw weights after every step, and the optimizer."""

    def __init__(self):
        self.states, self.optimizer = [], None

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.states.append({n: v.detach().clone() for n, v in pl_module.network.state_dict().items()})
        self.optimizer = trainer.optimizers[0]


def same(some, other):
    """Whether two states have the same names in the same order, and equal tensors."""
    return list(some) == list(other) and all(torch.equal(some[name], other[name]) for name in some)


def bits(state):
    return {name: value.detach().contiguous().numpy().tobytes() for name, value in state.items()}


def frozen_bits(state, chosen):
    """The bits of everything that is not chosen; what is, is zero in all of them."""
    return bits({n: v.masked_fill(chosen[n], 0) if n in chosen else v for n, v in state.items()})
