"""The status of a run, status.json. Only this module reads the file."""

import json
import os
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any


def read_status(folder: Path) -> dict[str, Any]:
    """Read status.json of a run folder; empty if the file is missing or cannot be read."""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def fresh_status() -> dict[str, Any]:
    """Return the status of a run that this process starts now."""
    return {
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
    at_work = status.get("state") == "running" and status.get("host") == socket.gethostname() and _alive(pid)
    # Another process may have the same number by now, for instance after a restart of the machine.
    return at_work and status.get("pid_since") in (None, _born(pid))


def _born(pid: object) -> str | None:
    """Return the start of a process in the kernel's ticks; None if the system does not provide it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _alive(pid: object) -> bool:
    """Return whether another process with that number exists."""
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def now() -> str:
    """Return the current time to the second, with the offset of the time zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
