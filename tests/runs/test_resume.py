"""`resume=FOLDER`: which folders can go on, with which settings, and what the run is then told."""

import json
import logging
import os
import socket

import pytest
from omegaconf import OmegaConf
from tiny_case import replace_study

from faig_lab.__main__ import main
from faig_lab.runs.folder import RunFolder, is_running, open_run

COMMAND = ["+experiment=blur_noise", "trainer=cpu", "seed=3", "training.batch_size=2", "logger=none"]


def quoted(folder):
    return "'" + str(folder).replace("'", "\\'") + "'"


@pytest.fixture
def ran(monkeypatch):
    """A stand-in for the pipeline; (configuration, folder) of each run."""
    runs = []
    replace_study(monkeypatch, lambda cfg, folder: runs.append((cfg, folder)))
    yield runs
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, logging.FileHandler):
            handler.close()
            logging.getLogger().removeHandler(handler)


@pytest.fixture
def killed(tmp_path, ran):
    """The folder of a run that was killed."""
    folder = tmp_path / "a run's folder"
    assert main([*COMMAND, f"hydra.run.dir={quoted(folder)}"]) == 0
    cfg, _ = ran.pop()
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    (folder / "status.json").write_text(
        json.dumps({"state": "running", "pid": 2**22 + 1, "host": socket.gethostname()})
    )
    return folder


def resume(folder, *settings):
    return main([f"resume={quoted(folder)}", *settings])


def refused(capsys, *arguments):
    assert main(arguments) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    return output


def test_a_killed_run_goes_on_with_its_own_settings_in_its_folder(killed, ran):
    before = {path: path.read_bytes() for path in (killed / ".hydra").iterdir()}
    assert main([f"resume={killed}"]) == 0  # as the shell hands it over
    ((cfg, folder),) = ran
    assert folder.samefile(killed)
    assert OmegaConf.to_yaml(cfg, resolve=True) == (killed / "config.yaml").read_text()
    assert (cfg.seed, cfg.training.batch_size, cfg.trainer.accelerator) == (3, 2, "cpu")
    assert {path: path.read_bytes() for path in (killed / ".hydra").iterdir()} == before
    assert sorted(path.name for path in killed.parent.iterdir()) == [killed.name]  # no folder of its own


def test_where_it_is_recorded_may_change(killed, ran):
    assert resume(killed, "logger=wandb", "logger.mode=offline", "traceback=true") == 0
    ((cfg, _),) = ran
    assert (cfg.logger.mode, cfg.logger.project, cfg.traceback, cfg.seed) == ("offline", "faig_lab", True, 3)


@pytest.mark.parametrize("setting", ["seed=1", "training.batch_size=4", "network=srresnet", "hydra.run.dir=x"])
def test_what_would_change_the_result_is_refused(killed, ran, capsys, setting):
    assert resume(killed, setting) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {setting}: an interrupted run continues with its original settings"
    )
    assert ran == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"state": "done"}, "resume: {} is done; task=analyse"),
        ({"state": "running", "pid": os.getppid()}, f"process {os.getppid()} is still running in {{}}"),
    ],
)
def test_a_run_that_is_done_or_going_on_says_so(killed, ran, capsys, status, message):
    (killed / "status.json").write_text(json.dumps({"host": socket.gethostname(), **status}))
    assert resume(killed) == 2
    assert message.format(killed) in capsys.readouterr().err
    assert ran == []


@pytest.mark.parametrize("status", [None, "", "[1]", '{"state": "failed", "error": "x"}'])
def test_however_far_it_came(killed, ran, status):
    (killed / "status.json").unlink()
    if status is not None:
        (killed / "status.json").write_text(status)
    assert resume(killed) == 0
    assert len(ran) == 1


def test_folders_without_a_run(tmp_path, ran, capsys):
    assert "no such folder" in refused(capsys, f"resume={tmp_path}/nowhere")
    assert f"resume: {tmp_path} holds no run (config.yaml)" in refused(capsys, f"resume={tmp_path}")
    (tmp_path / "config.yaml").write_text("{")
    assert main([f"resume={tmp_path}"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert ran == []


def test_one_run_at_a_time(killed, ran, capsys):
    for arguments in (["-m"], ["sweep=x"], ["resume=another"]):
        assert resume(killed, *arguments) == 2
        assert "resume: one run at a time" in capsys.readouterr().err


# The folder


def test_a_process_of_the_same_number_is_not_the_run(tmp_path):
    with open_run(tmp_path, ""):
        status = json.loads((tmp_path / "status.json").read_text())
    alive = status | {"state": "running", "pid": os.getppid(), "pid_since": None}
    assert is_running(alive)
    if status["pid_since"] is not None:  # where the system tells
        assert not is_running(alive | {"pid_since": "1"})


def test_an_interrupted_attempt_is_counted_and_tidied_up(tmp_path):
    for _ in range(2):
        with open_run(tmp_path, "") as run:
            assert not run.goes_on  # a new run, and one that is done
    left = [tmp_path / ".config-abcd1234.yaml", tmp_path / "weights" / ".target-a_cd1234.pt"]
    kept = [tmp_path / ".hydra" / "x-abcd1234.yaml", tmp_path / ".mine", tmp_path / "weights" / "target.pt"]
    RunFolder(tmp_path).update(state="running", pid=2**22 + 1)
    for path in (*left, *kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    with open_run(tmp_path, "") as run:
        assert run.goes_on
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
    assert json.loads((tmp_path / "status.json").read_text())["attempt"] == 2
