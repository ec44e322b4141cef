"""Checks before any work: memory, a compiler, image sizes, weights that restore, planted sets."""

import logging
import os
from pathlib import Path
from shutil import which

import torch
import yaml
from torch import Tensor, nn

from faig_lab.attribution.compute import PRECISIONS
from faig_lab.cli.build import compute_device, make_compute, make_network, make_planted_sets
from faig_lab.config import Settings
from faig_lab.config.messages import ATTRIBUTION, with_keys
from faig_lab.data import PairedImage, StudyData
from faig_lab.errors import UserError
from faig_lab.files import weights_file, write_json
from faig_lab.filters import first_floating
from faig_lab.filters.trial import try_gradient, try_output
from faig_lab.metrics import SSIM_WINDOW
from faig_lab.training.plan import cpu_has_bfloat16

_TRIED = 128
"""LR side of the part of a probe image that networks and given weights are tried on."""

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
