"""One contract for all networks: shapes, gradients, the authors' parameter names, refusals."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from faig_lab.networks import SRCNNStyle, SRResNet

NETWORKS = {
    "SRResNet": SRResNet,
    "small SRResNet": lambda scale: SRResNet(scale, features=4, blocks=2),
    "SRCNNStyle": SRCNNStyle,
    "small SRCNNStyle": lambda scale: SRCNNStyle(scale, widths=(4, 6)),
}


@pytest.fixture(params=[1, 2, 3, 4], ids=lambda scale: f"x{scale}")
def scale(request):
    return request.param


@pytest.fixture(params=NETWORKS, ids=str)
def network(request, scale):
    torch.manual_seed(0)
    return NETWORKS[request.param](scale)


def test_contract(network, scale):
    lr = torch.rand(2, 3, 5, 4)
    sr = network(lr)
    assert sr.shape == (2, 3, 5 * scale, 4 * scale)
    assert sr.dtype == torch.float32
    assert torch.isfinite(sr).all()
    assert network.scale == scale
    sr.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_samples_do_not_see_each_other(network):
    network = network.double()
    lr = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        together, alone = network(lr), network(lr[1:])
    torch.testing.assert_close(together[1:], alone)


def test_all_parameters_are_of_convolutions_and_there_is_no_other_state(network):
    convolutions = {
        f"{name}.{p}" for name, m in network.named_modules() if isinstance(m, nn.Conv2d) for p in m._parameters
    }
    assert set(network.state_dict()) == convolutions


def parameters(layers):
    return [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


@pytest.mark.parametrize("blocks", [1, 16])
def test_srresnet_has_the_names_of_the_authors_checkpoints(scale, blocks):
    body = [f"body.{block}.conv{which}" for block in range(blocks) for which in (1, 2)]
    upsampling = ["upconv1", "upconv2"] if scale == 4 else ["upconv1"]
    expected = parameters(["conv_first", *body, *upsampling, "conv_hr", "conv_last"])
    assert list(SRResNet(scale, features=4, blocks=blocks).state_dict()) == expected


@pytest.mark.parametrize(
    ("scale", "places"),
    [
        (2, [0, 2, 4, 6, 8, 10, 12, 15, 17]),
        (3, [0, 2, 4, 6, 8, 10, 12, 15, 17]),
        (4, [0, 2, 4, 6, 8, 10, 12, 15, 18, 20]),
    ],
)
def test_srcnn_style_has_the_names_of_the_authors_checkpoints(scale, places):
    with torch.device("meta"):
        network = SRCNNStyle(scale)
    assert list(network.state_dict()) == parameters(f"features.{place}" for place in places)


def test_srresnet_corrects_the_bilinear_upscaling(scale):
    network = SRResNet(scale, features=4, blocks=1).double()
    nn.init.zeros_(network.conv_last.weight)
    nn.init.zeros_(network.conv_last.bias)
    lr = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    expected = F.interpolate(lr, scale_factor=float(scale), mode="bilinear", align_corners=False)
    assert torch.equal(network(lr), expected)


def test_the_residual_blocks_add_to_their_input():
    block = SRResNet(features=4, blocks=1).body[0]
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(block(x), x)


def test_fresh_weights_depend_on_the_seed_alone():
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(SRResNet(features=4, blocks=1).state_dict())
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert not torch.equal(states[0]["conv_first.weight"], states[2]["conv_first.weight"])


@pytest.mark.parametrize("make", [SRResNet, SRCNNStyle])
@pytest.mark.parametrize("scale", [0, 5, -2])
def test_other_scales_are_refused(make, scale):
    with pytest.raises(ValueError, match=f"scale must be 1, 2, 3 or 4, not {scale}"):
        make(scale)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SRResNet(features=0), "features must be > 0, not 0"),
        (lambda: SRResNet(blocks=0), "blocks must be > 0, not 0"),
        (lambda: SRResNet(blocks=-1), "blocks must be > 0, not -1"),
        (lambda: SRCNNStyle(widths=()), r"widths must be one or more positive numbers, not \[\]"),
        (lambda: SRCNNStyle(widths=(4, 0)), r"widths must be one or more positive numbers, not \[4, 0\]"),
    ],
)
def test_sizes_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_passed_image_is_upscaled_to_the_nearest_pixels_at_first(scale: int) -> None:
    lr = torch.rand(2, 3, 6, 5)
    expected = F.interpolate(lr, scale_factor=scale, mode="nearest")
    torch.testing.assert_close(SRCNNStyle(scale, widths=(4, 6), pass_image=True)(lr), expected)


def test_a_passed_image_needs_three_channels() -> None:
    with pytest.raises(ValueError, match="pass_image needs widths of at least 3, not 2"):
        SRCNNStyle(widths=(8, 2), pass_image=True)
