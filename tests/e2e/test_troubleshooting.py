"""Troubleshooting: each fault ends with one line that names the remedy; nothing that was computed before is lost."""

import importlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from run_files import contents, read
from tiny_case import tiny, without_figures, without_report
from weights_fixtures import Trap

from faig_lab import save_weights
from faig_lab.__main__ import main
from faig_lab.networks import SRResNet

TINY = tiny("+experiment=blur_noise", "analysis.percents=[1]")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def store(root):
    """A store with both networks of TINY, and the run that trained them."""
    with without_report():
        assert start(root / "first", root / "store") == 0
    return root / "store"


def start(folder, store, *settings):
    return main([*TINY, f"store={store}", f"hydra.run.dir={folder}", *settings])


def refusal(capsys, folder, store, *settings):
    """The one line that a run ends with; status.json says the same."""
    assert start(folder, store, *settings) == 2
    shown = capsys.readouterr().err
    lines = shown.splitlines()
    assert "Traceback" not in shown
    assert [line for line in lines if line.startswith("error: ")] == [lines[-1]]
    line = lines[-1].removeprefix("error: ")
    status = folder / "status.json"
    if status.is_file():
        assert (read(status)["state"], read(status)["error"]) == ("failed", line)
    return line


def trained(store):
    """The trained networks of a store; what it keeps of unfinished runs is hidden."""
    return {path: content for entry in store.glob("[!.]*") for path, content in contents(entry).items()}


def networks(store):
    """The names of the trained networks in a store."""
    return sorted(path.name.split("-")[1] for path in store.glob("[!.]*") if path.is_dir())


def unfinished(folder):
    """Temporary files that were left behind; not locks, and not what Hydra writes."""
    paths = [path for path in folder.rglob(".*") if path.is_file() or path.is_symlink()]
    return [path for path in paths if path.suffix != ".lock" and path.name != ".lock" and ".hydra" not in path.parts]


# A full disk


@pytest.fixture
def full(monkeypatch):
    """Let writing files of a name fail as on a full disk: they are /dev/full, and the error is the system's own."""
    make = tempfile.mkstemp

    def fill(stem, after=0):
        count = 0

        def mkstemp(**where):
            nonlocal count
            handle, name = make(**where)
            count += where["prefix"] == f".{stem}-"
            if where["prefix"] == f".{stem}-" and count > after:
                Path(name).unlink()
                Path(name).symlink_to("/dev/full")
            return handle, name

        monkeypatch.setattr("faig_lab.files.tempfile.mkstemp", mkstemp)

    yield fill
    monkeypatch.undo()


linux = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
FULL = "no space left to write to {} ("
KEPT = "what was finished is kept"


@linux
def test_the_disk_of_the_store_is_full_when_the_target_is_trained(full, capsys, tmp_path, monkeypatch):
    store = tmp_path / "store"
    full("weights", after=3)  # a network is a .yaml and a .pt
    line = refusal(capsys, tmp_path / "run", store)
    assert line.startswith("store: " + FULL.format(store))
    assert KEPT in line
    assert line.endswith("or set store to a folder on another disk")
    assert networks(store) == ["baseline"]
    assert unfinished(tmp_path) == []
    before = contents(next(store.glob("*-baseline-*")))
    monkeypatch.undo()
    with without_report():
        assert start(tmp_path / "run", store) == 0
    assert networks(store) == ["baseline", "target"]
    assert contents(next(store.glob("*-baseline-*"))) == before
    assert "baseline: already trained" in (tmp_path / "run" / "run.log").read_text()


@linux
@pytest.mark.parametrize(
    ("stem", "stage", "kept"),
    [
        ("target", "target", ["weights/baseline.pt"]),
        ("scores", "attribution", ["weights/baseline.pt"]),
        ("masking", "analysis", ["weights/target.pt", "attribution/scores.npz", "tables/restoration.csv"]),
        ("report", "report", ["weights/target.pt", "attribution/scores.npz", "tables/masking.csv"]),
    ],
)
def test_the_disk_of_the_run_is_full(stem, stage, kept, full, store, capsys, tmp_path):
    folder, before = tmp_path / "run", trained(store)
    full(stem)
    with without_figures():
        line = refusal(capsys, folder, store)
    assert line.startswith("hydra.run.dir: " + FULL.format(folder))
    assert KEPT in line
    assert read(folder / "status.json")["stage"] == stage
    assert unfinished(folder) == []
    assert trained(store) == before
    for name in kept:
        assert (folder / name).read_bytes() == (store.parent / "first" / name).read_bytes()


@linux
def test_a_disk_without_room_for_a_second_status_still_says_how_the_run_ended(full, store, capsys, tmp_path):
    folder = tmp_path / "run"
    full("status", after=3)
    line = refusal(capsys, folder, store)
    assert line.startswith("hydra.run.dir: " + FULL.format(folder))
    assert (read(folder / "status.json")["state"], read(folder / "status.json")["error"]) == ("failed", line)


# A folder that cannot be written to (by a file in its place: root may write anywhere else)


@pytest.mark.parametrize("below", ["", "/run"])
@pytest.mark.parametrize("key", ["hydra.run.dir", "store", "data.prepared"])
def test_a_folder_that_cannot_be_written_to(key, below, capsys, tmp_path, photographs):
    (tmp_path / "file").write_text("mine")
    given = {"hydra.run.dir": tmp_path / "run", "store": tmp_path / "store", "data.prepared": tmp_path / "prepared"}
    given[key] = f"{tmp_path / 'file'}{below}"
    settings = [*photographs, f"data.prepared={given['data.prepared']}"]
    line = refusal(capsys, Path(given["hydra.run.dir"]), given["store"], *settings)
    assert line.startswith(f"{key}: {given[key]} cannot be written to (")
    assert line.endswith("; choose another folder")
    assert (tmp_path / "file").read_text() == "mine"


# Images


@pytest.fixture
def photographs(folders):
    """Settings for folders of photographs, 68×60."""
    return ["data=folder", *(f"data.{side}_dir={folders / side}" for side in ("train", "probe", "test"))]


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"", lambda data: data[:300] * 5])
def test_a_damaged_image(prepared, damage, photographs, capsys, tmp_path):
    path = tmp_path / "test" / "test_b.png"
    path.write_bytes(damage(path.read_bytes()))
    extra = [f"data.prepared={tmp_path / 'prepared'}"] if prepared else []
    line = refusal(capsys, tmp_path / "run", tmp_path / "store", *photographs, *extra)
    assert line.startswith(f"{path}: ")
    assert any(word in line for word in ("damaged or incomplete image", "the file is empty"))
    assert not (tmp_path / "store").exists()
    assert len(list((tmp_path / "prepared").glob("*.npy"))) == (5 if prepared else 0)


def test_an_image_smaller_than_the_patch(photographs, capsys, tmp_path):
    Image.new("RGB", (70, 42)).save(tmp_path / "train" / "small.png")
    line = refusal(capsys, tmp_path / "run", tmp_path / "store", *photographs)
    assert line == "training.patch_size: 48 is larger than small (70×42); at most 42 fits"
    assert networks(tmp_path / "store") == []


# Training


def test_a_loss_that_is_not_finite(store, capsys, tmp_path):
    before = trained(store)
    line = refusal(capsys, tmp_path / "run", store, "training.target.learning_rate=1e30")
    assert line.startswith("training.target: the loss became ")
    assert line.endswith("lower training.target.learning_rate or use trainer.precision=32-true")
    assert trained(store) == before
    assert (tmp_path / "run" / "weights" / "baseline.pt").is_file()
    assert not (tmp_path / "run" / "weights" / "target.pt").exists()


# Out of memory


def out_of_memory(*arguments, **named):
    """What torch says on a CPU, from torch itself."""
    torch.empty(2**60, dtype=torch.uint8)


def out_of_gpu_memory(*arguments, **named):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of …")


def test_out_of_memory_in_training(capsys, tmp_path, monkeypatch):
    module = importlib.import_module("faig_lab.training.module")
    step = module.SRModule.training_step

    def training_step(self, *arguments):
        return step(self, *arguments) if self.clean else out_of_memory()

    monkeypatch.setattr(module.SRModule, "training_step", training_step)
    store = tmp_path / "store"
    assert refusal(capsys, tmp_path / "run", store) == (
        "training.batch_size: out of memory in target (1152921504606846976 bytes asked for); "
        f"lower training.batch_size (now 2) or training.patch_size (now 48); {KEPT}"
    )
    assert networks(store) == ["baseline"]
    monkeypatch.undo()
    with without_report():
        assert start(tmp_path / "run", store, "training.patch_size=32") == 0


@pytest.mark.parametrize("fails", [out_of_memory, out_of_gpu_memory])
def test_out_of_memory_in_attribution(fails, store, capsys, tmp_path, monkeypatch):
    before = trained(store)
    monkeypatch.setattr("faig_lab.cli.study.attribute", fails)
    line = refusal(capsys, tmp_path / "run", store)
    asked = "20.00 GiB" if fails is out_of_gpu_memory else "1152921504606846976 bytes"
    assert line == (
        f"data.probe_crop: out of memory in attribution ({asked} asked for); lower data.probe_crop (now 32); {KEPT}"
    )
    assert trained(store) == before
    monkeypatch.undo()
    with without_report():
        assert start(tmp_path / "run", store, "data.probe_crop=16") == 0
    assert (tmp_path / "run" / "run.log").read_text().count("already trained") >= 2
    assert trained(store) == before


@pytest.mark.parametrize("fails", [out_of_gpu_memory, MemoryError])
def test_out_of_memory_in_an_analysis(fails, store, capsys, tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr("faig_lab.cli.study.restoration", fail if fails is MemoryError else fails)
    line = refusal(capsys, tmp_path / "run", store, "data.test_crop=null")
    assert line.startswith("data.test_crop: out of memory in analysis")
    assert "lower data.test_crop (now null: the whole image)" in line
    first = store.parent / "first"
    for name in ("weights/target.pt", "attribution/scores.npz", "tables/completeness.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (first / name).read_bytes()


def test_out_of_memory_while_reading_photographs(photographs, capsys, tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr("faig_lab.data.photographs.decode_image", fail)
    line = refusal(capsys, tmp_path / "run", tmp_path / "store", *photographs)
    assert "out of memory in data" in line
    assert "give data.prepared=FOLDER, which keeps photographs on disk" in line


# Weights


def test_weights_of_another_scale(store, capsys, tmp_path):
    before = trained(store)
    save_weights(tmp_path / "x3.pth", SRResNet(features=4, blocks=1, scale=3).state_dict())
    line = refusal(capsys, tmp_path / "run", store, f"target.weights={tmp_path / 'x3.pth'}")
    assert line.startswith(f"target.weights: {tmp_path / 'x3.pth'} ")
    assert "check scale and size of the network" in line
    assert trained(store) == before


def test_weights_with_something_to_execute_in_them(store, capsys, tmp_path):
    before = trained(store)
    state = SRResNet(features=4, blocks=1).state_dict()
    torch.save({"state_dict": state, "evil": Trap(tmp_path / "executed")}, tmp_path / "evil.ckpt")
    line = refusal(capsys, tmp_path / "run", store, f"target.weights={tmp_path / 'evil.ckpt'}")
    assert line.startswith(f"target.weights: {tmp_path / 'evil.ckpt'} ")
    assert "nothing in it was executed" in line
    assert not (tmp_path / "executed").exists()
    assert trained(store) == before


# A finished run


@pytest.fixture
def old(store, tmp_path):
    """A copy of a finished run, to be changed."""
    return Path(shutil.copytree(store.parent / "first", tmp_path / "old"))


def analysis_refusal(capsys, run):
    """What task=analyse on a run is refused with; the run is as it was."""
    before, metrics = contents(run), read(run / "metrics.json")
    assert main(["task=analyse", f"run={run}", "analysis=curves", "logger=none", "trainer=cpu"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [lines[-1]]
    changed = {path.name for path, content in contents(run).items() if before.get(path) != content}
    assert changed <= {"status.json", "metrics.json"}
    assert metrics.keys() <= read(run / "metrics.json").keys()
    return lines[-1].removeprefix("error: ")


def with_config(run, change):
    file = run / "config.yaml"
    config = yaml.safe_load(file.read_text())
    change(config)
    file.write_text(yaml.safe_dump(config))


def test_a_run_of_another_version_with_a_setting_that_is_gone(old, capsys):
    with_config(old, lambda config: config["training"].update(momentum=0.9))
    provenance = read(old / "attribution" / "provenance.json")
    provenance["versions"]["faig_lab"] = "0.0.1"
    (old / "attribution" / "provenance.json").write_text(json.dumps(provenance))
    line = analysis_refusal(capsys, old)
    assert line.startswith(f"run: {old / 'config.yaml'} (made with faig_lab 0.0.1; this is ")
    assert "): training.momentum: unknown key" in line


def test_a_run_of_another_version_without_a_setting(old, capsys):
    with_config(old, lambda config: config["training"].pop("loss"))
    assert analysis_refusal(capsys, old) == (
        f"run: {old / 'config.yaml'}: training.loss: missing; the configuration must have it"
    )


@pytest.mark.parametrize("text", ["", "[1, 2]\n"])
def test_a_file_that_is_no_configuration(old, text, capsys):
    (old / "config.yaml").write_text(text)
    assert analysis_refusal(capsys, old) == f"run: {old / 'config.yaml'} is no configuration"


@pytest.mark.parametrize("text", ["analysis: {percents: [1]}\n", "analysis:\n"])
def test_a_run_from_before_there_were_studies(old, text, capsys):
    (old / "config.yaml").write_text(text)
    assert analysis_refusal(capsys, old) == (
        f"run: {old / 'config.yaml'} is of another version of faig_lab: it has no analysis.studies"
    )


def test_a_configuration_that_is_damaged(old, capsys):
    (old / "config.yaml").write_text("analysis: {studies: [")
    assert analysis_refusal(capsys, old).startswith(f"run: {old / 'config.yaml'} cannot be read (")


def test_scores_with_something_to_execute_in_them(old, capsys, tmp_path):
    evil = np.array([Trap(tmp_path / "executed")], dtype=object)
    np.savez(old / "attribution" / "scores.npz", blur=evil, noise=evil)
    assert f"run: {old / 'attribution' / 'scores.npz'} cannot be read as the scores" in analysis_refusal(capsys, old)
    assert not (tmp_path / "executed").exists()


def test_weights_of_a_run_with_something_to_execute_in_them(old, capsys, tmp_path):
    torch.save({"conv_first.weight": Trap(tmp_path / "executed")}, old / "weights" / "target.pt")
    line = analysis_refusal(capsys, old)
    assert line.startswith("target.weights: ")
    assert "nothing in it was executed" in line
    assert not (tmp_path / "executed").exists()
