"""Planted sets are random, disjoint and seeded; average precision and recall are exact, ties included."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from faig_lab.attribution import count_of
from faig_lab.filters import FilterLayout
from faig_lab.networks import SRResNet
from faig_lab.studies.planted import average_precision, changes, recall_at_count
from faig_lab.training import planted_sets


@pytest.fixture(scope="module")
def layout():
    return FilterLayout.of(SRResNet(features=4, blocks=2))


NAMES = ("blur", "noise", "jpeg")


@pytest.mark.parametrize("percent", [0.6, 1, 10, 33])
def test_sets_are_disjoint_and_of_one_size(layout, percent):
    sets = planted_sets(layout, NAMES, percent, seed=0)
    together = torch.cat(list(sets.values()))
    assert tuple(sets) == NAMES
    assert {len(filters) for filters in sets.values()} == {count_of(percent, len(layout))}
    assert len(together.unique()) == len(together)
    assert 0 <= int(together.min()) <= int(together.max()) < len(layout)
    assert all(torch.equal(filters, filters.sort().values) for filters in sets.values())


def test_the_seed_decides_the_sets(layout):
    first, again, other = (planted_sets(layout, NAMES, 5, seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in NAMES)
    assert not any(torch.equal(first[name], other[name]) for name in NAMES)


def test_sets_are_spread_over_all_layers_in_proportion(layout):
    """Every filter is drawn as often as any other: 5 % of 2,000 draws, within five standard deviations."""
    drawn = torch.zeros(len(layout))
    for seed in range(2000):
        drawn[planted_sets(layout, ("blur",), 5, seed)["blur"]] += 1
    share = count_of(5, len(layout)) / len(layout)
    assert ((drawn - 2000 * share).abs() < 5 * (2000 * share * (1 - share)) ** 0.5).all()


def test_sets_come_from_the_named_layers(layout):
    names = [layer.name.removesuffix(".weight") for layer in layout.layers]
    sets = planted_sets(layout, ("blur", "noise"), 5, 0, layers=["body.*", names[0]])
    found = {names[position] for position in layout.layer_of()[torch.cat(list(sets.values()))]}
    assert found <= {name for name in names if name.startswith("body.")} | {names[0]}
    assert len(found) > 1
    whole = planted_sets(layout, ("blur", "noise"), 5, 0, layers=["*"])
    assert torch.equal(whole["blur"], planted_sets(layout, ("blur", "noise"), 5, 0)["blur"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"percent": 0.001}, r"^percent: 0.001 % of \d+ filters is none; at least"),
        ({"percent": 40}, r"^percent: 3 sets of \d+ filters do not fit into \d+; at most 33.\d+$"),
        ({"layers": ["bdy.*"]}, r"^layers: bdy\.\* fits no layer; the layers are conv_first, "),
        ({"layers": ["conv_first"]}, r"^percent: 3 sets of \d+ filters do not fit into 12; at most"),
        ({"layers": []}, r"^percent: 3 sets of \d+ filters do not fit into 0; at most 0$"),
    ],
)
def test_sets_that_cannot_be(layout, settings, said):
    with pytest.raises(ValueError, match=said):
        planted_sets(layout, NAMES, seed=0, **{"percent": 5, **settings})


def test_the_largest_percent_that_is_named_fits(layout):
    with pytest.raises(ValueError, match="at most") as caught:
        planted_sets(layout, NAMES, 40, 0)
    planted_sets(layout, NAMES, float(str(caught.value).split()[-1]), 0)


# Average precision


def of(values, true):
    scores = torch.tensor(values, dtype=torch.float64)
    return average_precision(scores, torch.tensor(true)), recall_at_count(scores, torch.tensor(true))


@pytest.mark.parametrize(
    ("values", "true", "precision", "recall"),
    [
        ([4, 3, 2, 1], [0, 1], 1, 1),  # first
        ([4, 3, 2, 1], [2, 3], (1 / 3 + 2 / 4) / 2, 0),  # last
        ([4, 3, 2, 1], [0, 2], (1 / 1 + 2 / 3) / 2, 1 / 2),
        ([-1, -5, 0, 7], [3], 1, 1),  # the sign does not matter, the order does
        ([1, 1, 1, 1], [0], 1 / 4, 1 / 4),  # equal scores: chance, wherever the true one stands
        ([1, 1, 1, 1], [3], 1 / 4, 1 / 4),
        ([1, 1, 1, 1], [0, 1, 2, 3], 1, 1),
        ([5, 2, 2, 2], [0, 1], (1 / 1 + 2 / 4) / 2, (1 + 1 / 3) / 2),  # one of three equal ones fits
        ([5, 2, 2, 1], [1, 3], (1 / 3 + 2 / 4) / 2, (1 / 2) / 2),
        ([3, 3, 2, 1], [0, 1], 1, 1),  # equal scores that end exactly at the border
    ],
)
def test_closed_forms(values, true, precision, recall):
    assert of(values, true) == pytest.approx((precision, recall), rel=1e-14)


@pytest.mark.parametrize("levels", [2, 5, 1000, None])
def test_it_is_the_average_precision_of_scikit_learn(levels):
    rng = np.random.default_rng(0)
    for _ in range(20):
        total = int(rng.integers(2, 300))
        count = int(rng.integers(1, total + 1))
        true = rng.permutation(total)[:count]
        values = rng.standard_normal(total) if levels is None else rng.integers(0, levels, total).astype(float)
        values[true] += rng.choice([0, 1])
        labels = np.isin(np.arange(total), true)
        ours = average_precision(torch.from_numpy(values), torch.from_numpy(true))
        assert ours == pytest.approx(average_precision_score(labels, values), rel=1e-12)


def test_recall_at_ties_is_the_mean_over_all_orders():
    values, true = [3, 2, 2, 2, 2, 1], [0, 2, 4]
    recalls = []
    for order in itertools.permutations(range(6)):
        ranked = sorted(order, key=lambda place: -values[place])  # stable: ties stay in the order of the permutation
        recalls.append(len(set(ranked[:3]) & set(true)) / 3)
    assert of(values, true)[1] == pytest.approx(np.mean(recalls), rel=1e-14)


def test_changes_sum_over_each_filter(layout):
    network = SRResNet(features=4, blocks=2)
    baseline = network.state_dict()
    target = {name: value.clone() for name, value in baseline.items()}
    target["conv_first.weight"][1, 2] -= 0.5
    target["conv_first.bias"] += 1
    moved = changes(baseline, target, layout)
    where = layout.index("conv_first.weight", 1, 2)
    assert float(moved[where]) == pytest.approx(9 * 0.5, rel=1e-6)
    assert int((moved != 0).sum()) == 1
