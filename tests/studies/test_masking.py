"""How deep the discovered filters sit, on sets whose place is known."""

import math

import pytest
import torch
from torch import nn

from faig_lab.attribution import Attribution, discovered
from faig_lab.filters import FilterLayout
from faig_lab.runs.tables import records, select
from faig_lab.studies.masking import depth, depth_metrics, distribution

PARTS = ["first_third", "middle_third", "last_third", "last_convolution", "entropy"]


def stack(layers, bias=False):
    """So many 1×1 convolutions of 2 × 2 = 4 filters each."""
    return nn.Sequential(*(nn.Conv2d(2, 2, 1, bias=bias) for _ in range(layers)))


def attribution(network, *draws, rank_others=False):
    """Scores with the given units of each draw in front, for one degradation."""
    layout = FilterLayout.of(network, rank_others=rank_others)
    scores = torch.zeros(len(draws), 1, len(layout), dtype=torch.float64)
    for draw, units in enumerate(draws):
        scores[draw, 0, units] = 1
    return Attribution({"faig": scores}, ("blur",), layout)


def parts_of(found, percent):
    [row] = records(depth(found, [percent]))
    assert (row["method"], row["degradation"], row["percent"]) == ("faig", "blur", percent)
    assert list(row) == ["method", "degradation", "percent", *PARTS]
    return [row[part] for part in PARTS]


def test_sets_whose_place_is_known():
    network = stack(6)  # 24 filters, two layers in each third
    filters = {layer: [4 * layer + i for i in range(4)] for layer in range(6)}
    all_in_first, all_in_last = attribution(network, filters[0]), attribution(network, filters[5])
    assert parts_of(all_in_first, 100 * 4 / 24) == [1, 0, 0, 0, 0]
    assert parts_of(all_in_last, 100 * 4 / 24) == [0, 0, 1, 1, 0]
    spread = attribution(network, [filters[layer][0] for layer in range(6)])
    assert parts_of(spread, 100 * 6 / 24) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 6, 1])
    mixed = attribution(network, [*filters[1][:1], *filters[2][:2], *filters[5][:1]])
    entropy = (0.25 * math.log(4) * 2 + 0.5 * math.log(2)) / math.log(6)
    assert parts_of(mixed, 100 * 4 / 24) == pytest.approx([0.25, 0.5, 0.25, 0.25, entropy])


@pytest.mark.parametrize(
    ("layers", "thirds"),
    [(1, [0, 1, 0]), (2, [1, 0, 1]), (3, [1, 1, 1]), (4, [1, 2, 1]), (5, [2, 1, 2]), (8, [3, 2, 3]), (20, [7, 6, 7])],
)
def test_a_layer_is_in_the_third_of_its_middle(layers, thirds):
    everything = attribution(stack(layers), list(range(4 * layers)))
    found = parts_of(everything, 100)
    assert found[:4] == pytest.approx([*(count / layers for count in thirds), 1 / layers])
    assert found[4] is None if layers == 1 else found[4] == pytest.approx(1)


def test_layers_count_alike_whatever_their_size():
    network = nn.Sequential(nn.Conv2d(2, 9, 1, bias=False), nn.Conv2d(9, 2, 1, bias=False), nn.Linear(2, 1, bias=False))
    layout = FilterLayout.of(network)
    everything = attribution(network, list(range(len(layout))))
    assert parts_of(everything, 100)[:4] == pytest.approx([18 / 38, 18 / 38, 2 / 38, 2 / 38])


def test_a_ranked_bias_counts_as_its_convolution():
    network = stack(3, bias=True)
    layout = FilterLayout.of(network, rank_others=True)
    biases = [layout.index(f"{layer}.bias", 0) for layer in (0, 2)]
    found = parts_of(attribution(network, biases, rank_others=True), 100 * 2 / len(layout))
    assert found == pytest.approx([0.5, 0, 0.5, 0.5, math.log(2) / math.log(3)])


def test_several_draws_are_averaged():
    found = attribution(stack(3), [0, 1, 2, 3], [8, 9, 10, 11], [0, 4, 8, 1])
    expected = [(1 + 0.5) / 3, 0.25 / 3, (1 + 0.25) / 3, (1 + 0.25) / 3]
    assert parts_of(found, 100 / 3)[:4] == pytest.approx(expected)


def test_nothing_discovered_has_no_place():
    assert parts_of(attribution(stack(3), [0]), 1) == [None] * 5


def test_every_method_degradation_and_percent_has_a_row_and_the_headline_its_metrics(network, make_attribution):
    found = make_attribution(network)
    rows = depth(found, [1, 10])
    keys = {(row["method"], row["degradation"], row["percent"]) for row in records(rows)}
    assert keys == {(m, d, p) for m in ("faig", "random") for d in ("blur", "noise") for p in (1, 10)}
    assert len(rows) == len(keys)
    for row in records(rows):
        assert sum(row[part] for part in PARTS[:3]) == pytest.approx(1)
        assert row["last_convolution"] <= row["last_third"]
    metrics = depth_metrics(rows, 10)
    assert set(metrics) == {f"depth/{m}/10/{d}/{part}" for m, d, p in keys if p == 10 for part in PARTS}
    [row] = records(select(rows, 10, method="faig", degradation="noise"))
    assert metrics["depth/faig/10/noise/entropy"] == row["entropy"]


def test_the_distribution_counts_every_discovered_filter_once(network, make_attribution):
    attribution = make_attribution(network)
    percents = [0.1, 1, 10, 100]
    rows = distribution(attribution, percents)
    layout = attribution.layout
    assert {r["method"] for r in rows} == {"faig"}
    assert len(rows) == 2 * len(percents) * len(layout.layers)
    for k, degradation in enumerate(attribution.degradations):
        for percent in percents:
            chosen = [r for r in rows if (r["degradation"], r["percent"]) == (degradation, percent)]
            filters = discovered(attribution.scores["faig"][0, k], percent)
            assert [r["depth"] for r in chosen] == list(range(len(layout.layers)))
            assert sum(r["discovered"] for r in chosen) == len(filters)
            assert sum(r["filters"] for r in chosen) == len(layout)
            addresses = [layout.address(i).layer for i in filters.tolist()]
            for layer, found in zip(layout.layers, chosen, strict=True):
                assert f"{found['layer']}.weight" == layer.name
                assert found["discovered"] == addresses.count(layer.name)
                assert found["share"] == found["discovered"] / found["filters"]
    assert all(r["share"] == 1 for r in rows if r["percent"] == 100)
