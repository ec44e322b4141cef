"""One of the processes that share an attribution: called by `growth`."""

import json
import sys

import torch

from benchmarks.case import random_case, settings_of
from benchmarks.measuring import in_turns
from faig_lab.attribution import Compute, Shard, quadrature
from faig_lab.cli.build import gpu_of
from faig_lab.config import Settings
from faig_lab.runs import processes

IMAGES, POINTS = 4, 4


def main() -> None:
    """Print what `share` says of the first argument."""
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    settings = settings_of(asked["device"], *asked["network"])
    with processes.group(gpu_of(settings, processes.local_rank())):
        print(share(settings, asked["side"], asked["repeats"]))


def share(settings: Settings, side: int, repeats: int) -> float:
    """Median seconds that this process needs for its share of the images, and for the others' sums."""
    case = random_case(settings, [(side, side)] * IMAGES)
    shard, rule = Shard.of_group(), quadrature("midpoint", POINTS)

    def run() -> None:
        case.integral(rule, Compute(), shard)

    return in_turns({"share": run}, repeats)["share"]


if __name__ == "__main__":
    main()
