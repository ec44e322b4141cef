"""The two-branch network: an SRResNet until it is trained, of equal size, with a predictor that learns."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from faig_lab.filters import FilterLayout
from faig_lab.networks import SECOND_BRANCH, SRResNet, TwoBranchSRResNet

DEGRADATIONS = ("blur", "noise", "jpeg")


def small(scale=2, **changes):
    torch.manual_seed(0)
    sizes = {"features": 4, "blocks": 2, "predictor_features": 3, "degradations": DEGRADATIONS}
    return TwoBranchSRResNet(scale, **sizes | changes)


def awake(network):
    """The network with modulations that are no identity."""
    for layer in network.predictor.modulations:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    return network


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_at_the_start_it_is_the_srresnet_of_its_weights(scale):
    network = small(scale)
    plain = SRResNet(scale, features=4, blocks=2)
    plain.load_state_dict({n: v for n, v in network.state_dict().items() if not n.startswith(SECOND_BRANCH)})
    lr = torch.rand(2, 3, 6, 7)
    assert torch.equal(network(lr), plain(lr))
    sr, logits = awake(network).predict(lr)
    assert (network.scale, sr.shape, logits.shape) == (scale, (2, 3, 6 * scale, 7 * scale), (2, 3))
    assert torch.equal(network(lr), sr)
    assert not torch.equal(sr, plain(lr))


def test_the_restoring_branch_has_the_fresh_weights_of_the_srresnet():
    network = small()
    torch.manual_seed(0)
    plain = SRResNet(features=4, blocks=2).state_dict()
    assert all(torch.equal(network.state_dict()[name], value) for name, value in plain.items())
    others = set(network.state_dict()) - set(plain)
    assert others == {name for name in network.state_dict() if name.startswith(SECOND_BRANCH)}


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("two", "one"),
    [
        ({}, {}),
        ({"features": 22, "blocks": 8, "predictor_features": 22}, {"features": 24, "blocks": 8}),
    ],
    ids=["full", "small"],
)
def test_it_has_the_size_of_the_srresnet(scale, two, one):
    with torch.device("meta"):
        sizes = parameters(TwoBranchSRResNet(scale, **two)), parameters(SRResNet(scale, **one))
    assert abs(sizes[0] / sizes[1] - 1) < (0.002 if scale == 2 else 0.031)
    if scale == 2:
        assert sizes == ((110_665, 110_691) if two else (1_372_005, 1_369_859))


def test_a_block_is_scaled_and_shifted_channel_by_channel():
    block = small().body[0].double()
    x, modulation = torch.randn(2, 4, 5, 6, dtype=torch.float64), torch.randn(2, 8, dtype=torch.float64)
    for sample in range(2):
        inner = block.conv1(x[sample : sample + 1])
        inner = torch.stack([(1 + modulation[sample, c]) * inner[0, c] + modulation[sample, 4 + c] for c in range(4)])[
            None
        ]
        expected = x[sample : sample + 1] + block.conv2(F.relu(inner))
        torch.testing.assert_close(block(x, modulation)[sample : sample + 1], expected)


def test_samples_do_not_see_each_other():
    network = awake(small()).double()
    lr = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        for together, alone in zip(network.predict(lr), network.predict(lr[1:]), strict=True):
            torch.testing.assert_close(together[1:], alone)


def test_the_predictor_sees_neither_mean_colour_nor_contrast():
    network = small().double()
    lr = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    shifted = lr + torch.tensor([0.3, -0.1, 0.2], dtype=torch.float64).view(1, 3, 1, 1)
    torch.testing.assert_close(network.predict(shifted)[1], network.predict(lr)[1])
    torch.testing.assert_close(network.predict(2 * lr)[1], network.predict(lr)[1], rtol=0, atol=1e-3)
    assert torch.isfinite(network.predict(torch.zeros_like(lr))[1]).all()


def test_every_parameter_learns():
    network = awake(small())
    sr, logits = network.predict(torch.rand(3, 3, 8, 8))
    names = [frozenset({"blur"}), frozenset[str](), frozenset({"noise", "jpeg"})]
    (sr.square().sum() + network.prediction_loss(logits, names)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_the_modulations_learn_from_the_start_though_they_are_zero():
    network = small()
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    assert all(layer.weight.grad.any() and layer.bias.grad.any() for layer in network.predictor.modulations)


def test_the_loss_is_the_weighted_cross_entropy_of_the_labels_in_the_order_of_the_degradations():
    network = small(prediction_weight=0.25)
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]], dtype=torch.float64)
    labels = [[0, 1, 0], [1, 0, 1]]
    names = [frozenset({"noise"}), frozenset({"jpeg", "blur"})]
    p = torch.sigmoid(logits)
    terms = [-torch.log(p[i, k] if labels[i][k] else 1 - p[i, k]) for i in range(2) for k in range(3)]
    assert float(network.prediction_loss(logits, names)) == pytest.approx(0.25 * float(sum(terms)) / 6)
    assert float(small(prediction_weight=0.0).prediction_loss(logits, names)) == 0


def test_the_predictor_learns_an_easy_task():
    """Noise or none on grey images: told apart on others after a few steps."""
    network = small(degradations=["noise"], predictor_features=8, prediction_weight=1.0)
    generator = torch.Generator().manual_seed(1)

    def batch():
        noisy = torch.rand(32, generator=generator) < 0.5
        lr = torch.rand(32, 3, 1, 1, generator=generator).expand(32, 3, 12, 12)
        lr = lr + 0.2 * noisy.view(-1, 1, 1, 1) * torch.randn(32, 3, 12, 12, generator=generator)
        return lr, noisy, [frozenset({"noise"}) if yes else frozenset[str]() for yes in noisy]

    adam = torch.optim.Adam(network.parameters(), lr=2e-2)
    for _ in range(40):
        lr, _, names = batch()
        adam.zero_grad()
        network.prediction_loss(network.predict(lr)[1], names).backward()
        adam.step()
    lr, noisy, _ = batch()
    assert torch.equal(network.predict(lr)[1][:, 0] > 0, noisy)


def test_its_layout_holds_both_branches_and_the_restoring_one_first():
    names = [layer.name for layer in FilterLayout.of(small()).layers]
    second = [name.startswith(SECOND_BRANCH) for name in names]
    assert second == sorted(second)
    assert names[0] == "conv_first.weight"
    assert {"predictor.conv1.weight", "predictor.logits.weight", "predictor.modulations.1.weight"} <= set(names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 5}, "scale must be 1, 2, 3 or 4, not 5"),
        ({"features": 0}, "features must be > 0, not 0"),
        ({"predictor_features": 0}, "predictor_features must be > 0, not 0"),
        ({"degradations": []}, r"degradations must be one or more different names, not \[\]"),
        ({"degradations": ["blur", "blur"]}, "degradations must be one or more different names"),
        ({"prediction_weight": -0.1}, "prediction_weight must be >= 0, not -0.1"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)
