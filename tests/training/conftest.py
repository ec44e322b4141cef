"""A training small enough to be done again by hand."""

from functools import partial

import numpy as np
import pytest
import torch

from faig_lab.data import Degradation, Downsample, GaussianBlur, GaussianNoise, PairedImage, PatchDataset, Photograph
from faig_lab.networks import SRResNet
from faig_lab.training import Loop, Schedule, SRModule, fit

BETAS = (0.9, 0.99)


class Tiny:
    """All that `fit` takes, with everything open to change."""

    def __init__(self):
        self.steps, self.restart_every, self.batch_size, self.decay, self.validate_every = 5, 5, 2, 0.3, 2
        self.rate, self.lowest, self.warmup = 5e-3, 1e-4, 0
        self.seed, self.stream, self.clean = 0, "target", False
        self.workers, self.checkpoint_every = 0, 500
        self.precision, self.channels_last = "32-true", False
        self.loss, self.trainer, self.on_device = torch.nn.L1Loss(), {}, False
        self.optimizer = partial(torch.optim.Adam, betas=BETAS)
        parts = {"blur": GaussianBlur(sigma=1.0, kernel_size=5), "noise": GaussianNoise(sigma=0.1)}
        self.degradation = Degradation(parts, Downsample(), scale=2)
        pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
        self.photographs = tuple(Photograph(name, name, p, name) for name, p in zip("ab", pixels, strict=True))
        generator = torch.Generator().manual_seed(3)
        lr = {name: torch.rand(3, 8, 8, generator=generator) for name in ("clean", "blur", "noise")}
        self.validation = (PairedImage("v", torch.rand(3, 16, 16, generator=generator), lr),)

    def network(self):
        torch.manual_seed(self.seed)
        return SRResNet(features=4, blocks=1)

    def patches(self):
        return PatchDataset(self.photographs, 8, self.degradation.margin, seed=self.seed, stream=self.stream)

    def module(self):
        schedule = Schedule(self.steps, self.rate, self.restart_every, self.lowest, self.warmup)
        return SRModule(
            self.network(),
            self.degradation,
            schedule,
            loss=self.loss,
            optimizer=self.optimizer,
            seed=self.seed,
            stream=self.stream,
            clean=self.clean,
            channels_last=self.channels_last,
        )

    def fit(self, publish=None, callbacks=(), on_row=None, checkpoint=None, snapshots=0, module=None):
        trainer = {"accelerator": "cpu", "devices": 1, "precision": self.precision} | self.trainer
        loop = Loop(
            self.batch_size, self.decay, self.validate_every, self.workers, trainer, self.checkpoint_every,
            self.on_device,
        )  # fmt: skip
        return fit(
            module or self.module(),
            self.patches(),
            self.validation,
            loop=loop,
            publish=publish,
            callbacks=callbacks,
            on_row=on_row,
            checkpoint=checkpoint,
            snapshots=snapshots,
        )


@pytest.fixture
def tiny():
    return Tiny()


@pytest.fixture(scope="session")
def usual():
    """The result of the training as it is. Checkpoints, workers and validations do not change it."""
    return Tiny().fit()
