"""The plan of a run and its approximate time, from a few measured steps."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor

from faig_lab.attribution import Adaptive, Problem, count_of
from faig_lab.attribution.compute import PRECISIONS
from faig_lab.cli.build import (
    determinants,
    make_layout,
    make_loop,
    make_methods,
    make_network,
    make_problem,
    make_rule,
)
from faig_lab.cli.trained import network_kind, timed_module
from faig_lab.config import Settings
from faig_lab.data import Degradation, PatchDataset, StudyData
from faig_lab.filters import evaluate, first_floating
from faig_lab.metrics import batches
from faig_lab.plotting.words import duration, listed
from faig_lab.runs.store import Entry, place
from faig_lab.training import Trained

REPORT_SECONDS = 8.0
"""Approximate seconds of figures and page, for all networks."""

_STEPS, _ROUNDS = 4, 3
_SIDE = 96  # LR pixels
_WORTH_MEASURING = 200  # training steps; fewer steps take less time than their measurement

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forecast:
    """The plan of a run.

    Attributes:
        parts: part of the run → expected seconds.
        unknown: studies whose time is not estimated.
    """

    parts: dict[str, float]
    unknown: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """The sum over all parts."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        """One line for the log."""
        parts = ", ".join(f"{part} ({duration(seconds)})" for part, seconds in self.parts.items())
        beside = f", without {listed(self.unknown)}" if self.unknown else ""
        return f"{parts}: about {duration(self.seconds)} in all{beside}"


def forecast(settings: Settings, data: StudyData, degradation: Degradation, given: dict[str, Trained]) -> Forecast:
    """Measure a few training steps, a gradient and a restoration, and count how many of each the run needs.

    Args:
        settings: the settings of the run.
        data: the photographs and images of the run.
        degradation: the way from HR to LR.
        given: the networks with given weights.
    """
    parts: dict[str, float] = {}
    steps = {name: getattr(settings.training, name).iterations for name in to_train(settings, data, given)}
    if sum(steps.values()) >= _WORTH_MEASURING:
        seconds = _step(settings, data, degradation)
        for name, count in steps.items():
            parts[f"{name}: {count} steps of {1000 * seconds:.0f} ms"] = count * seconds
    state = make_network(settings).state_dict()
    problem = make_problem(settings, data, state, state)
    gradients = len(data.probe) * len(data.degradations) * _points(settings)
    parts[f"attribution: {gradients} gradients"] = gradients * _gradient(problem)
    if "masking" in settings.analysis.studies:
        networks = masked_sets(settings, data)
        restored = networks * len([name for name in data.held_out[0].lr if "+" not in name])
        parts[f"masking: {networks} networks"] = restored * _restoration(settings, problem, data)
    parts["report"] = REPORT_SECONDS
    return Forecast(parts, tuple(name for name in settings.analysis.studies if name != "masking"))


def to_train(settings: Settings, data: StudyData, given: dict[str, Trained]) -> list[str]:
    """Return which of "baseline" and "target" have no given weights and are not in the store."""
    store = Path(settings.store).expanduser()

    def entry(name: str, start: Trained | None) -> Entry:
        needs = determinants(settings, name, data, None if start is None else start.state)
        return place(store, network_kind(settings, name), needs)

    baseline = given.get("baseline")
    missing = []
    if baseline is None:
        stored = entry("baseline", None)
        baseline = stored.load(make_network(settings), mark=False) if stored.exists else None
        missing = [] if baseline else ["baseline"]
    if "target" not in given and (baseline is None or not entry("target", baseline).exists):
        missing.append("target")
    return missing


def masked_sets(settings: Settings, data: StudyData) -> int:
    """Return the maximum number of masked networks of the masking study: draws × degradations × percents, summed."""
    units = len(make_layout(settings))
    percents = [percent for percent in settings.analysis.percents if count_of(percent, units)]
    draws = sum(int(settings.attribution.methods[name].get("draws", 1)) for name in make_methods(settings))
    return draws * len(data.degradations) * len(percents)


def _points(settings: Settings) -> int:
    """Return the gradient evaluations per image and degradation. An adaptive rule seldom needs its whole budget."""
    rule = make_rule(settings)
    return max(5, rule.budget // 2) if isinstance(rule, Adaptive) else len(rule.points)


def _step(settings: Settings, data: StudyData, degradation: Degradation) -> float:
    """Measure the seconds of a training step."""
    from faig_lab.training import step_seconds

    size, seed = settings.training.patch_size, settings.seed
    patches = PatchDataset(data.train, size, degradation.margin, seed=seed, stream="target")
    make = partial(timed_module, settings, degradation)
    (seconds,) = step_seconds([make], patches, loop=make_loop(settings, data.train), steps=_STEPS)
    return seconds


def _gradient(problem: Problem) -> float:
    """Measure the seconds of a gradient evaluation of the loss of a probe image, forward and backward."""
    image = problem.probe[0]
    lr = _cut(image.lr[problem.degradations[0]])[None].to(first_floating(problem.baseline.values()))
    leaves = {n: v.detach().requires_grad_(v.is_floating_point()) for n, v in problem.baseline.items()}
    wanted = [value for value in leaves.values() if value.requires_grad]

    def once() -> None:
        loss = problem.compute.output(problem.network, leaves, lr).square().mean()
        torch.autograd.grad(loss, wanted, allow_unused=True)

    with torch.enable_grad():
        seconds = _seconds(once, lr.device)
    return seconds * mean(probe.lr[problem.degradations[0]][0].numel() for probe in problem.probe) / lr[0, 0].numel()


@torch.no_grad()
def _restoration(settings: Settings, problem: Problem, data: StudyData) -> float:
    """Estimate the seconds to restore all held-out images once, from a part of the first image and all pixels."""
    autocast = PRECISIONS[settings.analysis.precision][1]
    state = {n: v.float() if v.is_floating_point() else v for n, v in problem.baseline.items()}
    images = [next(iter(image.lr.values())) for image in data.held_out]
    lr = _cut(images[0])[None].to(first_floating(state.values()))
    if lr.device.type == "cuda":  # one image does not fill a GPU
        shapes = [tuple(image.hr.shape) for image in data.held_out]
        lr = lr.repeat(len(next(batches(shapes, lr.device))), 1, 1, 1)

    def once() -> None:
        with torch.autocast(lr.device.type, autocast, enabled=autocast is not None):
            evaluate(problem.network.float(), state, lr)

    return _seconds(once, lr.device) * sum(image[0].numel() for image in images) / lr[:, 0].numel()


def _cut(image: Tensor) -> Tensor:
    """A part of an image that takes little memory: the rest is counted by its pixels."""
    return image[:, :_SIDE, :_SIDE]


def _seconds(once: Callable[[], None], device: torch.device) -> float:
    """Measure the median seconds of a few calls, after a call that does not count."""
    measured = []
    for _ in range(_ROUNDS + 1):
        start = time.perf_counter()
        once()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        measured.append(time.perf_counter() - start)
    return median(measured[1:])
