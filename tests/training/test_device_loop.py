"""What a GPU trains with: patches that are cut on the device, and CUDA graphs, here on the processor."""

import pytest
import torch
from training_case import KillAt, Killed, same

from faig_lab.data import PatchesOnDevice, StepSampler, on_device
from faig_lab.networks import TwoBranchSRResNet
from faig_lab.training import fitting
from faig_lab.training.graph import StepGraphs

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
    monkeypatch.setattr(on_device, "AT_ONCE", 2)
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


class Recorder:
    """In place of `torch.cuda.make_graphed_callables`, whose results write into the same memory at every call."""

    def __init__(self, error=None):
        self.error, self.recorded, self.calls = error, [], 0

    def __call__(self, module, sample):
        assert {id(p) for p in module.parameters()} == {id(p) for p in module.network.parameters()}
        assert not torch.is_autocast_cache_enabled() or not torch.is_autocast_enabled("cpu")
        if self.error is not None:
            raise self.error
        self.recorded.append([tuple(one.shape) for one in sample])
        memory = torch.zeros(())

        def replay(lr, hr):
            self.calls += 1
            loss = module(lr, hr)
            memory.copy_(loss.detach())
            return memory + (loss - loss.detach())  # the value lies in the shared memory

        return replay


def test_a_recorded_step_gives_the_losses_and_weights_of_a_plain_one(tiny, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder)
    plain = tiny.fit()
    module = tiny.module()
    module.graphs = StepGraphs(module.network, module.restoration_loss)
    found = tiny.fit(module=module)
    assert recorder.recorded == [[(2, 3, 4, 4), (2, 3, 8, 8)]]
    assert recorder.calls == tiny.steps
    for name, value in plain.state.items():
        torch.testing.assert_close(found.state[name], value, rtol=1e-5, atol=1e-6)
    assert [row["loss"] for row in found.history] == pytest.approx([row["loss"] for row in plain.history], rel=1e-5)


def test_each_size_is_recorded_once(tiny, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder)
    module = tiny.module()
    graphs = StepGraphs(module.network, module.restoration_loss)
    for side in (4, 6, 4):
        graphs(torch.rand(1, 3, side, side), torch.rand(1, 3, 2 * side, 2 * side))
    assert len(recorder.recorded) == 2


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted\nwhen stream is capturing"), AssertionError()])
def test_a_step_that_cannot_be_recorded_runs_as_it_is(tiny, monkeypatch, caplog, error):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", Recorder(error))
    module = tiny.module()
    lr, hr = torch.rand(1, 3, 4, 4), torch.rand(1, 3, 8, 8)
    graphs = StepGraphs(module.network, module.restoration_loss)
    with caplog.at_level("WARNING"):
        found = [graphs(lr, hr) for _ in range(2)]
    assert len(caplog.records) == 1
    assert "CUDA graphs: not used" in caplog.text
    assert torch.equal(found[0], module.restoration_loss(lr, hr))


def test_a_network_with_buffers_is_not_recorded(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", Recorder(AssertionError("recorded")))
    network = torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), torch.nn.BatchNorm2d(3))
    graphs = StepGraphs(network, lambda lr, hr: torch.nn.functional.l1_loss(network(lr), hr))
    assert graphs(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)) > 0
