"""A sweep through the command line, with a stand-in for what the jobs compute."""

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

from faig_lab.__main__ import main
from faig_lab.errors import Terminated, UserError

SWEEP = ["-m", "+experiment=blur_noise", "seed=0,1,2,3", "sweep=sweep"]


def states(folder="sweep"):
    with (Path(folder) / "sweep.csv").open(newline="", encoding="utf-8") as file:
        return {row["number"]: (row["state"], row["error"]) for row in csv.DictReader(file)}


def test_a_failing_job_stops_no_other_and_is_run_again(pipeline, capsys, tmp_path):
    pipeline.acts = {"1": RuntimeError("disk\nfull"), "2": UserError("data.x: broken")}
    assert main(SWEEP) == 1
    shown = capsys.readouterr()
    assert pipeline.ran == [0, 1, 2, 3]
    done = ("done", "")
    assert states() == {
        "0": done, "1": ("failed", "RuntimeError: disk full"), "2": ("failed", "data.x: broken"), "3": done,
    }  # fmt: skip
    assert "1  seed=1     failed" in shown.out
    assert shown.err.splitlines()[-1] == "error: 2 of 4 jobs are not done; again: python -m faig_lab sweep=sweep"
    for number, reason in ((1, "RuntimeError: disk full"), (2, "data.x: broken")):
        assert "Traceback" in (tmp_path / "sweep" / str(number) / "run.log").read_text()
        assert json.loads((tmp_path / "sweep" / str(number) / "status.json").read_text())["error"] == reason
    del pipeline.acts["1"]
    assert main(["sweep=sweep"]) == 2
    assert pipeline.ran[4:] == [1, 2]
    assert [name for name, _, _ in pipeline.seen[4:]] == ["1", "2"]
    assert states()["1"] == ("done", "")
    pipeline.acts = {}
    assert main(SWEEP) == 0
    assert pipeline.ran[6:] == [2]
    assert main(["sweep=sweep"]) == 0
    assert len(pipeline.ran) == 7


def test_a_job_that_is_missing_is_run(pipeline, tmp_path):
    assert main(SWEEP) == 0
    assert pipeline.seen == [(str(n), "blur_noise: seed (sweep)", [f"seed={n}"]) for n in range(4)]  # in W&B
    (tmp_path / "sweep" / "2" / "status.json").unlink()
    (tmp_path / "sweep" / "3" / "status.json").write_text('{"state": "running", "pid": 4194305}')
    assert main(["sweep=sweep"]) == 0
    assert pipeline.ran[4:] == [2, 3]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (Terminated("x"), 143)])
def test_an_interrupted_sweep_has_its_table(pipeline, error, code, capsys):
    pipeline.acts = {"2": error}
    assert main(SWEEP) == code
    assert {number: state for number, (state, _) in states().items()} == {
        "0": "done", "1": "done", "2": "not started", "3": "not started",
    }  # fmt: skip
    assert "seed=3     not started" in capsys.readouterr().out
    pipeline.acts = {}
    assert main(["sweep=sweep"]) == 0
    assert pipeline.ran == [0, 1, 2, 2, 3]


def test_a_launcher_that_breaks_off_leaves_the_table(pipeline, monkeypatch, capsys):
    """As joblib does when the system kills one of its processes."""

    def broken(**arguments):
        raise RuntimeError("a worker died")

    def act():
        monkeypatch.setattr(sys.modules["hydra._internal.core_plugins.basic_launcher"], "run_job", broken)

    pipeline.acts = {"1": act}
    assert main(SWEEP) == 1
    shown = capsys.readouterr()
    assert [state for state, _ in states().values()] == ["done", "done", "not started", "not started"]
    assert "seed=3     not started" in shown.out
    assert shown.err.splitlines()[-1] == (
        "error: RuntimeError: a worker died; 2 of 4 jobs are not done; again: python -m faig_lab sweep=sweep"
    )


def test_settings_that_are_refused_leave_a_status(pipeline, tmp_path):
    assert main(["-m", "experiment=blur_noise", "seed=0,-1", "hydra.sweep.dir=sweep"]) == 2
    assert states()["1"] == ("failed", "seed: must be at least 0, not -1")
    assert json.loads((tmp_path / "sweep" / "1" / "status.json").read_text())["state"] == "failed"


def test_batches_are_numbered_on(pipeline):
    assert main([*SWEEP, "hydra.sweeper.max_batch_size=3"]) == 0
    assert list(states()) == ["0", "1", "2", "3"]
    assert main(["sweep=sweep"]) == 0
    recorded = yaml.safe_load(Path("sweep/multirun.yaml").read_text())["hydra"]
    assert recorded["sweeper"]["max_batch_size"] == 3


def test_other_tasks_can_be_swept_too(pipeline):
    """Their job folders go; what came back says that they are done."""
    for name in ("a", "b"):
        (Path(name) / "attribution").mkdir(parents=True)
    pipeline.run = lambda cfg, folder: None
    sys.modules["faig_lab.cli.study"].run = pipeline.run
    assert main(["-m", "task=analyse", "run=a,b", "hydra.sweep.dir=sweep"]) == 0
    assert set(states().values()) == {("done", "")}


def test_named_job_folders_are_refused(pipeline, capsys):
    assert main([*SWEEP, "hydra.sweep.subdir=x"]) == 2
    assert capsys.readouterr().err.startswith("error: hydra.sweep.subdir: the folders of jobs are their numbers")
