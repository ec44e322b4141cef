"""The folder that a run leaves behind: its configuration, its state, its metrics.

Whatever ends a run, status.json says so: done, or failed with the error. Files are written atomically, so
what was finished before stays whole. Only SIGKILL leaves "running"; the process id in the file then belongs
to nobody.
"""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, cast

from faig_lab.errors import Terminated, UserError
from faig_lab.files import overwrite_json, remove_leftovers, write_json, write_text

log = logging.getLogger(__name__)


class RunFolder:
    """The run's folder, its stages and its metrics. Open it with `open_run`.

    Attributes:
        path: the folder.
        metrics: flat headline numbers; metrics.json follows after every stage.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics: dict[str, float] = {}
        self._status: dict[str, Any] = {
            "state": "running",
            "stage": "start",
            "stages_done": [],
            "error": None,
            "warnings": [],
            "pid": os.getpid(),
            "pid_since": _born(os.getpid()),
            "host": socket.gethostname(),
            "started": _now(),
            "ended": None,
            "attempt": 1,
        }
        self._inner = [0.0]

    @property
    def current_stage(self) -> str:
        """The stage that the run is in, or ended in."""
        return str(self._status["stage"])

    @property
    def goes_on(self) -> bool:
        """Whether an earlier attempt was interrupted in this folder."""
        return int(self._status["attempt"]) > 1

    def update(self, **changes: object) -> None:
        """Change the status and write it."""
        self._status |= changes
        write_json(self.path / "status.json", self._status)

    def warn(self, line: str) -> None:
        """Log a warning about the run's numbers and keep it in the status, where the report finds it."""
        log.warning("%s", line)
        self.update(warnings=[*self._status["warnings"], line])

    def fail(self, error: str) -> None:
        """Write down how the run ended, on a full disk too; what cannot be written must not hide the error."""
        try:
            self.update(state="failed", error=error, ended=_now())
        except OSError:
            with suppress(OSError):
                overwrite_json(self.path / "status.json", self._status)

    def add_metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Add headline numbers and write metrics.json; what is None or not finite is left out."""
        self.metrics |= {k: v for k, v in metrics.items() if v is not None and abs(v) < float("inf")}
        write_json(self.path / "metrics.json", self.metrics)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """One stage of the run; its seconds, without those of stages inside it, become `seconds/<name>`."""
        outer = self._status["stage"]
        self.update(stage=name)
        start = time.perf_counter()
        self._inner.append(0.0)
        yield
        total = time.perf_counter() - start
        inside = self._inner.pop()
        self._inner[-1] += total
        self.add_metrics({f"seconds/{name}": self.metrics.get(f"seconds/{name}", 0.0) + total - inside})
        self.update(stage=outer, stages_done=[*self._status["stages_done"], name])


@contextmanager
def open_run(path: Path, config: str) -> Iterator[RunFolder]:
    """Take a folder for a run, write its configuration and keep its status up to date.

    A run that was interrupted in this folder is started anew: what it had finished is found in the store.

    Args:
        path: the folder; it may exist.
        config: the resolved configuration as YAML.

    Raises:
        UserError: the folder holds the result of another configuration, or a run that is still going on.
    """
    before = check_free(path, config)
    run = RunFolder(path)
    if before.get("state") in ("running", "failed"):
        remove_leftovers(path, not_in=(".hydra", "wandb"))
        run.update(attempt=int(before.get("attempt", 1)) + 1)
    write_text(path / "config.yaml", config)
    run.update()
    with _closing(run):
        yield run


@contextmanager
def _closing(run: RunFolder) -> Iterator[None]:
    """Write down how the run ended, whatever ended it."""
    try:
        with terminable():
            yield
    except BaseException as error:
        run.fail(_describe(error))
        raise
    run.update(state="done", stage="end", ended=_now())


@contextmanager
def reopen_run(path: Path) -> Iterator[RunFolder]:
    """Take the folder of a finished run once more; what it holds stays, its metrics are added to.

    Raises:
        UserError: its status or metrics cannot be read, or another process is writing to it.
    """
    run = RunFolder(path)
    try:
        before = json.loads((path / "status.json").read_text(encoding="utf-8"))
        run.metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"run: {path} holds no finished run ({error})") from error
    _check_idle(path, before)
    kept = {"started": before.get("started"), "attempt": before.get("attempt", 1)}
    run.update(**kept, stages_done=before.get("stages_done", []), warnings=before.get("warnings", []))
    with _closing(run):
        yield run


def check_free(path: Path, config: str) -> Mapping[str, Any]:
    """Refuse a folder that would be overwritten with something else; its status, empty if there is none."""
    try:
        status = cast(dict[str, Any], json.loads((path / "status.json").read_text(encoding="utf-8")))
        file = path / "config.yaml"
        before = file.read_text(encoding="utf-8") if file.is_file() else config
    except (OSError, ValueError):
        return {}
    if status.get("state") == "done" and before != config:
        raise UserError(f"hydra.run.dir: {path} holds a finished run of another configuration; choose another folder")
    _check_idle(path, status)
    return status


def _check_idle(path: Path, status: Mapping[str, Any]) -> None:
    """Refuse a folder that another process is writing to."""
    if is_running(status):
        raise UserError(f"{path}: process {status['pid']} is writing to it; wait for it, or choose another folder")


def is_running(status: Mapping[str, Any]) -> bool:
    """Whether another process of this machine is at work on the run of this status.json."""
    pid = status.get("pid")
    at_work = status.get("state") == "running" and status.get("host") == socket.gethostname() and _alive(pid)
    # The number may be another process's by now, after a restart of the machine at the latest.
    return at_work and status.get("pid_since") in (None, _born(pid))


def _born(pid: object) -> str | None:
    """When a process was started, in the kernel's ticks; None where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _alive(pid: object) -> bool:
    """Whether another process of that number exists."""
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception (in the main thread, the only one that may)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated("terminated (SIGTERM)")


def _describe(error: BaseException) -> str:
    """The error in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted (Ctrl-C)"
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError | Terminated) else f"{type(error).__name__}: {text}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
