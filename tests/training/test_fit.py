"""A handful of real training steps: reproducible, done again by a plain loop, and safe to break off."""

import copy
import logging
import math
import signal
import warnings

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel
from training_case import same

from faig_lab.attribution.callback import AttributionCallback
from faig_lab.data import degrade
from faig_lab.data.patches import collate
from faig_lab.errors import UserError
from faig_lab.networks import load_weights
from faig_lab.training import METRICS, quality, resolve_precision

# What comes out


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny):
    first, second = tiny.fit(), tiny.fit()
    assert same(first.state, second.state)
    assert first.history == second.history
    tiny.seed = 1
    assert not same(first.state, tiny.fit().state)


def by_hand(tiny):
    """The same training by a plain loop; yields step, loss and the averaged network after every step."""
    network, average, patches = tiny.network(), tiny.network(), tiny.patches()
    adam = torch.optim.Adam(network.parameters(), lr=tiny.rate, betas=(0.9, 0.99))
    for step in range(tiny.steps):
        place = (step % tiny.restart_every) / tiny.restart_every
        for group in adam.param_groups:
            group["lr"] = tiny.lowest + (tiny.rate - tiny.lowest) * (1 + math.cos(math.pi * place)) / 2
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


@pytest.mark.parametrize(("clean", "restart_every"), [(False, 5), (True, 3)])
def test_the_result_is_the_average_of_a_plain_training(tiny, clean, restart_every):
    tiny.clean, tiny.restart_every = clean, restart_every
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
    assert set(last) == {"step", "loss", "learning_rate"}  # no validation falls on the fifth step
    assert all(type(value) is float and math.isfinite(value) for row in history for value in row.values())
    assert [list(row)[:3] for row in history] == [["step", "loss", "learning_rate"]] * len(history)


@pytest.mark.parametrize(("steps", "validate_every"), [(5, 2), (4, 2), (5, 500), (1, 1)])
def test_the_record_ends_with_the_last_step(tiny, steps, validate_every):
    tiny.steps, tiny.validate_every = steps, validate_every
    assert tiny.fit().history[-1]["step"] == steps


def test_the_record_shows_the_learning_rate_of_its_step(tiny):
    tiny.validate_every = 1
    rates = [row["learning_rate"] for row in tiny.fit().history]
    cosine = [1e-4 + (5e-3 - 1e-4) * (1 + math.cos(math.pi * step / 5)) / 2 for step in range(5)]
    assert rates == pytest.approx(cosine)


def test_a_validation_does_not_change_the_training(tiny):
    seldom = tiny.fit().state
    tiny.validate_every = 1
    assert same(seldom, tiny.fit().state)


def test_the_memory_format_changes_rounding_only(tiny):
    plain = tiny.fit().state
    tiny.channels_last = True
    for name, value in tiny.fit().state.items():
        torch.testing.assert_close(value, plain[name], rtol=0, atol=1e-4)


def test_training_learns(tiny):
    tiny.steps, tiny.validate_every, tiny.restart_every = 60, 20, 60
    losses = [row["loss"] for row in tiny.fit().history]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_that_can_be_set_trains(tiny, precision):
    tiny.precision = precision
    trained = tiny.fit()
    assert all(torch.isfinite(value).all() for value in trained.state.values())
    assert all(math.isfinite(value) for row in trained.history for value in row.values())


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
    tiny.adam = given
    (group,) = tiny.module().configure_optimizers()["optimizer"].param_groups
    assert group["fused"] is (False if given == {"fused": False} else None)
    tiny.adam = {}
    (group,) = tiny.module().configure_optimizers()["optimizer"].param_groups
    assert group["fused"]


def test_a_lightning_checkpoint_is_read_as_the_averaged_weights(tiny, tmp_path):
    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, *arguments):
            if trainer.global_step == trainer.max_steps:
                trainer.save_checkpoint(tmp_path / "last.ckpt")

    trained = tiny.fit(callbacks=[Save()])
    assert same(load_weights(tmp_path / "last.ckpt", tiny.network()), trained.state)


def test_a_terminal_shows_a_bar_with_loss_and_psnr(tiny, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    tiny.fit()
    shown = capsys.readouterr()
    assert "target" in shown.out + shown.err
    assert "loss" in shown.out + shown.err


def test_elsewhere_there_is_no_bar(tiny, capsys):
    tiny.fit()
    assert capsys.readouterr().out == ""


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
    message = rf"^schedule: the loss became (nan|{shown}) by step \d; lower `learning_rate` or use `precision`=32-true$"
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


def test_a_failing_attribution_loses_nothing(tiny):
    published = []

    def fail(state):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        tiny.fit(published.append, [AttributionCallback(fail)])
    assert same(published[0].state, tiny.fit().state)
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


def test_the_average_is_the_first_callback_so_that_all_others_see_it(tiny):
    class Look(pl.Callback):
        def on_train_end(self, trainer, module):
            kinds = [isinstance(callback, WeightAveraging) for callback in trainer.callbacks]
            assert kinds.index(True) < trainer.callbacks.index(self)
            self.seen = {name: value.clone() for name, value in module.network.state_dict().items()}

    look = Look()
    assert same(tiny.fit(callbacks=[look]).state, look.seen)


# Precision


@pytest.mark.parametrize(
    ("setting", "accelerator", "gpu", "cpu", "expected"),
    [
        ("64-true", "auto", True, True, "64-true"),
        ("auto", "auto", True, False, "bf16-mixed"),
        ("auto", "gpu", True, False, "bf16-mixed"),
        ("auto", "cuda", True, False, "bf16-mixed"),
        ("auto", "auto", False, True, "bf16-mixed"),
        ("auto", "auto", False, False, "32-true"),
        ("auto", "cpu", True, False, "32-true"),
        ("auto", "cpu", True, True, "bf16-mixed"),
        ("auto", "mps", False, True, "32-true"),
    ],
)
def test_precision(setting, accelerator, gpu, cpu, expected, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: gpu)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("faig_lab.training.plan._cpu_has_bfloat16", lambda: cpu)
    assert resolve_precision(setting, accelerator) == expected


def test_an_old_gpu_and_apples_train_in_single_precision(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
    assert resolve_precision("auto", "auto") == "32-true"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("faig_lab.training.plan._cpu_has_bfloat16", lambda: True)
    assert resolve_precision("auto", "auto") == "32-true"
