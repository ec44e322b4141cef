"""`python -m faig_lab` in a process of its own, on the source that is tested."""

import os
import subprocess
import sys
from pathlib import Path

import faig_lab

SOURCE = str(Path(faig_lab.__file__).resolve().parents[1])


def command(*arguments):
    return [sys.executable, "-m", "faig_lab", *map(str, arguments)]


def environment(root, **changes):
    """This process's environment without the tests' own settings; modules in `root` are found."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "OMP_NUM_THREADS")}
    return kept | {"PYTHONPATH": os.pathsep.join([SOURCE, str(root)])} | changes


def finished(root, *arguments, before=(), **changes):
    """Run the command line in the folder `root` to its end; `before` is what stands before the command."""
    return subprocess.run(
        [*before, *command(*arguments)], capture_output=True, env=environment(root, **changes), cwd=root, check=False,
        encoding="utf-8", errors="backslashreplace", stdin=subprocess.DEVNULL,
    )  # fmt: skip


def started(root, *arguments, stderr=subprocess.DEVNULL, **changes):
    """Start the command line in the folder `root`."""
    return subprocess.Popen(
        command(*arguments), env=environment(root, **changes), cwd=root, stdout=subprocess.DEVNULL, stderr=stderr,
        text=True,
    )  # fmt: skip
