"""CSV and TensorBoard records of a run, several records at once, and records that fail."""

import csv
import logging
import sys
from pathlib import Path

import pytest
import yaml

from faig_lab.cli.arguments import compose
from faig_lab.cli.provenance import commit_of, network_label
from faig_lab.config import check
from faig_lab.errors import UserError
from faig_lab.files import write_json
from faig_lab.report.records import Description, LightningRecord, Records
from faig_lab.runs.folder import RunFolder

CONFIG = {"seed": 3, "network": {"features": 24}}


@pytest.fixture
def run(make_run):
    folder = make_run(drawn=True)
    metrics = {"isolation": 0.25, "isolation/faig/1": 0.25, "isolation/faig/10": 0.5, "psnr/target/blur": 30.0}
    write_json(folder / "metrics.json", metrics | {"seconds/data": 1.0})
    return folder


def recorded(folder):
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(file)]


def test_csv_has_the_curves_the_headline_and_the_settings(run):
    record = LightningRecord.start("csv", CONFIG, run)
    record.log_training("training/baseline", {"step": 2.0, "loss": 0.5, "psnr/blur": None})
    record.log_training("training/baseline", {"step": 4.0, "loss": 0.25, "psnr/blur": 28.0})
    record.log_run(RunFolder(run), {}, "x")
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


def test_a_record_that_is_written_again_has_every_row_once(run):
    for _ in range(2):
        record = LightningRecord.start("csv", CONFIG, run)
        record.log_run(RunFolder(run), {}, "x")
        record.finish()
    assert sum("isolation" in row for row in recorded(run)) == 1


def test_tensorboard_has_curves_figures_captions_and_hyper_parameters(run):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record = LightningRecord.start("tensorboard", CONFIG, run)
    record.log_training("training/baseline", {"step": 4.0, "loss": 0.25})
    record.log_run(RunFolder(run), {"layers": "A caption."}, "x")
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
    description = Description("blur_noise", "faig", "SRResNet-24x8", 0, "study", CONFIG, "")
    assert description.title == "blur_noise faig SRResNet-24x8 seed 0"
    assert description.networks == "blur_noise-SRResNet-24x8-seed0"
    with Records.start(settings, description, run) as records:
        records.log_run(RunFolder(run), {})
        assert records.folders == {"csv": run / "csv"}
    assert (run / "csv" / "metrics.csv").is_file()


def test_a_record_that_fails_is_one_warning(run, caplog, monkeypatch):
    record = LightningRecord.start("csv", CONFIG, run)
    monkeypatch.setattr(record._logger, "log_metrics", lambda *_: 1 / 0)
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            record.log_training("training/target", {"step": step, "loss": 1.0})
        record.finish()
    assert caplog.messages == ["csv: recording stopped (ZeroDivisionError: division by zero)"]


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


# What a record says about a run


def test_a_network_is_named_by_class_and_sizes():
    assert network_label(check(compose([])).network) == "SRResNet-24x8"
    small = check(compose(["network.features=4", "network.blocks=1"])).network
    assert network_label(small) == "SRResNet-4x1"
    assert network_label({"_target_": "a.b.Net", "scale": 2, "residual": True}) == "Net"


def test_a_folder_that_git_does_not_track_has_no_commit(tmp_path):
    (tmp_path / "__init__.py").touch()
    assert commit_of(tmp_path) is None


def test_the_commit_of_a_tracked_folder_and_of_changed_files(tmp_path):
    import subprocess

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)

    (tmp_path / "__init__.py").touch()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert commit_of.__wrapped__(tmp_path) == head
    (tmp_path / "__init__.py").write_text("changed")
    assert commit_of.__wrapped__(Path(tmp_path)) == f"{head}+"
