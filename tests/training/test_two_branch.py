"""Training with a predictor's own loss: labels, one forward pass, one-branch training as before, the step's time."""

import pytest
import torch
from torch import nn

from faig_lab.data import Batch, applied, degrade
from faig_lab.data.patches import collate
from faig_lab.networks import SECOND_BRANCH, TwoBranchSRResNet
from faig_lab.training import Loop, step_seconds
from faig_lab.training.fitting import ROUNDS


@pytest.fixture
def two(tiny):
    """The tiny training, of a two-branch network."""

    def network():
        torch.manual_seed(tiny.seed)
        return TwoBranchSRResNet(features=4, blocks=1, predictor_features=3, prediction_weight=0.5)

    tiny.one, tiny.network = tiny.network, network
    return tiny


def batch_of(tiny, count=12):
    patches = tiny.patches()
    return collate([patches[number] for number in range(count)])


@pytest.mark.parametrize("stream", ["target", "other"])
def test_labels_are_what_each_sample_really_suffers(tiny, stream):
    batch, way = batch_of(tiny, 24), tiny.degradation
    names = applied(batch, way, 0, stream, clean=False)
    assert len(set(names)) == 4
    assert applied(batch, way, 0, stream, clean=True) == [frozenset()] * 24
    lr, clean = (degrade(batch, way, 0, stream, clean=clean)[0] for clean in (False, True))
    assert [bool((a != b).any()) for a, b in zip(lr, clean, strict=True)] == [bool(parts) for parts in names]
    grey = Batch(torch.full_like(batch.patches, 128), batch.numbers)  # where blur changes nothing
    spread = degrade(grey, way, 0, stream, clean=False)[0].flatten(1).std(1)
    assert (spread > 0.01).tolist() == ["noise" in parts for parts in names]


class Watched(nn.Module):
    """A network that counts its passes and remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.passes, self.told = 0, []

    def predict(self, lr):
        self.passes += 1
        return self.weight * nn.functional.interpolate(lr, scale_factor=2.0), self.weight * lr.mean((2, 3))

    def prediction_loss(self, logits, names):
        self.told.append(list(names))
        return 7 * logits.sum()

    def forward(self, lr):
        raise AssertionError("one pass gives both")


@pytest.mark.parametrize("clean", [False, True])
def test_a_step_adds_the_predictions_loss_of_the_batchs_labels_to_that_of_the_restoration(tiny, clean):
    watched = Watched()
    tiny.network, tiny.clean = lambda: watched, clean
    module, batch = tiny.module(), batch_of(tiny, 4)
    module.log = lambda *arguments, **options: None
    loss = module.training_step(batch, 0)
    lr, hr = degrade(batch, tiny.degradation, tiny.seed, tiny.stream, clean)
    restoration = (nn.functional.interpolate(lr, scale_factor=2.0) - hr).abs().mean()
    assert float(loss.detach()) == pytest.approx(float(restoration + 7 * lr.mean((2, 3)).sum()), rel=1e-5)
    assert watched.passes == 1
    assert watched.told == [applied(batch, tiny.degradation, tiny.seed, tiny.stream, clean)]


def test_a_network_without_a_predictor_is_never_told_labels(tiny, monkeypatch):
    def fail(*arguments):
        raise AssertionError("labels were drawn")

    monkeypatch.setattr("faig_lab.training.module.applied", fail)
    assert not tiny.module().predicts
    tiny.fit()


def test_both_branches_are_trained(two):
    two.steps, two.restart_every = 6, 6
    start, trained = two.network().state_dict(), two.fit()
    moved = {name for name, value in trained.state.items() if not torch.equal(value, start[name])}
    assert moved == set(start)
    assert any(name.startswith(SECOND_BRANCH) for name in moved)


def test_the_predictions_weight_matters(two):
    first = two.fit().state
    network = two.network
    two.network = lambda: _weighted(network(), 0.0)
    unweighted = two.fit().state
    assert not torch.equal(first["predictor.conv1.weight"], unweighted["predictor.conv1.weight"])
    assert torch.equal(unweighted["predictor.logits.weight"], network().state_dict()["predictor.logits.weight"])


def _weighted(network, weight):
    network.prediction_weight = weight
    return network


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_trains(two, precision):
    two.precision = precision
    state = two.fit().state
    assert state.keys() == two.network().state_dict().keys()
    assert all(torch.isfinite(value).all() for value in state.values())


def test_the_time_of_a_step_is_measured_in_turn(two):
    asked = []

    def maker(network, name):
        def make(steps):
            asked.append((name, steps))
            two.network, two.steps = network, steps
            return two.module()

        return make

    loop = Loop(2, 0.3, 2, 0, {"accelerator": "cpu", "devices": 1, "precision": "32-true"})
    makers = [maker(two.one, "one"), maker(two.network, "two")]
    seconds = step_seconds(makers, two.patches(), loop=loop, steps=2)
    assert len(seconds) == 2
    assert all(second > 0 for second in seconds)
    assert [name for name, _ in asked] == ["one", "two"] * ROUNDS
    assert len({steps for _, steps in asked}) == 1
