"""Part runs: the command line on the device, from training to the report; twice, with workers, killed and gone on.

The runs are tiny: what is looked at is whether they end, and whether the bits are the same.
"""

import contextlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.results import FAILED, OK, Results
from benchmarks.gpu.sizes import Sizes
from benchmarks.measuring import run_of
from faig_lab.__main__ import main

DETERMINISTIC = "+trainer.deterministic=true"
FIRST = "first"
FILES = ("report.html", "metrics.json", "weights/target.pt", "attribution/scores.npz", "tables/masking.csv")


@dataclass(frozen=True)
class Place:
    """Where the runs are, and what is the same for all of them.

    Args:
        folder: of this part.
        device: "cpu" or "cuda".
        data: photographs, or None for the embedded ones.
        sizes: how large.
    """

    folder: Path
    device: str
    data: Path | None
    sizes: Sizes

    def run(self, name: str) -> Path:
        """The folder of a run."""
        return self.folder / name / "run"

    def arguments(self, name: str, *more: str) -> list[str]:
        """Of the command line, for a run with a store of its own, so that it trains.

        The first run is one of the photographs in folders. The others have the embedded ones, which take less time.
        """
        phases = zip(("baseline", "target"), self.sizes.iterations, strict=True)
        return [
            *("experiment=blur_noise", f"trainer={'gpu' if self.device == 'cuda' else 'cpu'}", "logger=none"),
            *(f"analysis=[{'masking,modulation' if name == FIRST else 'masking'}]", "analysis.percents=[1,10]"),
            *("analysis.studies.masking.resamples=20", *self.sizes.run_network),
            *photographs(self.data if name == FIRST else None),
            *("data.probe_crop=64", "data.probe_crops=1", "data.test_crop=64", "data.test_crops=1"),
            *("training.batch_size=4", f"training.checkpoint_every={self.sizes.checkpoint}"),
            f"training.validate_every={2 * self.sizes.iterations[1]}",
            *(f"training.{phase}.{key}={n}" for phase, n in phases for key in ("iterations", "restart_every")),
            *("attribution.points=4", "attribution.methods.random.draws=2"),
            *(f"store={self.folder / name / 'store'}", f"hydra.run.dir={self.run(name)}", *more),
        ]


def photographs(data: Path | None) -> list[str]:
    """Settings of the data: folders, or the embedded photographs."""
    if data is None:
        return ["data=embedded"]
    return ["data=folder", *(f"data.{part}_dir={data / part}" for part in ("train", "probe", "test"))]


def run(place: Place, results: Results) -> None:
    """All runs; those that are compared need the ones before them."""
    steps: dict[str, Callable[[], None]] = {
        "a run, from training to the report": partial(whole, place, results),
        "the same command twice": partial(twice, place, results),
        "a killed training": partial(killed, place, results),
        f"{place.sizes.workers} workers": partial(workers, place, results),
        f"the same command twice, {DETERMINISTIC}": partial(twice_deterministic, place, results),
    }
    for name, step in steps.items():
        results.attempt(name, step)


def whole(place: Place, results: Results) -> None:
    """From training to the report, with default settings of the device."""
    start = time.perf_counter()
    complete(place, FIRST)
    results.add("a run, from training to the report: seconds", time.perf_counter() - start)
    found = json.loads((place.run(FIRST) / "attribution" / "provenance.json").read_text(encoding="utf-8"))
    state = OK if found["device"] == place.device else FAILED
    results.add("it was attributed on", found["device"], place.device, state)
    results.add("it was trained in", found["training_precision"])


def twice(place: Place, results: Results) -> None:
    """The same command with a store of its own: equal bits are not promised where they are not asked for."""
    for name in ("second", "again"):
        complete(place, name)
    results.add("the same command twice", in_words(difference(place.run("second"), place.run("again"))))


def twice_deterministic(place: Place, results: Results) -> None:
    """The same with equal bits asked for."""
    complete(place, "fourth", DETERMINISTIC)
    same_bits(results, f"the same command twice, {DETERMINISTIC}", place, "fourth")


def workers(place: Place, results: Results) -> None:
    """Patches that the processor cuts, in other processes and in none."""
    host = DETERMINISTIC, "training.patches=host"
    complete(place, "host", *host)
    complete(place, "workers", *host, f"training.workers={place.sizes.workers}")
    same_bits(results, f"{place.sizes.workers} workers to none", place, "workers", "host")


def killed(place: Place, results: Results) -> None:
    """A training that is killed after its first checkpoint, and the same command again."""
    complete(place, "third", DETERMINISTIC)
    process = run_of(place.arguments("killed", DETERMINISTIC))
    while process.poll() is None and not any((place.folder / "killed" / "store").glob(".*.partial/training.ckpt")):
        time.sleep(0.002)
    if process.poll() is not None:
        raise RuntimeError(f"the run ended by itself with {process.returncode} before it could be killed")
    process.send_signal(signal.SIGKILL)
    process.wait()
    complete(place, "killed", DETERMINISTIC)
    log = (place.run("killed") / "run.log").read_text(encoding="utf-8")
    lines = [line for line in log.splitlines() if "goes on from the checkpoint" in line]
    said = lines[-1].partition(": ")[2] if lines else "it began again"
    results.add("a killed training", said, "goes on", OK if lines else FAILED)
    same_bits(results, "a killed training to a whole one", place, "killed")


def complete(place: Place, name: str, *more: str) -> None:
    """Run the command line in this process; RuntimeError if it fails or leaves a file out."""
    with (place.folder / f"{name}.txt").open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        code = main(place.arguments(name, *more))
    lacking = [file for file in FILES if not (place.run(name) / file).is_file()]
    if code or lacking:
        raise RuntimeError(f"the run {name} ended with {code}" + (f" and without {lacking}" if lacking else ""))


def same_bits(results: Results, what: str, place: Place, name: str, other: str = "third") -> None:
    """A row: are two deterministic runs the same?"""
    found = difference(place.run(other), place.run(name))
    results.add(what, in_words(found), "the same bits", FAILED if found else OK)


def in_words(found: float) -> str:
    """0 → the same bits."""
    return "the same bits" if found == 0 else f"weights and scores differ by up to {found:.1e} of the largest"


def difference(one: Path, two: Path) -> float:
    """The largest difference of weights and scores of two runs, relative to the largest value of each tensor."""
    pairs = []
    for name in ("baseline", "target"):
        states = [torch.load(run / "weights" / f"{name}.pt", weights_only=True) for run in (one, two)]
        pairs += [(states[0][key].double().numpy(), states[1][key].double().numpy()) for key in states[0]]
    with np.load(one / "attribution" / "scores.npz") as a, np.load(two / "attribution" / "scores.npz") as b:
        pairs += [(a[key], b[key]) for key in a.files]
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in pairs)
