"""Interventions on weights are exact: nothing, everything, and what the plain reference does."""

import copy

import pytest
import reference
import torch
from torch.func import functional_call

from faig_lab.filters import FilterLayout, mask, modulate
from faig_lab.metrics import clipped, removed_share


@pytest.fixture
def problem(network):
    baseline = {name: value.clone() for name, value in network.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    target = {name: torch.randn(value.shape, generator=generator) for name, value in baseline.items()}
    return network, baseline, target, FilterLayout.of(network)


def same(some, other):
    return list(some) == list(other) and all(torch.equal(some[name], other[name]) for name in some)


@pytest.mark.parametrize("none", [torch.empty(0), torch.empty(0, dtype=torch.long)])
def test_masking_nothing_is_the_target_to_the_bit(problem, none):
    _, baseline, target, layout = problem
    assert same(mask(target, baseline, layout, none), target)


def test_masking_everything_is_the_baseline_with_the_targets_biases(problem):
    _, baseline, target, layout = problem
    masked = mask(target, baseline, layout, torch.arange(len(layout)))
    expected = {name: (target if name.endswith("bias") else baseline)[name] for name in target}
    assert same(masked, expected)


@pytest.mark.parametrize("seed", range(3))
def test_masking_is_what_the_reference_does(problem, seed):
    network, baseline, target, layout = problem
    filters = torch.randperm(len(layout), generator=torch.Generator().manual_seed(seed))[:20]
    masked = mask(target, baseline, layout, filters)
    slices = [(name, *place) for name, place in map(layout.address, filters.tolist())]
    slow = reference.masked(network, baseline, target, slices)
    assert same(masked, dict(slow.state_dict()))
    lr = torch.rand(1, 3, 6, 6)
    assert torch.equal(functional_call(network, masked, (lr,)), slow(lr))


def test_masking_changes_no_state_in_place(problem):
    network, baseline, target, layout = problem
    before = [{n: v.clone() for n, v in state.items()} for state in (baseline, target, network.state_dict())]
    masked = mask(target, baseline, layout, torch.arange(10))
    assert {value.requires_grad for value in masked.values()} == {False}
    assert all(same(old, dict(new)) for old, new in zip(before, (baseline, target, network.state_dict()), strict=True))


def test_masking_twice_is_masking_both_in_any_order(problem):
    _, baseline, target, layout = problem
    first, second = torch.arange(0, 30), torch.arange(20, 60)
    twice = mask(mask(target, baseline, layout, first), baseline, layout, second)
    assert same(twice, mask(target, baseline, layout, torch.cat([second.flip(0), first])))


SET = torch.tensor([0, 5, 13, 40, 130])


def test_the_ends_of_modulation_are_exact(problem):
    _, baseline, target, layout = problem
    assert same(modulate(target, baseline, layout, SET, 0.0), mask(target, baseline, layout, SET))
    assert same(modulate(target, baseline, layout, SET, 1.0), target)
    assert same(modulate(target, baseline, layout, SET[:0], 0.3), target)


def test_modulated_values_are_bit_for_bit_those_of_the_ends_even_where_a_sum_would_round():
    layout = FilterLayout.of(torch.nn.Conv2d(1, 3, 1, bias=False))
    target = {"weight": torch.tensor([1e-8, -0.0, 0.0]).view(3, 1, 1, 1)}
    baseline = {"weight": torch.tensor([1e8, 0.0, -0.0]).view(3, 1, 1, 1)}
    everything = torch.arange(3)
    for strength, end in ((0, baseline), (1, target)):
        found = modulate(target, baseline, layout, everything, strength)["weight"]
        assert found.numpy().tobytes() == end["weight"].numpy().tobytes()


@pytest.mark.parametrize("strength", [-0.5, 0.25, 0.5, 1.5])
def test_in_between_modulation_is_the_straight_line_and_nothing_else_moves(problem, strength):
    _, baseline, target, layout = problem
    before = copy.deepcopy((target, baseline))
    chosen = layout.mask(SET)
    for name, value in modulate(target, baseline, layout, SET, strength).items():
        line = baseline[name] + strength * (target[name] - baseline[name])
        inside = chosen[name].expand_as(value) if name in chosen else torch.zeros_like(value, dtype=torch.bool)
        assert torch.allclose(value[inside], line[inside], atol=1e-6)
        assert torch.equal(value[~inside], target[name][~inside])
    assert same(target, before[0])
    assert same(baseline, before[1])


def test_several_modulated_sets_at_once_are_the_sets_one_after_the_other(problem):
    _, baseline, target, layout = problem
    sets = [SET, torch.tensor([1, 2, 100])]
    together = modulate(target, baseline, layout, sets, [0.25, 1.5])
    alone = [modulate(target, baseline, layout, s, v) for s, v in zip(sets, (0.25, 1.5), strict=True)]
    chosen = layout.mask(sets[1])
    for name, value in together.items():
        expected = torch.where(chosen[name], alone[1][name], alone[0][name]) if name in chosen else target[name]
        assert torch.equal(value, expected)
    assert same(modulate(target, baseline, layout, sets, 0.5), modulate(target, baseline, layout, torch.cat(sets), 0.5))


def test_a_modulation_without_meaning_is_refused(problem):
    _, baseline, target, layout = problem
    with pytest.raises(ValueError, match="2 filters are in two sets"):
        modulate(target, baseline, layout, [SET, SET[:2]], [0, 1])
    modulate(target, baseline, layout, [SET, SET[:2]], [0.5, 0.5])
    with pytest.raises(ValueError, match="finite"):
        modulate(target, baseline, layout, SET, float("nan"))
    with pytest.raises(ValueError, match="argument"):
        modulate(target, baseline, layout, [SET, SET], [1.0])


@pytest.mark.parametrize(
    ("target", "masked", "baseline", "share"),
    [
        (30.0, 30.0, 25.0, 0.0),
        (30.0, 25.0, 25.0, 1.0),
        (30.0, 28.0, 26.0, 0.5),
        (30.0, 31.0, 25.0, -0.2),
        (30.0, 20.0, 25.0, 2.0),
        (25.0, 27.5, 30.0, 0.5),
    ],
)
def test_the_removed_share(target, masked, baseline, share):
    assert removed_share(target, masked, baseline) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("baseline", [30.0, 30.0 + 1e-9])
def test_where_there_is_nothing_to_remove_there_is_no_share(baseline):
    assert removed_share(30.0, 20.0, baseline) is None


@pytest.mark.parametrize(("share", "in_a_mean"), [(None, None), (-0.5, 0.0), (0.3, 0.3), (1.0, 1.0), (1.5, 1.0)])
def test_a_removed_share_is_clipped(share, in_a_mean):
    assert clipped(share) == in_a_mean
