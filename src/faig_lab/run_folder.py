"""The folder that a run leaves behind: its configuration, its state, its metrics.

Whatever ends a run, status.json says so: done, or failed with the error. Files are written atomically, so
what was finished before stays whole. Only SIGKILL leaves "running"; the process id in the file then belongs
to nobody.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from faig_lab.errors import Terminated, UserError
from faig_lab.files import write_json, write_text


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
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": _now(),
            "ended": None,
        }
        self._inner = [0.0]

    def update(self, **changes: object) -> None:
        """Change the status and write it."""
        self._status |= changes
        write_json(self.path / "status.json", self._status)

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

    Args:
        path: the folder; it may exist.
        config: the resolved configuration as YAML.

    Raises:
        UserError: the folder holds the result of another configuration, or a run that is still going on.
    """
    _check_free(path, config)
    write_text(path / "config.yaml", config)
    run = RunFolder(path)
    run.update()
    with _closing(run):
        yield run


@contextmanager
def _closing(run: RunFolder) -> Iterator[None]:
    """Write down how the run ended, whatever ended it."""
    try:
        with _terminable():
            yield
    except BaseException as error:
        run.update(state="failed", error=_describe(error), ended=_now())
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
    run.update(started=before.get("started"), stages_done=before.get("stages_done", []))
    with _closing(run):
        yield run


def _check_free(path: Path, config: str) -> None:
    """Refuse a folder that would be overwritten with something else."""
    try:
        status = json.loads((path / "status.json").read_text(encoding="utf-8"))
        before = (path / "config.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    if status.get("state") == "done" and before != config:
        raise UserError(f"hydra.run.dir: {path} holds a finished run of another configuration; choose another folder")
    _check_idle(path, status)


def _check_idle(path: Path, status: Mapping[str, Any]) -> None:
    """Refuse a folder that another process is writing to."""
    if status.get("state") == "running" and status.get("host") == socket.gethostname() and _alive(status.get("pid")):
        raise UserError(f"{path}: process {status['pid']} is writing to it; wait for it, or choose another folder")


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
def _terminable() -> Iterator[None]:
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
