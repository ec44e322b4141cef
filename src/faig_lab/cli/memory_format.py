"""The memory format of training: as set, or with `training.channels_last=auto` the faster one on this processor.

A training step rounds differently in each format. So the first training of its kind on a kind of processor measures
both formats, the store keeps the choice, and later trainings take the choice without a measurement.
"""

import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from pydantic import BaseModel, TypeAdapter

from faig_lab.cli.build import make_degradation, make_module, network_identity, trainer_arguments
from faig_lab.config import Settings
from faig_lab.files import write_json
from faig_lab.filters import fingerprint
from faig_lab.runs import processes
from faig_lab.training.plan import trains_on_processor

if TYPE_CHECKING:
    from faig_lab.training import SRModule

FILE = "memory_format.json"
"""The file of the choices, in the store."""

MARGIN = 0.05
"""NCHW is chosen if its step takes less than 1 − MARGIN of the time of a step in channels last."""

WORTH_MEASURING = 200
"""Training steps. If baseline and target are trained for fewer steps, nothing is measured."""

_SECONDS, _LEAST, _MOST = 0.8, 3, 50  # time of a measurement; rounds of a step in each format

log = logging.getLogger(__name__)

_chosen: dict[tuple[Path, str], bool] = {}  # the choices of the present run


class Choice(BaseModel, strict=True):
    """A choice, as the file has it: milliseconds of a step in both formats, date, and what the choice depends on."""

    channels_last: bool
    milliseconds_channels_last: float
    milliseconds_nchw: float
    measured: str
    kind: dict[str, Any]

    def __str__(self) -> str:
        """The choice with its measurement, for the log."""
        formats = [("channels last", self.milliseconds_channels_last), ("NCHW", self.milliseconds_nchw)]
        (name, own), (rejected, other) = formats if self.channels_last else reversed(formats)
        threads = self.kind["threads"]
        return f"{name}, {threads} thread{'s' * (threads != 1)} ({own:.1f} ms a step; {rejected} {other:.1f} ms)"


_CHOICES = TypeAdapter(dict[str, Choice])


def with_format(settings: Settings) -> Settings:
    """Return the settings with `training.channels_last` true or false in place of auto.

    With auto, a training on a GPU or of a few steps runs in channels last. In a group of processes all call this
    function, and the first process decides.
    """
    training, trainer = settings.training, trainer_arguments(settings)
    if isinstance(training.channels_last, bool):
        return settings
    steps = max(training.baseline.iterations, training.target.iterations)
    if steps < WORTH_MEASURING or not trains_on_processor(trainer["accelerator"]):
        return _with(settings, True)
    kind = {
        "network": network_identity(settings),
        "batch_size": max(1, training.batch_size // processes.world()),
        "patch_size": training.patch_size,
        "precision": trainer["precision"],
        **processor_kind(),
    }
    file = (Path(settings.store).expanduser() / FILE).absolute()
    key = file, fingerprint(kind)
    if key not in _chosen:
        _chosen[key] = processes.from_first(lambda: remembered(file, kind, partial(compare, settings, kind)))
    return _with(settings, _chosen[key])


def _with(settings: Settings, channels_last: bool) -> Settings:
    training = settings.training.model_copy(update={"channels_last": channels_last})
    return settings.model_copy(update={"training": training})


def forget_choices() -> None:
    """Forget the choices of the last run of this process, so that a new run reads and logs them again."""
    _chosen.clear()


def processor_kind() -> dict[str, Any]:
    """Return what the speed of a step depends on: processor, instructions, threads, version of torch."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    instructions = [torch.backends.cpu.get_cpu_capability(), os.environ.get("ONEDNN_MAX_CPU_ISA", "")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "instructions": " ".join(filter(None, instructions)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def remembered(file: Path, kind: Mapping[str, Any], measure: Callable[[], tuple[float, float]]) -> bool:
    """Return whether trainings of a kind run in channels last: as the file says, or as measured now and kept there.

    Nothing is measured if the file cannot be written, since the next run might choose the other format then. Trainings
    run in channels last in this case, and if the measurement fails.

    Args:
        file: the choices of all kinds. A damaged file is reported and replaced.
        kind: everything that the choice may depend on, as plain data.
        measure: returns the seconds of a training step in channels last and in NCHW.
    """
    key = fingerprint(kind)
    known = _read(file, report=False)  # without the lock, since a read-only store has choices too
    when = ""
    try:
        if key not in known:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{file.name}.lock")):
                known = _read(file, report=True)
                if key not in known:  # another process may have measured in the meantime
                    known[key], when = _choice(kind, *measure()), "now"
                    write_json(file, {name: choice.model_dump() for name, choice in known.items()})
    except OSError as error:
        log.info("memory format: channels last, not measured: %s cannot be written (%s)", file, error.strerror)
        return True
    except (RuntimeError, ValueError, TypeError) as error:  # such as an optimizer whose step takes a closure
        log.info("memory format: channels last, not measured: %s", " ".join(str(error).split())[:200])
        return True
    log.info("memory format: %s, measured %s", known[key], when or f"on {known[key].measured}")
    return known[key].channels_last


def _choice(kind: Mapping[str, Any], channels_last: float, nchw: float) -> Choice:
    """Return the choice from the seconds of a step in both formats."""
    return Choice(
        channels_last=nchw >= (1 - MARGIN) * channels_last,
        milliseconds_channels_last=1000 * channels_last,
        milliseconds_nchw=1000 * nchw,
        measured=date.today().isoformat(),
        kind=dict(kind),
    )


def _read(file: Path, *, report: bool) -> dict[str, Choice]:
    """Read the choices; none if there is no file or a damaged one, which may be reported."""
    try:
        return _CHOICES.validate_json(file.read_bytes())
    except OSError:
        return {}
    except ValueError:
        if report:
            log.warning("%s is damaged; the memory format is measured again", file)
        return {}


def compare(settings: Settings, kind: Mapping[str, Any]) -> tuple[float, float]:
    """Measure the median seconds of a training step in channels last and in NCHW, on random images.

    A step is forward, loss, backward and the optimizer. Data and averaging cost the same in both formats. The state of
    torch's random numbers does not change.

    Args:
        settings: the settings of the training.
        kind: batch_size of this process, patch_size and the resolved precision.
    """
    degradation = make_degradation(settings)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        modules = [make_module(_with(settings, value), "target", degradation, None) for value in (True, False)]
        last, nchw = in_turns([_step(module, kind) for module in modules])
    return last, nchw


def _step(module: "SRModule", kind: Mapping[str, Any]) -> Callable[[], None]:
    """Return a function that takes a training step of the module."""
    bits, _, how = kind["precision"].partition("-")
    dtype = {"16": torch.float16, "bf16": torch.bfloat16, "32": torch.float32, "64": torch.float64}[bits]
    mixed = how == "mixed"
    if not mixed:
        module.to(dtype)
    count, side = kind["batch_size"], kind["patch_size"]
    hr, small = torch.rand(count, 3, side, side), side // module.degradation.scale
    lr = torch.rand(count, 3, small, small)
    optimizer = module.train().configure_optimizers()["optimizer"]

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype if mixed else None, enabled=mixed):
            loss = module.loss(module(lr).float(), hr)
        loss.backward()
        optimizer.step()

    return step


def in_turns(functions: Sequence[Callable[[], None]], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Return the median seconds of each function.

    The functions run in turn, so that load on the machine affects all of them. The first call of each does not count.

    Args:
        functions: the functions to measure.
        clock: returns the time in seconds.
    """
    for function in functions:
        function()
    seconds: list[list[float]] = [[] for _ in functions]
    start = clock()
    while len(seconds[0]) < _LEAST or (len(seconds[0]) < _MOST and clock() - start < _SECONDS):
        for function, own in zip(functions, seconds, strict=True):
            before = clock()
            function()
            own.append(clock() - before)
    return [median(own) for own in seconds]
