"""`sweep=FOLDER`, launchers by their own names, and the folder of a comparison."""

import pytest
import yaml

from faig_lab.__main__ import main
from faig_lab.cli.arguments import continued, normalise

TASK = ["experiment=blur_noise", "seed=0,1"]
PLACE = ["hydra.sweep.dir='sweep'", "hydra.sweeper.resume=true"]


@pytest.fixture
def recorded(tmp_path):
    """A sweep that was started in the folder `sweep`."""
    sources = [{"provider": "hydra", "path": "hydra.conf"}, {"provider": "command-line", "path": "/own"}]
    overrides = {
        "task": [*TASK, "++traceback=true"],
        "hydra": ["hydra.sweep.dir=sweep", "hydra.mode=MULTIRUN", "hydra/launcher=faig_lab_joblib"],
    }
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "multirun.yaml").write_text(
        yaml.safe_dump({"hydra": {"overrides": overrides, "runtime": {"config_sources": sources}}})
    )


@pytest.mark.parametrize(
    ("flags", "settings", "expected"),
    [
        (["-m"], TASK, ["-m", *TASK]),
        ([], ["data.sweep=1"], ["data.sweep=1"]),
        ([], [*TASK, "sweep=sweep"], ["-m", *TASK, *PLACE]),
        (["--multirun"], [*TASK, "+sweep=sweep"], ["--multirun", *TASK, *PLACE]),
        ([], [*TASK, "sweep=it's, a=b"], ["-m", *TASK, "hydra.sweep.dir='it\\'s, a=b'", PLACE[1]]),
    ],
)
def test_a_sweep_is_started_in_the_folder(flags, settings, expected):
    assert continued(flags, settings) == expected


def test_a_folder_alone_brings_the_settings_of_its_sweep(recorded):
    expected = ["--config-dir", "/own", "-m", *TASK, "hydra/launcher=faig_lab_joblib", *PLACE]
    assert continued(["--config-dir", "/own"], ["sweep=sweep"]) == expected
    assert continued(["--config-dir", "/own"], [*TASK, "sweep=sweep"]) == expected
    assert continued(["--config-dir", "/own"], [*reversed(TASK), "sweep=sweep"]) == expected
    trusted = ["--config-dir", "/own", "-m", *TASK, "trust=true", "hydra/launcher=faig_lab_joblib", *PLACE]
    assert continued([], ["sweep=sweep", "trust=true"]) == trusted


def test_how_it_is_run_may_change(recorded):
    found = continued(["--config-dir=elsewhere"], ["sweep=sweep", "hydra/launcher=basic", "hydra.launcher.n_jobs=4"])
    assert found == ["--config-dir=elsewhere", "-m", *TASK, "hydra/launcher=basic", "hydra.launcher.n_jobs=4", *PLACE]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sweep=swep", "sweep: swep: no such folder; did you mean sweep?"),
        ("sweep=empty", "sweep: empty holds no sweep (multirun.yaml)"),
        ("sweep=broken", "sweep: broken/multirun.yaml cannot be read (ScannerError); choose another folder"),
        ("sweep=other", "sweep: other/multirun.yaml cannot be read (KeyError)"),
        ("sweep=sweep", "sweep: sweep/multirun.yaml names a configuration folder, which may call any code; repeat "
         "--config-dir /own, or, if you trust who made the folder, add trust=true"),
        ("seed=0,1,2 sweep=sweep", "sweep: sweep holds another sweep (experiment=blur_noise seed=0,1); "),
    ],
)  # fmt: skip
def test_refusals(given, expected, recorded, tmp_path, capsys):
    for name in ("empty", "broken", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "multirun.yaml").write_text("a: b: c")
    (tmp_path / "other" / "multirun.yaml").write_text("hydra: {}")
    assert main(given.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {expected}")
    assert error.count("\n") == 1


def test_launchers_come_with_our_defaults():
    assert normalise(["hydra/launcher=joblib"]) == ["hydra/launcher=faig_lab_joblib"]
    assert normalise(["hydra/launcher=basic", "hydra.launcher.n_jobs=3"])[0] == "hydra/launcher=basic"


def test_a_launcher_that_is_not_installed_says_how(capsys, monkeypatch):
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # the first one to ask finds the plugins, and registers the launcher anew
    monkeypatch.setitem(ConfigStore.instance().repo["hydra"], "launcher", {})
    assert main(["-m", *TASK, "hydra/launcher=joblib"]) == 2
    assert capsys.readouterr().err == (
        'error: hydra/launcher: joblib is not installed; pip install "faig_lab[joblib]"\n'
    )


def test_a_comparison_gets_a_folder_that_is_named_so():
    (place,) = normalise(["task=compare"])[1:]
    assert place.startswith("hydra.run.dir=outputs/${name}/compare-")
    assert normalise(["task=compare", "hydra.run.dir=x"]) == ["task=compare", "hydra.run.dir=x"]
