"""A sweep's bookkeeping: how jobs stand, what a job leaves when it fails, its W&B group, its GPU."""

import dataclasses
import json
import os
import pickle
import socket

import pytest
import torch
from filelock import FileLock
from omegaconf import OmegaConf
from run_files import other_process, read

from faig_lab.cli.arguments import compose
from faig_lab.runs import sweep
from faig_lab.runs.sweep import (
    JobError,
    SweepError,
    best,
    is_done,
    jobs,
    leave_failure,
    record_as_part,
    table,
    write_jobs,
)

NOBODY = 2**22 + 1  # above the highest process id of Linux


def leave(folder, **status):
    folder.mkdir(parents=True, exist_ok=True)
    times = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:01:05+00:00"}
    (folder / "status.json").write_text(json.dumps({"host": socket.gethostname(), **times, **status}))


@pytest.fixture
def folder(tmp_path):
    leave(tmp_path / "0", state="done", error=None)
    (tmp_path / "0" / "report.html").touch()
    leave(tmp_path / "1", state="failed", error="disk full")
    leave(tmp_path / "2", state="running", pid=NOBODY, ended=None)
    leave(tmp_path / "3", state="running", pid=os.getppid(), ended=None)
    leave(tmp_path / "4", state="running", pid=NOBODY, host="elsewhere", ended=None)
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "status.json").write_text("{half")
    return tmp_path


OVERRIDES = {number: ["experiment=blur_noise", f"seed={number}"] for number in range(7)}


def test_every_job_says_how_it_stands(folder):
    rows = jobs(folder, OVERRIDES, {})
    assert [row.state for row in rows] == [
        "done",
        "failed",
        "killed",
        "running",
        "running",
        "not started",
        "not started",
    ]
    assert [row.overrides for row in rows] == [f"seed={number}" for number in range(7)]
    assert [row.seconds for row in rows] == [65, 65, None, None, None, None, None]
    assert (rows[0].report, rows[1].error, rows[1].report) == ("0/report.html", "disk full", "")
    assert [is_done(folder / str(number)) for number in range(7)] == [True] + [False] * 6


def test_what_a_job_came_back_with_counts_more_than_its_folder(folder):
    rows = jobs(folder, OVERRIDES, {0: "run: refused", 1: None, 6: None})
    assert [(row.state, row.error) for row in rows[:2]] == [("failed", "run: refused"), ("done", "")]
    assert rows[0].report == ""
    assert rows[6].state == "done"
    assert jobs(folder, {0: OVERRIDES[0]}, {})[0].overrides == "experiment=blur_noise seed=0"  # a single job shows all


def test_the_table_is_aligned_and_the_file_has_its_columns(folder):
    rows = jobs(folder, OVERRIDES, {})
    head, *lines = table(rows).splitlines()
    assert head.split() == ["job", "overrides", "state", "seconds", "error", "or", "report"]
    assert lines[0].endswith("0/report.html")
    assert lines[1].endswith("disk full")
    assert {line.index("seed=") for line in lines} == {head.index("overrides")}
    first, *others = write_jobs(folder, rows).read_text().splitlines()
    assert first == "number,overrides,state,seconds,error,report,objective"
    assert others[0] == "0,seed=0,done,65,,0/report.html,"


def test_the_objective_has_a_column_and_only_done_jobs_have_one(folder):
    rows = jobs(folder, OVERRIDES, {}, {0: 0.5, 1: 0.9, 2: None})
    assert [row.objective for row in rows] == [0.5, *[None] * 6]
    head, first, second = table(rows, "isolation").splitlines()[:3]
    assert head.split()[:5] == ["job", "overrides", "state", "seconds", "isolation"]
    assert first.split() == ["0", "seed=0", "done", "65", "0.5000", "0/report.html"]
    assert second.endswith("disk full")
    better = [dataclasses.replace(rows[0], number=9, objective=0.7), *rows]
    assert (best(better, "maximize").number, best(better, "minimize").number) == (9, 0)
    assert best(rows[1:], "maximize") is None


def test_errors_travel_between_processes():
    job, whole = (pickle.loads(pickle.dumps(error)) for error in (JobError(2, "why"), SweepError(1, "2 of 3")))
    assert (job.code, job.reason, whole.code, whole.message) == (2, "why", 1, "2 of 3")


def status(folder):
    return read(folder / "status.json")


@pytest.mark.parametrize("number", range(7))
def test_a_failure_replaces_an_older_one_but_not_a_done_run_or_another_process_s(folder, number):
    """Job 6 has no folder with a status, since it never started."""
    leave(folder / "1", state="failed", error="disk full", stage="target")
    before = status(folder / str(number)) if number in (0, 1, 3) else None
    (folder / "6").mkdir()
    leave_failure(folder / str(number), "disk full" if number == 1 else "new")
    found = status(folder / str(number))
    if before is None:
        assert (found["state"], found["error"]) == ("failed", "new")
        assert found["ended"] >= found["started"]
    else:
        assert found["state"] == before["state"]
        assert found.get("stage") == before.get("stage")  # what the run has said itself stays


def leave_sweep(folder, *typed, params=None):
    folder.mkdir(parents=True)
    hydra = {"overrides": {"task": list(typed)}, "sweeper": {"params": params}}
    (folder / "multirun.yaml").write_text(json.dumps({"hydra": hydra}))


def test_wandb_runs_are_grouped_by_the_question_and_tagged_by_what_varies(tmp_path):
    leave_sweep(tmp_path / "monday", "experiment=blur_noise", "attribution=faig,ig", "+x=choice(1,2)", "store=s")
    cfg = compose(["logger.tags=[mine]"])
    job = ["experiment=blur_noise", "attribution=ig", f"+x={'1' * 80}", "store=s"]
    record_as_part(cfg, tmp_path / "monday", job)
    assert cfg.logger.group == "blur_noise: attribution × x (monday)"
    assert list(cfg.logger.tags) == ["mine", "attribution=ig", f"+x={'1' * 61}"]
    record_as_part(cfg, tmp_path / "other", [])
    assert cfg.logger.group == "blur_noise: attribution × x (monday)"


def test_settings_of_the_sweeper_vary_too_and_a_long_question_keeps_the_folder(tmp_path):
    leave_sweep(tmp_path / "monday", "name=x", params={"seed": "0,1"})
    cfg = compose([])
    record_as_part(cfg, tmp_path / "monday", ["name=x", "seed=1"])
    assert (cfg.logger.group, list(cfg.logger.tags)) == ("blur_noise: seed (monday)", ["seed=1"])
    without = compose(["logger=csv"])
    record_as_part(without, tmp_path, ["seed=1"])
    assert without.logger == {"csv": True}
    keys = [f"data.a_long_name_{n}" for n in range(20)]
    leave_sweep(tmp_path / "tuesday", *(f"{key}=1,2" for key in keys))
    cfg = compose([])
    record_as_part(cfg, tmp_path / "tuesday", [f"{key}=1" for key in keys])
    assert len(cfg.logger.group) == 128
    assert cfg.logger.group.endswith(" (tuesday)")


# GPUs


@pytest.fixture
def gpus(monkeypatch):
    """A machine that seems to have as many GPUs as asked for."""
    monkeypatch.setattr(sweep, "_held", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def take(tmp_path, *overrides):
    return sweep.take_gpu(compose(list(overrides)), tmp_path)


def test_a_process_takes_a_gpu_and_keeps_it(gpus, tmp_path):
    gpus(2)
    assert take(tmp_path) == os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert take(tmp_path) is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_the_next_process_takes_the_gpu_with_the_fewest_jobs(gpus, tmp_path, monkeypatch):
    gpus(3)
    taken = []
    held = []
    for _ in range(7):
        monkeypatch.setattr(sweep, "_held", [])  # as if it were another process; the lock is another's all the same
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        taken.append(take(tmp_path))
        held += sweep._held
    assert taken == ["0", "1", "2", "0", "1", "2", "0"]
    held[4].release()
    monkeypatch.setattr(sweep, "_held", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert take(tmp_path) == "1"


def test_only_gpus_that_were_given_are_taken(gpus, tmp_path, monkeypatch):
    gpus(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    blocker = FileLock(tmp_path / ".gpus" / f"{socket.gethostname()}-gpu0-0.lock")
    (tmp_path / ".gpus").mkdir()
    with blocker:
        assert take(tmp_path) == os.environ["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.parametrize(
    ("count", "overrides"),
    [(0, []), (1, []), (4, ["trainer=cpu"]), (4, ["trainer.devices=[1]"]), (4, ["trainer.devices=2"])],
    ids=["no GPU", "one GPU", "on the CPU", "a GPU by name", "several GPUs"],
)
def test_nothing_is_taken_where_there_is_no_choice_or_it_was_made(gpus, tmp_path, count, overrides):
    gpus(count)
    assert take(tmp_path, *overrides) is None
    assert sweep.take_gpu(OmegaConf.create({}), tmp_path) is None  # the settings of another task
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


CHILD = """
import sys, torch
torch.cuda.device_count = lambda: 2
from pathlib import Path
from omegaconf import OmegaConf
from faig_lab.runs.sweep import take_gpu
cfg = OmegaConf.create({"trainer": {"devices": 1, "accelerator": "auto"}})
print(take_gpu(cfg, Path(sys.argv[1])), flush=True)
sys.stdin.readline()
"""


def test_real_processes_share_the_gpus_and_a_killed_one_lets_go(tmp_path):
    def child():
        return other_process(CHILD, tmp_path, without=["CUDA_VISIBLE_DEVICES"])

    with child() as first, child() as second:
        taken = {process.stdout.readline().strip(): process for process in (first, second)}
        assert sorted(taken) == ["0", "1"]
        taken["1"].kill()
        taken["1"].wait()
        with child() as third:
            assert third.stdout.readline() == "1\n"
            third.kill()
        first.kill()
        second.kill()
