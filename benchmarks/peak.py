"""A process that attributes one image of noise and says how much memory that took: called by `memory`."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.attribution import DTYPES
from benchmarks.case import random_case, settings_of
from benchmarks.measuring import seconds
from faig_lab.attribution import Compute, quadrature

STATUS = Path("/proc/self/status")


def main() -> None:
    """Print what `attribute` says of the first argument, as JSON."""
    print(json.dumps(attribute(json.loads(sys.argv[1]))))


def attribute(asked: Mapping[str, Any]) -> dict[str, float]:
    """{"peak": bytes above what was there before, "whole": bytes of the whole process, "seconds"}."""
    settings, size = settings_of(asked["device"], *asked["network"]), (asked["height"], asked["width"])
    compute = Compute(DTYPES[asked["precision"]], memory=asked["memory"])
    loaded = random_case(settings, [(16, 16)])  # libraries and their work space are there before it counts
    loaded.integral(quadrature("midpoint", 1), Compute(compute.autocast))
    case, rule = random_case(settings, [size]), quadrature("midpoint", asked["points"])
    before = _now(case.device)
    taken = seconds(lambda: case.integral(rule, compute))
    whole = _highest(case.device)
    return {"peak": whole - before, "whole": whole, "seconds": taken}


def _now(device: torch.device) -> int:
    """Bytes in use; the highest value is counted from here on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return _of_process("VmRSS")


def _highest(device: torch.device) -> int:
    """The most bytes that were in use at once."""
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else _of_process("VmHWM")


def _of_process(entry: str) -> int:
    """Of this process alone: what `resource` says would count the one that started it."""
    found = re.search(rf"^{entry}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"), re.M)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
