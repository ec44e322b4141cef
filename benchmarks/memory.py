"""Part d: peak memory of an attribution against the image's size and the number of points, and in tiles.

Each row is a process of its own (`python -m benchmarks.memory`), whose memory before the attribution is subtracted.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.attribution import DTYPES
from benchmarks.case import Case, random_case, settings_of
from benchmarks.measuring import Table, child, output_of, seconds
from benchmarks.plan import Plan
from faig_lab.attribution import Compute, quadrature

COLUMNS = (
    "what", "height", "width", "points", "precision", "memory_setting",
    "peak_gb", "whole_process_gb", "to_first", "seconds",
)  # fmt: skip
TILE_COLUMNS = (
    "height", "width", "precision", "memory_setting", "tiles", "error",
    "seconds_whole", "seconds_tiled", "tiled_to_whole",
)  # fmt: skip
STATUS = Path("/proc/self/status")


def measure(plan: Plan, device: str, folder: Path) -> None:
    """Write memory.csv and tiles.csv."""
    table = Table(folder / "memory.csv", COLUMNS)
    _series(table, "image", [{"height": side, "width": side} for side in plan.memory_images], plan, device)
    side = plan.memory_images[0]
    points = [{"height": side, "width": side, "points": points} for points in plan.memory_points]
    _series(table, "points", points, plan, device)
    height, width = plan.large_image
    large = {"height": height, "width": width, "memory": plan.large_memory}
    both = [large | {"precision": precision} for precision in ("float32", "bfloat16")]
    _series(table, "large image in tiles", both, plan, device)
    tiles(plan, device, Table(folder / "tiles.csv", TILE_COLUMNS))


def _series(table: Table, what: str, cases: Sequence[Mapping[str, object]], plan: Plan, device: str) -> None:
    """Rows whose ratio is to the first one's peak."""
    first = None
    for case in cases:
        asked = {"network": plan.network, "device": device, "points": 1, "precision": "float32", "memory": None, **case}
        found = peak_of(asked)
        first = first or found["peak"]
        table.add(
            what=what,
            memory_setting=asked["memory"],
            peak_gb=found["peak"] / 2**30,
            whole_process_gb=found["whole"] / 2**30,
            seconds=found["seconds"],
            to_first=found["peak"] / first if first else None,
            **{name: asked[name] for name in ("height", "width", "points", "precision")},
        )


def peak_of(asked: Mapping[str, object]) -> dict[str, float]:
    """What `attribute` finds in a process of its own."""
    found: dict[str, float] = json.loads(output_of(child("memory", json.dumps(asked))))
    return found


def attribute(asked: Mapping[str, Any]) -> dict[str, float]:
    """Attribute one image of noise.

    Returns:
        {"peak": bytes above those before the attribution, "whole": bytes of the whole process, "seconds"}.
    """
    settings, size = settings_of(asked["device"], *asked["network"]), (asked["height"], asked["width"])
    compute = Compute(DTYPES[asked["precision"]], memory=asked["memory"])
    loaded = random_case(settings, [(16, 16)])  # libraries and their work space are there before it counts
    loaded.integral(quadrature("midpoint", 1), Compute(compute.autocast))
    case, rule = random_case(settings, [size]), quadrature("midpoint", asked["points"])
    on_gpu = case.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else _of_process("VmRSS")
    taken = seconds(lambda: case.integral(rule, compute))
    whole = torch.cuda.max_memory_allocated() if on_gpu else _of_process("VmHWM")
    return {"peak": whole - before, "whole": whole, "seconds": taken}


def _of_process(entry: str) -> int:
    """Bytes of this process alone: the numbers of `resource` would include the process that started it."""
    found = re.search(rf"^{entry}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"), re.M)
    assert found is not None
    return int(found[1]) * 1024


def tiles(plan: Plan, device: str, table: Table) -> None:
    """The same image whole and in tiles: how much the sums over each filter differ, and what the overlap costs."""
    side = plan.tiled_image
    case = random_case(settings_of(device, *plan.network), [(side, side)])
    for precision, dtype in DTYPES.items():
        whole, cut = Compute(dtype), Compute(dtype, memory=plan.tiled_memory)
        count = len(cut.tiles(case.network, case.target, torch.zeros(1, 3, side, side, device=case.device), 2))
        times, sums = zip(*(_timed(case, compute) for compute in (whole, cut)), strict=True)
        table.add(
            height=side,
            width=side,
            precision=precision,
            memory_setting=plan.tiled_memory,
            tiles=count,
            error=float((sums[1] - sums[0]).norm() / sums[0].norm()),
            seconds_whole=times[0],
            seconds_tiled=times[1],
            tiled_to_whole=times[1] / times[0],
        )


def _timed(case: Case, compute: Compute) -> tuple[float, torch.Tensor]:
    """Seconds of the second of two times, and the sums over each filter."""
    found: list[torch.Tensor] = []
    run = lambda: found.append(case.integral(quadrature("midpoint", 1), compute).magnitude)  # noqa: E731
    run()
    return seconds(run), found[0]


if __name__ == "__main__":
    print(json.dumps(attribute(json.loads(sys.argv[1]))))
