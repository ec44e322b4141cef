"""The networks of a run: loaded from the store, or trained and published there, and the memory format of a training.

A training step rounds differently in each memory format. With `training.channels_last=auto` the first training of its
kind on a kind of processor measures both formats, the store keeps the choice, and later trainings take the choice
without a measurement.
"""

import logging
import os
import platform
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from pydantic import BaseModel, TypeAdapter
from torch import Tensor

from faig_lab.attribution import Attribution
from faig_lab.cli.build import (
    determinants,
    make_degradation,
    make_loop,
    make_module,
    make_network,
    make_turns,
    network_identity,
    snapshots,
    trainer_arguments,
    training_keys,
)
from faig_lab.cli.provenance import describe_weights
from faig_lab.config import Settings
from faig_lab.config.messages import with_keys
from faig_lab.data import Degradation, PatchDataset, StudyData
from faig_lab.files import write_json
from faig_lab.filters import State, fingerprint
from faig_lab.runs import processes
from faig_lab.runs.store import entries_of_other_versions, open_entry
from faig_lab.studies.context import NetworkTrainer, Node, Pair
from faig_lab.training import Chosen, Retraining, Row, Trained, one_fall
from faig_lab.training.plan import trains_on_processor

if TYPE_CHECKING:
    from faig_lab.training import SRModule

FILE = "memory_format.json"
"""The file of the choices of a memory format, in the store."""

MARGIN = 0.05
"""NCHW is chosen if its step takes less than 1 − MARGIN of the time of a step in channels last."""

WORTH_MEASURING = 200
"""Training steps of baseline and target. Fewer steps take less time than a measurement of a step."""

_SECONDS, _LEAST, _MOST = 0.8, 3, 50  # time of a measurement; rounds of a step in each format

log = logging.getLogger(__name__)

_chosen: dict[tuple[Path, str], bool] = {}  # the choices of the present run


def train_once(
    settings: Settings,
    name: str,
    data: StudyData,
    degradation: Degradation,
    *,
    start: State | None = None,
    then: Callable[[State], Attribution] | None = None,
    on_row: Callable[[Row], None] | None = None,
    label: str | None = None,
) -> Trained:
    """Load a network from the store, or train it.

    Args:
        settings: the settings of the run.
        name: "baseline" or "target".
        data: photographs to train on. The training record is measured on the probe.
        degradation: the degradation of the target's samples.
        start: weights that training starts from; None for fresh weights.
        then: function that is called with the weights at the end of a training.
        on_row: function that is called with every row of the training record, also for a network from the store.
        label: name of the training in the log; `name` if None.
    """
    label = label or name
    needs = determinants(settings, name, data, start)
    entry_name = network_kind(settings, name)
    store = Path(settings.store).expanduser()
    with open_entry(store, entry_name, needs) as entry:
        if entry.exists:
            log.info("%s: already trained, %s", label, entry.folder)
            trained = entry.load(make_network(settings))
            if on_row is not None:
                for row in trained.history:
                    on_row(row)
            return trained
        for folder in entries_of_other_versions(store, entry_name, needs):
            weights = shlex.quote(f"{name}.weights={folder / 'weights.pt'}")
            log.warning(
                "%s: %s is the same network, trained by another version of faig_lab, which may give other numbers. "
                "The network is trained again. To use the stored network: %s",
                label,
                folder,
                weights if label == name else "see The store in docs/run_folder.md",
            )
        # Imported here: Lightning takes over a second to import, and a network from the store does not need it.
        from faig_lab.attribution.callback import AttributionCallback
        from faig_lab.training import fit

        turns = make_turns(settings, start) if name == "target" and start is not None else None
        scoring = AttributionCallback(then) if then is not None else None
        with with_keys(training_keys(name)):
            patches = PatchDataset(
                data.train, settings.training.patch_size, degradation.margin, seed=settings.seed, stream=name
            )
            return fit(
                make_module(with_format(settings), name, degradation, start),
                patches,
                data.probe,
                loop=make_loop(settings, data.train, name),
                publish=lambda trained: entry.publish(
                    trained, describe_weights(settings, name, trained) | {"determinants": needs}
                ),
                callbacks=[callback for callback in (turns, scoring) if callback is not None],
                on_row=on_row,
                name=label,
                checkpoint=entry.partial,
                snapshots=snapshots(settings, name),
            )


def network_kind(settings: Settings, name: str) -> str:
    """Return the name of a network in the store: its class, and "baseline" or "target"."""
    return f"{type(make_network(settings)).__name__}-{name}"


def make_network_trainer(settings: Settings, data: StudyData, degradation: Degradation) -> NetworkTrainer | None:
    """Return the training of other networks, like that of the run; None without photographs to train on."""
    if not data.train:
        return None

    def train(network: Node | None, seed: int) -> Pair:
        other = settings_of_other(settings, network, seed)
        module = make_network(other).eval()
        label = f"{type(module).__name__}, seed {seed}"
        baseline = train_once(other, "baseline", data, degradation, label=f"{label}, baseline").state
        target = train_once(other, "target", data, degradation, start=baseline, label=f"{label}, target").state
        return Pair(module, baseline, target)

    def seconds(networks: Sequence[Node | None], steps: int) -> list[float]:
        from faig_lab.training import step_seconds

        def timed(network: Node | None, steps: int) -> "SRModule":
            other = with_format(settings_of_other(settings, network, settings.seed))
            module = make_module(other, "target", degradation, None)
            module.schedule = replace(module.schedule, iterations=steps, restart_every=steps)
            return module

        makers = [partial(timed, network) for network in networks]
        size = settings.training.patch_size
        with with_keys(training_keys("target")):
            patches = PatchDataset(data.train, size, degradation.margin, seed=settings.seed, stream="target")
            return step_seconds(makers, patches, loop=make_loop(settings, data.train), steps=steps)

    def target(
        baseline: State, seed: int, parts: Sequence[str] | None = None, *, iterations: int | None = None
    ) -> State:
        other = settings_of_target(settings_of_other(settings, None, seed), parts, iterations)
        applied = replace(degradation, parts={name: degradation.parts[name] for name in other.degradation.parts})
        label = f"target, seed {seed}" if parts is None else f"target of {'+'.join(parts)}, seed {seed}"
        return train_once(other, "target", data, applied, start=baseline, label=label).state

    return NetworkTrainer(train, seconds, target)


def settings_of_other(settings: Settings, network: Node | None, seed: int) -> Settings:
    """Return the settings with another network and seed, without given weights. Scale and degradations stay."""
    node: dict[str, Any] = dict(network or settings.network) | {"scale": settings.network["scale"]}
    if "degradations" in node:
        node["degradations"] = list(settings.degradation.parts)
    changes = {"network": node, "seed": seed}
    untrained = {name: getattr(settings, name).model_copy(update={"weights": None}) for name in ("baseline", "target")}
    return settings.model_copy(update=changes | untrained)


def settings_of_target(settings: Settings, parts: Sequence[str] | None, iterations: int | None) -> Settings:
    """Return the settings of a target that learns some of the degradations, or for another number of iterations.

    Such a target is not planted, and its training saves no states on the way.

    Args:
        settings: the settings of a run.
        parts: names of degradations; None is all.
        iterations: of the training, with one fall of the learning rate after the target's warm-up or a tenth of the
            steps, whichever is shorter; None is the run's schedule.
    """
    changes: dict[str, Any] = {}
    if parts is not None:
        degradation = settings.degradation
        chosen = {name: degradation.parts[name] for name in parts}
        changes = {
            "degradation": degradation.model_copy(update={"parts": chosen}),
            "target": settings.target.model_copy(update={"planted": None}),
            "attribution": settings.attribution.model_copy(update={"path": "straight"}),
        }
    if iterations is not None:
        own = settings.training.target
        target = own.model_copy(update=one_fall(iterations, own.warmup))
        changes["training"] = settings.training.model_copy(update={"target": target})
    return settings.model_copy(update=changes)


def make_retraining(settings: Settings, data: StudyData, degradation: Degradation) -> Retraining | None:
    """Return the training of chosen weights, like that of the target; None without photographs to train on."""
    if not data.train:
        return None

    def train(
        start: State, chosen: Chosen, parts: Sequence[str], iterations: int, rate: float = 1.0, *, always: bool = False
    ) -> dict[str, Tensor]:
        from faig_lab.training import fit_chosen, with_all_parts

        applied = replace(degradation, parts={name: degradation.parts[name] for name in parts})
        applied = with_all_parts(applied) if always else applied
        module = make_module(with_format(settings), "target", applied, start)
        own = module.schedule
        steps = one_fall(iterations, own.warmup)
        module.schedule = replace(own, learning_rate=rate * own.learning_rate, **steps)
        with with_keys(training_keys("target")):
            size, seed = settings.training.patch_size, settings.seed
            patches = PatchDataset(data.train, size, applied.margin, seed=seed, stream="target")
            return fit_chosen(module, chosen, patches, loop=make_loop(settings, data.train)).state

    return Retraining(train, lambda seed: make_network(settings.model_copy(update={"seed": seed})).state_dict())


class Choice(BaseModel, strict=True):
    """A choice, as the file has it: milliseconds of a step in both formats, date, and what the choice depends on."""

    channels_last: bool
    milliseconds_channels_last: float
    milliseconds_nchw: float
    measured: str
    kind: dict[str, Any]

    def __str__(self) -> str:
        """Return the choice with its measurement, for the log."""
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
                    last, nchw = measure()
                    known[key], when = (
                        Choice(
                            channels_last=nchw >= (1 - MARGIN) * last,
                            milliseconds_channels_last=1000 * last,
                            milliseconds_nchw=1000 * nchw,
                            measured=date.today().isoformat(),
                            kind=dict(kind),
                        ),
                        "now",
                    )
                    write_json(file, {name: choice.model_dump() for name, choice in known.items()})
    except OSError as error:
        log.info("memory format: channels last, not measured: %s cannot be written (%s)", file, error.strerror)
        return True
    except (RuntimeError, ValueError, TypeError) as error:  # such as an optimizer whose step takes a closure
        log.info("memory format: channels last, not measured: %s", " ".join(str(error).split())[:200])
        return True
    log.info("memory format: %s, measured %s", known[key], when or f"on {known[key].measured}")
    return known[key].channels_last


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
