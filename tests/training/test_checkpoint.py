"""A training that is broken off at any step goes on from its checkpoint and ends with the same bits."""

import logging
import pickle
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from training_case import KillAt, Killed, same

from faig_lab.errors import UserError
from faig_lab.training.fitting import Checkpoints, saved_step


def resumed(tiny, folder, *kills, **options):
    """Break the training off at each of `kills`, then let it end."""
    for step in kills:
        with pytest.raises(Killed):
            tiny.fit(checkpoint=folder, callbacks=[KillAt(step)], **options)
    return tiny.fit(checkpoint=folder, **options)


@pytest.mark.parametrize("validate_every", [1, 2, 500])
@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_every_moment_ends_in_the_same_bits(tiny, tmp_path, validate_every, checkpoint_every):
    tiny.steps, tiny.restart_every, tiny.validate_every = 7, 3, validate_every
    tiny.channels_last, tiny.checkpoint_every = True, checkpoint_every
    whole = tiny.fit()
    for step in (1, 3, 4, 6):
        trained = resumed(tiny, tmp_path / str(step), step)
        assert same(trained.state, whole.state), step
        assert trained.history == whole.history, step


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_goes_on(tiny, tmp_path, precision):
    tiny.precision, tiny.checkpoint_every = precision, 2
    whole, trained = tiny.fit(), resumed(tiny, tmp_path, 3)
    assert same(trained.state, whole.state)
    assert trained.history == whole.history


def test_a_training_can_be_killed_again_and_again(tiny, tmp_path):
    tiny.checkpoint_every = 1
    whole, trained = tiny.fit(), resumed(tiny, tmp_path, 1, 2, 2, 4)
    assert same(trained.state, whole.state)
    assert trained.history == whole.history


def test_nothing_is_trained_twice_but_the_steps_since_the_checkpoint(tiny, tmp_path):
    steps = []

    class Count(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            steps.append((trainer.global_step, batch.numbers))

    tiny.steps, tiny.checkpoint_every, tiny.batch_size = 6, 2, 2
    with pytest.raises(Killed):
        tiny.fit(checkpoint=tmp_path, callbacks=[KillAt(5)])
    tiny.fit(checkpoint=tmp_path, callbacks=[Count()])
    assert steps == [(4, (8, 9)), (5, (10, 11))]


def test_workers_go_on_with_the_right_samples(tiny, tmp_path):
    tiny.checkpoint_every = 2
    whole = tiny.fit()
    with pytest.raises(Killed):
        tiny.fit(checkpoint=tmp_path, callbacks=[KillAt(3)])
    tiny.workers = 1
    assert same(tiny.fit(checkpoint=tmp_path).state, whole.state)


def test_the_rows_before_the_checkpoint_are_told_again(tiny, tmp_path):
    seen = []
    tiny.checkpoint_every, tiny.validate_every = 2, 2
    trained = resumed(tiny, tmp_path, 3, on_row=lambda row: seen.append(row["step"]))
    assert seen == [2, 2, 4, 5]
    assert [row["step"] for row in trained.history] == [2, 4, 5]


def test_a_checkpoint_is_plain_data(tiny, tmp_path):
    tiny.checkpoint_every = 2
    tiny.fit(checkpoint=tmp_path)
    content = torch.load(tmp_path / "training.ckpt", weights_only=True)
    assert content["global_step"] == saved_step(tmp_path) == 4
    assert {"state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "loops"} <= set(content)
    assert not same(content["state_dict"], content["current_model_state"])  # averaged and raw weights
    assert [path.name for path in tmp_path.iterdir()] == ["training.ckpt"]


def test_the_last_step_needs_no_checkpoint(tiny, tmp_path):
    tiny.steps, tiny.checkpoint_every = 4, 4
    tiny.fit(checkpoint=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_half_written_checkpoint_leaves_the_one_before(tiny, tmp_path, monkeypatch):
    tiny.checkpoint_every = 1
    whole = tiny.fit()
    replace, temporary, whole_ones = Path.replace, tmp_path / ".training-abcd_123.ckpt", 2

    def torn(self, target):
        nonlocal whole_ones
        if not whole_ones:
            temporary.write_bytes(b"half of it")
            raise Killed
        whole_ones -= 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", torn)
    with pytest.raises(Killed):
        tiny.fit(checkpoint=tmp_path)
    monkeypatch.undo()
    assert temporary.exists()
    assert saved_step(tmp_path) == 2
    assert not temporary.exists()
    assert same(tiny.fit(checkpoint=tmp_path).state, whole.state)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps({"global_step": logging.getLogger})])
def test_what_cannot_be_read_is_said_and_removed(tmp_path, caplog, content):
    path = Checkpoints(tmp_path, 1).path
    path.write_bytes(content)
    assert saved_step(tmp_path) is None
    assert not tmp_path.exists()
    assert "cannot be read" in caplog.text


def test_no_checkpoint_of_a_loss_that_is_not_finite(tiny, tmp_path):
    class Bursting(torch.nn.Module):
        calls = 0

        def forward(self, output, hr):
            self.calls += 1
            return (output - hr).abs().mean() * (torch.nan if self.calls >= 3 else 1)

    tiny.loss, tiny.checkpoint_every = Bursting(), 1
    with pytest.raises(UserError, match="loss became nan"):
        tiny.fit(checkpoint=tmp_path)
    assert saved_step(tmp_path) == 2


@pytest.mark.parametrize("killed_at", [1, 3, 5])
def test_the_states_saved_on_the_way_survive_a_kill_bit_for_bit(tiny, tmp_path, killed_at):
    tiny.steps, tiny.checkpoint_every = 6, 1
    whole = tiny.fit(snapshots=3)
    trained = resumed(tiny, tmp_path, killed_at, snapshots=3)
    assert same(trained.state, whole.state)
    assert len(whole.trajectory) == 3
    assert all(same(a, b) for a, b in zip(trained.trajectory, whole.trajectory, strict=True))


def test_saving_states_changes_no_bit_of_the_training(tiny):
    assert same(tiny.fit(snapshots=2).state, tiny.fit().state)
    assert tiny.fit().trajectory == ()


def test_the_states_are_averages_at_the_square_of_their_share_of_the_steps(tiny):
    averages = {}

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            (average,) = (c for c in trainer.callbacks if hasattr(c, "parameters_of"))
            averages[trainer.global_step] = average.parameters_of("network")

    tiny.steps = 8
    trained = tiny.fit(snapshots=3, callbacks=[Watch()])
    due = [1, 2, 5]  # 8 · (k/4)² = 0.5, 2, 4.5, at the next whole step
    assert all(same(state, averages[step]) for step, state in zip(due, trained.trajectory, strict=True))
