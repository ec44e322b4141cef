"""Part study: experiments/full_size by its own command, with as many iterations as the time allows.

The command is read from the study's run.sh. Weights are copied out as soon as they are there, so that a study that is
cut short leaves networks that everything else can be done with on a processor.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gpu.results import FAILED, OK, Results
from benchmarks.gpu.sizes import Sizes
from benchmarks.measuring import ROOT, run_of

SCRIPT = ROOT / "experiments" / "full_size" / "run.sh"
BASELINE = 0.6
"""Share of the iterations that the baseline gets."""
TRAINING = 0.62
"""Share of the time that is left for training; the rest is for starting, attribution, evaluation and the report."""
KEEP = 10.0
"""Seconds at the end in which what the run has left is kept."""
REST = 85.0
"""Seconds that the rest takes at most."""
CARE = 0.9
"""Of the measured rate: validations and checkpoints are not in it."""
KEYS = re.compile(r"(psnr|completeness_gap|barrier)/|(removed|specificity|isolation|clean_change)/[^/]+/1(/|$)")
"""Metrics that the table shows: of the masked networks those at 1 %; full_size.zip has all."""
LARGEST = 15 * 2**20
"""Bytes of a file that comes back from a machine that is lent."""


@dataclass(frozen=True)
class Study:
    """Where the study runs.

    Args:
        folder: for the run and its store.
        out: for what is kept.
        device: "cpu" or "cuda".
        data: photographs, or None for the embedded ones.
        sizes: how large.
    """

    folder: Path
    out: Path
    device: str
    data: Path | None
    sizes: Sizes

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    def arguments(self, iterations: tuple[int, int]) -> list[str]:
        """Those of run.sh, and what the time and the machine decide."""
        own = command({**os.environ, "DATA": str(self.data)})
        if self.data is None:
            own = [one for one in own if not one.startswith("data")] + ["data=embedded", "data.test_crops=1"]
        for phase, count in zip(("baseline", "target"), iterations, strict=True):
            own += [f"training.{phase}.{name}={count}" for name in ("iterations", "restart_every")]
        own += [f"training.validate_every={max(iterations)}", "training.checkpoint_every=20000", *self.sizes.study]
        own.append(f"trainer={'gpu' if self.device == 'cuda' else 'cpu'}")
        return [*own, f"store={self.folder / 'store'}", f"hydra.run.dir={self.run}"]


def command(environment: Mapping[str, str]) -> list[str]:
    """The arguments of the study's first run, as `make study` would give them."""
    text = SCRIPT.read_text(encoding="utf-8").replace("\\\n", " ")
    line = next(line for line in text.splitlines() if line.startswith("python -m faig_lab "))
    for name, value in environment.items():
        line = line.replace(f"${name}/", f"{shlex.quote(value)}/")
    return shlex.split(line)[3:]


def plan(rate: float, seconds: float) -> tuple[int, int]:
    """Iterations of baseline and target in so many seconds, at a rate of so many a second; hundreds where there are."""
    total = max(8.0, rate * CARE * max(TRAINING * seconds, seconds - REST))
    unit = 100 if total >= 1000 else 1
    found = [max(1, int(total * share) // unit) * unit for share in (BASELINE, 1 - BASELINE)]
    return found[0], found[1]


def run(study: Study, results: Results, iterations: tuple[int, int], seconds: float) -> None:
    """The study with so many iterations of baseline and target, until it is done or the time is over."""
    end = time.monotonic() + max(seconds - KEEP, seconds / 2)
    results.add("iterations of baseline and target", f"{iterations[0]} + {iterations[1]}")
    arguments = study.arguments(iterations)
    print("  " + shlex.join(["-m", "faig_lab", *arguments]), flush=True)
    process = run_of(arguments, cwd=ROOT)
    while process.poll() is None and time.monotonic() < end:
        keep_weights(study)
        time.sleep(0.2)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        results.add("the study ended in time", f"stopped in stage {stage(study)}", "done", FAILED)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    else:
        state = OK if process.returncode == 0 else FAILED
        results.add("the study ended in time", f"exit code {process.returncode}", "0", state)
    keep_weights(study)
    keep_tables(study, results)
    headlines(study, results)


def keep_weights(study: Study) -> None:
    """Copy weights that are there; each is written at once, so that none is half there."""
    for name in ("baseline", "target"):
        for suffix in (".pt", ".yaml"):
            path, copy = study.run / "weights" / f"{name}{suffix}", study.folder / f"full_size_{name}{suffix}"
            copy = study.out / copy.name if suffix == ".pt" else copy
            if path.is_file() and not copy.is_file():
                shutil.copyfile(path, copy)
                print(f"  kept {copy.name}", flush=True)


def keep_tables(study: Study, results: Results) -> None:
    """What the run left, as one archive without weights and scores, and the scores in two more."""
    files = sorted(path for path in study.run.rglob("*") if path.is_file() and ".hydra" not in path.parts)
    others = [path for path in files if path.suffix != ".pt" and path.name != "scores.npz"]
    if others:
        size = archive(study.out / "full_size.zip", others, study.run)
        note_size(study.out / "full_size.zip", size, results)
    scores = study.run / "attribution" / "scores.npz"
    if scores.is_file():
        with np.load(scores) as stored:
            values = {name: stored[name].astype(np.float32) for name in stored.files}
        half = (len(values) + 1) // 2
        for number, names in enumerate((list(values)[:half], list(values)[half:]), 1):
            path = study.out / f"full_size_scores_{number}.npz"
            np.savez_compressed(path, **{name: values[name] for name in names})
            note_size(path, path.stat().st_size, results)


def note_size(path: Path, size: int, results: Results) -> None:
    """A row; a file that is too large to come back is removed."""
    results.add(f"{path.name}: MB", f"{size / 1e6:.1f}, {'kept' if size <= LARGEST else 'too large, left out'}")
    if size > LARGEST:
        path.unlink()


def archive(path: Path, files: Sequence[Path], root: Path) -> int:
    """Write a zip file and return its size in bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for one in files:
            file.write(one, one.relative_to(root))
    return path.stat().st_size


def headlines(study: Study, results: Results) -> None:
    """The metrics that the study's page speaks of."""
    path = study.run / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for key, value in metrics.items():
        if KEYS.match(key):
            results.add(key, value)


def stage(study: Study) -> str:
    """What the run is doing."""
    try:
        found = json.loads((study.run / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "start"
    return str(found.get("stage", "start"))
