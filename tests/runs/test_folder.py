"""The run folder's state: whatever ends a run, status.json says so."""

import json
import os
import signal
import socket
import threading
from datetime import datetime

import pytest
from run_files import other_process, read

from faig_lab.errors import Terminated, UserError
from faig_lab.runs import folder as run_folder
from faig_lab.runs.folder import open_run

KEYS = ["state", "stage", "stages_done", "error", "warnings", "pid", "pid_since", "host", "started", "ended", "attempt"]


def status(folder):
    return read(folder / "status.json")


def metrics(folder):
    return read(folder / "metrics.json")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when told to."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(run_folder, "time", clock)
    return clock


# How a run ends


def test_a_finished_run(tmp_path):
    folder = tmp_path / "new" / "run"
    with open_run(folder, "seed: 0\n") as run:
        running = status(folder)
        assert list(running) == KEYS
        assert (running["state"], running["stage"], running["ended"]) == ("running", "start", None)
        assert (running["pid"], running["host"]) == (os.getpid(), socket.gethostname())
        assert (folder / "config.yaml").read_text() == "seed: 0\n"
        with run.stage("data"):
            assert status(folder)["stage"] == "data"
        assert status(folder)["stage"] == "start"
    done = status(folder)
    assert (done["state"], done["stage"], done["stages_done"], done["error"]) == ("done", "end", ["data"], None)
    assert datetime.fromisoformat(done["started"]) <= datetime.fromisoformat(done["ended"])
    assert datetime.fromisoformat(done["ended"]).tzinfo is not None


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (RuntimeError("two\nlines  of text"), "RuntimeError: two lines of text"),
        (UserError("data.x: broken"), "data.x: broken"),
        (KeyboardInterrupt(), "interrupted (Ctrl-C)"),
        (SystemExit(3), "SystemExit: 3"),
        (MemoryError(), "MemoryError: "),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failed_run_says_where_and_why(tmp_path, error, shown):
    def fail():
        with open_run(tmp_path, "") as run:
            with run.stage("data"):
                run.add_metrics({"a": 1.0})
            with run.stage("target"), run.stage("attribution"):
                raise error

    with pytest.raises(type(error)):
        fail()
    failed = status(tmp_path)
    assert (failed["state"], failed["error"]) == ("failed", shown)
    assert (failed["stage"], failed["stages_done"]) == ("attribution", ["data"])
    assert failed["ended"] is not None
    assert metrics(tmp_path)["a"] == 1


CHILD = """
import sys
from pathlib import Path
from faig_lab.runs.folder import open_run

with open_run(Path(sys.argv[1]), "seed: 0") as run:
    with run.stage("baseline"):
        print("running", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def child(_interruptible, tmp_path):
    """A run in another process, in the middle of a stage until a line comes in."""
    with other_process(CHILD, tmp_path / "run") as process:
        assert process.stdout.readline() == "running\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("number", "shown"),
    [(signal.SIGTERM, "terminated (SIGTERM)"), (signal.SIGINT, "interrupted (Ctrl-C)")],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_is_written_down(child, tmp_path, number, shown):
    child.send_signal(number)
    assert child.wait(60) != 0
    failed = status(tmp_path / "run")
    assert (failed["state"], failed["error"], failed["stage"]) == ("failed", shown, "baseline")


def test_the_signal_handler_is_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with open_run(tmp_path, ""):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(Terminated), open_run(tmp_path / "b", ""):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    assert status(tmp_path / "b")["error"] == "terminated (SIGTERM)"


def test_a_run_can_be_opened_in_any_thread(tmp_path):
    def run():
        with open_run(tmp_path, ""):
            pass

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert status(tmp_path)["state"] == "done"


# Whose folder it is


def test_a_finished_run_of_another_configuration_is_not_overwritten(tmp_path):
    for _ in range(2):  # the same configuration may run again
        with open_run(tmp_path, "seed: 0") as run, run.stage("data"):
            run.add_metrics({"a": 1.0})
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(files) == ["config.yaml", "metrics.json", "status.json"]
    assert status(tmp_path)["stages_done"] == ["data"]
    message = rf"^hydra\.run\.dir: {tmp_path} holds a finished run of another configuration; choose another folder$"
    with pytest.raises(UserError, match=message), open_run(tmp_path, "seed: 1"):
        pytest.fail("not refused")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_the_folder_of_a_living_run_is_refused(child, tmp_path):
    folder = tmp_path / "run"
    for config in ("seed: 0", "seed: 1"):
        with (
            pytest.raises(UserError, match=rf"{folder}.*process {child.pid}|process {child.pid}.*{folder}"),
            open_run(folder, config),
        ):
            pytest.fail("not refused")
    child.stdin.write("go on\n")
    child.stdin.flush()
    assert child.wait(60) == 0
    assert status(folder)["state"] == "done"


@pytest.mark.parametrize("killed", [True, False])
def test_the_folder_of_a_killed_or_a_failed_run_is_free(child, tmp_path, killed):
    child.send_signal(signal.SIGKILL if killed else signal.SIGTERM)
    child.wait(60)
    assert status(tmp_path / "run")["state"] == ("running" if killed else "failed")
    with open_run(tmp_path / "run", "seed: 1"):
        pass
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["error"]) == ("done", None)


def test_a_process_of_another_machine_is_nobody_here(child, tmp_path):
    folder = tmp_path / "run"
    elsewhere = status(folder) | {"host": "another machine"}
    (folder / "status.json").write_text(json.dumps(elsewhere))
    with open_run(folder, "seed: 0"):
        pass
    assert (status(folder)["state"], status(folder)["host"]) == ("done", socket.gethostname())


@pytest.mark.parametrize("content", ["", "{half", "\x00"])
def test_a_damaged_status_does_not_block_a_folder(tmp_path, content):
    (tmp_path / "status.json").write_text(content)
    (tmp_path / "config.yaml").write_text("")
    with open_run(tmp_path, "seed: 0"):
        pass
    assert status(tmp_path)["state"] == "done"


# Metrics


def test_what_is_no_number_is_left_out(tmp_path):
    with open_run(tmp_path, "") as run:
        run.add_metrics({"a": 1.5, "none": None, "nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")})
        run.add_metrics({"b": 0.0, "a": 2.5})
        assert metrics(tmp_path) == run.metrics == {"a": 2.5, "b": 0.0}


def test_seconds_of_a_stage_leave_out_those_of_the_stages_inside(tmp_path, clock):
    with open_run(tmp_path, "") as run:
        with run.stage("target"):
            clock.now += 10
            with run.stage("attribution"):
                clock.now += 3
                with run.stage("inner"):
                    clock.now += 0.5
            assert status(tmp_path)["stage"] == "target"
            with run.stage("attribution"):
                clock.now += 1
            clock.now += 20
        with run.stage("report"):
            clock.now += 2
    assert metrics(tmp_path) == {
        "seconds/inner": 0.5,
        "seconds/attribution": 4,
        "seconds/target": 30,
        "seconds/report": 2,
    }
    assert sum(metrics(tmp_path).values()) == clock.now - 100
    assert status(tmp_path)["stages_done"] == ["inner", "attribution", "attribution", "target", "report"]
