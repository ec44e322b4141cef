"""The W&B record: real offline runs in a temporary folder, and runs that go on without W&B."""

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from tiny_case import figures_of
from wandb_file import read_wandb

from faig_lab.files import write_json
from faig_lab.report.figures import write_figures
from faig_lab.report.wandb_run import WandbRecord, resolve_mode
from faig_lab.runs.folder import RunFolder

MakeRun = Callable[..., Path]


@dataclass(frozen=True)
class Settings:
    mode: str = "offline"
    project: str = "faig_lab"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ("test",)


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's: no login, no settings, no caches."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name))


def _broken(error: Exception) -> SimpleNamespace:
    def init(**_: object) -> None:
        raise error

    return SimpleNamespace(init=init, Settings=lambda **_: None)


def test_an_offline_run_has_curves_charts_pictures_and_artifacts_in_the_run_folder(
    make_run: MakeRun,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WANDB_DATA_DIR")
    run = make_run(isolated={"faig": 0.4, "random": 0.1})
    with figures_of("layers"):
        write_figures(run, [])
    metrics = {
        f"isolation/{method}/{p}": best * p / 10 for method, best in (("faig", 0.4), ("random", 0.1)) for p in (1, 10)
    }
    write_json(run / "metrics.json", metrics | {"isolation": 0.04, "isolation/faig/1/blur": 0.5})
    for name in ("baseline", "target"):
        (run / "weights").mkdir(exist_ok=True)
        (run / "weights" / f"{name}.pt").write_bytes(name.encode())
    with WandbRecord.start(Settings(), {"seed": 0, "command": "faig-lab x"}, run, name="t", notes="n") as record:
        record.log_training("training/baseline", {"step": 50, "loss": 0.1, "psnr/blur": None})
        record.log_run(RunFolder(run), {"layers": "A caption."}, "blur_noise-SRResNet-24x8-seed0")
    record.finish(0)
    assert "".join(capfd.readouterr()) == ""
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []
    assert record.folder is not None
    assert record.folder.parent == run / "wandb"
    assert record.url is None
    # The service process writes the file, at times a moment after `finish`: this waits for it.
    wandb.teardown()
    stored = read_wandb(record.folder)
    assert (stored.run.display_name, stored.run.job_type, stored.run.notes) == ("t", "study", "n")
    assert stored.config["command"] == "faig-lab x"
    assert stored.config["provenance"]["probe"] == ["astronaut/0", "coffee/1"]
    assert stored.summary["isolation"] == 0.04
    # Curves against their own axes, charts of the project without an arrangement.
    assert stored.axes["curves/*"] == "curves/percent"
    assert stored.axes["training/target/*"] == "training/target/step"
    curve = [(row["curves/percent"], row["curves/isolation/faig"]) for row in stored.rows if "curves/percent" in row]
    assert curve == [(1.0, pytest.approx(0.04)), (10.0, pytest.approx(0.4))]
    target = [row["training/target/step"] for row in stored.rows if "training/target/step" in row]
    assert target == sorted(target)
    assert len(target) > 1  # from the table, since nothing was logged live
    assert [row["training/baseline/step"] for row in stored.rows if "training/baseline/step" in row] == [50]
    assert set(stored.charts) >= {"views/isolation", "views/training_target", "views/layers_blur"}
    assert "Isolation by the percent" in json.dumps(stored.charts["views/isolation"])
    media = {key: value for row in stored.rows for key, value in row.items() if isinstance(value, dict)}
    assert media["figures/layers"]["caption"] == "A caption."
    assert (record.folder / "files" / media["figures/layers"]["path"]).is_file()
    assert media["values/masking"]["_type"] == "table-file"
    # `wandb leet` and the workspace show sections in this order: what has a column `ncols` comes last.
    numbers = sorted(key for row in stored.rows for key in row if not key.startswith("_"))
    assert numbers[0].startswith("curves/isolation")
    assert max(i for i, key in enumerate(numbers) if key.startswith("training/")) < min(
        i for i, key in enumerate(numbers) if key.startswith(("values/", "views/"))
    )
    assert set(stored.artifacts) >= {f"blur_noise-SRResNet-24x8-seed0-{n}" for n in ("baseline", "target", "scores")}
    for files in stored.artifacts.values():
        assert all(Path(file).is_file() and run in Path(file).parents for file in files)


def test_networks_and_scores_are_artifacts_that_say_what_they_were_made_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for place in ("weights/baseline.pt", "weights/target.pt", "attribution/scores.npz"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    logged: list[wandb.Artifact] = []
    WandbRecord(SimpleNamespace(log_artifact=logged.append, dir=str(tmp_path / "files"), url=None)).log_artifacts(
        tmp_path, "blur_noise"
    )
    baseline, target, scores = logged
    assert [(a.name, a.type) for a in logged] == [
        ("blur_noise-baseline", "model"),
        ("blur_noise-target", "model"),
        ("blur_noise-scores", "attribution"),
    ]
    assert baseline.metadata["from"] == {}
    assert target.metadata["from"] == {"baseline": baseline.digest}
    assert scores.metadata["from"] == {"baseline": baseline.digest, "target": target.digest}
    assert set(scores.manifest.entries) == {"scores.npz"}


def test_a_block_that_fails_lets_its_exception_through(tmp_path: Path) -> None:
    def fail() -> None:
        with WandbRecord.start(Settings(), {}, tmp_path / "run", name="x"):
            raise KeyError("x")

    with pytest.raises(KeyError):
        fail()


def test_disabled_does_nothing(tmp_path: Path) -> None:
    with WandbRecord.start(Settings(mode="disabled"), {}, tmp_path / "run", name="x") as record:
        record.log_metrics({"a": 1.0})
        record.log_training("training/baseline", {"step": 1, "loss": 0.5})
    assert (record.folder, record.url) == (None, None)
    assert not (tmp_path / "run").exists()


# A run that goes on


def fake_wandb(started: list[dict[str, object]], logged: list[dict[str, float]], **run: object) -> SimpleNamespace:
    """wandb that remembers how runs were started and what they were told."""

    def init(**options: object) -> SimpleNamespace:
        started.append(options)
        parts = {
            "dir": "wandb/run/files",
            "url": None,
            "finish": lambda **_: None,
            "define_metric": lambda *_, **__: None,
        }
        return SimpleNamespace(log=logged.append, **{"resumed": False, "summary": {}, **parts, **run})

    return SimpleNamespace(init=init, Settings=lambda **_: None, login=lambda **_: True)


@pytest.mark.parametrize(
    ("before", "mode", "options"),
    [
        (["run-20260101_000000-old", "run-20260102_000000-abc"], "online", {"id": "abc", "resume": "allow"}),
        (["run-20260102_000000-abc"], "offline", {"id": "abc"}),
        (["run-20260101_000000-old", "offline-run-20260102_000000-abc-1"], "online", {"id": "abc", "resume": "allow"}),
        (["offline-run-20260102_000000-abc"], "offline", {"id": "abc"}),
        (["something else"], "offline", {}),
        ([], "online", {}),
    ],
)
def test_a_run_that_goes_on_continues_its_wandb_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: list[str], mode: str, options: dict[str, str]
) -> None:
    for name in before:
        (tmp_path / "wandb" / name).mkdir(parents=True)
    started: list[dict[str, object]] = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(started, []))
    WandbRecord.start(Settings(mode=mode), {"seed": 0}, tmp_path, name="x", job="analyse", notes="n", goes_on=True)
    (given,) = started
    assert {key: given[key] for key in ("id", "resume") if key in given} == options
    assert (given["name"], given["job_type"], given["notes"], given["config"]) == ("x", "analyse", "n", {"seed": 0})


def test_a_run_of_its_own_continues_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "wandb" / "run-20260102_000000-abc").mkdir(parents=True)
    started: list[dict[str, object]] = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(started, []))
    WandbRecord.start(Settings(mode="online"), {}, tmp_path, name="x")
    assert not {"id", "resume"} & set(started[0])


def test_the_same_wandb_run_is_told_no_row_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logged: list[dict[str, float]] = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb([], logged, resumed=True, summary={"training/target/step": 4}))
    record = WandbRecord.start(Settings(mode="online"), {}, tmp_path, name="x", goes_on=True)
    for step in (2, 4, 6):
        record.log_training("training/target", {"step": step})
        record.log_training("training/baseline", {"step": step})
    assert [row["training/target/step"] for row in logged if "training/target/step" in row] == [6]
    assert [row["training/baseline/step"] for row in logged if "training/baseline/step" in row] == [2, 4, 6]


def test_an_offline_run_that_goes_on_is_one_folder_with_the_same_id(tmp_path: Path) -> None:
    with WandbRecord.start(Settings(), {}, tmp_path, name="x") as first:
        first.log_training("training/baseline", {"step": 1, "loss": 0.5})
    wandb.teardown()
    with WandbRecord.start(Settings(), {}, tmp_path, name="x", job="analyse", goes_on=True) as second:
        second.log_training("training/baseline", {"step": 1, "loss": 0.5})
        assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2  # the first stays until the second is whole
    wandb.teardown()
    assert second.folder is not None
    assert list((tmp_path / "wandb").glob("offline-run-*")) == [second.folder]
    stored = read_wandb(second.folder)
    assert f"-{stored.run.run_id}" in str(first.folder)
    assert stored.run.job_type == "analyse"


def test_a_run_that_fails_again_keeps_what_was_recorded_before(tmp_path: Path) -> None:
    with WandbRecord.start(Settings(), {}, tmp_path, name="x"):
        pass
    with pytest.raises(KeyError), WandbRecord.start(Settings(), {}, tmp_path, name="x", goes_on=True):
        raise KeyError("x")
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2


def test_the_service_of_wandb_prints_nothing_where_it_cannot_write_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wandb.teardown()
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with WandbRecord.start(Settings(), {}, tmp_path / "run", name="x") as record:
        assert record.folder is not None
    wandb.teardown()
    print("seen", file=sys.stderr)
    assert "".join(capfd.readouterr()) == "seen\n"


@pytest.mark.parametrize(
    ("wanted", "environment", "mode"),
    [
        ("offline", None, "offline"),
        ("online", None, "online"),
        ("auto", None, "offline"),
        ("auto", "disabled", "disabled"),
        ("online", "offline", "offline"),
        ("offline", "online", "online"),
    ],
)
def test_the_environment_is_stronger_than_the_settings(
    monkeypatch: pytest.MonkeyPatch, wanted: str, environment: str | None, mode: str
) -> None:
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    assert resolve_mode(wanted) == mode


def test_auto_is_online_when_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(login=lambda **_: True))
    assert resolve_mode("auto") == "online"


def test_a_broken_wandb_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", _broken(RuntimeError("no service\nlong story")))
    with caplog.at_level(logging.WARNING):
        record = WandbRecord.start(Settings(), {}, tmp_path, name="x")
        record.log_metrics({"a": 1.0})
        record.finish(0)
    assert caplog.messages == ["W&B: not recorded in W&B (RuntimeError: no service)"]


def test_a_missing_wandb_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    record = WandbRecord.start(Settings(mode="auto"), {}, tmp_path, name="x")
    assert record.folder is None
    assert len(caplog.messages) == 1


def test_a_failure_while_logging_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise OSError("disk full")

    run = SimpleNamespace(dir=str(tmp_path / "files"), url=None, log=fail, define_metric=lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: run, Settings=lambda **_: None))
    record = WandbRecord.start(Settings(), {}, tmp_path, name="x")
    for step in range(3):
        record.log_training("training/target", {"step": step})
    assert caplog.messages == ["W&B: recording in W&B stopped (OSError: disk full)"]
