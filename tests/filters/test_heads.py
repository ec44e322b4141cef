"""Heads as units: the rows of queries, keys and values, by explicit loops; output channels in all other layers."""

import odd_networks as odd
import pytest
import torch
from torch import nn

from benchmarks.minimal import Restormer, Windowed
from faig_lab.filters import FilterLayout, mask


class Separate(nn.Module):
    """Queries of their own, keys and values together; a name like theirs without an attention."""

    def __init__(self):
        super().__init__()
        self.heads = 2
        self.to_q = nn.Linear(6, 4)
        self.to_kv = nn.Linear(6, 8, bias=False)
        self.proj = nn.Linear(4, 6)


class Odd(nn.Module):
    """Rows that heads do not divide, and a flag that is no number of heads."""

    def __init__(self):
        super().__init__()
        self.num_heads = 4
        self.qkv = nn.Linear(6, 9)
        self.inner = Separate()
        self.inner.heads = True


@pytest.mark.parametrize(
    ("make", "name", "blocks"),
    [
        (Windowed, "attn.qkv.weight", 6),
        (Restormer, "attn.qkv.weight", 6),
        (odd.Attention, "attention.in_proj_weight", 6),
        (lambda: odd.Attention(2), "attention.k_proj_weight", 2),
        (Separate, "to_q.weight", 2),
        (Separate, "to_kv.weight", 4),
    ],
)
def test_a_unit_is_the_query_key_or_value_of_one_head(make, name, blocks):
    network = make()
    weight = dict(network.named_parameters())[name]
    layout = FilterLayout.of(network, "head")
    rows = len(weight) // blocks
    state = {n: torch.randn_like(p) for n, p in network.named_parameters()}
    sums = layout.gather(state)
    for block in range(blocks):
        own = state[name][block * rows : (block + 1) * rows]
        index = layout.index(name, block)
        torch.testing.assert_close(sums[index], own.sum())
        assert layout.address(index) == (name, (block,))
        assert int(layout.weights_per_unit()[index]) == own.numel()
    assert next(layer.units for layer in layout.layers if layer.name == name) == blocks


def test_other_layers_have_output_channels():
    heads, channels = (FilterLayout.of(Windowed(), kind) for kind in ("head", "output_channel"))
    assert [layer.units for layer in heads.layers if "qkv" not in layer.name] == [
        layer.units for layer in channels.layers if "qkv" not in layer.name
    ]
    assert heads.word == "heads and channels"


def test_rows_that_heads_do_not_divide_stay_channels():
    layout = FilterLayout.of(Odd(), "head")
    units = {layer.name: layer.units for layer in layout.layers}
    assert units == {"qkv.weight": 9, "inner.to_q.weight": 4, "inner.to_kv.weight": 8, "inner.proj.weight": 6}


def test_a_masked_head_is_the_baselines_and_nothing_else_is():
    network = Windowed()
    baseline = {name: value.clone() for name, value in network.state_dict().items()}
    target = {name: value + 1 for name, value in baseline.items()}
    layout = FilterLayout.of(network, "head")
    masked = mask(target, baseline, layout, [layout.index("attn.qkv.weight", 4)])  # the value of head 0
    rows = range(16, 20)
    for row in range(24):
        expected = (baseline if row in rows else target)["attn.qkv.weight"][row]
        assert torch.equal(masked["attn.qkv.weight"][row], expected)
    assert all(torch.equal(value, target[name]) for name, value in masked.items() if name != "attn.qkv.weight")
