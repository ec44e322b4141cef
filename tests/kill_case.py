"""Runs of the command line in processes that are killed: at a moment of their own CPU time, or before a rename."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from forked_case import CONTEXT
from tiny_case import figures_of

from faig_lab.__main__ import main
from faig_lab.runs.folder import RunFolder


def start(arguments, log, moment=None, record=None):
    """Run the command line in a process of its own; its exit code, −9 if it was killed.

    Args:
        arguments: those of the command line.
        log: where its output goes.
        moment: ("cpu", seconds) of its own CPU time, or ("rename", n): before its n-th rename; None lets it end.
        record: JSON file for the CPU time at which each stage began and ended, and how many renames there were.
    """
    process = CONTEXT.Process(target=_run, args=(arguments, log, moment, record))
    process.start()
    process.join()
    return process.exitcode


def _run(arguments, log, moment, record):
    os.environ |= {"OMP_NUM_THREADS": "1"}
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.stdout = sys.stderr = os.fdopen(1, "w", closefd=False)
    stages, renames = _watch(moment[1] if moment and moment[0] == "rename" else None)
    if moment and moment[0] == "cpu":
        threading.Thread(target=_kill_at, args=(moment[1],), daemon=True).start()
    with figures_of():
        code = main(arguments)
    if record is not None:
        record.write_text(json.dumps({"stages": [*stages, ("end", time.process_time())], "renames": renames[0]}))
    sys.exit(code)


def _kill_at(seconds):
    while time.process_time() < seconds:
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)


def _watch(fatal):
    """Note every stage, count every rename, and die before the fatal one."""
    stages, renames = [("start", time.process_time())], [0]
    update = RunFolder.update

    def noting(self, **changes):
        if "stage" in changes:
            stages.append((changes["stage"], time.process_time()))
        update(self, **changes)

    RunFolder.update = noting
    for name in ("replace", "rename"):
        setattr(Path, name, _counting(getattr(Path, name), renames, fatal))
    return stages, renames


def _counting(rename, renames, fatal):
    def counted(self, target):
        renames[0] += 1
        if renames[0] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)

    return counted
