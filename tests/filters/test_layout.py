"""Units of every granularity against explicit loops: any convolution, other parameters, tied weights."""

import json
from collections import defaultdict

import pytest
import torch
from torch import nn

from faig_lab.errors import UserError
from faig_lab.filters import (
    FilterLayout,
    apply_patches,
    evaluate,
    load_patch,
    load_weights,
    make_patch,
    save_patch,
    save_weights,
    tied,
    under_every_name,
)
from faig_lab.granularity import UNITS
from faig_lab.networks import SRCNNStyle, SRResNet

GRANULARITIES = list(UNITS)


class Shared(nn.Module):
    """A convolution used twice, a weight that two convolutions share, an embedding, a scalar."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.again = self.first
        self.norm = nn.BatchNorm2d(3)
        self.table = nn.Parameter(torch.rand(2, 3, 2))
        self.gain = nn.Parameter(torch.tensor(0.7))
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        x = self.again(torch.relu(self.second(self.first(x))))
        x = self.norm(x) * self.gain + self.table.sum()
        return x + self.linear(x.mean((2, 3))).sum(1)[:, None, None, None]


NETWORKS = {
    "bare": lambda: nn.Conv2d(3, 5, 3),
    "one dimension": lambda: nn.Sequential(nn.Conv1d(4, 6, 5), nn.Conv1d(6, 2, 1)),
    "three dimensions": lambda: nn.Sequential(nn.Conv3d(2, 3, (1, 2, 3))),
    "plain": lambda: nn.Sequential(nn.Conv2d(3, 4, (1, 3)), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1, bias=False)),
    "grouped": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Conv1d(6, 6, 5, groups=6)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(6, 4, 2, groups=2), nn.ConvTranspose1d(4, 3, 3)),
    "linear": lambda: nn.Sequential(nn.Linear(5, 4), nn.PReLU()),
    "nested": lambda: nn.ModuleDict(
        {
            "last": nn.Conv2d(2, 3, 3),
            "inner": nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.PReLU(4)),
            "first": nn.Conv2d(4, 2, 1),
        }
    ),
    "shared": Shared,
}


@pytest.fixture(params=NETWORKS, ids=str)
def network(request):
    torch.manual_seed(0)
    return NETWORKS[request.param]().double().eval()


def channels(module, place):
    """True (output, input) channel of a weight by its place."""
    first, second = place[0], place[1]
    if isinstance(module, nn.Linear):
        return first, second
    outs, ins = module.out_channels // module.groups, module.in_channels // module.groups
    if module.transposed:  # (in, out / groups)
        return first // ins * outs + second, first
    return first, first // outs * ins + second


def by_hand(network, granularity):
    """Parameter → unit's key → the places of its weights; kernels apart from other parameters."""
    kernels, others, seen = {}, {}, set()
    modules = {id(m.weight): m for m in network.modules() if hasattr(m, "kernel_size") or isinstance(m, nn.Linear)}
    for name, parameter in network.named_parameters():
        assert id(parameter) not in seen
        seen.add(id(parameter))
        module, units = modules.get(id(parameter)), defaultdict(list)
        for place in [tuple(i) for i in torch.ones_like(parameter).nonzero().tolist()]:
            if granularity == "layer":
                key = ()
            elif granularity == "weight":
                key = place
            elif module is None:
                key = place[:1]
            elif granularity == "filter":
                key = place[:2]
            else:
                key = (channels(module, place)[granularity == "input_channel"],)
            units[key].append(place)
        (others if module is None else kernels)[name] = units
    return kernels, others


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_units_hold_the_weights_that_they_say_in_the_order_of_the_state_dict(network, granularity):
    layout = FilterLayout.of(network, granularity, rank_others=True)
    kernels, others = by_hand(network, granularity)
    state = network.state_dict()
    expected = kernels | others
    names = [name for name in state if name in expected]
    assert list(map(layout.address, range(len(layout)))) == [(n, key) for n in names for key in sorted(expected[n])]
    sums, sizes = layout.gather(state), layout.weights_per_unit()
    for index in range(len(layout)):
        name, place = layout.address(index)
        assert layout.index(name, *place) == index
        weights = [state[name][at] for at in expected[name].pop(place)]
        assert int(sizes[index]) == len(weights)
        torch.testing.assert_close(sums[index], torch.stack(weights).sum(), rtol=1e-12, atol=1e-14)
    assert not any(expected.values())


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_scattered_values_reach_every_weight_of_their_unit(network, granularity):
    layout = FilterLayout.of(network, granularity, rank_others=True)
    kernels, others = by_hand(network, granularity)
    values = torch.rand(len(layout), dtype=torch.float64)
    scattered = layout.scatter(values)
    parameters = dict(network.named_parameters(remove_duplicate=False))
    assert set(scattered) == set(parameters)
    for layer in layout.layers:
        whole = torch.rand(layer.shape)
        assert torch.equal(layer.joined(layer.rows(whole)), whole)
        assert layer.rows(whole).shape == (layer.units, layer.weights // layer.units)
    for name, units in (kernels | others).items():
        whole = scattered[name].expand_as(parameters[name])
        for key, places in units.items():
            assert {float(whole[at]) for at in places} == {float(values[layout.index(name, *key)])}


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_other_parameters_are_listed_but_not_ranked_unless_asked_for(network, granularity):
    ranked, all_ranked = (FilterLayout.of(network, granularity, rank_others=value) for value in (False, True))
    kernels, others = by_hand(network, granularity)
    assert [layer.name for layer in ranked.layers] == list(kernels)
    assert [layer.name for layer in ranked.others] == list(others)
    assert not all_ranked.others
    assert [layer.name for layer in all_ranked.layers] == [n for n in network.state_dict() if n in kernels | others]
    assert ranked.word == UNITS[granularity]
    assert all_ranked.word == (f"{UNITS[granularity]} and other parameters" if others else UNITS[granularity])
    described = json.loads(json.dumps(ranked.describe()))
    assert (described["granularity"], described["filters"]) == (granularity, len(ranked))
    assert [row["name"] for row in described["not_ranked"]] == list(others)
    state, offset = network.state_dict(), 0
    for row in described["layers"]:
        assert [row["out"], row["in"], *row["kernel"]] == list(state[row["name"]].shape)
        assert (row["offset"], row["units"]) == (offset, len(kernels[row["name"]]))
        offset += row["units"]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_mask_marks_exactly_the_given_units(network, granularity):
    layout = FilterLayout.of(network, granularity)
    chosen = {0, len(layout) // 2, len(layout) - 1}
    expected = torch.zeros(len(layout), dtype=torch.bool)
    expected[sorted(chosen)] = True
    for given in (chosen, torch.tensor(sorted(chosen)), torch.tensor(sorted(chosen), dtype=torch.int32)):
        masks = layout.mask(given)
        assert masks.keys() == layout.scatter(expected).keys()
        assert all(torch.equal(masks[name], part) for name, part in layout.scatter(expected).items())
    for none in ([], torch.empty(0)):
        assert not any(mask.any() for mask in layout.mask(none).values())
    assert all(mask.all() for mask in layout.mask(range(len(layout))).values())


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_layer_of_each_unit(network, granularity):
    layout = FilterLayout.of(network, granularity)
    names = [layout.layers[position].name for position in layout.layer_of().tolist()]
    assert names == [layout.address(index).layer for index in range(len(layout))]
    assert layout.count_by_layer(torch.arange(len(layout))).tolist() == [names.count(x.name) for x in layout.layers]


def test_gather_does_not_depend_on_the_memory_format():
    layout = FilterLayout.of(nn.Conv2d(3, 4, (3, 5)))
    weight = torch.rand(4, 3, 3, 5, dtype=torch.float64)
    other = weight.contiguous(memory_format=torch.channels_last)
    assert other.stride() != weight.stride()
    torch.testing.assert_close(layout.gather({"weight": other}), layout.gather({"weight": weight}))


@pytest.mark.parametrize(("network", "filters"), [(SRResNet, 151_936), (SRCNNStyle, 156_224)])
def test_the_full_networks_have_as_many_filters_as_the_paper_says(network, filters):
    with torch.device("meta"):
        layout = FilterLayout.of(network())
    assert len(layout) == filters
    assert sum(layer.units for layer in layout.layers) == filters


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("rank_others", [False, True])
def test_a_patch_of_any_unit_goes_round(network, granularity, rank_others, tmp_path):
    layout = FilterLayout.of(network, granularity, rank_others)
    baseline = {n: v.clone() for n, v in network.state_dict().items()}
    moved = {n: torch.rand_like(v) if v.is_floating_point() else v for n, v in baseline.items()}
    target = under_every_name(network, {n: v for n, v in moved.items() if n not in tied(network)})
    units = torch.arange(len(layout))[:: max(1, len(layout) // 3)]
    save_patch(tmp_path / "p.npz", make_patch(target, baseline, layout, units))
    patch = load_patch(tmp_path / "p.npz", baseline, layout)
    assert patch.layout == layout
    patched, chosen = apply_patches(baseline, patch), layout.mask(units)
    for name, value in baseline.items():
        inside = chosen.get(name, torch.tensor(False)).expand(value.shape)
        assert torch.equal(patched[name], torch.where(inside, target[name], value))
    everything = make_patch(target, baseline, layout, torch.arange(len(layout)), rest=True)
    assert all(torch.equal(v, target[n]) for n, v in apply_patches(baseline, everything).items())
    other = FilterLayout.of(network, "weight" if granularity == "layer" else "layer", rank_others)
    with pytest.raises(UserError, match=f"it holds {UNITS[granularity]}, not"):
        load_patch(tmp_path / "p.npz", baseline, other)


def test_a_tied_weight_has_one_value_under_all_its_names():
    network = Shared().eval()
    names = tied(network)
    assert names["second.weight"] == names["again.weight"] == "first.weight"
    assert names["again.bias"] == "first.bias"
    layout = FilterLayout.of(network)
    assert [layer.name for layer in layout.layers] == ["first.weight", "linear.weight"]
    assert set(layout.mask([0])) == {"first.weight", "second.weight", "again.weight", "linear.weight"}
    assert layout.index("second.weight", 1, 2) == layout.index("first.weight", 1, 2) == 5
    state = {n: v.clone() for n, v in network.state_dict().items()}
    state["first.weight"] += 1
    x = torch.rand(1, 3, 4, 4)
    before = network(x)
    moved = evaluate(network, state, x)  # clones under the other names do not matter
    assert not torch.equal(moved, before)
    assert torch.equal(network(x), before)
    with torch.no_grad():
        network.first.weight += 1
    assert torch.equal(network(x), moved)


def test_a_file_in_which_a_tied_weight_has_two_values_is_refused(tmp_path):
    network = Shared()
    state = {n: v.clone() for n, v in network.state_dict().items()}
    save_weights(tmp_path / "same.pt", state, {})
    assert set(load_weights(tmp_path / "same.pt", network)) == set(state)
    state["second.weight"] += 1
    save_weights(tmp_path / "two.pt", state, {})
    with pytest.raises(UserError, match=r"second\.weight and first\.weight are one weight in the network"):
        load_weights(tmp_path / "two.pt", network)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")  # the old one is what is tested
@pytest.mark.parametrize(
    "norm",
    [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm, nn.utils.weight_norm],
    ids=["weight_norm", "spectral_norm", "old weight_norm"],
)
def test_a_weight_that_is_computed_from_others_is_refused_in_one_line(norm):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), norm(nn.Conv2d(4, 3, 3)))
    with pytest.raises(ValueError, match=r"^1\.weight is no parameter but computed from others .*; fold it in with"):
        FilterLayout.of(network)


def test_a_network_without_filters_is_refused():
    with pytest.raises(ValueError, match="no convolution"):
        FilterLayout.of(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_addresses_out_of_range_are_refused(granularity):
    layout = FilterLayout.of(nn.Conv2d(3, 5, 3), granularity)
    for index in (-1, len(layout), 10**9):
        with pytest.raises(IndexError, match=f"the layout has {len(layout)} {UNITS[granularity]}, no {index}"):
            layout.address(index)
    with pytest.raises(IndexError, match=f"it has no {granularity} 9, 9, 9"):
        layout.index("weight", 9, 9, 9)
    for place in ((5, 0), (0, 3), (-1, 0), (0, -1)) if granularity == "filter" else ():
        with pytest.raises(IndexError, match=f"weight is 5×3, it has no filter {place[0]}, {place[1]}"):
            layout.index("weight", *place)


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
    with pytest.raises(KeyError, match="weihgt"):
        layout.index("weihgt", 0, 0)
