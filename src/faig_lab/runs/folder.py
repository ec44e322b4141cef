"""The folder of one run: its configuration, its status, its metrics, its tables, and the versions that made it.

At the end of a run status.json says done, or failed with the error. Files are written atomically, so finished files
stay complete. Only SIGKILL leaves the state "running"; then no process has the process id in the file.
"""

import json
import logging
import os
import platform
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import faig_lab
from faig_lab.config.targets import read_stored
from faig_lab.errors import Terminated, UserError, terminable
from faig_lab.files import overwrite_json, remove_leftovers, write_json, write_text
from faig_lab.granularity import UNITS
from faig_lab.runs.tables import Rows, numbers, read_table, unique, write_table

log = logging.getLogger(__name__)


class RunFolder:
    """The folder of one run. The run writes the folder; reports, comparisons and later runs read it.

    Each file is read at its first use and kept. A missing file is empty, so that a partial run can be shown. A
    malformed file raises an error. To write, open the folder with `open_run` or `reopen_run`.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tables: dict[str, pd.DataFrame] = {}
        self._inner = [0.0]

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml as plain data. Nothing in the file is called or resolved."""
        file = self.path / "config.yaml"
        return read_stored(file, "run") if file.is_file() else {}

    @cached_property
    def status(self) -> dict[str, Any]:
        """status.json."""
        return _json(self.path / "status.json")

    @cached_property
    def metrics(self) -> dict[str, float]:
        """metrics.json: the headline numbers. The file is written after every stage of a run."""
        return _json(self.path / "metrics.json")

    @cached_property
    def layout(self) -> dict[str, Any]:
        """attribution/layout.json."""
        return _json(self.path / "attribution" / "layout.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """attribution/provenance.json."""
        return _json(self.path / "attribution" / "provenance.json")

    def table(self, name: str) -> pd.DataFrame:
        """Return `tables/<name>.csv`; empty and without columns if the table does not exist.

        A number that is not finite is NaN, like a missing cell.
        """
        if name not in self._tables:
            file = self.path / "tables" / f"{name}.csv"
            table = read_table(file) if file.is_file() else pd.DataFrame()
            self._tables[name] = table.replace([np.inf, -np.inf], np.nan)
        return self._tables[name]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table, by name."""
        return {file.stem: self.table(file.stem) for file in sorted((self.path / "tables").glob("*.csv"))}

    @property
    def seed(self) -> int:
        """The seed of the run's configuration."""
        return int(self.config["seed"])

    @cached_property
    def degradations(self) -> list[str]:
        """The discriminated degradations, in the order of the masking table."""
        return unique(self.table("masking"), "masked") or sorted(unique(self.table("completeness"), "degradation"))

    @cached_property
    def methods(self) -> list[str]:
        """The compared methods: the run's method is the first, `random` the last."""
        names = unique(self.table("masking"), "method")
        return sorted(names, key=lambda method: (method == "random", method != self.chosen, names.index(method)))

    @cached_property
    def chosen(self) -> str:
        """The run's attribution method; the first method of the masking table if the configuration has none."""
        names = unique(self.table("masking"), "method")
        name = str(self.config.get("attribution", {}).get("name", ""))
        return name if name in names or not names else names[0]

    @cached_property
    def headline(self) -> float:
        """The headline percent of the configuration, or the nearest measured percent."""
        wanted = float(self.config.get("analysis", {}).get("headline_percent", 1))
        measured = numbers(self.table("masking"), "percent")
        return min(measured, key=lambda value: abs(value - wanted), default=wanted)

    @cached_property
    def filters(self) -> int | None:
        """The number of filters of the network; None without a layout."""
        return self.layout.get("filters")

    @property
    def granularity(self) -> str:
        """The type of the ranked units; filters in runs of earlier versions."""
        return str(self.layout.get("granularity", "filter"))

    @property
    def units(self) -> str:
        """The name of the ranked units: `filters`, `output channels` and so on."""
        return UNITS[self.granularity]

    @property
    def unit(self) -> str:
        """The name of one unit."""
        return self.units.removesuffix("s")

    @property
    def ranks_others(self) -> bool:
        """Whether biases and other parameters without an output channel are ranked too."""
        return any("out" not in layer for layer in self.layout.get("layers", []))

    def worded(self, text: str, **more: str) -> str:
        """Return the text with the run's names for `{unit}`, `{units}` and `{Units}`, and with more replacements."""
        return text.format(unit=self.unit, units=self.units, Units=self.units.capitalize(), **more)

    def start(self) -> "RunFolder":
        """Begin a run of this process in the folder, with a fresh status and no metrics. Nothing is written yet."""
        self.metrics = {}
        self.status = {
            "state": "running",
            "stage": "start",
            "stages_done": [],
            "error": None,
            "warnings": [],
            "pid": os.getpid(),
            "pid_since": _born(os.getpid()),
            "host": socket.gethostname(),
            "started": now(),
            "ended": None,
            "attempt": 1,
        }
        return self

    @property
    def current_stage(self) -> str:
        """The current or the last stage of the run."""
        return str(self.status["stage"])

    @property
    def goes_on(self) -> bool:
        """Whether the run continues an interrupted run in this folder."""
        return int(self.status["attempt"]) > 1

    def update(self, **changes: object) -> None:
        """Change the status and write it."""
        self.status |= changes
        write_json(self.path / "status.json", self.status)

    def warn(self, line: str) -> None:
        """Log a warning about the run's numbers, and add the warning to the status for the report."""
        log.warning("%s", line)
        self.update(warnings=[*self.status["warnings"], line])

    def fail(self, error: str) -> None:
        """Record the error of the run, on a full disk too. A failed write must not hide the error."""
        try:
            self.update(state="failed", error=error, ended=now())
        except OSError:
            with suppress(OSError):
                overwrite_json(self.path / "status.json", self.status)

    def add_metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Add headline numbers and write metrics.json. None and numbers that are not finite are left out."""
        self.metrics |= {k: v for k, v in metrics.items() if v is not None and abs(v) < float("inf")}
        write_json(self.path / "metrics.json", self.metrics)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run a stage. Its seconds, without the seconds of stages inside, become `seconds/<name>`."""
        outer = self.status["stage"]
        self.update(stage=name)
        start = time.perf_counter()
        self._inner.append(0.0)
        yield
        total = time.perf_counter() - start
        inside = self._inner.pop()
        self._inner[-1] += total
        self.add_metrics({f"seconds/{name}": self.metrics.get(f"seconds/{name}", 0.0) + total - inside})
        self.update(stage=outer, stages_done=[*self.status["stages_done"], name])

    def write_table(self, name: str, rows: Rows) -> None:
        """Write `tables/<name>.csv`. The table is read from the file at its next use."""
        write_table(self.path / "tables" / f"{name}.csv", rows)
        self._tables.pop(name, None)


@contextmanager
def open_run(path: Path, config: str) -> Iterator[RunFolder]:
    """Open a folder for a run, write its configuration and keep its status up to date.

    An interrupted run in this folder is started again. Its finished networks are in the store.

    Args:
        path: the folder, which may exist.
        config: the resolved configuration as YAML.

    Raises:
        UserError: the folder contains the result of another configuration, or a run that is still active.
    """
    before = check_free(path, config)
    run = RunFolder(path).start()
    if before.get("state") in ("running", "failed"):
        remove_leftovers(path, not_in=(".hydra", "wandb"))
        run.update(attempt=int(before.get("attempt", 1)) + 1, **_origin(before))
    write_text(path / "config.yaml", config)
    run.update()
    with _closing(run):
        yield run


def _origin(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the command line and the commit that the run was started with."""
    return {name: status[name] for name in ("command", "commit") if name in status}


@contextmanager
def _closing(run: RunFolder) -> Iterator[None]:
    """Record the end of the run, whatever ended the run."""
    try:
        with terminable():
            yield
    except BaseException as error:
        line = " ".join(str(error).split())
        if isinstance(error, KeyboardInterrupt):
            line = "interrupted (Ctrl-C)"
        elif not isinstance(error, UserError | Terminated):
            line = f"{type(error).__name__}: {line}"
        run.fail(line)
        raise
    run.update(state="done", stage="end", ended=now())


@contextmanager
def reopen_run(path: Path) -> Iterator[RunFolder]:
    """Open the folder of a finished run again. Its content stays, and new metrics are added.

    Raises:
        UserError: status or metrics cannot be read, or another process is writing to the folder.
    """
    run = RunFolder(path)
    try:
        before, metrics = run.status, run.metrics
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"run: {path} holds no finished run ({error})") from error
    if not before or not (path / "metrics.json").is_file():
        raise UserError(f"run: {path} holds no finished run (no {'metrics' if before else 'status'}.json)")
    _check_idle(path, before)
    run.start()
    run.metrics = metrics
    kept = {"started": before.get("started"), "attempt": before.get("attempt", 1), **_origin(before)}
    run.update(**kept, stages_done=before.get("stages_done", []), warnings=before.get("warnings", []))
    with _closing(run):
        yield run


def check_free(path: Path, config: str) -> Mapping[str, Any]:
    """Refuse a folder with the result of another configuration. Return the status of the folder, which may be empty."""
    status, file = read_status(path), path / "config.yaml"
    try:
        before = file.read_text(encoding="utf-8") if file.is_file() else config
    except (OSError, ValueError):
        return {}
    if status.get("state") == "done" and before != config:
        raise UserError(f"hydra.run.dir: {path} holds a finished run of another configuration; choose another folder")
    _check_idle(path, status)
    return status


def _check_idle(path: Path, status: Mapping[str, Any]) -> None:
    """Refuse a folder if another process is writing to it."""
    if is_running(status):
        raise UserError(f"{path}: process {status['pid']} is writing to it; wait for it, or choose another folder")


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def read_status(folder: Path) -> dict[str, Any]:
    """Read status.json of a run folder; empty if the file is missing or cannot be read."""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def state_of(status: Mapping[str, Any]) -> str:
    """Return the state: done, failed, running, not started, or killed (running in the file, without a process)."""
    state = str(status.get("state") or "not started")
    if state == "running" and status.get("host") == socket.gethostname() and not is_running(status):
        return "killed"
    return state


def seconds_of(status: Mapping[str, Any]) -> int | None:
    """Return the seconds from start to end; None if the run has not ended."""
    try:
        started, ended = (datetime.fromisoformat(status[name]) for name in ("started", "ended"))
    except (KeyError, TypeError, ValueError):
        return None
    return round((ended - started).total_seconds())


def is_running(status: Mapping[str, Any]) -> bool:
    """Return whether another process of this machine is working on the run of this status.json."""
    pid = status.get("pid")
    if status.get("state") != "running" or status.get("host") != socket.gethostname():
        return False
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # the process belongs to another user
    # Another process may have the same number by now, for instance after a restart of the machine.
    return status.get("pid_since") in (None, _born(pid))


def _born(pid: int) -> str | None:
    """Return the start of a process in the kernel's ticks; None if the system does not provide it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def now() -> str:
    """Return the current time to the second, with the offset of the time zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of the packages on which the numbers depend."""
    import torch  # takes seconds to import, and `--help` passes this module

    packages = ("pytorch-lightning", "kornia", "torchmetrics", "numpy")
    return {
        "python": platform.python_version(),
        "faig_lab": faig_lab.__version__,
        "torch": str(torch.__version__),
        **{p: version(p) for p in packages},
    }
