"""Interventions on weights are exact: nothing, everything, and what the plain reference does."""

import pytest
import reference
import torch
from torch.func import functional_call

from faig_lab.filters import FilterLayout, mask
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
