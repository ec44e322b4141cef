"""Names of filters for any convolution, against explicit loops over the state dict."""

import json

import pytest
import torch
from torch import nn

from faig_lab.filters import FilterLayout, UnitAddress
from faig_lab.networks import SRCNNStyle, SRResNet

NETWORKS = {
    "bare": lambda: nn.Conv2d(3, 5, 3),
    "one dimension": lambda: nn.Sequential(nn.Conv1d(4, 6, 5), nn.Conv1d(6, 2, 1)),
    "three dimensions": lambda: nn.Sequential(nn.Conv3d(2, 3, (1, 2, 3))),
    "pointwise": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1, bias=False)),
    "rectangular": lambda: nn.Sequential(nn.Conv2d(3, 4, (3, 5)), nn.Conv2d(4, 3, (1, 2))),
    "groups": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 6, 3, groups=6)),
    "transposed": lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ConvTranspose2d(5, 2, 4), nn.ConvTranspose1d(2, 3, 2)),
    "linear": lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Linear(5, 4)),
    "nested": lambda: nn.ModuleDict(
        {
            "last": nn.Conv2d(2, 3, 3),
            "inner": nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.PReLU(4)),
            "first": nn.Conv2d(4, 2, 1),
        }
    ),
    "SRResNet": lambda: SRResNet(features=4, blocks=1),
}


@pytest.fixture(params=NETWORKS, ids=str)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().double()


def by_hand(network):
    """(layer, out, in, slice) of every filter: layers as in the state dict, then out, then in."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
    layers = [f"{name}.weight".lstrip(".") for name, module in network.named_modules() if isinstance(module, kinds)]
    return [
        (name, out, in_, weight[out, in_])
        for name, weight in network.state_dict().items()
        if name in layers
        for out in range(weight.shape[0])
        for in_ in range(weight.shape[1])
    ]


def test_the_order_is_state_dict_then_out_then_in(network):
    layout = FilterLayout.of(network)
    filters = by_hand(network)
    assert len(layout) == len(filters)
    expected = [UnitAddress(name, (out, in_)) for name, out, in_, _ in filters]
    assert [layout.address(i) for i in range(len(layout))] == expected


def test_index_and_address_are_inverse(network):
    layout = FilterLayout.of(network)
    addresses = [layout.address(i) for i in range(len(layout))]
    assert [layout.index(name, *place) for name, place in addresses] == list(range(len(layout)))


def test_gather_sums_the_weights_of_each_filter(network):
    sums = FilterLayout.of(network).gather(network.state_dict())
    expected = torch.stack([part.sum() for *_, part in by_hand(network)])
    assert sums.dtype == torch.float64
    torch.testing.assert_close(sums, expected, rtol=1e-13, atol=1e-15)


def test_gather_does_not_depend_on_the_memory_format():
    layout = FilterLayout.of(nn.Conv2d(3, 4, (3, 5)))
    weight = torch.rand(4, 3, 3, 5, dtype=torch.float64)
    other = weight.contiguous(memory_format=torch.channels_last)
    assert other.stride() != weight.stride()
    torch.testing.assert_close(layout.gather({"weight": other}), layout.gather({"weight": weight}))


def test_scatter_gives_each_filter_its_value(network):
    layout = FilterLayout.of(network)
    values = torch.arange(len(layout), dtype=torch.float64) + 1
    scattered = layout.scatter(values)
    filters = by_hand(network)
    assert list(scattered) == list(dict.fromkeys(name for name, *_ in filters))
    for value, (name, out, in_, part) in zip(values, filters, strict=True):
        spread = scattered[name].expand_as(network.state_dict()[name])[out, in_]
        assert torch.equal(spread, torch.full_like(part, float(value)))


def test_gathering_what_was_scattered_counts_the_weights(network):
    layout = FilterLayout.of(network)
    values = torch.rand(len(layout), dtype=torch.float64)
    whole = {n: v.expand_as(network.state_dict()[n]) for n, v in layout.scatter(values).items()}
    whole = {n: v.contiguous() for n, v in whole.items()}
    torch.testing.assert_close(layout.gather(whole), values * layout.weights_per_unit())
    assert layout.weights_per_unit().tolist() == [part.numel() for *_, part in by_hand(network)]


def test_mask_marks_exactly_the_given_filters(network):
    layout = FilterLayout.of(network)
    chosen = {0, len(layout) // 2, len(layout) - 1}
    for given in (chosen, torch.tensor(sorted(chosen)), torch.tensor(sorted(chosen), dtype=torch.int32)):
        masks = layout.mask(given)
        marked = {i for i, (name, out, in_, _) in enumerate(by_hand(network)) if bool(masks[name][out, in_].all())}
        assert marked == chosen
    assert not any(mask.any() for mask in layout.mask([]).values())
    assert not any(mask.any() for mask in layout.mask(torch.empty(0)).values())
    assert all(mask.all() for mask in layout.mask(range(len(layout))).values())


def test_layer_of_names_each_filters_layer(network):
    layout = FilterLayout.of(network)
    names = [layout.layers[position].name for position in layout.layer_of().tolist()]
    assert names == [name for name, *_ in by_hand(network)]


def test_the_description_is_plain_data_and_complete(network):
    layout = FilterLayout.of(network)
    description = json.loads(json.dumps(layout.describe()))
    state = network.state_dict()
    assert description["filters"] == len(layout) == layout.offsets[-1]
    assert "state dict, then out, then in" in description["order"]
    expected = 0
    for row in description["layers"]:
        assert [row["out"], row["in"], *row["kernel"]] == list(state[row["name"]].shape)
        assert row["offset"] == expected
        assert row["units"] == row["out"] * row["in"]
        expected += row["units"]
    assert expected == len(layout)


@pytest.mark.parametrize(("network", "filters"), [(SRResNet, 151_936), (SRCNNStyle, 156_224)])
def test_the_full_networks_have_as_many_filters_as_the_paper_says(network, filters):
    with torch.device("meta"):
        layout = FilterLayout.of(network())
    assert len(layout) == filters
    assert sum(layer.units for layer in layout.layers) == filters


def test_equal_networks_have_equal_layouts():
    assert FilterLayout.of(SRResNet(features=4, blocks=1)) == FilterLayout.of(SRResNet(features=4, blocks=1))
    assert FilterLayout.of(SRResNet(features=4, blocks=1)) != FilterLayout.of(SRResNet(features=4, blocks=2))


def test_a_network_without_filters_is_refused():
    with pytest.raises(ValueError, match="no convolution"):
        FilterLayout.of(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)))


@pytest.mark.parametrize("index", [-1, 15, 10**9])
def test_an_index_out_of_range_is_refused(index):
    with pytest.raises(IndexError, match=f"the layout has 15 filters, no {index}"):
        FilterLayout.of(nn.Conv2d(3, 5, 3)).address(index)


@pytest.mark.parametrize(("out", "in_"), [(5, 0), (0, 3), (-1, 0), (0, -1)])
def test_an_address_out_of_range_is_refused(out, in_):
    with pytest.raises(IndexError, match=f"weight is 5×3, it has no filter {out}, {in_}"):
        FilterLayout.of(nn.Conv2d(3, 5, 3)).index("weight", out, in_)


def test_an_unknown_layer_is_refused():
    with pytest.raises(KeyError, match="conv_frist"):
        FilterLayout.of(SRResNet(features=4, blocks=1)).index("conv_frist.weight", 0, 0)


def test_wrong_shapes_and_filters_are_refused():
    layout = FilterLayout.of(nn.Conv2d(3, 5, 3))
    with pytest.raises(ValueError, match=r"expected \(15,\) values, not \(14,\)"):
        layout.scatter(torch.zeros(14))
    with pytest.raises(ValueError, match=r"expected \(15,\) values, not \(1, 15\)"):
        layout.scatter(torch.zeros(1, 15))
    with pytest.raises(IndexError):
        layout.mask([15])
    with pytest.raises(KeyError, match="weight"):
        layout.gather({"bias": torch.zeros(5)})
