"""What a GPU trains with: patches that are cut on the device, and CUDA graphs, here on the processor."""

from types import SimpleNamespace

import pytest
import torch
from graphs_case import on_processor
from training_case import KillAt, Killed, same

from faig_lab.data import PatchesOnDevice, StepSampler, patches
from faig_lab.networks import TwoBranchSRResNet
from faig_lab.training import Loop, fit_chosen, fitting
from faig_lab.training import module as training_module
from faig_lab.training.module import StepGraphs

# Patches on the device


@pytest.fixture
def there(tiny):
    tiny.on_device = True
    return tiny


def batches(tiny):
    sampler = StepSampler(tiny.steps, tiny.batch_size)
    return PatchesOnDevice(tiny.patches(), sampler, tiny.degradation, tiny.clean, torch.device("cpu"))


@pytest.mark.parametrize("clean", [False, True])
def test_the_training_takes_the_batches_of_the_device(there, clean):
    there.clean, there.decay, there.validate_every = clean, 0.0, 100
    trained = there.fit()
    module = there.module()
    made = module.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    losses = []
    for batch in batches(there):
        loss = torch.nn.functional.l1_loss(module(batch.lr), batch.hr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(float(loss.detach()))
    assert trained.history[-1]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    for name, value in module.network.state_dict().items():
        torch.testing.assert_close(trained.state[name], value, rtol=1e-4, atol=1e-6)


def test_the_same_bits_again_and_others_than_those_of_the_processor(there, usual):
    first = there.fit()
    assert same(first.state, there.fit().state)
    assert not same(first.state, usual.state)


@pytest.mark.parametrize("killed_at", [2, 4])
def test_a_killed_training_goes_on_with_the_same_bits(there, tmp_path, monkeypatch, killed_at):
    """The checkpoint of step 3 lies within steps that are made together."""
    monkeypatch.setattr(patches, "AT_ONCE", 2)
    there.checkpoint_every, there.validate_every = 1 if killed_at == 2 else 3, 100
    whole = there.fit()
    with pytest.raises(Killed):
        there.fit(checkpoint=tmp_path, callbacks=[KillAt(killed_at)])
    assert fitting.saved_step(tmp_path) is not None
    assert same(there.fit(checkpoint=tmp_path).state, whole.state)


def test_a_network_that_predicts_takes_the_parts_of_its_samples(there):
    there.network = lambda: TwoBranchSRResNet(features=4, blocks=1, predictor_features=4)
    assert there.fit().history[-1]["loss"] > 0


# CUDA graphs


def recorded(tiny):
    """The module of a training with CUDA graphs."""
    module = tiny.module()
    module.graphs = StepGraphs(module.network, module.restoration_loss)
    return module


def test_a_recorded_step_gives_the_losses_and_weights_of_a_plain_one(tiny, monkeypatch):
    plain = tiny.fit()
    recorder = on_processor(monkeypatch, training_module)
    found = tiny.fit(module=recorded(tiny))
    forward, backward = recorder.graphs
    assert forward.replays == backward.replays == tiny.steps
    for name, value in plain.state.items():
        torch.testing.assert_close(found.state[name], value, rtol=1e-5, atol=1e-6)
    assert [row["loss"] for row in found.history] == pytest.approx([row["loss"] for row in plain.history], rel=1e-5)
    assert len({row["loss"] for row in found.history}) > 1  # each is a copy of what the next replay overwrites


def test_frozen_entries_stay_frozen(tiny, monkeypatch):
    """Their gradients are set to zero where the recording has written them."""
    module, plain = recorded(tiny), tiny.module()
    chosen = {"conv_first.weight": torch.rand(4, 3, 3, 3) > 0.5, "conv_hr.bias": torch.tensor(True)}
    loop = Loop(tiny.batch_size, tiny.decay, 100, 0, {"accelerator": "cpu", "devices": 1, "precision": "32-true"})
    expected = fit_chosen(plain, chosen, tiny.patches(), loop=loop)
    recorder = on_processor(monkeypatch, training_module)
    found = fit_chosen(module, chosen, tiny.patches(), loop=loop)
    assert recorder.graphs[0].replays == tiny.steps
    for name, value in expected.state.items():
        torch.testing.assert_close(found.state[name], value, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_the_scaled_loss(tiny, monkeypatch):
    """Gradient scaling of float16 multiplies the loss."""
    module, plain = recorded(tiny), tiny.module()
    on_processor(monkeypatch, training_module)
    lr, hr = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)
    (1024 * module.graphs(lr, hr)).backward()
    (1024 * plain.restoration_loss(lr, hr)).backward()
    for value, other in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(value.grad, other.grad)


def test_each_size_is_recorded_once(tiny, monkeypatch):
    recorder = on_processor(monkeypatch, training_module)
    module = recorded(tiny)
    losses = []
    for side in (4, 6, 4):
        lr, hr = torch.rand(1, 3, side, side), torch.rand(1, 3, 2 * side, 2 * side)
        losses.append((module.graphs(lr, hr), module.restoration_loss(lr, hr)))
    assert len(recorder.graphs) == 4
    assert all(found.detach().item() == pytest.approx(expected.detach().item(), rel=1e-6) for found, expected in losses)


def test_a_step_that_cannot_be_recorded_runs_as_it_is(tiny, monkeypatch, caplog):
    on_processor(monkeypatch, training_module, error=RuntimeError("operation not permitted\nwhen stream is capturing"))
    module = recorded(tiny)
    lr, hr = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 8, 8)
    with caplog.at_level("WARNING"):
        found = [module.graphs(lr, hr) for _ in range(2)]
    assert [record.getMessage() for record in caplog.records] == [
        "CUDA graphs: not used, since recording failed: operation not permitted when stream is capturing"
    ]
    assert torch.equal(found[0], module.restoration_loss(lr, hr))


@pytest.mark.parametrize("odd", ["buffers", "hooks"])
def test_a_network_with_buffers_or_hooks_is_not_recorded(monkeypatch, odd):
    recorder = on_processor(monkeypatch, training_module)
    network = torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(3, 3, 1))
    calls = []
    if odd == "buffers":
        network.append(torch.nn.BatchNorm2d(3))
    else:
        network[1].weight.register_hook(calls.append)
    graphs = StepGraphs(network, lambda lr, hr: torch.nn.functional.l1_loss(network(lr), hr))
    graphs(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)).backward()
    assert not recorder.graphs
    assert len(calls) == (odd == "hooks")


# Time


def test_a_gpus_steps_are_timed_together(monkeypatch):
    """The processor is ahead: only between two waits for the GPU the time is that of the steps."""
    waits, clock = [], iter([10.0, 16.0])
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: next(clock))
    watch, module = fitting.Stopwatch(), SimpleNamespace(device=torch.device("cuda"))
    steps = fitting._WARM_UP + 4
    for step in range(steps):
        watch.on_train_batch_end(SimpleNamespace(global_step=step + 1, max_steps=steps), module, None, None, step)
    assert watch.seconds == [1.5]
    assert len(waits) == 2


def test_a_processors_steps_are_timed_one_by_one(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: float(next(clock)))
    watch, module = fitting.Stopwatch(), SimpleNamespace(device=torch.device("cpu"))
    for step in range(fitting._WARM_UP + 4):
        watch.on_train_batch_end(SimpleNamespace(global_step=step + 1, max_steps=99), module, None, None, step)
    assert watch.seconds == [1.0] * 4
