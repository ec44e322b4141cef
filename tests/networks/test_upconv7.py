"""UpConv7: its size, its filters, its receptive field; the numbers are compared in tests/filters/test_ncnn.py."""

import pytest
import torch

from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_network
from faig_lab.config import check
from faig_lab.filters import FilterLayout
from faig_lab.networks import UpConv7


@pytest.fixture
def small():
    torch.manual_seed(0)
    return UpConv7(widths=(4, 6))


def test_contract(small):
    sr = small(torch.rand(2, 3, 5, 4))
    assert sr.shape == (2, 3, 10, 8)
    sr.square().sum().backward()
    assert all(parameter.grad.any() for parameter in small.parameters())


@pytest.mark.parametrize("size", [(1, 1), (3, 8), (9, 2)])
@pytest.mark.parametrize("widths", [(2,), (4, 6), (2, 2, 2, 2, 2, 2)])
def test_the_output_has_exactly_twice_the_size(size, widths):
    assert UpConv7(widths=widths)(torch.rand(1, 3, *size)).shape[-2:] == (2 * size[0], 2 * size[1])


def test_the_border_is_repeated(small):
    """A border that is there already changes nothing; zeros around the image would."""
    small = small.double()
    lr = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    larger = torch.nn.functional.pad(lr, [2] * 4, mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(small(larger)[..., 4:-4, 4:-4], small(lr), rtol=0, atol=1e-14)


def test_the_published_network_has_60720_filters_of_named_places():
    network = make_network(check(compose(["network=upconv7"])))
    layout = FilterLayout.of(network)
    widths = (3, 16, 32, 64, 128, 128, 256)
    assert len(layout) == sum(a * b for a, b in zip(widths, (*widths[1:], 3), strict=True)) == 60_720
    assert layout.address(0) == ("conv1_layer.weight", (0, 0))
    assert layout.address(60_719) == ("conv7_layer.weight", (255, 2))  # input channel, then output channel
    assert layout.layers[-1].shape == (256, 3, 4, 4)
    assert sum(parameter.numel() for parameter in network.parameters()) == 552_483


def test_units_of_the_transposed_layer_belong_to_their_channels():
    network = UpConv7(widths=(4, 6))
    last = {g: FilterLayout.of(network, g).layers[-1] for g in ("filter", "output_channel", "input_channel")}
    assert {name: layer.units for name, layer in last.items()} == {
        "filter": 18,
        "output_channel": 3,
        "input_channel": 6,
    }
    weight = network.conv3_layer.weight.detach()
    torch.testing.assert_close(last["output_channel"].rows(weight).sum(1), weight.sum((0, 2, 3)))
    torch.testing.assert_close(last["filter"].rows(weight).sum(1), weight.sum((2, 3)).flatten())


def test_fresh_weights_keep_the_scale_of_the_signal():
    torch.manual_seed(0)
    with torch.no_grad():
        sr = UpConv7()(torch.rand(1, 3, 16, 16))
    assert 0.05 < float(sr.std()) < 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scale": 1}, "scale must be 2, not 1"),
        ({"scale": 4}, "scale must be 2, not 4"),
        ({"widths": ()}, r"widths must be one or more positive numbers, not \[\]"),
        ({"widths": (4, 0)}, r"widths must be one or more positive numbers, not \[4, 0\]"),
    ],
)
def test_arguments_are_refused_by_name(arguments, said):
    with pytest.raises(ValueError, match=said):
        UpConv7(**arguments)
