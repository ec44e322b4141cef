"""The command line: `python -m benchmarks.gpu --minutes 9 --out DIR --data DIR`; see `--help`."""

import argparse
import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import BinaryIO

from benchmarks.gpu import missing
from benchmarks.gpu.results import Results, failures, table

PARTS = ("correct", "runs", "speed", "study")
SHARES = {"correct": 0.18, "runs": 0.22, "speed": 0.22}
"""Of the time, at most; the study has what is left."""
LAST = 10.0
"""Seconds before the end in which nothing runs."""
GRACE = 5.0


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Prove the device path, measure it, and run experiments/full_size; nothing is installed.",
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything together (default: 9)")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu"), help="folder for results (outputs/gpu)")
    parser.add_argument("--data", type=Path, help="folder with train/, probe/, test/; without: embedded photographs")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="everything tiny: does it run? Two minutes on a CPU")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--iterations", help="of the study: baseline,target; without: what the time allows")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(given)
    asked.parts = asked.parts.split(",")
    if unknown := sorted(set(asked.parts) - set(PARTS)):
        parser.error(f"--parts: {unknown[0]} is not one of {', '.join(PARTS)}")
    if asked.iterations is not None and not re.fullmatch(r"[1-9]\d*,[1-9]\d*", asked.iterations):
        parser.error(f"--iterations must be two numbers such as 20000,14000, not {asked.iterations}")
    if not asked.minutes > 0:
        parser.error(f"--minutes must be > 0, not {asked.minutes:g}")
    for name in ("out", "data"):
        path = getattr(asked, name)
        setattr(asked, name, path.expanduser().absolute() if path is not None else None)
    return asked


def main(given: list[str] | None = None) -> int:
    """Run the parts; 0 if nothing failed, 1 if something did, 2 if something is missing."""
    asked = arguments(given)
    if asked.part is not None:
        return one_part(asked)
    lacking = missing.missing(asked.device, asked.data)
    if lacking:
        print(f"missing: {', '.join(lacking)}", flush=True)
        return 2
    useful = missing.of_use()
    print(f"missing: nothing{f' (of use: {chr(59).join(useful)})' if useful else ''}", flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in ("results.json", "table.md", "log.txt"):
        (asked.out / name).unlink(missing_ok=True)
    end = time.monotonic() + 60 * asked.minutes
    results = Results(asked.out / "results.json")
    results.note(machine=about(asked))
    with tempfile.TemporaryDirectory(prefix="faig_lab-gpu-") as work, (asked.out / "log.txt").open("wb") as log:
        for part in asked.parts:
            left = end - time.monotonic() - LAST
            limit = min(left, SHARES.get(part, 1.0) * 60 * asked.minutes)
            started, state = time.monotonic(), "out of time"
            if limit > 0:
                state = in_process(command(asked, part, limit, Path(work)), limit, log)
            Results(results.path, part).note(state=state, seconds=round(time.monotonic() - started, 1))
            text = table(results.read())
            (asked.out / "table.md").write_text(text, encoding="utf-8")
        print(f"\n{text}\nwritten to {asked.out}", flush=True)
        log.write(text.encode())
    return int(bool(failures(results.read())))


def about(asked: argparse.Namespace) -> dict[str, object]:
    """The machine and the versions, as far as they are known without the device."""
    from importlib.metadata import version

    from benchmarks.measuring import commit, cores

    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "python": platform.python_version(),
        "torch": version("torch"),
        "cores": cores(),
        "commit": commit(),
        "plan": f"{asked.minutes:g} minutes{', quick: to see that it runs, no result' if asked.quick else ''}",
        "photographs": "from folders" if asked.data else "embedded",
    }


def command(asked: argparse.Namespace, part: str, limit: float, work: Path) -> list[str]:
    """Of a part in a process of its own."""
    found = [sys.executable, "-u", "-m", "benchmarks.gpu", "--part", part, "--seconds", f"{limit:.1f}"]
    found += ["--device", asked.device, "--out", str(asked.out), "--work", str(work / part)]
    found += ["--iterations", asked.iterations] if asked.iterations else []
    return found + (["--data", str(asked.data)] if asked.data else []) + (["--quick"] if asked.quick else [])


def in_process(command: list[str], limit: float, log: BinaryIO) -> str:
    """Run a command in a process group of its own, its output to the console and to the log; how it ended.

    After so many seconds, and a few more for a part that looks at the clock itself, it is killed with all that it has
    started.
    """
    paths = [str(missing.ROOT / "src"), str(missing.ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=missing.ROOT,
        env=environment,
        start_new_session=True,
    )
    reader = threading.Thread(target=copy, args=(process.stdout, log), daemon=True)
    reader.start()
    try:
        process.wait(limit + GRACE)
    except subprocess.TimeoutExpired:
        return "out of time"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(5)
        if process.stdout is not None and not reader.is_alive():
            process.stdout.close()
    return "done" if process.returncode == 0 else "crashed"


def copy(source: BinaryIO, log: BinaryIO) -> None:
    """Every line, as soon as it is there."""
    for line in source:
        sys.stdout.write(line.decode(errors="replace"))
        sys.stdout.flush()
        log.write(line)
        log.flush()


def one_part(asked: argparse.Namespace) -> int:
    """Run a part in this process; it has ended well if all rows are there, whatever they say."""
    import warnings

    warnings.filterwarnings("ignore", message=".*This DataLoader will create.*")  # more workers than cores
    from benchmarks.gpu import correct, runs, speed, study
    from benchmarks.gpu.sizes import FULL, QUICK

    sizes = QUICK if asked.quick else FULL
    results = Results(asked.out / "results.json", asked.part)
    asked.work.mkdir(parents=True, exist_ok=True)
    name_device(Results(results.path), asked.device)
    print(f"\n{asked.part}: at most {asked.seconds:.0f} seconds", flush=True)
    os.chdir(asked.work)  # stores and whatever else is written by a relative path
    if asked.part == "correct":
        correct.run(sizes, asked.device, results)
    elif asked.part == "runs":
        runs.run(runs.Place(asked.work, asked.device, asked.data, sizes), results)
    elif asked.part == "speed":
        speed.run(sizes, asked.device, asked.data, results)
    else:
        own = study.Study(asked.work, asked.out, asked.device, asked.data, sizes)
        if asked.iterations:
            baseline, target = map(int, asked.iterations.split(","))
            study.run(own, results, (baseline, target), asked.seconds)
        else:
            start = time.monotonic()
            known = rate(results) or speed.steps_a_second(asked.device, sizes, asked.data)
            left = asked.seconds - (time.monotonic() - start)
            results.add("iterations chosen for steps a second", f"{known:.1f}, {left:.0f} s in all")
            study.run(own, results, study.plan(known, min(left, sizes.study_seconds)), left)
    return 0


def name_device(results: Results, device: str) -> None:
    """Add to what is known of the machine what only a process that uses the device is told."""
    import torch

    from benchmarks.measuring import processor

    known = results.read().get("machine", {})
    if device == "cuda":
        card = {"device": torch.cuda.get_device_name(), "CUDA": torch.version.cuda}
        known |= {**card, "cuDNN": torch.backends.cudnn.version()}
    else:
        known |= {"device": processor()}
    results.note(machine=known)


def rate(results: Results) -> float | None:
    """Steps a second that the part speed has measured; None if it has not."""
    rows = results.read()["parts"].get("speed", {"rows": []})["rows"]
    known = {row["what"]: row["value"] for row in rows}
    found = known.get("training, ours: steps a second")
    return None if found is None else float(found)


if __name__ == "__main__":
    sys.exit(main())
