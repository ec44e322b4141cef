"""The learned mask: planted answers are found, its ends are the two networks, budgets hold, results repeat."""

import dataclasses
import importlib
import logging
import math
import time
from functools import partial

import pytest
import reference
import torch
from attribution_case import THREE, TWO, random_image, random_pair
from odd_networks import SmallUNet, Tied
from torch import nn

from faig_lab.attribution import Compute, Problem, ResultCache, Shard, discovered, quadrature, ranking
from faig_lab.attribution.mask_training import along_the_count, gated, learned_mask, masked_parts
from faig_lab.attribution.methods import faig
from faig_lab.data import CLEAN, PairedImage
from faig_lab.filters import evaluate, mask
from faig_lab.networks import SRResNet

learned_mask_module = importlib.import_module("faig_lab.attribution.mask_training")
short = partial(learned_mask, steps=8, crops=2, crop=16)
long = partial(learned_mask, steps=200, crops=1, crop=16)


@pytest.fixture(params=[("blur",), TWO, THREE], ids=len)
def problem(request):
    torch.manual_seed(0)
    return random_pair(SRResNet(features=4, blocks=1), kinds=request.param)


def isolation_of(problem, filters, k):
    """Isolation of a set on the whole probe images, by the definition."""

    def outputs(state):
        return {
            name: [evaluate(problem.network, state, image.lr[name][None])[0].detach() for image in problem.probe]
            for name in (*problem.degradations, CLEAN)
        }

    masked = mask(problem.target, problem.baseline, problem.layout, filters)
    own, *others = problem.degradations[k], *problem.degradations[:k], *problem.degradations[k + 1 :]
    return reference.edit(*map(outputs, (masked, problem.baseline, problem.target)), own, others, CLEAN)[0]


def test_scores_are_parts_of_masks_and_the_seed_draws_the_crops(problem):
    scores = short(problem)
    assert ((scores > 0) & (scores < 1)).all()
    assert not torch.equal(scores, short(dataclasses.replace(problem, seed=4)))


class Columns(nn.Module):
    """A convolution that sees each colour twice; pixels are doubled before."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 3, 1)

    def forward(self, lr):
        return self.conv(nn.functional.interpolate(lr.repeat_interleave(2, dim=1), scale_factor=2))


def planted(**changes):
    """Clean input is red, blurred input also green, noisy input also blue. All filters change, red ones in vain.

    The pair of red filters of each output moves in opposite directions, so that its sum stays as it was. Whatever the
    target does otherwise on blurred input is done by the 6 filters of green, and on noisy input by those of blue.
    """
    torch.manual_seed(0)
    baseline = {"conv.weight": 0.1 + 0.1 * torch.rand(3, 6, 1, 1), "conv.bias": torch.zeros(3)}
    change = 0.05 + 0.05 * torch.rand(3, 3, 1, 1)
    moved = torch.stack([3 * change, change], 2)
    moved[:, 0] = torch.stack([2 * change[:, 0], -2 * change[:, 0]], 1)
    target = {"conv.weight": baseline["conv.weight"] + moved.reshape(3, 6, 1, 1), "conv.bias": torch.zeros(3)}
    colour = torch.rand(3, 8, 8)
    seen = {CLEAN: (1, 0, 0), "blur": (1, 1, 0), "noise": (1, 0, 1)}
    lr = {name: colour * torch.tensor(shown)[:, None, None] for name, shown in seen.items()}
    images = (PairedImage("planted", torch.rand(3, 16, 16), lr),)
    return Problem(Columns(), baseline, target, images, ("blur", "noise"), quadrature("left", 1), **changes)


@pytest.fixture(scope="module")
def planted_scores():
    return long(planted())


def test_a_planted_set_is_found(planted_scores):
    """One filter of each output holds 3/4 of its function's amplitude, the other 1/4: they come first and second."""
    problem, scores = planted(), planted_scores[0]
    for k, first in enumerate((2, 4)):
        answer = [{problem.layout.index("conv.weight", out, first + more) for out in range(3)} for more in (0, 1)]
        found = ranking(scores[k])[:6]
        assert [set(found[:3].tolist()), set(found[3:].tolist())] == answer
        assert isolation_of(problem, found, k) == pytest.approx(1, abs=1e-6)
        assert isolation_of(problem, found[:3], k) == pytest.approx(15 / 16, abs=0.01)


def test_its_sets_isolate_better_than_faigs_at_equal_count():
    torch.manual_seed(1)
    problem = random_pair(SRResNet(features=6, blocks=2))
    trained, ranked = long(problem)[0], faig(problem)[0]
    for k in range(2):
        for percent in (1, 2):
            own, rival = (isolation_of(problem, discovered(scores[k], percent), k) for scores in (trained, ranked))
            assert own > rival + 0.02, (k, percent)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("count", [0.5, 3, 30])
def test_gates_mask_as_many_as_they_are_told(count, temperature):
    logits = 20 * torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    masked = masked_parts(logits, temperature, count)
    assert float(masked.sum()) == pytest.approx(count, rel=1e-9)
    steps = masked[logits.argsort(descending=True)].diff()
    assert (steps[masked[logits.argsort(descending=True)][1:] < 0.5] > 0).all()  # also where g rounds to 1
    assert (steps >= 0).all()
    torch.testing.assert_close(masked_parts(logits + 5, temperature, count), masked)


def test_the_gradient_along_the_count_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    logits, weights = (torch.randn(20, generator=generator).double() for _ in range(2))

    def loss(values):
        return float((weights * (1 - masked_parts(values, 0.5, 4)).square()).sum())

    masked = masked_parts(logits, 0.5, 4)
    found = along_the_count(2 * weights * (1 - masked), masked, 0.5)
    steps = 1e-5 * torch.eye(20, dtype=torch.float64)
    expected = torch.tensor([(loss(logits + step) - loss(logits - step)) / 2e-5 for step in steps])
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("granularity", ["weight", "filter", "output_channel", "input_channel", "layer"])
@pytest.mark.parametrize("network", [SmallUNet, Tied, lambda: SRResNet(features=4, blocks=1)])
def test_gates_of_one_are_the_target_and_of_zero_the_baseline(network, granularity):
    torch.manual_seed(0)
    problem = random_pair(network().eval(), granularity=granularity)
    target, baseline = gated(problem, torch.ones(len(problem.layout))), gated(problem, torch.zeros(len(problem.layout)))
    ranked = {name for layer in problem.layout.layers for name in layer.names}
    assert all(torch.equal(target[n], v) for n, v in problem.target.items())
    assert all(
        torch.equal(baseline[n], (problem.baseline if n in ranked else problem.target)[n]) for n in problem.baseline
    )
    whole = dataclasses.replace(problem, rank_others=True)
    none = gated(whole, torch.zeros(len(whole.layout)))
    weights = {name for name, _ in problem.network.named_parameters()}
    assert all(torch.equal(none[n], whole.baseline[n]) for n in weights)


def test_half_open_gates_lie_between():
    problem = planted()
    gates = torch.linspace(0, 1, len(problem.layout))
    ends = problem.baseline["conv.weight"], problem.target["conv.weight"]
    expected = ends[0] + gates.reshape(3, 6, 1, 1) * (ends[1] - ends[0])
    torch.testing.assert_close(gated(problem, gates)["conv.weight"], expected)


@pytest.mark.parametrize("granularity", ["weight", "output_channel", "layer"])
def test_any_granularity_and_other_parameters(granularity):
    torch.manual_seed(0)
    problem = random_pair(SRResNet(features=4, blocks=1), granularity=granularity, rank_others=True)
    scores = short(problem)
    assert scores.shape == (1, 2, len(problem.layout))
    assert len(scores.unique()) > len(problem.layout) / 2


def test_a_bias_that_all_inputs_need_is_left_alone():
    problem = planted(rank_others=True)
    problem.target["conv.weight"].copy_(problem.baseline["conv.weight"])
    problem.target["conv.weight"][:, 2] += 0.2
    problem.target["conv.bias"] += torch.tensor([0.0, 0.05, 0.0])
    ranks = ranking(long(problem)[0, 0]).tolist()
    green = {problem.layout.index("conv.weight", out, 2) for out in range(3)}
    assert set(ranks[:3]) == green


def test_images_of_any_size():
    torch.manual_seed(0)
    probe = random_image(1, size=(8, 8)), random_image(2, size=(5, 21)), random_image(3, size=(40, 9))
    problem = random_pair(SRResNet(features=4, blocks=1), probe=probe)
    for scores in (short(problem), learned_mask(problem, steps=4, crop=1000)):
        assert scores.shape == (1, 2, len(problem.layout))
        assert torch.isfinite(scores).all()


def test_other_precisions_and_networks():
    torch.manual_seed(0)
    network = SRResNet(features=4, blocks=1)
    problem = random_pair(network)
    half = dataclasses.replace(problem, compute=Compute(autocast=torch.bfloat16))
    torch.testing.assert_close(short(half), short(problem), atol=0.1, rtol=0)
    double = {n: v.double() for n, v in problem.baseline.items()}, {n: v.double() for n, v in problem.target.items()}
    fine = dataclasses.replace(problem, network=network.double(), baseline=double[0], target=double[1])
    torch.testing.assert_close(short(fine), short(problem), atol=0.01, rtol=0)
    for odd in (SmallUNet, Tied):
        assert torch.isfinite(short(random_pair(odd().eval()))).all()


def test_equal_networks_cost_nothing_and_rank_nothing():
    problem = planted()
    same = dataclasses.replace(problem, target=problem.baseline)
    assert len(short(same).unique()) == 1
    assert same.costs["learned_mask"].passes == 0


def test_cost_and_progress_count_every_pass(problem):
    told = []
    counted = dataclasses.replace(problem, progress=told.append)
    short(counted)
    inputs, degradations = len(problem.degradations) + 1, len(problem.degradations)
    cost = counted.costs["learned_mask"]
    assert cost.passes == 8 * 2 * inputs * degradations
    assert cost.lr_pixels == cost.passes * 64
    assert cost.seconds > 0
    assert len(told) == 8 * degradations
    assert told[-1] == f"learned mask, {problem.degradations[-1]}: step 8 of 8"


def test_a_budget_of_seconds_is_kept_and_still_goes_through_all_counts(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    told = []

    def a_second_later(what):
        now[0] += 1
        told.append(what)

    problem = dataclasses.replace(planted(), progress=a_second_later)
    scores = long(problem, steps=1000, seconds=100)[0, 0]
    assert len(told) == 2 * 50
    assert problem.costs["learned_mask"].passes == 2 * 50 * 3
    assert problem.costs["learned_mask"].seconds == pytest.approx(100)
    assert {i % 6 for i in ranking(scores)[:3].tolist()} == {2}


def recorded(monkeypatch, problem, **settings):
    """The learned mask of a problem, and what its gates were made of at each step: logits, temperature, count."""
    seen = []

    def watched(logits, temperature, count):
        seen.append((logits.clone(), temperature, count))
        return masked_parts(logits, temperature, count)

    monkeypatch.setattr(learned_mask_module, "masked_parts", watched)
    return long(problem, **settings), seen


def masked_order(logits, count):
    return (-logits).argsort(descending=True, stable=True)[: math.ceil(count)].tolist()


def test_gates_that_have_settled_are_kept_for_the_remaining_counts_without_a_pass(monkeypatch, caplog):
    """The score is the mean over all counts, with the gates of the last step from the stop on."""
    patience, steps, told = 25, 200, []
    problem = dataclasses.replace(planted(), progress=told.append)
    whole, every = recorded(monkeypatch, planted())
    with caplog.at_level(logging.INFO, "faig_lab"):
        stopped, seen = recorded(monkeypatch, problem, patience=patience)
    assert [len(every), len(seen)] == [2 * steps, 2 * steps]  # all counts are gone through either way
    lines = [record.message for record in caplog.records if "settled" in record.message]
    total = 0
    for k, name in enumerate(problem.degradations):
        taken = sum(name in line for line in told)
        assert lines[k] == f"learned mask, {name}: settled after {taken} of {steps} steps"
        assert taken % patience == 0
        assert 2 * patience <= taken < steps
        own, free = seen[k * steps : (k + 1) * steps], every[k * steps : (k + 1) * steps]
        assert all(torch.equal(a[0], b[0]) for a, b in zip(own[:taken], free, strict=False))
        assert [row[1:] for row in own] == [row[1:] for row in free]
        last = free[taken][0]  # the gates that the last step has made
        assert all(torch.equal(row[0], last) for row in own[taken:])
        # It stops at the first multiple of the patience whose masked filters are those of the one before.
        orders = [
            (masked_order(free[at][0], free[at - 1][2]), masked_order(free[at - patience][0], free[at - 1][2]))
            for at in range(2 * patience, taken + 1, patience)
        ]
        assert [now == before for now, before in orders] == [False] * (len(orders) - 1) + [True]
        parts = [masked_parts(logits, temperature, count) / count for logits, temperature, count in own]
        expected = sum(parts) / sum(1 / row[2] for row in own)
        torch.testing.assert_close(stopped[0, k], expected, rtol=1e-12, atol=1e-15)
        for first in (3, 6):  # the filters of the three outputs are exchangeable
            assert set(ranking(stopped[0, k])[:first].tolist()) == set(ranking(whole[0, k])[:first].tolist())
        total += taken
    assert problem.costs["learned_mask"].passes == 3 * total


def test_gates_that_still_change_are_trained_to_the_end():
    torch.manual_seed(0)
    problem = random_pair(SRResNet(features=4, blocks=1))
    many = {"steps": 30, "crops": 2, "crop": 16, "most": 60, "fewest": 50}  # of which some two always trade places
    free = learned_mask(problem, **many)
    passes = problem.costs["learned_mask"].passes
    assert torch.equal(learned_mask(problem, **many, patience=10), free)
    assert problem.costs["learned_mask"].passes == passes == 30 * 2 * 3 * 2


def test_an_early_stop_repeats_and_is_kept_under_a_name_of_its_own(tmp_path, planted_scores):
    problem = dataclasses.replace(planted(), cache=ResultCache(tmp_path))
    first, cost = long(problem, patience=25), problem.costs["learned_mask"]
    assert torch.equal(long(problem, patience=25), first)
    assert problem.cache.recalled == 2
    assert problem.costs["learned_mask"] == cost
    assert torch.equal(long(planted(), patience=25), first)
    assert not torch.equal(planted_scores, first)
    assert torch.equal(long(problem), planted_scores)
    assert problem.cache.recalled == 2


def test_a_range_of_counts_is_checked():
    with pytest.raises(ValueError, match="fewest must be at most most = 1, not 2"):
        long(planted(), most=1, fewest=2)


class Killed(BaseException):
    pass


def test_a_killed_run_keeps_the_masks_that_are_done(tmp_path):
    torch.manual_seed(0)
    problem = random_pair(SRResNet(features=4, blocks=1))
    whole, cost = short(problem), problem.costs["learned_mask"]

    def killed(what):
        if "noise" in what:
            raise Killed

    first = dataclasses.replace(problem, progress=killed, cache=ResultCache(tmp_path))
    with pytest.raises(Killed):
        short(first)
    assert len(list(tmp_path.iterdir())) == 1
    second = dataclasses.replace(problem, cache=ResultCache(tmp_path))
    assert torch.equal(short(second), whole)
    assert second.cache.recalled == 1
    assert second.costs["learned_mask"][:2] == cost[:2]
    assert not torch.equal(learned_mask(second, steps=9, crops=2, crop=16), whole)


class Part(Shard):
    """One process's part, without the other processes' sums."""

    def total(self, values):
        return values


def test_processes_share_the_degradations():
    torch.manual_seed(0)
    problem = random_pair(SRResNet(features=4, blocks=1))
    parts = []
    for rank in range(2):
        parts.append(short(dataclasses.replace(problem, shard=Part(rank, 2))))
    assert torch.equal(parts[0] + parts[1], short(problem))
    assert (parts[0][:, 1] == 0).all()
