"""Sweeps as a user starts them: parallel jobs, failing jobs, the same command again."""

import csv
import json
import signal
import time

import pytest
import torch
from process_case import finished, started
from tiny_case import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TINY = tiny(
    *("+experiment=blur_noise", "training.baseline.iterations=4", "training.target.iterations=4"),
    *("training.validate_every=2", "analysis.percents=[1]"),
)
METHODS = ["faig", "ig", "weight_change", "random", "signed_share", "mine"]

CONFIG = """\
defaults:
  - faig
  - _self_
name: mine
methods:
  mine:
    _target_: own_method.score
    _partial_: true
"""
BROKEN = """\
import torch

def score(problem):
    raise RuntimeError(f"not written yet; threads: {torch.get_num_threads()}")
"""
WRITTEN = "from faig_lab.attribution.methods import weight_change as score\n"


def rows(sweep):
    with (sweep / "sweep.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trainings(sweep, name):
    """In how many of the jobs a network was trained, its last step seen."""
    return sum(f"{name} 4/4" in log.read_text(encoding="utf-8") for log in sweep.glob("*/run.log"))


def times(sweep):
    """When each job's report was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/report.html")}


@pytest.fixture
def own_method(tmp_path):
    """A method of the user's own that fails, and what repairs it."""
    (tmp_path / "own" / "attribution").mkdir(parents=True)
    (tmp_path / "own" / "attribution" / "mine.yaml").write_text(CONFIG)
    (tmp_path / "own_method.py").write_text(BROKEN)
    return lambda: (tmp_path / "own_method.py").write_text(WRITTEN)


def test_twelve_jobs_of_which_two_fail_on_two_workers_and_again(own_method, tmp_path):
    joblib = pytest.importorskip("joblib")
    reason = f"RuntimeError: not written yet; threads: {max(joblib.cpu_count() // 2, 1)}"
    sweep = tmp_path / "sweep"
    asked = [
        *("--config-dir=own", "-m", *TINY, "seed=0,1", f"attribution={','.join(METHODS)}"),
        *("hydra/launcher=joblib", "store=store", "sweep=sweep"),
    ]
    first = finished(tmp_path, *asked)
    assert first.returncode == 1, first.stderr
    found = rows(sweep)
    assert [row["state"] for row in found] == [*["done"] * 5, "failed"] * 2
    assert found[5]["overrides"] == "seed=0 attribution=mine"
    assert {found[n]["error"] for n in (5, 11)} == {reason}
    assert [row["report"] for row in found if row["state"] == "done"] == [
        f"{n}/report.html" for n in (*range(5), *range(6, 11))
    ]
    assert all(row["overrides"] in first.stdout and row["error"] in first.stdout for row in found)
    assert first.stderr.splitlines()[-1].startswith("error: 2 of 12 jobs are not done")
    for number in (5, 11):
        log = (sweep / str(number) / "run.log").read_text(encoding="utf-8")
        assert "Traceback" in log
        assert "own_method.py" in log
        status = json.loads((sweep / str(number) / "status.json").read_text())
        assert (status["state"], status["error"]) == ("failed", reason)
    assert (trainings(sweep, "baseline"), trainings(sweep, "target")) == (2, 2)
    assert len(list((tmp_path / "store").glob("SRResNet-*"))) == 4

    own_method()
    before = times(sweep)
    refused = finished(tmp_path, "sweep=sweep")  # the folder of a stranger's sweep could name any code
    assert (refused.returncode, "names a configuration folder" in refused.stderr) == (2, True)
    second = finished(tmp_path, "--config-dir=own", "sweep=sweep")
    assert second.returncode == 0, second.stderr
    assert [row["state"] for row in rows(sweep)] == ["done"] * 12
    after = times(sweep)
    assert {number for number in after if after[number] != before.get(number)} == {"5", "11"}
    assert (trainings(sweep, "baseline"), trainings(sweep, "target")) == (2, 2)
    third = finished(tmp_path, *asked)
    assert third.returncode == 0, third.stderr
    assert times(sweep) == after


def test_submitit_without_a_cluster(tmp_path):
    pytest.importorskip("submitit")
    done = finished(tmp_path, "-m", *TINY, "seed=0,-1", "hydra/launcher=submitit_local", "store=store", "sweep=sweep")
    assert done.returncode == 2, done.stderr
    first, second = rows(tmp_path / "sweep")
    assert (first["state"], first["report"]) == ("done", "0/report.html")
    assert (second["state"], second["error"]) == ("failed", "seed: must be at least 0, not -1")


def test_two_runs_at_once_train_a_network_once_also_when_the_first_is_killed(tmp_path):
    """The lock goes with its process: another run takes over and trains to the end, a third one waits for it."""

    def run(name):
        return started(tmp_path, *TINY, "training.baseline.iterations=20", "store=store", f"hydra.run.dir={name}")

    def log(name):
        path = tmp_path / name / "run.log"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def wait(condition):
        patience = time.monotonic() + 600
        while not condition():
            assert time.monotonic() < patience
            time.sleep(0.02)

    with run("a") as first:
        wait(lambda: "baseline 2/20" in log("a"))
        first.send_signal(signal.SIGSTOP)  # it goes no further, and holds its lock
        with run("b") as second, run("c") as third:
            wait(lambda: all("another run is training" in log(name) for name in "bc"))
            first.send_signal(signal.SIGKILL)
            assert second.wait(600) == third.wait(600) == 0
    assert "baseline 20/20" not in log("a")
    assert sum("baseline 20/20" in log(name) for name in "bc") == 1
    assert sum("target 4/4" in log(name) for name in "bc") == 1
    some, other = (torch.load(tmp_path / name / "weights" / "target.pt", weights_only=True) for name in "bc")
    assert all(torch.equal(value, other[key]) for key, value in some.items())
    left = [path.name for path in (tmp_path / "store").iterdir() if path.suffix != ".lock"]
    assert sorted(name.split("-")[1] for name in left) == ["baseline", "target"]
