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
from tiny_case import networks, refusal, run, tiny, without_figures
from weights_fixtures import Trap

from faig_lab import save_weights
from faig_lab.networks import SRResNet

TINY = tiny("experiment=blur_noise", "analysis.percents=[1]")
KEPT = "what was finished is kept"


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run that trained both networks of TINY; they are in the store beside it."""
    return run(tmp_path_factory.mktemp("faults") / "first", *TINY)


@pytest.fixture
def store(first):
    """A store with both networks, which a refused run leaves as it is."""
    store = first.parent / "store"
    before = trained(store)
    yield store
    assert trained(store) == before


def refused(capsys, folder, store, *settings):
    """The one line that a run ends with; status.json has the same."""
    line = refusal(capsys, *TINY, f"store={store}", f"hydra.run.dir={folder}", *settings)
    status = folder / "status.json"
    if status.is_file():
        assert (read(status)["state"], read(status)["error"]) == ("failed", line)
    return line


def trained(store):
    """Every file of the trained networks of a store."""
    return {path: content for name in networks(store) for path, content in contents(store / name).items()}


def phases(store):
    """Which networks of TINY a store has."""
    return [name.split("-")[1] for name in networks(store)]


def unfinished(folder):
    """Temporary files that were left behind; not locks, and not what Hydra writes."""
    paths = [path for path in folder.rglob(".*") if path.is_file() or path.is_symlink()]
    return [path for path in paths if path.suffix != ".lock" and path.name != ".lock" and ".hydra" not in path.parts]


# A full disk


@pytest.fixture
def full(monkeypatch):
    """Let writing files of a name fail as on a full disk: they are /dev/full, and the error is the system's own."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
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

    return fill


def test_the_disk_of_the_store_is_full_when_the_target_is_trained(full, capsys, tmp_path, monkeypatch):
    store = tmp_path / "store"
    full("weights", after=3)  # a network is a .yaml and a .pt
    line = refused(capsys, tmp_path / "run", store)
    assert line.startswith(f"store: no space left to write to {store} (")
    assert KEPT in line
    assert line.endswith("or set store to a folder on another disk")
    assert phases(store) == ["baseline"]
    assert unfinished(tmp_path) == []
    before = trained(store)
    monkeypatch.undo()
    run(tmp_path / "run", *TINY)
    assert phases(store) == ["baseline", "target"]
    assert before.items() <= trained(store).items()
    assert "baseline: already trained" in (tmp_path / "run" / "run.log").read_text()


@pytest.mark.parametrize(
    ("stem", "stage", "kept"),
    [
        ("target", "target", ["weights/baseline.pt"]),
        ("scores", "attribution", ["weights/baseline.pt"]),
        ("masking", "analysis", ["weights/target.pt", "attribution/scores.npz", "tables/restoration.csv"]),
        ("report", "report", ["weights/target.pt", "attribution/scores.npz", "tables/masking.csv"]),
    ],
)
def test_the_disk_of_the_run_is_full(stem, stage, kept, full, first, store, capsys, tmp_path):
    folder = tmp_path / "run"
    full(stem)
    with without_figures():
        line = refused(capsys, folder, store)
    assert line.startswith(f"hydra.run.dir: no space left to write to {folder} (")
    assert KEPT in line
    assert read(folder / "status.json")["stage"] == stage
    assert unfinished(folder) == []
    for name in kept:
        assert (folder / name).read_bytes() == (first / name).read_bytes()


def test_a_disk_without_space_for_a_second_status_still_records_how_the_run_ended(full, store, capsys, tmp_path):
    folder = tmp_path / "run"
    full("status", after=3)
    line = refused(capsys, folder, store)
    assert line.startswith(f"hydra.run.dir: no space left to write to {folder} (")
    assert (read(folder / "status.json")["state"], read(folder / "status.json")["error"]) == ("failed", line)


# A folder that cannot be written to (by a file in its place: root may write anywhere else)


@pytest.mark.parametrize("below", ["", "/run"])
@pytest.mark.parametrize("key", ["hydra.run.dir", "store", "data.prepared"])
def test_a_folder_that_cannot_be_written_to(key, below, capsys, tmp_path, photographs):
    (tmp_path / "file").write_text("mine")
    given = {"hydra.run.dir": tmp_path / "run", "store": tmp_path / "store", "data.prepared": tmp_path / "prepared"}
    given[key] = Path(f"{tmp_path / 'file'}{below}")
    line = refused(
        capsys, given["hydra.run.dir"], given["store"], *photographs, f"data.prepared={given['data.prepared']}"
    )
    assert line.startswith(f"{key}: {given[key]} cannot be written to (")
    assert line.endswith("; choose another folder")
    assert (tmp_path / "file").read_text() == "mine"


# Images


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"", lambda data: data[:300] * 5])
def test_a_damaged_image(side, prepared, damage, photographs, capsys, tmp_path):
    path = tmp_path / side / f"{side}_b.png"
    path.write_bytes(damage(path.read_bytes()))
    extra = [f"data.prepared={tmp_path / 'prepared'}"] if prepared else []
    line = refused(capsys, tmp_path / "run", tmp_path / "store", *photographs, *extra)
    assert line.startswith(f"{path}: ")
    assert any(word in line for word in ("damaged or incomplete image", "the file is empty"))
    assert read(tmp_path / "run" / "status.json")["stage"] == "data"
    assert not (tmp_path / "store").exists()
    decoded = 5 if side == "test" else 1  # test_b.png is the last of six, train_b.png the second
    assert len(list((tmp_path / "prepared").glob("*.npy"))) == decoded * prepared


def test_an_image_smaller_than_the_patch(photographs, capsys, tmp_path):
    Image.new("RGB", (70, 42)).save(tmp_path / "train" / "small.png")
    line = refused(capsys, tmp_path / "run", tmp_path / "store", *photographs)
    assert line == "training.patch_size: 48 is larger than small (70×42); at most 42 fits"
    assert networks(tmp_path / "store") == []


# Training


def test_a_loss_that_is_not_finite(store, capsys, tmp_path):
    line = refused(capsys, tmp_path / "run", store, "training.target.learning_rate=1e30")
    assert line.startswith("training.target: the loss became ")
    assert line.endswith("lower training.target.learning_rate or use trainer.precision=32-true")
    assert (tmp_path / "run" / "weights" / "baseline.pt").is_file()
    assert not (tmp_path / "run" / "weights" / "target.pt").exists()


# Out of memory


def on_a_processor(*arguments, **named):
    """Raise what torch raises on a CPU, by torch itself."""
    torch.empty(2**60, dtype=torch.uint8)


def on_a_gpu(*arguments, **named):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of …")


def in_python(*arguments, **named):
    raise MemoryError


def test_out_of_memory_in_training(capsys, tmp_path, monkeypatch):
    module = importlib.import_module("faig_lab.training.module")
    step = module.SRModule.training_step

    def training_step(self, *arguments):
        return step(self, *arguments) if self.clean else on_a_processor()

    monkeypatch.setattr(module.SRModule, "training_step", training_step)
    assert refused(capsys, tmp_path / "run", tmp_path / "store") == (
        "training.batch_size: out of memory in target (1152921504606846976 bytes asked for); "
        f"lower training.batch_size (now 2) or training.patch_size (now 48); {KEPT}"
    )
    assert phases(tmp_path / "store") == ["baseline"]
    monkeypatch.undo()
    run(tmp_path / "run", *TINY, "training.patch_size=32")


@pytest.mark.parametrize(
    ("place", "fails", "settings", "line", "remedy"),
    [
        ("attribute", on_a_processor, [],
         f"data.probe_crop: out of memory in attribution ({2**60} bytes asked for); lower data.probe_crop (now 32); ",
         ["data.probe_crop=16"]),
        ("attribute", on_a_gpu, [],
         "data.probe_crop: out of memory in attribution (20.00 GiB asked for); lower data.probe_crop (now 32); ",
         ["data.probe_crop=16"]),
        ("restoration", on_a_gpu, ["data.test_crop=null"],
         "data.test_crop: out of memory in analysis (20.00 GiB asked for); lower data.test_crop (now null: the whole ",
         ["data.test_crop=16"]),
        ("restoration", in_python, ["data.test_crop=null"],
         "data.test_crop: out of memory in analysis; lower data.test_crop (now null: the whole image)",
         ["data.test_crop=16"]),
    ],
)  # fmt: skip
def test_out_of_memory_after_training(
    place, fails, settings, line, remedy, first, store, capsys, tmp_path, monkeypatch
):  # fmt: skip
    monkeypatch.setattr(f"faig_lab.cli.study.{place}", fails)
    found = refused(capsys, tmp_path / "run", store, *settings)
    assert found.startswith(line)
    assert KEPT in found
    if place == "restoration":
        for name in ("weights/target.pt", "attribution/scores.npz", "tables/completeness.csv"):
            assert (tmp_path / "run" / name).read_bytes() == (first / name).read_bytes()
    monkeypatch.undo()
    run(tmp_path / "run", *TINY, *remedy, store=store)
    assert (tmp_path / "run" / "run.log").read_text().count("already trained") >= 2


def test_out_of_memory_while_reading_photographs(photographs, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("faig_lab.data.photographs.decode_image", in_python)
    line = refused(capsys, tmp_path / "run", tmp_path / "store", *photographs)
    assert "out of memory in data" in line
    assert "give data.prepared=FOLDER, which keeps photographs on disk" in line


# Weights


def test_weights_that_do_not_fit_or_have_something_to_execute_in_them(store, capsys, tmp_path):
    save_weights(tmp_path / "x3.pth", SRResNet(features=4, blocks=1, scale=3).state_dict())
    state = SRResNet(features=4, blocks=1).state_dict()
    torch.save({"state_dict": state, "evil": Trap(tmp_path / "executed")}, tmp_path / "evil.ckpt")
    (tmp_path / "text.yaml").write_text("network: {}\n")
    words = {"x3.pth": "check scale and size of the network", "evil.ckpt": "nothing in it was executed"}
    for name in ("x3.pth", "evil.ckpt", "text.yaml"):
        line = refused(capsys, tmp_path / "run", store, f"target.weights={tmp_path / name}")
        assert line.startswith(f"target.weights: {tmp_path / name}")
        assert words.get(name, "") in line
    assert not (tmp_path / "executed").exists()


# A finished run


@pytest.fixture
def old(first, tmp_path):
    """A copy of a finished run, to be changed."""
    return Path(shutil.copytree(first, tmp_path / "old"))


def analysis_refused(capsys, run):
    """The line that task=analyse on a run ends with; the run is as it was."""
    before, metrics = contents(run), read(run / "metrics.json")
    line = refusal(capsys, "task=analyse", f"run={run}", "analysis=curves", "logger=none", "trainer=cpu")
    changed = {path.name for path, content in contents(run).items() if before.get(path) != content}
    assert changed <= {"status.json", "metrics.json"}
    assert metrics.keys() <= read(run / "metrics.json").keys()
    return line


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
    line = analysis_refused(capsys, old)
    assert line.startswith(f"run: {old / 'config.yaml'} (made with faig_lab 0.0.1; this is ")
    assert "): training.momentum: unknown key" in line


def test_a_run_of_another_version_without_a_setting(old, capsys):
    with_config(old, lambda config: config["training"].pop("loss"))
    line = f"run: {old / 'config.yaml'}: training.loss: missing; the configuration must have it"
    assert analysis_refused(capsys, old) == line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", " is no configuration"),
        ("[1, 2]\n", " is no configuration"),
        ("analysis: {percents: [1]}\n", " is of another version of faig_lab: it has no analysis.studies"),
        ("analysis:\n", " is of another version of faig_lab: it has no analysis.studies"),
        ("analysis: {studies: [", " cannot be read ("),
    ],
)
def test_a_configuration_that_cannot_be_used(old, text, words, capsys):
    (old / "config.yaml").write_text(text)
    line, start = analysis_refused(capsys, old), f"run: {old / 'config.yaml'}{words}"
    assert line.startswith(start) if words.endswith("(") else line == start


def test_scores_with_something_to_execute_in_them(old, capsys, tmp_path):
    evil = np.array([Trap(tmp_path / "executed")], dtype=object)
    np.savez(old / "attribution" / "scores.npz", blur=evil, noise=evil)
    assert f"run: {old / 'attribution' / 'scores.npz'} cannot be read as the scores" in analysis_refused(capsys, old)
    assert not (tmp_path / "executed").exists()


def test_weights_of_a_run_with_something_to_execute_in_them(old, capsys, tmp_path):
    torch.save({"conv_first.weight": Trap(tmp_path / "executed")}, old / "weights" / "target.pt")
    line = analysis_refused(capsys, old)
    assert line.startswith("target.weights: ")
    assert "nothing in it was executed" in line
    assert not (tmp_path / "executed").exists()
