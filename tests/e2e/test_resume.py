"""A run that is killed goes on, from its folder or by the same command, and ends with the same bits."""

import itertools
import json
import random
import signal

import kill_case
import pytest
import torch
from run_files import assert_same_numbers, assert_same_state, read
from tiny_case import tiny

pytestmark = pytest.mark.timeout(1800)  # a run takes seconds, but not on a machine that is busy

TINY = tiny(
    *("+experiment=blur_noise", "analysis=[masking,modulation]", "data.probe_crops=2", "attribution.points=4"),
    *("training.baseline.iterations=12", "training.target.iterations=13", "training.validate_every=4"),
    *("training.checkpoint_every=3", "attribution.methods.random.draws=2", "analysis.percents=[1,10]"),
    "analysis.studies.modulation.strengths=[0,0.5,1]",
)


def arguments(folder, store):
    return [*TINY, f"store={store}", f"hydra.run.dir={folder}"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupts: its folder and its store, and where its CPU time went."""
    root = tmp_path_factory.mktemp("whole")
    folder, store, record = root / "run", root / "store", root / "record.json"
    assert kill_case.start(arguments(folder, store), root / "log", record=record) == 0, (root / "log").read_text()
    return folder, store, json.loads(record.read_text())


def moments(record, count, seed):
    """Random moments: two thirds spread over all stages by CPU time, one third between a write and its rename."""
    rng, stages = random.Random(seed), record["stages"]
    spans = {}
    for (name, begin), (_, end) in itertools.pairwise(stages):
        spans.setdefault(name, []).append((begin, end))
    names = [name for name in spans if name != "end"]
    chosen = []
    for place in range(count):
        if place % 3 == 2:
            chosen.append(("rename", rng.randint(1, record["renames"])))
        else:
            begin, end = rng.choice(spans[names[(place * len(names) // count + seed) % len(names)]])
            chosen.append(("cpu", rng.uniform(begin, end)))
    return chosen


def tensors(path):
    return torch.load(path, weights_only=True)


def assert_same(folder, store, whole):
    """Weights in the folder and in the store, scores, tables and numbers agree bit for bit; nothing lies about."""
    other, other_store, _ = whole
    entries = sorted(path.name for path in other_store.iterdir())
    assert sorted(path.name for path in store.iterdir()) == entries
    networks = [name for name in entries if not name.startswith(".")]
    assert len(networks) == 2
    assert_same_numbers(folder, other)
    for name in networks:
        assert_same_state(tensors(store / name / "weights.pt"), tensors(other_store / name / "weights.pt"))
    names = sorted(path.name for path in (other / "attribution").iterdir())
    assert sorted(path.name for path in (folder / "attribution").iterdir()) == names
    for name in set(names) - {"scores.npz"}:  # there is a date inside a zip file
        assert (folder / "attribution" / name).read_bytes() == (other / "attribution" / name).read_bytes(), name
    for name in networks:
        assert (store / name / "history.json").read_bytes() == (other_store / name / "history.json").read_bytes()
    assert {path.name for path in (folder / "figures").iterdir()} == {
        path.name for path in (other / "figures").iterdir()
    }
    status = read(folder / "status.json")
    assert (status["state"], status["error"], status["pid"] > 0) == ("done", None, True)
    assert [path for path in folder.rglob(".*") if path.name != ".hydra"] == []


def kill_and_resume(root, moment, by_folder):
    """Kill a run at a moment, let it go on, and return its folder and store."""
    folder, store, log = root / "run", root / "store", root / "log"
    code = kill_case.start(arguments(folder, store), log, moment)
    assert code in (-signal.SIGKILL, 0), log.read_text()
    if code == 0:  # the moment came after the end: nothing is left to go on
        return folder, store
    assert not (folder / "status.json").is_file() or read(folder / "status.json")["state"] in ("running", "done")
    if by_folder and (folder / "config.yaml").is_file() and not is_done(folder):
        again = [f"resume={folder}"]
    else:
        folder = root / "another run"
        again = arguments(folder, store)
    assert kill_case.start(again, log) == 0, log.read_text()
    return folder, store


def is_done(folder):
    return (folder / "status.json").is_file() and read(folder / "status.json")["state"] == "done"


@pytest.mark.parametrize("number", range(3))
def test_three_kills(whole, tmp_path, number):
    moment = moments(whole[2], 3, seed=7)[number]
    folder, store = kill_and_resume(tmp_path, moment, by_folder=number != 1)
    assert_same(folder, store, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_twenty_kills(whole, tmp_path, number):
    moment = moments(whole[2], 20, seed=11)[number]
    folder, store = kill_and_resume(tmp_path, moment, by_folder=number % 2 == 0)
    assert_same(folder, store, whole)
