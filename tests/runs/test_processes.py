"""Several processes for one run: two on the CPU give what one gives; what was started must fit the settings."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import ranks_case
import torch
from tiny_case import tiny

from faig_lab.errors import UserError
from faig_lab.runs import processes


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def attributed(tmp_path_factory):
    """What each of two processes returns that attribute together: number of images → scores."""
    return ranks_case.in_two_processes(ranks_case.attributions, tmp_path_factory.mktemp("attributed"))


def test_two_processes_attribute_like_one(attributed):
    alone = ranks_case.attribute(3)
    assert len(attributed) == 2
    for shared in (found[3] for found in attributed):
        for name, values in alone.items():
            assert shared[name].dtype == values.dtype
            torch.testing.assert_close(shared[name], values, rtol=1e-6, atol=1e-6 * float(values.abs().max()), msg=name)
        assert torch.equal(shared["magnitude"], alone["magnitude"])


def test_a_process_may_have_no_image_of_its_own(attributed):
    alone = ranks_case.attribute(1)
    assert len(attributed) == 2
    for shared in (found[1] for found in attributed):
        assert torch.equal(shared["magnitude"], alone["magnitude"])
        assert torch.equal(shared["points"], alone["points"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What each of two processes returns that train from the first step to the last."""
    return ranks_case.in_two_processes(ranks_case.train, tmp_path_factory.mktemp("trained"), 2)


def test_two_processes_train_like_one(trained):
    alone, (first, second) = ranks_case.train(1), trained
    losses = [[row["loss"] for row in trained["history"]] for trained in (alone, first)]
    assert len(losses[0]) == len(losses[1]) == ranks_case.STEPS // 5
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-4)
    for name, value in alone["state"].items():
        torch.testing.assert_close(first["state"][name], value, rtol=0, atol=1e-4)
        assert torch.equal(first["state"][name], second["state"][name])


def test_two_processes_go_on_from_a_checkpoint(trained, tmp_path):
    """Trained for 25 steps, the checkpoint of step 20 is left; the group goes on from it."""
    partial = tmp_path / "partial"
    ranks_case.in_two_processes(ranks_case.train, tmp_path, 2, partial, 25)
    content = torch.load(partial / "training.ckpt", weights_only=True)
    assert content["global_step"] == 20
    first, _ = ranks_case.in_two_processes(ranks_case.train, tmp_path, 2, partial)
    assert all(torch.equal(first["state"][name], value) for name, value in trained[0]["state"].items())


def test_the_first_process_decides_for_all(tmp_path):
    first, second = ranks_case.in_two_processes(ranks_case.rank_of_the_first, tmp_path)
    assert first == {"value": "rank 0", "calls": 1}
    assert second == {"value": "rank 0", "calls": 0}
    assert ranks_case.rank_of_the_first() == first  # alone


# What is started


def settings(devices=1, num_nodes=1, batch_size=4, task="study", accelerator="cpu"):
    trainer = SimpleNamespace(devices=devices, num_nodes=num_nodes, accelerator=accelerator)
    return SimpleNamespace(task=task, trainer=trainer, training=SimpleNamespace(batch_size=batch_size))


@pytest.mark.parametrize(("devices", "count"), [(1, 1), (2, 2), ([0, 3], 2), (-1, 1), ("auto", 1)])
def test_one_process_for_each_device(devices, count):
    assert processes.needed(settings(devices), multirun=False) == count
    assert processes.needed(settings(devices, task="analyse"), multirun=True) == 1


def test_a_process_of_a_group_starts_none(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes.needed(settings(2), multirun=False) == 1
    with pytest.raises(UserError, match=r"trainer\.devices: 3 .*but 2 processes were started"):
        processes.needed(settings(3, batch_size=6), multirun=False)
    with pytest.raises(UserError, match="multirun starts the processes of its jobs itself"):
        processes.needed(settings(2), multirun=True)


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match=r"training\.batch_size: 4 is not a multiple of the 3 processes"):
        processes.needed(settings(3), multirun=False)
    with pytest.raises(UserError, match=r"trainer\.num_nodes: 2: start the run by torchrun"):
        processes.needed(settings(1, num_nodes=2), multirun=False)


def test_alone_there_is_nothing_to_join(monkeypatch):
    with processes.group(None):
        processes.barrier()
    assert (processes.rank(), processes.local_rank(), processes.world()) == (0, 0, 1)


def test_a_failure_ends_all_processes(capfd):
    assert processes.start_group(["seed=x"], 2) == 2
    assert "seed" in capfd.readouterr().err


# Whole runs

TINY = tiny(
    *("+experiment=blur_noise", "data.probe_crops=2", "training.batch_size=4"),
    *("training.baseline.iterations=50", "training.target.iterations=50", "training.validate_every=10"),
    "attribution.methods.random.draws=2",
)


def command(*arguments, launcher=()):
    result = subprocess.run(
        [sys.executable, *launcher, "-m", "faig_lab", *TINY, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stderr


def losses(folder, name):
    lines = (folder / "tables" / f"training_{name}.csv").read_text().splitlines()
    return [float(line.split(",")[1]) for line in lines[1:]]


def scores(folder):
    with np.load(folder / "attribution" / "scores.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_whole_runs_in_two_processes(tmp_path):
    """Alone; in two processes; by torchrun on the weights of the first; as a job of a multirun."""
    run = "hydra.run.dir={}".format
    command(run(tmp_path / "one"), f"store={tmp_path}/one store")
    command(run(tmp_path / "two"), f"store={tmp_path}/two store", "trainer.devices=2")
    given = [f"{name}.weights={tmp_path}/one/weights/{name}.pt" for name in ("baseline", "target")]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    command(run(tmp_path / "three"), f"store={tmp_path}/x", "trainer.devices=2", *given, launcher=torchrun)
    command("-m", f"hydra.sweep.dir={tmp_path}/sweep", f"store={tmp_path}/two store", "trainer.devices=2", "name=a,b")
    for name in ("baseline", "target"):
        np.testing.assert_allclose(losses(tmp_path / "two", name), losses(tmp_path / "one", name), rtol=0, atol=1e-4)
    alone = scores(tmp_path / "one")
    for name, values in scores(tmp_path / "three").items():
        np.testing.assert_allclose(values, alone[name], rtol=0, atol=1e-6 * np.abs(alone[name]).max())
    for job in ("0", "1"):
        assert all(np.array_equal(v, scores(tmp_path / "two")[n]) for n, v in scores(tmp_path / f"sweep/{job}").items())
    assert sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()) == ["0", "1"]
