"""Part c: training steps a second against a plain loop, and what bfloat16 does to the quality.

Both train the full network on the same photographs with the same batch and patch, in turns; data loading and
degradation are part of a step. Ours is the study's own training with everything that happens in every step. The plain
loop degrades whole photographs, so it is measured on two sizes of them: those of the study, and DIV2K's.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from benchmarks import plain
from benchmarks.case import data_of, settings_of
from benchmarks.measuring import Table, cores, settle
from benchmarks.plan import Plan
from faig_lab.cli.build import make_degradation, make_loop, make_module, make_network, trainer_arguments
from faig_lab.config import Settings
from faig_lab.data import PatchDataset, StudyData
from faig_lab.training import Trained, fit

Way = tuple[str, str]
"""What is timed, and its precision."""

Run = Callable[[], list[float]]
"""When each of its steps ended."""

WARM_UP = 3
COLUMNS = ("what", "photographs", "precision", "seconds_per_step", "steps_per_second", "times_as_fast")
QUALITY_COLUMNS = ("precision", "steps", "input", "psnr", "difference_to_float32")


class Clock(pl.Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *arguments: object, **more: object) -> None:
        settle()
        self.ends.append(time.perf_counter())


def measure(plan: Plan, device: str, folder: Path) -> None:
    """Write training.csv and quality.csv."""
    speed(plan, device, Table(folder / "training.csv", COLUMNS))
    quality(plan, device, Table(folder / "quality.csv", QUALITY_COLUMNS))


def speed(plan: Plan, device: str, table: Table) -> None:
    """Median seconds of a step of each, in turns; the ratio is to the faster plain loop."""
    sizes = (f"training.batch_size={plan.batch}", f"training.patch_size={plan.patch}")
    mixed = settings_of(device, *plan.network, *sizes)
    single = settings_of(device, *plan.network, *sizes, "trainer.precision=32-true")
    counts = sorted({0, min(2, cores())}) if importlib.util.find_spec("cv2") else []
    if not counts:
        print("  OpenCV is missing, so there is no plain loop to compare with: pip install opencv-python-headless")
    for photographs, data in _photographs(data_of(mixed), plan).items():
        runs: dict[Way, Run] = {
            (f"plain loop, {workers or 'no'} worker{'s' * (workers != 1)}", "32-true"): partial(
                _plain, mixed, data, plan, workers, device
            )
            for workers in counts
        }
        runs["ours, float32", "32-true"] = partial(_ours, single, data, plan)
        runs["ours", trainer_arguments(mixed)["precision"]] = partial(_ours, mixed, data, plan)
        taken: dict[Way, list[float]] = {way: [] for way in runs}
        for _ in range(plan.turns):
            for way, run in runs.items():
                taken[way] += np.diff(run()[WARM_UP - 1 :]).tolist()
        medians = {way: statistics.median(values) for way, values in taken.items()}
        fastest = min((value for (name, _), value in medians.items() if name.startswith("plain")), default=None)
        for (name, precision), value in medians.items():
            table.add(
                what=name,
                photographs=photographs,
                precision=precision,
                seconds_per_step=value,
                steps_per_second=1 / value,
                times_as_fast=fastest / value if fastest else None,
            )


def _photographs(data: StudyData, plan: Plan) -> dict[str, StudyData]:
    """The study's photographs, and the same ones repeated to a larger size."""
    height, width = plan.large_photograph
    large = []
    for photograph in data.train:
        rows, columns = photograph.pixels.shape[:2]
        tiled = np.tile(photograph.pixels, (-(-height // rows), -(-width // columns), 1))
        large.append(replace(photograph, pixels=np.ascontiguousarray(tiled[:height, :width])))
    sides = [max(p.pixels.shape[:2]) for p in data.train]
    return {f"{min(sides)} to {max(sides)} px": data, f"{width}×{height} px": replace(data, train=tuple(large))}


def _plain(settings: Settings, data: StudyData, plan: Plan, workers: int, device: str) -> list[float]:
    pixels = [photograph.pixels for photograph in data.train]
    images = plain.WholeImages(pixels, plan.patch, plan.batch * (plan.steps + WARM_UP))
    return plain.train(make_network(settings).to(device), images, plan.batch, workers)


def _ours(settings: Settings, data: StudyData, plan: Plan) -> list[float]:
    clock = Clock()
    train(settings, data, plan.steps + WARM_UP, clock)
    return clock.ends


def train(settings: Settings, data: StudyData, steps: int, clock: pl.Callback | None = None) -> Trained:
    """A target's training of so many steps; validated at its end, but for a training that is timed."""
    degradation = make_degradation(settings)
    phase = settings.training.target.model_copy(update={"iterations": steps, "restart_every": steps})
    training = settings.training.model_copy(update={"target": phase, "validate_every": steps})
    trainer = settings.trainer.model_copy(update={} if clock is None else {"limit_val_batches": 0})
    settings = settings.model_copy(update={"training": training, "trainer": trainer})
    patches = PatchDataset(data.train, training.patch_size, degradation.margin, seed=settings.seed, stream="target")
    module = make_module(settings, "target", degradation, None)
    validation = data.probe if clock is None else ()
    callbacks = [clock] if clock is not None else []
    return fit(module, patches, validation, loop=make_loop(settings, data.train), callbacks=callbacks)


def quality(plan: Plan, device: str, table: Table) -> None:
    """PSNR after equal steps on the same samples, in float32 and in the precision that training takes."""
    sizes = (f"training.batch_size={plan.batch}", f"training.patch_size={plan.patch}")
    reference: dict[str, float] = {}
    for precision in ("32-true", "bf16-mixed"):
        settings = settings_of(device, *plan.small, *sizes, f"trainer.precision={precision}")
        last = train(settings, data_of(settings), plan.quality_steps).history[-1]
        found = {key.removeprefix("psnr/"): float(value) for key, value in last.items() if key.startswith("psnr/")}
        reference = reference or found
        for name, value in found.items():
            table.add(
                precision=precision,
                steps=plan.quality_steps,
                input=name,
                psnr=f"{value:.3f}",
                difference_to_float32=f"{value - reference[name]:+.3f}",
            )
