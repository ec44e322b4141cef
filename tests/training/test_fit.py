"""A handful of real training steps: reproducible, done again by a plain loop, broken off at any step and continued."""

import copy
import logging
import math
import pickle
import signal
import warnings
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from training_case import KillAt, Killed, same

from faig_lab.attribution.callback import AttributionCallback
from faig_lab.data import degrade
from faig_lab.data.patches import collate
from faig_lab.errors import UserError
from faig_lab.filters import load_weights
from faig_lab.metrics import METRICS, quality
from faig_lab.training import resolve_precision
from faig_lab.training.callbacks import ExponentialAverage, History
from faig_lab.training.fitting import Checkpoints, saved_step

# What comes out


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny, usual):
    again = tiny.fit()
    assert same(again.state, usual.state)
    assert again.history == usual.history
    tiny.seed = 1
    assert not same(usual.state, tiny.fit().state)


def by_hand(tiny):
    """The same training by a plain loop; yields step, loss and the averaged network after every step."""
    network, average, patches = tiny.network(), tiny.network(), tiny.patches()
    adam = torch.optim.Adam(network.parameters(), lr=tiny.rate, betas=(0.9, 0.99))
    for step in range(tiny.steps):
        place = (step % tiny.restart_every) / tiny.restart_every
        for group in adam.param_groups:
            rate = tiny.lowest + (tiny.rate - tiny.lowest) * (1 + math.cos(math.pi * place)) / 2
            group["lr"] = rate * min(1, (step + 1) / tiny.warmup) if tiny.warmup else rate
        numbers = range(step * tiny.batch_size, (step + 1) * tiny.batch_size)
        batch = collate([patches[number] for number in numbers])
        lr, hr = degrade(batch, tiny.degradation, tiny.seed, tiny.stream, tiny.clean)
        adam.zero_grad()
        loss = (network(lr) - hr).abs().mean()
        loss.backward()
        adam.step()
        decay = 0 if step == 0 else min(tiny.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.copy_(decay * mean + (1 - decay) * value)
        yield step + 1, float(loss.detach()), average


@pytest.mark.parametrize(
    ("clean", "restart_every", "warmup"), [(False, 5, 0), (True, 3, 0), (False, 5, 3), (False, 2, 4), (False, 5, 9)]
)
def test_the_result_is_the_average_of_a_plain_training(tiny, clean, restart_every, warmup):
    tiny.clean, tiny.restart_every, tiny.warmup = clean, restart_every, warmup
    trained = tiny.fit()
    *_, (_, _, average) = by_hand(tiny)
    assert list(trained.state) == list(average.state_dict())
    for name, expected in average.state_dict().items():
        torch.testing.assert_close(trained.state[name], expected, rtol=0, atol=1e-6)
        assert trained.state[name].device.type == "cpu"
        assert not trained.state[name].requires_grad


def test_the_record_is_that_of_a_plain_training(tiny):
    tiny.steps, tiny.validate_every = 4, 2
    history, losses, rows = tiny.fit().history, [], []
    for step, loss, average in by_hand(tiny):
        losses.append(loss)
        if step % 2 == 0:
            row = {"step": step, "loss": sum(losses[-2:]) / 2}
            for name, lr in tiny.validation[0].lr.items():
                with torch.no_grad():
                    values = quality(average(lr[None]), tiny.validation[0].hr[None], 2)
                row |= {f"{metric}/{name}": float(value) for metric, value in values.items()}
            rows.append(row)
    assert len(history) == len(rows)
    for row, expected in zip(history, rows, strict=True):
        for key, value in expected.items():
            assert row[key] == pytest.approx(value, abs=1e-3), key


def test_every_row_has_the_same_keys_and_plain_numbers(tiny):
    seen = []
    history = tiny.fit(on_row=lambda row: seen.append(dict(row))).history
    assert seen == history
    needed = {"step", "loss", "learning_rate"} | {f"{m}/{n}" for m in METRICS for n in ("clean", "blur", "noise")}
    *validated, last = history
    assert all(needed <= set(row) for row in validated)
    assert len({tuple(row) for row in validated}) == 1
    assert (last["step"], set(last)) == (5, {"step", "loss", "learning_rate"})  # no validation falls on the last step
    assert all(type(value) is float and math.isfinite(value) for row in history for value in row.values())
    assert [list(row)[:3] for row in history] == [["step", "loss", "learning_rate"]] * len(history)


def test_validations_and_saved_states_change_no_bit_of_the_training(tiny, usual):
    tiny.validate_every = 1
    trained = tiny.fit(snapshots=2)
    assert same(usual.state, trained.state)
    assert (usual.trajectory, len(trained.trajectory)) == ((), 2)
    cosine = [1e-4 + (5e-3 - 1e-4) * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(5)]
    assert [row["learning_rate"] for row in trained.history] == pytest.approx(cosine)  # of the step itself


def test_the_memory_format_changes_rounding_only(tiny, usual):
    tiny.channels_last = True
    torch.testing.assert_close(tiny.fit().state, usual.state, rtol=0, atol=1e-4)
    assert usual.state.keys() == tiny.network().state_dict().keys()


def test_the_average_is_that_of_torch_up_to_rounding_with_buffers_as_they_are_last(tiny):
    """Against torch's AveragedModel, which Lightning's callback would use; a layer with buffers is put in front."""
    networks, means = [], []

    class Watch(pl.Callback):
        def on_train_start(self, trainer, module):
            self.expected = AveragedModel(
                module, avg_fn=lambda mean, value, n: mean.lerp(value, float(1 - min(tiny.decay, (1 + n) / (10 + n))))
            )

        def on_train_batch_end(self, trainer, module, *arguments):
            self.expected.update_parameters(module)
            networks.append(copy.deepcopy(self.expected.module.network.state_dict()))
            means.append(copy.deepcopy(trainer.callbacks[0]._average_model.module.network.state_dict()))

    tiny.decay = 0.9
    plain = tiny.network
    tiny.network = lambda: nn.Sequential(nn.BatchNorm2d(3), plain())
    trained = tiny.fit(callbacks=[Watch()])
    assert len(means) == tiny.steps
    for expected, found in zip(networks, means, strict=True):
        assert list(expected) == list(found)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7)
    assert same(means[-1], trained.state)
    assert trained.state["0.num_batches_tracked"] == tiny.steps


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_can_be_clipped(tiny, precision):
    tiny.precision, norms = precision, []

    class Watch(pl.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer):
            gradients = [p.grad.norm() for p in module.parameters() if p.grad is not None]
            if gradients:
                norms.append(float(torch.stack(gradients).norm()))

    tiny.trainer = {"gradient_clip_val": 1e-3}
    tiny.fit(callbacks=[Watch()])
    assert norms
    assert max(norms) <= 1.01e-3


@pytest.mark.parametrize("given", [{"fused": False}, {"foreach": True}, {"differentiable": True}])
def test_how_adam_steps_can_be_chosen(tiny, given):
    plain = tiny.optimizer
    tiny.optimizer = partial(plain, **given)
    (group,) = tiny.module().configure_optimizers()["optimizer"].param_groups
    assert group["fused"] is (False if given == {"fused": False} else None)
    tiny.optimizer = plain
    (group,) = tiny.module().configure_optimizers()["optimizer"].param_groups
    assert group["fused"]


def test_a_lightning_checkpoint_is_read_as_the_averaged_weights(tiny, tmp_path):
    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, *arguments):
            if trainer.global_step == trainer.max_steps:
                trainer.save_checkpoint(tmp_path / "last.ckpt")

    trained = tiny.fit(callbacks=[Save()])
    assert same(load_weights(tmp_path / "last.ckpt", tiny.network()), trained.state)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_a_bar_with_loss_and_psnr_and_a_file_does_not(tiny, monkeypatch, capsys, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    tiny.fit()
    shown = capsys.readouterr().out  # the log may go to stderr
    assert ("target" in shown, "loss" in shown) == (terminal, terminal)


# What goes wrong


class Broken(torch.nn.Module):
    """An L1 loss that is `value` from call `first` on."""

    def __init__(self, value, first):
        super().__init__()
        self.value, self.first, self.calls = value, first, 0

    def forward(self, sr, hr):
        self.calls += 1
        loss = (sr - hr).abs().mean()
        return loss * self.value if self.calls >= self.first else loss


@pytest.mark.parametrize("first", [1, 3])
@pytest.mark.parametrize(("stream", "value", "shown"), [("target", math.nan, "nan"), ("baseline", math.inf, "inf")])
def test_a_diverged_loss_is_a_clear_message(tiny, stream, value, shown, first):
    tiny.stream, tiny.loss = stream, Broken(value, first)
    published = []
    remedy = r"lower `learning_rate` or use `trainer\.precision`=32-true"
    message = rf"^schedule: the loss became (nan|{shown}) by step \d; {remedy}$"
    with pytest.raises(UserError, match=message):
        tiny.fit(published.append)
    assert published == []


def test_a_long_training_is_stopped_soon_after_it_diverged(tiny, monkeypatch):
    monkeypatch.setattr("faig_lab.training.callbacks.CHECK_EVERY", 6)
    tiny.steps, tiny.validate_every, tiny.loss = 10_000, 10_000, Broken(math.nan, 7)
    with pytest.raises(UserError, match="by step 12;"):
        tiny.fit()


def test_the_result_is_published_before_the_attribution_sees_it(tiny):
    order = []
    callback = AttributionCallback(lambda state: order.append(("attributed", state)))
    trained = tiny.fit(lambda result: order.append(("published", result.state)), [callback])
    assert [name for name, _ in order] == ["published", "attributed"]
    assert same(order[0][1], trained.state)
    assert same(order[1][1], trained.state)


def test_a_failing_attribution_loses_nothing(tiny, usual):
    published = []

    def fail(state):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        tiny.fit(published.append, [AttributionCallback(fail)])
    assert same(published[0].state, usual.state)
    assert [row["step"] for row in published[0].history] == [2, 4, 5]


class Interrupt(pl.Callback):
    """Ctrl-C at a moment of the training."""

    def __init__(self, moment):
        setattr(self, moment, self.press)

    def press(self, *arguments):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("moment", ["on_fit_start", "on_train_batch_end", "on_validation_epoch_end", "on_fit_end"])
def test_ctrl_c_reaches_the_caller_and_works_again_afterwards(tiny, moment):
    handler = signal.getsignal(signal.SIGINT)
    published = []
    with pytest.raises(KeyboardInterrupt):
        tiny.fit(published.append, [Interrupt(moment)])
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(published) == (moment == "on_fit_end")


def test_warnings_and_log_levels_are_left_as_they_were(tiny):
    filters, level = list(warnings.filters), logging.getLogger("faig_lab").level
    tiny.fit()
    assert warnings.filters == filters
    assert logging.getLogger("faig_lab").level == level  # another test may have set it


# Precision


@pytest.mark.parametrize(
    ("setting", "accelerator", "devices", "expected"),
    [
        ("64-true", "auto", "gpu cpu", "64-true"),
        ("auto", "auto", "gpu", "bf16-mixed"),
        ("auto", "gpu", "gpu", "bf16-mixed"),
        ("auto", "cuda", "gpu", "bf16-mixed"),
        ("auto", "auto", "old-gpu cpu", "32-true"),
        ("auto", "auto", "cpu", "bf16-mixed"),
        ("auto", "auto", "", "32-true"),
        ("auto", "cpu", "gpu", "32-true"),
        ("auto", "cpu", "gpu cpu", "bf16-mixed"),
        ("auto", "mps", "cpu", "32-true"),
        ("auto", "auto", "mps cpu", "32-true"),
    ],
)
def test_precision(setting, accelerator, devices, expected, monkeypatch):
    """`devices` are those that compute in bfloat16, an old GPU and Apple's."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: "gpu" in devices)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: "gpu" in devices.split())
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: "mps" in devices)
    monkeypatch.setattr("faig_lab.training.plan.cpu_has_bfloat16", lambda: "cpu" in devices)
    assert resolve_precision(setting, accelerator) == expected


class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)


def test_the_average_lies_where_the_module_lies():
    """Lightning makes it in `setup`, before the module is moved."""
    module, average = Plain(), ExponentialAverage(0.9)
    average._average_model = AveragedModel(module)
    module.to("meta")
    average.on_train_start(None, module)
    assert {value.device.type for value in average._averages} == {"meta"}
    assert average._average_model.n_averaged.device.type == "meta"
    assert [v.shape for v in average._averages] == [v.shape for v in module.parameters()]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("resumed", [True, False])
def test_losses_of_a_checkpoint_and_new_ones_are_saved_together(resumed, device):
    """Those of a checkpoint were read to the CPU, the new ones are on the GPU."""
    history = History("target")
    history.load_state_dict({"rows": [], "losses": torch.tensor([1.0, 2.0]) if resumed else None})
    history._losses.append(torch.full((), 3.0, device=device))
    saved = history.state_dict()["losses"]
    assert (saved.device.type, len(saved)) == (device, 3 if resumed else 1)
    assert device == "meta" or saved.tolist() == [1.0, 2.0, 3.0][-len(saved) :]


def resumed(tiny, folder, *kills, ends=True, **options):
    """Break the training off at each of `kills`, then let it end."""
    for step in kills:
        with pytest.raises(Killed):
            tiny.fit(checkpoint=folder, callbacks=[KillAt(step)], **options)
    return tiny.fit(checkpoint=folder, **options) if ends else None


@pytest.mark.parametrize(
    ("validate_every", "checkpoint_every", "steps"), [(1, 1, (1, 4)), (2, 3, (1, 3, 4, 6)), (500, 3, (4, 6))]
)
def test_every_moment_ends_in_the_same_bits(tiny, tmp_path, validate_every, checkpoint_every, steps):
    tiny.steps, tiny.restart_every, tiny.validate_every = 7, 3, validate_every
    tiny.channels_last, tiny.checkpoint_every = True, checkpoint_every
    whole = tiny.fit()
    for step in steps:
        trained = resumed(tiny, tmp_path / str(step), step)
        assert same(trained.state, whole.state), step
        assert trained.history == whole.history, step


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_goes_on(tiny, tmp_path, precision):
    tiny.precision, tiny.checkpoint_every = precision, 2
    whole, trained = tiny.fit(), resumed(tiny, tmp_path, 3)
    assert same(trained.state, whole.state)
    assert trained.history == whole.history


@pytest.mark.parametrize("stored", [True, False, None])
def test_a_training_goes_on_in_the_memory_format_of_its_checkpoint(tiny, tmp_path, stored):
    """A checkpoint of an earlier version has no format, and the settings decide."""
    tiny.channels_last, tiny.checkpoint_every, tiny.validate_every = stored is not False, 2, 1
    whole = tiny.fit()
    with pytest.raises(Killed):
        tiny.fit(checkpoint=tmp_path, callbacks=[KillAt(3)])
    if stored is None:
        (file,) = tmp_path.glob("*.ckpt")
        content = torch.load(file, weights_only=True)
        del content["channels_last"]
        torch.save(content, file)
    else:
        tiny.channels_last = not stored
    trained = tiny.fit(checkpoint=tmp_path)
    assert trained.channels_last is whole.channels_last is (stored is not False)
    assert same(trained.state, whole.state)
    assert trained.history == whole.history


@pytest.mark.parametrize("workers", [0, 1])
def test_a_training_can_be_killed_again_and_again(tiny, tmp_path, usual, workers):
    tiny.checkpoint_every = 1
    resumed(tiny, tmp_path, 1, 2, 2, 4, ends=False)
    tiny.workers = workers
    trained = tiny.fit(checkpoint=tmp_path)
    assert same(trained.state, usual.state)
    assert trained.history == usual.history


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
    tiny.steps, tiny.checkpoint_every = 4, 4  # the last step needs no checkpoint
    tiny.fit(checkpoint=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_half_written_checkpoint_leaves_the_one_before(tiny, tmp_path, usual, monkeypatch):
    tiny.checkpoint_every = 1
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
    assert same(tiny.fit(checkpoint=tmp_path).state, usual.state)


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
