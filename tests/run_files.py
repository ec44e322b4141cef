"""What a run leaves behind: readers of its files, two runs compared to the last bit; and code in another process."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import faig_lab


def other_process(code, *arguments, without=()):
    """Python code in another process that waits for lines; `without` are variables that it does not get."""
    known = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**known, "PYTHONPATH": str(Path(faig_lab.__file__).resolve().parents[1])},
    )


def read(path):
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def table(folder, name):
    """The rows of a table of the run."""
    with (folder / "tables" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def arrays(folder):
    """The scores of the run by their names in the file."""
    with np.load(folder / "attribution" / "scores.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def weights(folder):
    """The states of baseline and target."""
    return {name: torch.load(folder / "weights" / f"{name}.pt", weights_only=True) for name in ("baseline", "target")}


def contents(folder):
    """Every file below a folder: bytes and time of its last change."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def assert_same_state(some, other):
    """Two states have the same names in the same order, and the same bits."""
    assert list(some) == list(other)
    assert all(torch.equal(some[key], other[key]) for key in some)


def assert_same_numbers(some, other):
    """Weights, scores, tables and metrics of two runs agree bit for bit; only seconds may differ."""
    for name, state in weights(some).items():
        assert_same_state(state, weights(other)[name])
    first, second = arrays(some), arrays(other)
    assert sorted(first) == sorted(second)
    assert all(np.array_equal(first[key], second[key]) for key in first)
    tables = sorted(path.name for path in (some / "tables").iterdir())
    assert tables == sorted(path.name for path in (other / "tables").iterdir())
    for name in tables:
        assert (some / "tables" / name).read_bytes() == (other / "tables" / name).read_bytes(), name
    one, two = ({k: v for k, v in read(run / "metrics.json").items() if "seconds" not in k} for run in (some, other))
    assert one == two
