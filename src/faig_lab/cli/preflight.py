"""Before any work: checks of compiler, memory, image sizes, weights and planted sets; the plan of the run and its time.

The time is approximate, from a few measured steps.
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from statistics import mean, median

import torch
import yaml
from torch import Tensor, nn

from faig_lab.attribution import Adaptive, Problem, count_of
from faig_lab.attribution.compute import PRECISIONS
from faig_lab.cli.build import (
    compute_device,
    determinants,
    make_compute,
    make_layout,
    make_methods,
    make_network,
    make_planted_sets,
    make_problem,
    make_rule,
)
from faig_lab.cli.trained import WORTH_MEASURING, make_network_trainer, network_kind
from faig_lab.config import Settings
from faig_lab.config.messages import ATTRIBUTION, with_keys
from faig_lab.data import Degradation, PairedImage, StudyData
from faig_lab.errors import UserError
from faig_lab.files import weights_file, write_json
from faig_lab.filters import evaluate, first_floating
from faig_lab.filters.trial import try_gradient, try_output
from faig_lab.metrics import SSIM_WINDOW, batches
from faig_lab.plotting.words import duration, listed
from faig_lab.runs.store import Entry, place
from faig_lab.training import Trained
from faig_lab.training.plan import cpu_has_bfloat16

REPORT_SECONDS = 8.0
"""Approximate seconds of figures and page, for all networks."""

_TRIED = 128
"""LR side of the part of a probe image that networks and given weights are tried on."""

_STEPS, _ROUNDS = 4, 3  # of a measurement
_SIDE = 96  # LR pixels of the part of an image that is measured. It takes little memory, and pixels count for the rest.

log = logging.getLogger(__name__)


def check_compiler(settings: Settings) -> None:
    """Check that `torch.compile` has a compiler, if the settings use `torch.compile`.

    Raises:
        UserError: the networks run on the CPU, and there is no C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if settings.attribution.compile and compute_device(settings).type == "cpu" and which(compiler) is None:
        raise UserError(
            f"attribution.compile: torch.compile needs a C++ compiler, and there is no {compiler} here; "
            "install one, name another by the environment variable CXX, or attribution.compile=null"
        )


def check_precision(settings: Settings) -> None:
    """Warn of bfloat16 on a processor that does not have it: it is emulated there, and far slower than float32."""
    if compute_device(settings).type != "cpu" or cpu_has_bfloat16():
        return
    asked = {
        "attribution.precision": settings.attribution.precision == "bfloat16",
        "analysis.precision": settings.analysis.precision == "bfloat16",
        "trainer.precision": settings.trainer.precision.startswith("bf16"),
    }
    for key in (key for key, wanted in asked.items() if wanted):
        log.warning(
            "%s: this processor has no bfloat16 and emulates it, which takes many times as long as float32; use %s",
            key,
            "auto" if key == "trainer.precision" else "float32",
        )


def check_network(settings: Settings, data: StudyData) -> None:
    """Restore a part of a probe image once, and compute a gradient.

    Raises:
        UserError: the network fails, does not return RGB images of `network.scale` times the size, or cannot be
            differentiated.
    """
    network = make_network(settings).eval()
    state, image = network.state_dict(), data.probe[0]
    lr = next(iter(image.lr.values()))[None, :, :_TRIED, :_TRIED].to(first_floating(state.values()))
    output = try_output(network, state, lr)
    height, width = (image.scale * side for side in lr.shape[-2:])
    if tuple(output.shape[-2:]) != (height, width):
        raise UserError(
            f"network: {type(network).__name__} makes {output.shape[-2]}×{output.shape[-1]} pixels of "
            f"{lr.shape[-2]}×{lr.shape[-1]}, but the images have {height}×{width} at scale {image.scale}"
        )
    try_gradient(network, state, lr)


def check_sizes(data: StudyData) -> None:
    """Refuse images that are too small for SSIM.

    Raises:
        UserError: names the first image.
    """
    # A training validates on the probe.
    for role, images in (("held-out", data.held_out), ("probe", data.probe if data.train else ())):
        for image in images:
            height, width = image.hr.shape[-2:]
            least = SSIM_WINDOW + 2 * image.scale
            if min(height, width) < least:
                raise UserError(
                    f"data: the {role} image {image.name} has {width}×{height} HR pixels; SSIM needs at least "
                    f"{least}×{least} at scale {image.scale}"
                )


@with_keys(ATTRIBUTION)
def check_memory(settings: Settings, data: StudyData) -> None:
    """Find the tiles of the probe images before any work, and log their number.

    Raises:
        UserError: an image needs more than `attribution.memory` and cannot be cut into small enough tiles.
    """
    network, compute = make_network(settings).eval(), make_compute(settings)
    state = network.to(PRECISIONS[settings.attribution.precision][0]).state_dict()
    for image in {image.hr.shape: image for image in data.probe}.values():
        lr = next(iter(image.lr.values()))[None].to(first_floating(state.values()))
        tiles = compute.tiles(network, state, lr, image.hr.shape[-1] // lr.shape[-1])
        if len(tiles) > 1:
            size = "×".join(str(side) for side in image.hr.shape[-2:])
            log.info("attribution: %d tiles for each probe image of %s HR pixels", len(tiles), size)


@torch.no_grad()
def check_restores(network: nn.Module, state: dict[str, Tensor], image: PairedImage, weights: str) -> None:
    """Restore a part of an image once, since finite weights can still give an output that is not finite.

    Args:
        network: the network. Its own weights are replaced.
        state: the weights.
        image: a probe image.
        weights: setting and file of the weights, for the message.

    Raises:
        UserError: the output is not finite.
    """
    network.eval().load_state_dict(state)
    parameter = first_floating(network.state_dict().values())
    for name, lr in image.lr.items():
        output = network(lr[None, :, :_TRIED, :_TRIED].to(parameter))
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            largest = max(float(value.abs().max()) for value in state.values() if value.is_floating_point())
            raise UserError(
                f"{weights}: the network's output on the {name} input of {image.name} is not finite; the largest "
                f"weight is {largest:.3g}"
            )


def save_planted(settings: Settings, folder: Path) -> None:
    """Write planted.json for a planted target: degradation → flat indices of its true filters."""
    sets = make_planted_sets(settings)
    if sets is not None:
        write_json(folder / "planted.json", {name: filters.tolist() for name, filters in sets.items()})


def check_planted(settings: Settings) -> None:
    """Refuse given target weights that were not planted with these settings and this seed.

    Raises:
        UserError: the description beside the weights file is missing or different.
    """
    weights, planted = settings.target.weights, settings.target.model_dump()["planted"]
    if weights is None or planted is None:
        return
    beside = weights_file(weights).with_suffix(".yaml")
    try:
        described = yaml.safe_load(beside.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        described = None
    known = described if isinstance(described, dict) else {}
    if (known.get("planted"), known.get("seed")) != (planted, settings.seed):
        raise UserError(
            f"target.planted: {beside} does not record these settings of planted weights with seed {settings.seed}; "
            "leave target.weights out to train them, or target.planted=null"
        )


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
        """Return the sum over all parts."""
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
    if sum(steps.values()) >= WORTH_MEASURING:
        seconds = _step(settings, data, degradation)
        for name, count in steps.items():
            parts[f"{name}: {count} steps of {1000 * seconds:.0f} ms"] = count * seconds
    state = make_network(settings).state_dict()
    problem = make_problem(settings, data, state, state)
    rule = make_rule(settings)  # an adaptive rule seldom needs its whole budget
    points = max(5, rule.budget // 2) if isinstance(rule, Adaptive) else len(rule.points)
    gradients = len(data.probe) * len(data.degradations) * points
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


def _step(settings: Settings, data: StudyData, degradation: Degradation) -> float:
    """Measure the seconds of a training step."""
    trainer = make_network_trainer(settings, data, degradation)
    assert trainer is not None  # there are photographs to train on
    return trainer.step_seconds([None], _STEPS)[0]


def _gradient(problem: Problem) -> float:
    """Measure the seconds of a gradient evaluation of the loss of a probe image, forward and backward."""
    image = problem.probe[0]
    lr = image.lr[problem.degradations[0]][None, :, :_SIDE, :_SIDE].to(first_floating(problem.baseline.values()))
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
    lr = images[0][None, :, :_SIDE, :_SIDE].to(first_floating(state.values()))
    if lr.device.type == "cuda":  # one image does not fill a GPU
        shapes = [tuple(image.hr.shape) for image in data.held_out]
        lr = lr.repeat(len(next(batches(shapes, lr.device))), 1, 1, 1)

    def once() -> None:
        with torch.autocast(lr.device.type, autocast, enabled=autocast is not None):
            evaluate(problem.network.float(), state, lr)

    return _seconds(once, lr.device) * sum(image[0].numel() for image in images) / lr[:, 0].numel()


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
