"""A training and an attribution that are small enough to be shared by two processes in seconds."""

import os
import socket
from functools import partial

import numpy as np
import torch
from forked_case import CONTEXT

from faig_lab.attribution import Problem, Shard, quadrature
from faig_lab.attribution.methods import faig, input_gradients, taylor
from faig_lab.data import (
    CLEAN,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    PairedImage,
    PatchDataset,
    Photograph,
)
from faig_lab.networks import SRResNet
from faig_lab.runs import processes
from faig_lab.training import Loop, Schedule, SRModule, fit

STEPS = 50


def _network(seed):
    torch.manual_seed(seed)
    return SRResNet(features=4, blocks=1)


def _images(count):
    generator = torch.Generator().manual_seed(3)
    image = partial(torch.rand, generator=generator)
    return tuple(
        PairedImage(str(number), image(3, 16, 16), {name: image(3, 8, 8) for name in (CLEAN, "blur", "noise")})
        for number in range(count)
    )


def attribute(images):
    """Scores of every method that goes through the probe, and the integral itself."""
    target = _network(1).state_dict()
    baseline, rule = _network(0).state_dict(), quadrature("left", 3)
    problem = Problem(_network(0), baseline, target, _images(images), ("blur", "noise"), rule, shard=Shard.of_group())
    scores = {method.__name__: method(problem) for method in (faig, input_gradients, taylor)}
    return scores | {"magnitude": problem.integral.magnitude, "points": problem.integral.points}


def attributions():
    """The scores on three images, and on one."""
    return {images: attribute(images) for images in (3, 1)}


def train(world, checkpoint=None, steps=STEPS):
    """Averaged weights and losses after a training with one validation per five steps."""
    parts = {"blur": GaussianBlur(sigma=1.0, kernel_size=5), "noise": GaussianNoise(sigma=0.1)}
    degradation = Degradation(parts, Downsample(), scale=2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 40, 3), dtype=np.uint8)
    photographs = tuple(Photograph(name, name, p, name) for name, p in zip("ab", pixels, strict=True))
    module = SRModule(
        _network(0),
        degradation,
        Schedule(steps, 5e-3, STEPS),
        loss=torch.nn.L1Loss(),
        optimizer=torch.optim.Adam,
        seed=0,
        stream="target",
        clean=False,
    )
    loop = Loop(4, 0.9, 5, 0, {"accelerator": "cpu", "devices": world, "precision": "32-true"}, 20)
    patches = PatchDataset(photographs, 8, degradation.margin, seed=0, stream="target")
    trained = fit(module, patches, _images(1), loop=loop, checkpoint=checkpoint)
    return {"state": trained.state, "history": trained.history}


def in_two_processes(function, folder, *arguments):
    """What `function(*arguments)` returns in each of two processes that form a group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = [folder / f"{rank}.pt" for rank in range(2)]
    started = [CONTEXT.Process(target=_run, args=(r, port, files[r], function, arguments)) for r in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0, 0]
    return [torch.load(file, weights_only=True) for file in files]


def _run(rank, port, file, function, arguments):
    shared = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    own = {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {name: str(value) for name, value in (shared | own).items()}
    torch.set_num_threads(1)
    with processes.group(None):
        result = function(*arguments)
    assert not processes.launched()
    torch.save(result, file)


def rank_of_the_first():
    """What every process gets of the first one, and the calls of this process."""
    calls = []
    value = processes.from_first(lambda: calls.append(1) or f"rank {processes.rank()}")
    return {"value": value, "calls": len(calls)}
