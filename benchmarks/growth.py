"""Part e: how time grows with images, points, degradations, pixels, network width and processes.

Ratios are to the first row of each series; the expected ones are those of the counted operations. Processes
(`python -m benchmarks.growth`) share the images, so two of them on half of the cores each are expected to take half the
time of one such process.
"""

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.case import Case, operations, random_case, settings_of
from benchmarks.measuring import Table, child, cores, in_turns, output_of
from benchmarks.plan import Plan
from faig_lab.attribution import Compute, Shard, quadrature
from faig_lab.cli.build import gpu_of
from faig_lab.config import Settings
from faig_lab.runs.processes import group, local_rank

COLUMNS = ("axis", "value", "seconds", "ratio", "expected")
POINTS = 4
SHARED_IMAGES = 4


def measure(plan: Plan, device: str, folder: Path) -> None:
    """Write growth.csv."""
    table = Table(folder / "growth.csv", COLUMNS)
    size = (plan.growth_image, plan.growth_image)
    settings = settings_of(device, *plan.network)
    noise = lambda images=1, degradations=2: random_case(settings, [size] * images, degradations)  # noqa: E731
    _series(table, "images", {n: _run(noise(images=n)) for n in (1, 2, 4)}, plan)
    _series(table, "points", {n: _run(noise(), n) for n in (2, 4, 8, 16)}, plan)
    _series(table, "degradations", {n: _run(noise(degradations=n)) for n in (1, 2, 4)}, plan)
    sides = [plan.growth_image * factor for factor in (1, 2, 4)]
    _series(table, "pixels", {n * n: _run(random_case(settings, [(n, n)])) for n in sides}, plan)
    wide = {
        n: _run(random_case(settings_of(device, *plan.network, f"network.features={n}"), [size]))
        for n in plan.growth_widths
    }
    _series(table, "features", wide, plan)
    processes(table, plan, device)


def _run(case: Case, points: int = POINTS) -> Callable[[], object]:
    rule = quadrature("midpoint", points)
    return lambda: case.integral(rule)


def _series(table: Table, axis: str, runs: dict[int, Callable[[], object]], plan: Plan) -> None:
    work = {value: operations(run) for value, run in runs.items()}
    times = in_turns(runs, plan.growth_repeats)
    first = next(iter(runs))
    for value, spent in times.items():
        table.add(axis=axis, value=value, seconds=spent, ratio=spent / times[first], expected=work[value] / work[first])


def processes(table: Table, plan: Plan, device: str) -> None:
    """One and two processes; on the CPU with half of the cores each, and one with all of them."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        print("  processes: one GPU, nothing to share")
        return
    half = max(1, cores() // 2)
    ways = [(1, half, 1.0), (2, half, 0.5)]
    if device == "cpu" and cores() > half:
        ways.append((1, cores(), half / cores()))
    taken = [slowest(plan, device, count, threads) for count, threads, _ in ways]
    for (count, threads, expected), spent in zip(ways, taken, strict=True):
        value = f"{count} with {threads} thread{'s' * (threads > 1)}"
        table.add(axis="processes", value=value, seconds=spent, ratio=spent / taken[0], expected=expected)


def slowest(plan: Plan, device: str, count: int, threads: int) -> float:
    """Seconds of the slowest of some processes that share the images."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = json.dumps([device, plan.network, threads, plan.growth_image, plan.growth_repeats])
    shared = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0, "MASTER_PORT": port}
    shared |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "benchmarks", "OMP_NUM_THREADS": threads}
    started = []
    for number in range(count):
        own = {name: str(value) for name, value in {**shared, "RANK": number, "LOCAL_RANK": number}.items()}
        started.append(child("growth", asked, environment=own))
    return max(float(output_of(process)) for process in started)


def share(settings: Settings, side: int, repeats: int) -> float:
    """Median seconds that this process needs for its share of the images, and for the others' sums."""
    case = random_case(settings, [(side, side)] * SHARED_IMAGES)
    shard, rule = Shard.of_group(), quadrature("midpoint", POINTS)
    return in_turns({"share": lambda: case.integral(rule, Compute(), shard)}, repeats)["share"]


def one_process(device: str, network: list[str], threads: int, side: int, repeats: int) -> None:
    """Print what `share` takes in this process, one of a group."""
    torch.set_num_threads(threads)
    settings = settings_of(device, *network)
    with group(gpu_of(settings, local_rank())):
        print(share(settings, side, repeats))


if __name__ == "__main__":
    one_process(*json.loads(sys.argv[1]))
