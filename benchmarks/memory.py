"""Part d: peak memory of an attribution against the image's size and the number of points, and in tiles.

Each row is a process of its own (`benchmarks.peak`), whose memory before the attribution is subtracted.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

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
            height=asked["height"],
            width=asked["width"],
            points=asked["points"],
            precision=asked["precision"],
            memory_setting=asked["memory"],
            peak_gb=found["peak"] / 2**30,
            whole_process_gb=found["whole"] / 2**30,
            seconds=found["seconds"],
            to_first=found["peak"] / first if first else None,
        )


def peak_of(asked: Mapping[str, object]) -> dict[str, float]:
    """What `benchmarks.peak` says, in a process of its own."""
    found: dict[str, float] = json.loads(output_of(child("peak", json.dumps(asked))))
    return found


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
