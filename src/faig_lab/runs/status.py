"""What status.json says of a run: read here and nowhere else."""

import json
import os
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any


def read_status(folder: Path) -> dict[str, Any]:
    """status.json of a run folder; empty if there is none or it cannot be read."""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def fresh_status() -> dict[str, Any]:
    """The status of a run that this process starts now."""
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
    """The state: done, failed, running, killed (it says running, and its process is gone) or not started."""
    state = str(status.get("state") or "not started")
    if state == "running" and status.get("host") == socket.gethostname() and not is_running(status):
        return "killed"
    return state


def seconds_of(status: Mapping[str, Any]) -> int | None:
    """Seconds from start to end; None where the run has not ended."""
    try:
        started, ended = (datetime.fromisoformat(status[name]) for name in ("started", "ended"))
    except (KeyError, TypeError, ValueError):
        return None
    return round((ended - started).total_seconds())


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


def now() -> str:
    """The time with the offset of the zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
