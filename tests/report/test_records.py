"""The records of a run: offline W&B runs, CSV, TensorBoard, several at once, and runs that go on without a record."""

import csv
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
import yaml
from tiny_case import figures_of
from wandb_file import read_wandb

from faig_lab.cli.arguments import compose
from faig_lab.cli.provenance import commit_of, network_label
from faig_lab.config import check
from faig_lab.config.settings import LoggerSettings
from faig_lab.errors import UserError
from faig_lab.files import write_json
from faig_lab.report.figures import write_figures
from faig_lab.report.records import LightningRecord, Records
from faig_lab.report.wandb_run import Description, WandbRecord, resolve_mode
from faig_lab.runs.folder import RunFolder

CONFIG = {"seed": 3, "network": {"features": 24}}
NAMED = Description("blur_noise", "faig", "SRResNet-24x8", 0, "study", CONFIG, "notes")


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    """No login, no settings and no caches of the user."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name))


@pytest.fixture
def run(make_run):
    folder = make_run(drawn=True)
    metrics = {"isolation": 0.25, "isolation/faig/1": 0.25, "isolation/faig/10": 0.5, "psnr/target/blur": 30.0}
    write_json(folder / "metrics.json", metrics | {"seconds/data": 1.0})
    return folder


def start(folder, mode="offline", **more):
    return WandbRecord.start(LoggerSettings(mode=mode), NAMED, folder, **more)


def stored_by(record):
    """The service process writes the file, at times a moment after `finish`: this waits for it."""
    record.finish(0)
    wandb.teardown()
    return read_wandb(record.folder)


# W&B


def test_an_offline_run_has_curves_charts_pictures_and_artifacts_in_the_run_folder(
    make_run, capfd, caplog, monkeypatch
):
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
    record = start(run)
    record.log_training("training/baseline", {"step": 50, "loss": 0.1, "psnr/blur": None})
    record.log_run(RunFolder(run), {"layers": "A caption."})
    stored = stored_by(record)
    assert "".join(capfd.readouterr()) == ""
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []
    assert record.folder.parent == run / "wandb"
    assert record.url is None
    title = "blur_noise faig SRResNet-24x8 seed 0"
    assert (stored.run.display_name, stored.run.job_type, stored.run.notes) == (title, "study", "notes")
    assert stored.config["network"] == {"features": 24}
    assert stored.config["provenance"]["probe"] == ["astronaut/0", "coffee/1"]
    assert stored.summary["isolation"] == 0.04
    # Curves have their own axes, and charts need no arrangement.
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
    # `wandb leet` and the workspace show sections in this order. A key with a column `ncols` comes last.
    numbers = sorted(key for row in stored.rows for key in row if not key.startswith("_"))
    assert numbers[0].startswith("curves/isolation")
    assert max(i for i, key in enumerate(numbers) if key.startswith("training/")) < min(
        i for i, key in enumerate(numbers) if key.startswith(("values/", "views/"))
    )
    assert set(stored.artifacts) >= {f"blur_noise-SRResNet-24x8-seed0-{n}" for n in ("baseline", "target", "scores")}
    for files in stored.artifacts.values():
        assert all(Path(file).is_file() and run in Path(file).parents for file in files)


def test_networks_and_scores_are_artifacts_with_their_origin(tmp_path):
    for place in ("weights/baseline.pt", "weights/target.pt", "attribution/scores.npz"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    logged = []
    opened = SimpleNamespace(log_artifact=logged.append, dir=str(tmp_path / "files"), url=None)
    WandbRecord(opened, "x").log_artifacts(tmp_path)
    baseline, target, scores = logged
    assert [(a.name, a.type) for a in logged] == [
        ("x-baseline", "model"), ("x-target", "model"), ("x-scores", "attribution")
    ]  # fmt: skip
    assert baseline.metadata["from"] == {}
    assert target.metadata["from"] == {"baseline": baseline.digest}
    assert scores.metadata["from"] == {"baseline": baseline.digest, "target": target.digest}
    assert set(scores.manifest.entries) == {"scores.npz"}


def test_disabled_does_nothing(tmp_path):
    record = start(tmp_path / "run", mode="disabled")
    record.log_training("training/baseline", {"step": 1, "loss": 0.5})
    record.finish()
    assert (record.folder, record.url) == (None, None)
    assert not (tmp_path / "run").exists()


def fake_wandb(started, logged, **run):
    """wandb that remembers how runs were started and what they were told."""

    def init(**options):
        started.append(options)
        parts = {"dir": "wandb/run/files", "url": None, "finish": lambda **_: None, "log": logged.append}
        return SimpleNamespace(
            **{"resumed": False, "summary": {}, "define_metric": lambda *_, **__: None, **parts, **run}
        )

    return SimpleNamespace(init=init, Settings=lambda **_: None, login=lambda **_: True)


@pytest.mark.parametrize(
    ("before", "mode", "options"),
    [
        (["run-20260101_000000-old", "run-20260102_000000-abc"], "online", {"id": "abc", "resume": "allow"}),
        (["run-20260102_000000-abc"], "offline", {"id": "abc"}),
        (["run-20260101_000000-old", "offline-run-20260102_000000-abc-1"], "online", {"id": "abc", "resume": "allow"}),
        (["something else"], "offline", {}),
        ([], "online", {}),
    ],
)
@pytest.mark.parametrize("goes_on", [True, False])
def test_only_a_run_that_goes_on_continues_its_wandb_run(monkeypatch, tmp_path, before, mode, options, goes_on):
    for name in before:
        (tmp_path / "wandb" / name).mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(started := [], []))
    start(tmp_path, mode, goes_on=goes_on)
    (given,) = started
    assert {key: given[key] for key in ("id", "resume") if key in given} == (options if goes_on else {})


def test_the_same_wandb_run_gets_no_row_twice(monkeypatch, tmp_path):
    fake = fake_wandb([], logged := [], resumed=True, summary={"training/target/step": 4})
    monkeypatch.setitem(sys.modules, "wandb", fake)
    record = start(tmp_path, "online", goes_on=True)
    for step in (2, 4, 6):
        record.log_training("training/target", {"step": step})
        record.log_training("training/baseline", {"step": step})
    assert [row["training/target/step"] for row in logged if "training/target/step" in row] == [6]
    assert [row["training/baseline/step"] for row in logged if "training/baseline/step" in row] == [2, 4, 6]


def test_an_offline_run_that_goes_on_is_one_folder_with_the_same_id_unless_it_fails(tmp_path):
    first = start(tmp_path)
    first.log_training("training/baseline", {"step": 1, "loss": 0.5})
    assert f"-{stored_by(first).run.run_id}" in str(first.folder)
    with pytest.raises(KeyError), Records(start(tmp_path, goes_on=True)):
        raise KeyError("the exception comes through, and the earlier record stays")
    assert first.folder.is_dir()
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    second = start(tmp_path, goes_on=True)
    second.log_training("training/baseline", {"step": 1, "loss": 0.5})
    stored = stored_by(second)
    assert list((tmp_path / "wandb").glob("offline-run-*")) == [second.folder]
    assert f"-{stored.run.run_id}" in str(first.folder)


def test_the_service_of_wandb_prints_nothing_if_it_cannot_write_its_log(tmp_path, monkeypatch, capfd):
    wandb.teardown()
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "file" / "cache"))
    record = start(tmp_path / "run")
    assert record.folder is not None
    record.finish()
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
        ("online", "dryrun", "offline"),
        ("offline", "run", "online"),
    ],
)
def test_the_environment_is_stronger_than_the_settings(monkeypatch, wanted, environment, mode):
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    assert resolve_mode(wanted) == mode


def test_auto_is_online_for_a_logged_in_user(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb([], []))
    assert resolve_mode("auto") == "online"


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("module", "mode", "environment", "warnings"),
    [
        ({"init": lambda **_: _raise(RuntimeError("no service\nlong story"))}, "offline", None,
         ["W&B: not recorded in W&B (RuntimeError: no service)"]),
        ({"init": lambda **_: _raise(OSError("no net"))}, "online", None,
         ["W&B: recorded offline (OSError: no net)", "W&B: not recorded in W&B (OSError: no net)"]),
        ({}, "offline", "typo",
         ["W&B: not recorded in W&B (ValueError: mode 'typo': choose auto, online, offline or disabled)"]),
        (None, "auto", None,
         ["W&B: not recorded in W&B (ModuleNotFoundError: import of wandb halted; None in sys.modules)"]),
    ],
)  # fmt: skip
def test_a_broken_or_missing_wandb_is_a_warning(monkeypatch, tmp_path, caplog, module, mode, environment, warnings):
    broken = module if module is None else SimpleNamespace(Settings=lambda **_: None, **module)
    monkeypatch.setitem(sys.modules, "wandb", broken)
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    record = start(tmp_path, mode)
    record.log_training("training/target", {"step": 1})
    record.finish(0)
    assert record.folder is None
    assert caplog.messages == warnings


# CSV and TensorBoard


def recorded(folder):
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(file)]


def test_csv_has_the_curves_the_headline_and_the_settings_once(run):
    for _ in range(2):  # a record that is written again replaces the first
        record = LightningRecord.start("csv", CONFIG, run)
        record.log_training("training/baseline", {"step": 2.0, "loss": 0.5, "psnr/blur": None})
        record.log_training("training/baseline", {"step": 4.0, "loss": 0.25, "psnr/blur": 28.0})
        record.log_run(RunFolder(run), {})
        record.finish()
    rows = recorded(run)
    live = [row for row in rows if "training/baseline/loss" in row]
    assert [(row["step"], row["training/baseline/loss"]) for row in live] == [(2, 0.5), (4, 0.25)]
    assert live[1]["training/baseline/psnr/blur"] == 28.0
    assert sum("training/target/loss" in row for row in rows) == len(RunFolder(run).table("training_target"))
    (last,) = [row for row in rows if "isolation" in row]
    assert {key: value for key, value in last.items() if key != "step"} == {
        "isolation": 0.25, "isolation/faig/1": 0.25, "psnr/target/blur": 30.0,
    }  # fmt: skip
    assert yaml.safe_load((run / "csv" / "hparams.yaml").read_text()) == CONFIG


def test_tensorboard_has_curves_figures_captions_and_hyper_parameters(run):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record = LightningRecord.start("tensorboard", CONFIG, run)
    record.log_training("training/baseline", {"step": 4.0, "loss": 0.25})
    record.log_run(RunFolder(run), {"layers": "A caption."})
    record.finish()
    events = event_accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("training/baseline/loss")] == [(4, 0.25)]
    assert events.Scalars("isolation")[-1].value == 0.25
    tags = events.Tags()
    assert "figures/layers" in tags["images"]
    assert events.Images("figures/layers")[0].width > 100
    assert any("layers" in tag for tag in tags["tensors"])
    assert any("hparams" in tag for tag in events.summary_metadata)


def test_several_records_at_once_lie_in_the_run_folder(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    settings = check(compose(["logger=[wandb,csv]", "logger.tags=[a]"])).logger
    with Records.start(settings, NAMED, run) as records:
        records.log_run(RunFolder(run), {})
        assert records.folders == {"csv": run / "csv"}
    assert (run / "csv" / "metrics.csv").is_file()


def _csv(folder, monkeypatch) -> LightningRecord | WandbRecord:
    record = LightningRecord.start("csv", CONFIG, folder)
    monkeypatch.setattr(record._opened, "log_metrics", lambda *_: _raise(OSError("disk full")))
    return record


def _wandb(folder, monkeypatch) -> LightningRecord | WandbRecord:
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb([], [], log=lambda _: _raise(OSError("disk full"))))
    return start(folder)


@pytest.mark.parametrize(
    ("make", "warning"), [(_csv, "csv: recording stopped"), (_wandb, "W&B: recording in W&B stopped")]
)
def test_a_record_that_fails_is_one_warning(
    tmp_path, caplog, monkeypatch, make: Callable[..., LightningRecord | WandbRecord], warning
):
    record = make(tmp_path, monkeypatch)
    for step in range(3):
        record.log_training("training/target", {"step": step, "loss": 1.0})
    record.finish()
    assert caplog.messages == [f"{warning} (OSError: disk full)"]


# Settings, and the names in a record


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("csv", ("disabled", True, False)),
        ("tensorboard", ("disabled", False, True)),
        ("[wandb,csv]", ("auto", True, False)),
        ("[csv,wandb,tensorboard]", ("auto", True, True)),
        ("[none,csv]", ("disabled", True, False)),
    ],
)
def test_loggers_are_chosen_alone_or_together(choice, expected):
    logger = check(compose([f"logger={choice}"])).logger
    assert (logger.mode, logger.csv, logger.tensorboard) == expected


def test_a_missing_tensorboard_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(sys.modules["faig_lab.config.check"], "find_spec", lambda name: None)
    assert check(compose(["logger=csv"])).logger.csv
    with pytest.raises(
        UserError, match=r'^logger: tensorboard is not installed; pip install "faig_lab\[tensorboard\]"$'
    ):
        check(compose(["logger=tensorboard"]))


def test_a_network_is_named_by_class_and_sizes():
    assert network_label(check(compose([])).network) == "SRResNet-24x8"
    small = check(compose(["network.features=4", "network.blocks=1"])).network
    assert network_label(small) == "SRResNet-4x1"
    assert network_label({"_target_": "a.b.Net", "scale": 2, "residual": True}) == "Net"


def test_the_commit_of_a_tracked_folder_and_of_changed_files(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    (tmp_path / "__init__.py").touch()
    assert commit_of.__wrapped__(tmp_path) is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert commit_of.__wrapped__(tmp_path) == head
    (tmp_path / "__init__.py").write_text("changed")
    assert commit_of.__wrapped__(tmp_path) == f"{head}+"
