"""The store's upkeep: what is listed, what is damaged, what would go, what goes."""

import os
import shutil

import pytest
import torch

from faig_lab.__main__ import main
from faig_lab.cli.store import PARTIAL, SOUND, StoredFolder, remove, survey, to_remove
from faig_lab.config.settings import PruneSettings
from faig_lab.filters import save_weights
from faig_lab.networks import SRResNet
from faig_lab.runs.store import Entry, lock_of
from faig_lab.training.plan import Trained

DAY = 86400
NODE = {"_target_": "faig_lab.networks.SRResNet", "scale": 2, "features": 4, "blocks": 1}


def publish(store, name, seed):
    torch.manual_seed(seed)
    state = dict(SRResNet(features=4, blocks=1).state_dict())
    Entry(store / name).publish(Trained(state, []), {"network": NODE, "seed": seed, "iterations": 6})
    return state


@pytest.fixture
def store(tmp_path):
    """Three networks: a run holds the second, the third is damaged by one bit; a training to continue; a leftover."""
    store = tmp_path / "outputs" / "store"
    publish(store, "SRResNet-baseline-0", 0)
    held = publish(store, "SRResNet-target-1", 1)
    publish(store, "SRResNet-target-2", 2)
    weights = store / "SRResNet-target-2" / "weights.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    (store / ".SRResNet-target-3.partial").mkdir()
    (store / ".SRResNet-target-4.123").mkdir()
    save_weights(tmp_path / "outputs" / "blur_noise" / "run" / "weights" / "target.pt", held, {"what": "target"})
    (tmp_path / "outputs" / "blur_noise" / "run" / "weights" / "broken.pt").write_bytes(b"none")
    return store


def test_every_entry_is_read(store):
    found = {one.folder.name: one for one in survey(store, store.parent)}
    sound = found["SRResNet-target-1"]
    assert (sound.state, sound.seed, sound.iterations, sound.runs) == (SOUND, "1", "6", 1)
    assert sound.size > 5_000
    assert found["SRResNet-baseline-0"].runs == 0
    assert found[".SRResNet-target-3.partial"].state == PARTIAL
    assert "the checksum of" in found["SRResNet-target-2"].state
    assert [name for name, one in found.items() if one.damaged] == [".SRResNet-target-4.123", "SRResNet-target-2"]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("weights.pt", b"", "is empty"),
        ("weights.yaml", b"a: b: c", "mapping values"),
        ("weights.yaml", b"seed: 1", "network"),
        ("history.json", b"{", "damaged"),
    ],
)
def test_damage_is_named(store, file, content, reason):
    (store / "SRResNet-target-1" / file).write_bytes(content)
    (found,) = [one for one in survey(store, store.parent) if one.folder.name == "SRResNet-target-1"]
    assert found.damaged
    assert reason in found.state


def test_looking_is_not_using(store):
    os.utime(store / "SRResNet-target-1", (1000, 1000))
    assert {one.folder.name: one.used for one in survey(store, store.parent)}["SRResNet-target-1"] == 1000
    assert (store / "SRResNet-target-1").stat().st_mtime == 1000
    Entry(store / "SRResNet-target-1").load(SRResNet(features=4, blocks=1))
    assert (store / "SRResNet-target-1").stat().st_mtime > 1000


@pytest.mark.parametrize(
    ("prune", "expected"),
    [
        ({}, []),
        ({"runs": "x", "delete": True}, []),
        ({"unused": True}, ["SRResNet-target-1", "SRCNNStyle-target-2"]),
        ({"damaged": True}, ["SRCNNStyle-target-2"]),
        ({"older_than": 5.0}, ["SRResNet-baseline-0", "SRCNNStyle-target-2"]),
        ({"older_than": 5.0, "unused": True}, ["SRCNNStyle-target-2"]),
        ({"keep": ["SRResNet-*"]}, ["SRCNNStyle-target-2"]),
        ({"keep": ["*-baseline-*"], "unused": True}, ["SRResNet-target-1", "SRCNNStyle-target-2"]),
        ({"older_than": 0.0}, ["SRResNet-baseline-0", "SRResNet-target-1", "SRCNNStyle-target-2"]),
    ],
)
def test_what_goes_fits_everything_that_is_given(tmp_path, prune, expected):
    entries = [
        StoredFolder(tmp_path / "SRResNet-baseline-0", SOUND, used=0, size=1, runs=1),
        StoredFolder(tmp_path / "SRResNet-target-1", SOUND, used=9 * DAY, size=1),
        StoredFolder(tmp_path / "SRCNNStyle-target-2", "damaged: x", used=0, size=1),
    ]
    chosen = to_remove(entries, PruneSettings(**prune), now=10 * DAY)
    assert [entry.folder.name for entry in chosen] == expected


@pytest.mark.parametrize("name", ["SRResNet-target-1", ".SRResNet-target-3.partial"])
def test_an_entry_in_use_stays(store, name):
    """The lock of an entry is that of its unfinished training too."""
    (entry,) = [one for one in survey(store, store.parent) if one.folder.name == name]
    with lock_of(store / name.strip(".").removesuffix(".partial")):
        assert not remove(entry)
    assert entry.folder.is_dir()
    assert remove(entry)
    assert not entry.folder.exists()


def test_what_an_unfinished_study_wrote_today_stays(store):
    folder = store / ".study-5.partial"
    folder.mkdir()

    def entry():
        return next(one for one in survey(store, store.parent) if one.folder == folder)

    assert entry().state == PARTIAL
    assert not remove(entry())
    os.utime(folder, (1000, 1000))
    assert remove(entry())
    assert not folder.exists()


# The command


def run(store, *arguments):
    return main(["task=store", f"store={store}", *arguments])


def test_the_command_lists_and_leaves_no_run_folder(store, tmp_path, capsys):
    assert run(store) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 8
    assert "5 entries, 0.0 MB, 2 damaged" in shown
    assert "would remove" not in shown
    assert [path.name for path in (tmp_path / "outputs").rglob("run.log")] == []


def test_pruning_is_a_dry_run_unless_asked(store, capsys):
    everything = sorted(path.name for path in store.iterdir())
    assert run(store, "prune.unused=true") == 0
    shown = capsys.readouterr().out
    assert "would remove 4" in shown
    assert sorted(path.name for path in store.iterdir()) == everything
    assert run(store, "prune.unused=true", "prune.keep=[SRResNet-baseline-*]", "prune.delete=true") == 0
    assert "removed\n" in capsys.readouterr().out
    left = sorted(path.name for path in store.iterdir() if path.suffix != ".lock")
    assert left == ["SRResNet-baseline-0", "SRResNet-target-1"]


def test_an_empty_store_and_none(store, capsys):
    shutil.rmtree(store)
    assert run(store) == 2
    assert "no such folder" in capsys.readouterr().err
    store.mkdir()
    assert run(store, "prune.unused=true") == 0
    assert "0 entries" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("prune.older_than=-1", "prune.older_than: must be at least 0"),
        ("prune.unsed=true", "prune.unsed: unknown key; did you mean unused?"),
        ("prune.runs=nowhere", "prune.runs: nowhere: no such folder"),
    ],
)
def test_refusals(store, setting, expected, capsys):
    assert run(store, setting) == 2
    assert expected in capsys.readouterr().err
