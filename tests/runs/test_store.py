"""The store: an entry is there completely or not at all, and two runs train one network once."""

import errno
import json
import math
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from run_files import other_process

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import determinants
from faig_lab.config import check
from faig_lab.data import PairedImage, Photograph, StudyData
from faig_lab.errors import UserError
from faig_lab.filters import fingerprint, state_fingerprint
from faig_lab.runs import store
from faig_lab.runs.store import Entry, adopt, entries_of_other_versions, open_entry
from faig_lab.training.plan import Trained

NEEDS = {"seed": 0, "network": {"features": 4}}


@pytest.fixture
def trained(network):
    return Trained(dict(network.state_dict()), [{"step": 2.0, "loss": 0.1, "psnr/blur": 20.0}])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Fingerprints


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    some = {"a": 1, "b": {"c": [1, 2], "d": None}, "é": "σ"}
    other = {"é": "σ", "b": {"d": None, "c": [1, 2]}, "a": 1}
    assert fingerprint(some) == fingerprint(other)
    assert len(fingerprint(some)) == 16
    assert set(fingerprint(some)) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "other",
    [
        {"a": 2, "b": [1, 2]},
        {"a": 1, "b": [2, 1]},
        {"a": 1, "b": [1, 2], "c": None},
        {"a": 1},
        {"a": "1", "b": [1, 2]},
        {"a": True, "b": [1, 2]},
        {"A": 1, "b": [1, 2]},
    ],
)
def test_a_fingerprint_changes_with_every_value(other):
    assert fingerprint(other) != fingerprint({"a": 1, "b": [1, 2]})


def study(*names):
    image = PairedImage("i", torch.zeros(3, 4, 4), {name: torch.zeros(3, 2, 2) for name in ("clean", "blur", "noise")})
    train = tuple(Photograph(name, name, torch.zeros(8, 8, 3).byte().numpy(), f"hash of {name}") for name in names)
    return StudyData(train, (image,), (image,), ("blur", "noise"))


@cache
def settings_of(*overrides):
    return check(compose(["trainer=cpu", "trainer.precision=32-true", *overrides]))


def needs(*overrides, name="target", photographs=("a", "b"), start=None):
    return fingerprint(determinants(settings_of(*overrides), name, study(*photographs), start))


BOTH = """network.features=25 network.blocks=9 network=srcnn_style_small network.scale=3 seed=1
training.batch_size=8 training.patch_size=96 training.ema_decay=0.9 training.channels_last=false
training.loss._target_=torch.nn.MSELoss training.optimizer._target_=torch.optim.AdamW
training.optimizer.betas=[0.9,0.999] degradation.quantise=false degradation/downsample=bilinear
degradation.parts.blur.kernel_size=31 trainer.precision=bf16-mixed +trainer.gradient_clip_val=1.0"""
TARGET = """degradation.choose=one degradation=blur degradation.parts.blur.sigma=1
degradation.parts.blur.probability=0.4 degradation.parts.noise.sigma=0.2 training.target.iterations=10
training.target.learning_rate=1e-4 training.target.restart_every=10 training.target.minimum_learning_rate=0
training.target.warmup=5"""
NEITHER = """attribution=ig attribution.points=3 attribution.precision=float64 analysis.percents=[1,2] name=other
store=elsewhere logger=none traceback=true training.channels_last=true"""


@pytest.mark.parametrize(
    ("override", "counts"),
    [(override, counts) for names, counts in ((BOTH, (True, True)), (TARGET, (False, True)), (NEITHER, (False, False)))
     for override in names.split()] + [("training.baseline.iterations=10", (True, False))],
)  # fmt: skip
def test_what_determines_the_weights_counts_and_nothing_else(override, counts):
    """A wider margin counts for the baseline too, since a sample is reflected at a border at another place."""
    assert tuple(needs(override, name=name) != needs(name=name) for name in ("baseline", "target")) == counts


def test_networks_from_before_a_setting_keep_their_keys():
    known = determinants(settings_of("training.target.warmup=0"), "target", study("a", "b"), None)
    assert "warmup" not in known["training"]["target"]
    assert "sharpen_truth" not in known["degradation"]
    assert "choose" not in known["degradation"]


def test_the_keys_of_stored_networks_are_those_recorded():
    """A change of these keys throws away every trained network of every user."""
    assert [needs("training=laptop", name=name) for name in ("baseline", "target")] == [
        "b57bac0c6700e8ad",
        "4db8b1cf691bb033",
    ]
    assert needs("training=laptop", "training.channels_last=false") == "ea7413b0ee493642"


def test_photographs_and_starting_weights_count(network):
    state = dict(network.state_dict())
    other = {name: value + 1 for name, value in state.items()}
    found = [needs(photographs=names) for names in (("a", "b"), ("a",), ("b", "a"), ("a", "c"))]
    found += [needs(start=state), needs(start=other), needs(name="baseline")]
    assert len(set(found)) == len(found)
    assert needs(start={name: value.clone() for name, value in state.items()}) == needs(start=state)


def test_one_bit_changes_the_fingerprint_of_weights(network):
    state = dict(network.state_dict())
    before = state_fingerprint(state)
    assert before == state_fingerprint({name: value.clone() for name, value in state.items()})
    flipped = {name: value.clone() for name, value in state.items()}
    flipped["conv_hr.weight"].view(torch.int32).view(-1)[7] ^= 1
    assert float((flipped["conv_hr.weight"] - state["conv_hr.weight"]).abs().max()) < 1e-6
    changed = [
        flipped,
        {name: value.double() for name, value in state.items()},
        {name.replace("conv_hr", "conv_rh"): value for name, value in state.items()},
        state | {"conv_hr.weight": state["conv_hr.weight"].reshape(4, 2, 2, 9)},
        state | {"conv_hr.bias": -torch.zeros(4)},
        *({name: value.to(dtype) for name, value in state.items()} for dtype in (torch.float16, torch.bfloat16)),
    ]
    assert len({before, *map(state_fingerprint, changed)}) == 1 + len(changed)


def test_memory_format_and_device_details_do_not_change_the_fingerprint_of_weights(network):
    before = state_fingerprint(network.state_dict())
    assert before == state_fingerprint(network.to(memory_format=torch.channels_last).state_dict())
    assert before == state_fingerprint(dict(network.named_parameters()))


# Entries


@pytest.mark.parametrize("channels_last", [True, False, None])  # None as in entries of earlier versions
def test_what_is_published_is_loaded(network, trained, tmp_path, channels_last):
    store, name = tmp_path / "new" / "store", "SRResNet-target"
    with pytest.raises(RuntimeError), open_entry(store, name, NEEDS):
        raise RuntimeError  # the lock is released
    about = {} if channels_last is None else {"channels_last": channels_last}
    with open_entry(store, name, NEEDS) as entry:
        assert not entry.exists
        entry.publish(trained, {"what": "target", "determinants": NEEDS, **about})
        assert entry.exists
    with open_entry(store, name, NEEDS | {"seed": 1}) as other:
        assert not other.exists
    with open_entry(store, name, dict(reversed(NEEDS.items()))) as again:
        assert again.exists
    assert again.folder.name == f"{name}-{fingerprint(NEEDS)}"
    assert names(again.folder) == ["history.json", "weights.pt", "weights.yaml"]
    for loaded in (again.load(network), again.load(None)):
        assert all(torch.equal(loaded.state[name], value) for name, value in trained.state.items())
        assert (loaded.history, loaded.channels_last) == (trained.history, channels_last)
    (again.folder / "weights.yaml").write_text("what: target\n")  # as before fingerprints of the content
    assert list(again.load(network).state) == list(trained.state)


@pytest.mark.parametrize("failing", ["save_weights", "write_json"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_publication_that_fails_leaves_nothing(trained, tmp_path, monkeypatch, failing, error):
    def fail(*arguments):
        raise error

    with open_entry(tmp_path, "target", NEEDS) as entry:
        monkeypatch.setattr(f"faig_lab.runs.store.{failing}", fail)
        with pytest.raises(type(error)):
            entry.publish(trained, {})
        assert not entry.exists
        assert [name for name in names(tmp_path) if not name.endswith(".lock")] == []
        monkeypatch.undo()
        entry.publish(trained, {})
        assert entry.exists


def test_what_a_killed_run_left_half_written_is_invisible(trained, tmp_path):
    with open_entry(tmp_path, "target", NEEDS) as entry:
        half = tmp_path / f".{entry.folder.name}.1"
        half.mkdir()
        (half / "weights.pt").write_bytes(b"half")
    with open_entry(tmp_path, "target", NEEDS) as again:
        assert not again.exists
        again.publish(trained, {})
        assert again.exists


def _cut(path):
    path.write_bytes(path.read_bytes()[:100])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("weights.pt", _cut, "its end is missing"),
        ("weights.pt", _flip, "the checksum of "),
        ("weights.pt", lambda path: path.write_bytes(b""), "is empty"),
        ("weights.pt", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
        ("weights.pt", lambda path: torch.save({"a": torch.tensor([math.nan])}, path), ""),
        ("trajectory.pt", _cut, "its end is missing"),
        ("trajectory.pt", _flip, "the checksum of "),
        ("weights.yaml", lambda path: path.write_text("a: b: c"), "mapping values"),
        ("weights.yaml", lambda path: path.write_text("3"), "is no description"),
        ("weights.yaml", lambda path: path.unlink(), "No such file"),
        ("history.json", lambda path: path.write_text("{half"), "is damaged"),
        ("history.json", lambda path: path.unlink(), "No such file"),
    ],
)
@pytest.mark.parametrize("way", ["load", "read"])
def test_every_damaged_file_says_what_to_do(way, file, damage, words, network, trained, tmp_path):
    entry = Entry(tmp_path / "target-0")
    entry.publish(replace(trained, trajectory=(trained.state, trained.state)), {})
    damage(entry.folder / file)
    with pytest.raises(UserError) as caught:
        entry.load(network if way == "load" else None)
    line = str(caught.value)
    assert line.startswith(f"store: {entry.folder}")
    assert line.endswith(f"; delete the folder {entry.folder}")
    assert line.count("delete the folder") == 1
    assert "\n" not in line
    assert words in line


def test_one_bit_of_difference_is_damage(network, trained, tmp_path):
    """torch.load alone takes such files for sound: with a wrong checksum, and with a right one."""
    entry = Entry(tmp_path / "target-0")
    entry.publish(trained, {})
    weights = entry.folder / "weights.pt"
    content = bytearray(weights.read_bytes())
    content[content.index(trained.state["conv_hr.weight"].numpy().tobytes())] ^= 1
    weights.write_bytes(content)
    changed = torch.load(weights, weights_only=True)
    assert not torch.equal(changed["conv_hr.weight"], trained.state["conv_hr.weight"])
    with pytest.raises(UserError, match=r"it is damaged: the checksum of \S+ is wrong"):
        entry.load(network)
    torch.save(changed, weights)
    with pytest.raises(UserError, match=r"is damaged \(weights\.pt is not what was written\); delete the folder"):
        entry.load(network)


def test_the_time_of_the_folder_is_that_of_its_last_use(network, trained, tmp_path):
    entry = Entry(tmp_path / "target-0")
    entry.publish(trained, {})
    os.utime(entry.folder, (1000, 1000))
    before = {path: path.stat().st_mtime_ns for path in entry.folder.iterdir()}
    entry.load(network, mark=False)
    assert entry.folder.stat().st_mtime == 1000
    entry.load(network)
    assert entry.folder.stat().st_mtime > 1000
    assert before == {path: path.stat().st_mtime_ns for path in entry.folder.iterdir()}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC])
def test_a_store_for_reading_only_gives_what_it_has(number, network, trained, tmp_path, monkeypatch):
    with open_entry(tmp_path, "Net-baseline", NEEDS) as entry:
        entry.publish(trained, {})
    before = names(tmp_path)

    def refuse(self, *arguments, **named):
        raise OSError(number, os.strerror(number), str(self.lock_file))

    monkeypatch.setattr("faig_lab.runs.store.FileLock.acquire", refuse)
    if number != errno.ENOSPC:  # a full disk is no store for reading only
        with open_entry(tmp_path, "Net-baseline", NEEDS) as entry:
            assert entry.load(network).history == trained.history
        assert names(tmp_path) == before
    missing = "Net-baseline" if number == errno.ENOSPC else "Net-target"
    with pytest.raises(OSError, match=os.strerror(number)), open_entry(tmp_path, missing, NEEDS):
        pytest.fail("a lock is needed")


# Entries of other versions


def published(store, trained, determinants, name="SRResNet-target"):
    with open_entry(store, name, determinants) as entry:
        entry.publish(trained, {"what": "target", "determinants": determinants})
    return entry.folder


def test_the_key_does_not_depend_on_the_text_of_the_code(monkeypatch):
    """A renamed variable, a moved module or another release of torch throws nothing away."""
    before = needs()
    monkeypatch.setattr(torch, "__version__", "0.0.0")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("the key reads files"))
    monkeypatch.setattr(Path, "read_bytes", lambda *_: pytest.fail("the key reads files"))
    assert needs() == before


@pytest.mark.parametrize("old", [{"code": "a4ee8ab09733756d"}, {"numerics": 1}, {"numerics": 3}, {}])
def test_entries_of_other_versions_are_found(trained, tmp_path, old):
    folder = published(tmp_path, trained, NEEDS | old)
    assert entries_of_other_versions(tmp_path, "SRResNet-target", NEEDS | {"numerics": 2}) == [folder]


@pytest.mark.parametrize(
    "other",
    [
        {"numerics": 2},  # it is the entry itself
        {"numerics": 1, "seed": 1},
        {"numerics": 1, "network": {"features": 5}},
        {"code": "a4ee8ab09733756d", "more": None},
    ],
)
def test_entries_of_other_networks_are_not(trained, tmp_path, other):
    published(tmp_path, trained, NEEDS | other)
    published(tmp_path, trained, NEEDS | {"numerics": 1}, name="SRResNet-baseline")
    assert entries_of_other_versions(tmp_path, "SRResNet-target", NEEDS | {"numerics": 2}) == []


@pytest.mark.parametrize("text", ["{half", "- 1", "determinants: none", "what: target", "\x00"])
def test_entries_that_do_not_tell_their_version_are_passed_over(trained, tmp_path, text):
    folder = published(tmp_path, trained, NEEDS | {"numerics": 1})
    (folder / "weights.yaml").write_text(text)
    assert entries_of_other_versions(tmp_path, "SRResNet-target", NEEDS | {"numerics": 2}) == []


def test_an_adopted_entry_is_found(network, trained, tmp_path):
    old = published(tmp_path, trained, NEEDS | {"code": "a4ee8ab09733756d"})
    new = adopt(old, 2)
    assert not old.exists()
    with open_entry(tmp_path, "SRResNet-target", NEEDS | {"numerics": 2}) as entry:
        assert entry.exists
        assert entry.folder == new
        assert list(entry.load(network).state) == list(trained.state)
        assert entry.description()["determinants"] == NEEDS | {"numerics": 2}


def test_what_cannot_be_adopted_stays(trained, tmp_path):
    old = published(tmp_path, trained, NEEDS | {"code": "a4ee8ab09733756d"})
    published(tmp_path, trained, NEEDS | {"numerics": 2})
    with pytest.raises(UserError, match="exists already"):
        adopt(old, 2)
    assert Entry(old).exists
    (old / "weights.yaml").write_text("what: target\n")
    with pytest.raises(UserError, match="has no record of the determinants of its weights"):
        adopt(old, 2)


# Two processes

CHILD = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from faig_lab.networks import SRResNet
from faig_lab.runs.store import open_entry
from faig_lab.training.plan import Trained

with open_entry(Path(sys.argv[1]), "target", {"seed": 0, "network": {"features": 4}}) as entry:
    print("locked", entry.exists, flush=True)
    sys.stdin.readline()
    entry.publish(Trained(dict(SRResNet(features=4, blocks=1).state_dict()), []), {"by": "child"})
"""


@pytest.fixture
def child(tmp_path):
    """Another process that holds the entry and goes on when a line comes in."""
    with other_process(CHILD, tmp_path) as process:
        assert process.stdout.readline() == "locked False\n"
        yield process
        process.kill()


@pytest.fixture
def react(monkeypatch):
    """Do something as soon as the wait for another run is logged; returns the lines of the log."""

    def install(reaction):
        lines = []
        monkeypatch.setattr(store.log, "info", lambda line, *given: (lines.append(line % given), reaction()))
        return lines

    return install


def test_two_runs_that_need_one_network_train_it_once(child, react, network, tmp_path):
    waiting = react(lambda: (child.stdin.write("go\n"), child.stdin.flush()))
    with open_entry(tmp_path, "target", NEEDS) as entry:
        assert entry.exists
        entry.load(network)
    assert waiting == ["another run is training target; waiting for its end"]
    assert json.loads((entry.folder / "history.json").read_text()) == []


def test_a_killed_run_releases_its_lock(child, react, trained, tmp_path):
    waiting = react(child.kill)
    with open_entry(tmp_path, "target", NEEDS) as entry:
        assert not entry.exists
        entry.publish(trained, {})
    assert len(waiting) == 1
