"""Part f: what the knobs of attribution bring, each against the plain way, in turns.

Memory format and precision, several points at once, and a compiled network; on the small and on the full network.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch

from benchmarks.case import Case, random_case, settings_of
from benchmarks.measuring import Table, in_turns, seconds
from benchmarks.plan import Plan
from faig_lab.attribution import Compute, LossPath, quadrature

COLUMNS = ("what", "image", "knob", "seconds", "times_as_fast", "first_seconds")
TOGETHER = 8


def measure(plan: Plan, device: str, folder: Path) -> None:
    """Write knobs.csv; `first_seconds` is the first pass, with what is compiled or chosen in it."""
    table = Table(folder / "knobs.csv", COLUMNS)
    for name, network in (("small network", plan.small), ("full network", plan.network)):
        for side in plan.knob_images:
            case = random_case(settings_of(device, *network), [(side, side)])
            _formats(table, f"{name}, memory format and precision", case, side, plan)
            _compiled(table, f"{name}, torch.compile", case, side, plan)
    for side in (*plan.knob_images, plan.knob_tiny_image):
        case = random_case(settings_of(device, *plan.small), [(side, side)])
        ways = {f"{n} points at once": Compute(points_per_batch=n) for n in (1, TOGETHER)}
        runs = {knob: _evaluations(case, compute, TOGETHER) for knob, compute in ways.items()}
        _rows(table, f"small network, {TOGETHER} points of a path", side, runs, plan)


def _formats(table: Table, what: str, case: Case, side: int, plan: Plan) -> None:
    """Memory formats in both precisions."""
    layouts = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
    runs = {
        f"{layout}, {precision}": _evaluations(case, Compute(dtype), 1, layouts[layout])
        for precision, dtype in (("float32", None), ("bfloat16", torch.bfloat16))
        for layout in layouts
    }
    _rows(table, what, side, runs, plan)


def _compiled(table: Table, what: str, case: Case, side: int, plan: Plan) -> None:
    """The network as it is and compiled."""
    for precision, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        ways = {f"{precision}, as it is": Compute(dtype), f"{precision}, compiled": Compute(dtype, compile="default")}
        _rows(table, what, side, {knob: _evaluations(case, compute, 1) for knob, compute in ways.items()}, plan)


def _evaluations(
    case: Case, compute: Compute, points: int, layout: torch.memory_format | None = None
) -> Callable[[], object]:
    """So many gradient evaluations on the first input of the first image."""
    arguments = case.network, case.baseline, case.target, *case.first_input(), compute
    if layout is None:
        path = LossPath(*arguments)
    else:
        with patch("faig_lab.attribution.path.memory_format", lambda *_: layout):
            path = LossPath(*arguments)
    return lambda: list(path.gradients(quadrature("midpoint", points).points.tolist()))


def _rows(table: Table, what: str, side: int, runs: dict[str, Callable[[], object]], plan: Plan) -> None:
    """One row for each; the ratio is to the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, while it imports its compiler
        first = {knob: seconds(run) for knob, run in runs.items()}
    times = in_turns(runs, plan.knob_repeats)
    plain = next(iter(times.values()))
    for knob, taken in times.items():
        table.add(
            what=what,
            image=f"{side}×{side}",
            knob=knob,
            seconds=taken,
            times_as_fast=plain / taken,
            first_seconds=first[knob],
        )
