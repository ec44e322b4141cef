"""What attribution asks of the machine: memory and a compiler, looked for before anything is trained."""

import logging
import os
from shutil import which

from faig_lab.build import PRECISIONS, compute_device, make_compute, make_network
from faig_lab.config import Settings
from faig_lab.data import StudyData
from faig_lab.errors import UserError
from faig_lab.networks import first_floating

log = logging.getLogger(__name__)


def check_compiler(settings: Settings) -> None:
    """Look for what `torch.compile` calls, if the settings ask for it.

    Raises:
        UserError: there is no C++ compiler, and the networks run on the processor.
    """
    compiler = os.environ.get("CXX", "g++")
    if settings.attribution.compile and compute_device(settings).type == "cpu" and which(compiler) is None:
        raise UserError(
            f"attribution.compile: torch.compile needs a C++ compiler, and there is no {compiler} here; "
            "install one, name another by the environment variable CXX, or attribution.compile=null"
        )


def check_memory(settings: Settings, data: StudyData) -> None:
    """Find out before any work what probe images are cut into, and say it.

    Raises:
        UserError: an image needs more than `attribution.memory` and cannot be cut that small.
    """
    network, compute = make_network(settings).eval(), make_compute(settings)
    state = network.to(PRECISIONS[settings.attribution.precision][0]).state_dict()
    for image in {image.hr.shape: image for image in data.probe}.values():
        lr = next(iter(image.lr.values()))[None].to(first_floating(state.values()))
        tiles = compute.tiles(network, state, lr, image.hr.shape[-1] // lr.shape[-1])
        if len(tiles) > 1:
            size = "×".join(str(side) for side in image.hr.shape[-2:])
            log.info("attribution: %d tiles for each probe image of %s HR pixels", len(tiles), size)
