"""Part b: one gradient evaluation, and one training step, against this machine's floor.

The floor is the counted operations over the best rate at which this machine multiplies matrices or convolves in the
same precision, measured in the same turns. Each convolution of the network is also timed on its own, forward and
both ways backward: what they do not account for is everything else.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.attribution import DTYPES
from benchmarks.case import Case, operations, random_case, settings_of
from benchmarks.measuring import Table, in_turns
from benchmarks.plan import Plan
from faig_lab.attribution import Compute, LossPath

Operation = tuple[Callable[[], object], float]
"""What to run, and its floating-point operations."""

COLUMNS = ("what", "image", "precision", "seconds", "floor_seconds", "share_of_floor", "gflops", "best_gflops", "best")
OPERATION_COLUMNS = ("what", "precision", "operation", "seconds", "share", "gflops")
LAYOUT = torch.channels_last


@dataclass(frozen=True)
class Shape:
    """One convolution of a network on one input."""

    channels: int
    filters: int
    kernel: tuple[int, int]
    padding: tuple[int, int]
    batch: int
    height: int
    width: int

    @property
    def kernels(self) -> tuple[int, int, int, int]:
        """Of the weight."""
        return self.filters, self.channels, *self.kernel

    @property
    def work(self) -> float:
        """Operations forward; each way backward has as many."""
        return 2.0 * math.prod(self.kernels) * self.batch * self.height * self.width


@dataclass(frozen=True)
class Subject:
    """What is held against the floor.

    Attributes:
        what: for the table.
        image: its size, for the table.
        precision: a key of DTYPES.
        run: computes it once.
        convolutions: how often it does each.
    """

    what: str
    image: str
    precision: str
    run: Callable[[], object]
    convolutions: Mapping[Shape, int]


def measure(plan: Plan, device: str, folder: Path) -> None:
    """Write floor.csv, and operations.csv, which says where the time goes."""
    table, parts = Table(folder / "floor.csv", COLUMNS), Table(folder / "operations.csv", OPERATION_COLUMNS)
    sides = {"full network": plan.floor_image, "small network": max(plan.floor_image // 2, 1)}
    networks = {"full network": plan.network, "small network": plan.small}
    for name, side in sides.items():
        case = random_case(settings_of(device, *networks[name]), [(side, side)])
        for precision in DTYPES:
            _against_floor(table, parts, _evaluation(name, case, precision), plan, case.device)
    for name, network in networks.items():
        case = random_case(settings_of(device, *network), [(8, 8)])
        for precision in DTYPES:
            _against_floor(table, parts, _training_step(name, case, precision, plan), plan, case.device)


def _evaluation(name: str, case: Case, precision: str) -> Subject:
    """One gradient evaluation of an attribution."""
    lr, hr = case.first_input()
    path = LossPath(case.network, case.baseline, case.target, lr, hr, Compute(DTYPES[precision]))
    size = f"{lr.shape[-2]}×{lr.shape[-1]}"
    evaluate = lambda: list(path.gradients([0.5]))  # noqa: E731
    return Subject(f"{name}, gradient evaluation", size, precision, evaluate, shapes(case.network, lr))


def _training_step(name: str, case: Case, precision: str, plan: Plan) -> Subject:
    """Forward, backward and the optimizer's step; no data, no Lightning (part c has those)."""
    network = case.build().to(case.device).to(memory_format=LAYOUT)  # type: ignore[call-overload]  # no overload for a format alone
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    side, dtype = plan.patch // 2, DTYPES[precision]
    lr = torch.rand(plan.batch, 3, side, side, device=case.device).contiguous(memory_format=LAYOUT)
    hr = torch.rand(plan.batch, 3, plan.patch, plan.patch, device=case.device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(case.device.type, dtype, enabled=dtype is not None):
            output = network(lr)
        nn.functional.l1_loss(output.float(), hr).backward()
        optimizer.step()

    size = f"{plan.batch} of {side}×{side}"
    return Subject(f"{name}, bare training step", size, precision, step, shapes(network, lr))


def _against_floor(table: Table, parts: Table, subject: Subject, plan: Plan, device: torch.device) -> None:
    """Time the subject, the machine's rates and the single convolutions in turns."""
    dtype = DTYPES[subject.precision] or torch.float32
    rates = _rates(plan, dtype, device)
    single = {
        (way, shape): one for shape in subject.convolutions for way, one in _three_ways(shape, dtype, device).items()
    }
    work = operations(subject.run)
    timed: dict[Hashable, Callable[[], object]] = {"ours": subject.run}
    timed |= {name: run for name, (run, _) in rates.items()} | {key: run for key, (run, _) in single.items()}
    times = in_turns(timed, plan.floor_repeats, warm_up=2)
    speeds = {name: count / times[name] for name, (_, count) in rates.items()}
    best = max(speeds, key=lambda name: speeds[name])
    taken, floor = times["ours"], work / speeds[best]
    table.add(
        what=subject.what,
        image=subject.image,
        precision=subject.precision,
        seconds=taken,
        floor_seconds=floor,
        share_of_floor=floor / taken,
        gflops=work / taken / 1e9,
        best_gflops=speeds[best] / 1e9,
        best=best,
    )
    rest = taken
    row = {"what": f"{subject.what}, {subject.image}", "precision": subject.precision}
    for way in WAYS:
        own = {shape: count for shape, count in subject.convolutions.items() if (way, shape) in single}
        spent = sum(count * times[way, shape] for shape, count in own.items())
        done = sum(count * shape.work for shape, count in own.items())
        rest -= spent
        parts.add(
            **row, operation=way, seconds=spent, share=spent / taken, gflops=done / spent / 1e9 if spent else None
        )
    parts.add(**row, operation="everything else", seconds=rest, share=rest / taken)


WAYS = ("forward", "backward to the data", "backward to the weights")


def _three_ways(shape: Shape, dtype: torch.dtype, device: torch.device) -> dict[str, Operation]:
    """A convolution forward and both ways backward; the first one of a network needs no gradient of its data."""

    def make(*size: int) -> Tensor:
        values = torch.rand(size, device=device).to(dtype)
        return values.contiguous(memory_format=LAYOUT) if len(size) == 4 else values

    data, weight = make(shape.batch, shape.channels, shape.height, shape.width), make(*shape.kernels)
    back, bias = make(shape.batch, shape.filters, shape.height, shape.width), make(shape.filters)

    def backward(*wanted: bool) -> object:
        fixed = ([1, 1], list(shape.padding), [1, 1], False, [0, 0], 1)
        return torch.ops.aten.convolution_backward(back, data, weight, [shape.filters], *fixed, list(wanted))

    ways: dict[str, Operation] = {
        "forward": (lambda: nn.functional.conv2d(data, weight, bias, padding=shape.padding), shape.work),
        "backward to the weights": (lambda: backward(False, True, True), shape.work),
    }
    if shape.channels > 3:
        ways["backward to the data"] = (lambda: backward(True, False, False), shape.work)
    return ways


def shapes(network: nn.Module, lr: Tensor) -> Counter[Shape]:
    """How often a network does each convolution on this input."""
    found: Counter[Shape] = Counter()

    def note(layer: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        batch, _, height, width = output.shape
        kernel, padding = (layer.kernel_size[0], layer.kernel_size[1]), (int(layer.padding[0]), int(layer.padding[1]))
        found[Shape(layer.in_channels, layer.out_channels, kernel, padding, batch, height, width)] += 1

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(lr)
    for hook in hooks:
        hook.remove()
    return found


def _rates(plan: Plan, dtype: torch.dtype, device: torch.device) -> dict[str, Operation]:
    """Operations whose rate bounds a network's: a matrix product, and convolutions of one and of four images."""
    side = plan.product * (4 if device.type == "cuda" else 1)  # large enough to fill it
    channels, pixels = 64, plan.floor_image
    matrix = torch.rand(side, side, device=device).to(dtype)
    rates: dict[str, Operation] = {"matrix product": (lambda: matrix @ matrix, 2.0 * side**3)}
    for batch in (1, 4):
        shape = Shape(channels, channels, (3, 3), (1, 1), batch, pixels, pixels)
        rates[f"convolution of {batch}"] = _three_ways(shape, dtype, device)["forward"]
    return rates
