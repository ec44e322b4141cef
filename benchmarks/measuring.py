"""Timing in turns, tables that are written row by row, and what machine it was."""

import csv
import datetime
import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

ROOT = Path(__file__).resolve().parents[1]

Run = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


def seconds(run: Run) -> float:
    """How long it takes; a GPU's work counts to its end."""
    settle()
    start = time.perf_counter()
    run()
    settle()
    return time.perf_counter() - start


def settle() -> None:
    """Wait for a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turns(runs: Mapping[Name, Run], repeats: int, warm_up: int = 1) -> dict[Name, float]:
    """Median seconds of each. In every round they run one after the other, so load on the machine affects all equally.

    Args:
        runs: by name.
        repeats: rounds that count.
        warm_up: rounds before them that do not.
    """
    found: dict[Name, list[float]] = {name: [] for name in runs}
    gc.collect()
    for turn in range(warm_up + repeats):
        for name, run in runs.items():
            taken = seconds(run)
            if turn >= warm_up:
                found[name].append(taken)
    return {name: statistics.median(values) for name, values in found.items()}


class Table:
    """A CSV file that has every row as soon as it is measured; the rows are printed as well.

    Args:
        path: the file; one that is there is replaced.
        columns: its head. A row may lack some of them, and has no others.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, tuple(columns)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(self.columns)
        print(f"\n{path.stem}: {', '.join(self.columns)}", flush=True)

    def add(self, **values: object) -> None:
        """Write one row: floats with four digits, nothing for None."""
        unknown = set(values) - set(self.columns)
        if unknown:
            raise ValueError(f"{self.path.name} has no columns {sorted(unknown)}")
        cells = (values.get(name) for name in self.columns)
        row = ["" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in cells]
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(row)
        print("  " + "  ".join(cell or "–" for cell in row), flush=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where it has not been measured."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def machine(device: torch.device) -> dict[str, object]:
    """What it was measured on, as plain data."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout, with a + where files differ from it; None outside of git."""
    found = []
    for arguments in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no", "--", "src"]):
        try:
            done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        found.append(done.stdout.strip())
    return found[0] + ("+" if found[1] else "")


def run_of(arguments: Sequence[str], **more: Any) -> subprocess.Popen[bytes]:
    """Start the command line of faig_lab, from the source of the checkout, in a process of its own."""
    paths = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "faig_lab", *arguments], env={**os.environ, "PYTHONPATH": paths}, **more
    )


def child(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `python -m benchmarks.<module>` in a process of its own, its output in a pipe."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True
    )


def output_of(process: subprocess.Popen[str]) -> str:
    """The last line that a child printed.

    Raises:
        RuntimeError: it failed.
    """
    text, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, process.args[1:]))} ended with {process.returncode}")  # type: ignore[index]
    return text.strip().splitlines()[-1]
