"""Attribution of weights, filters, channels and layers: complete, consistent, and a planted unit is found."""

from collections import OrderedDict
from dataclasses import replace
from functools import cache

import pytest
import torch
from odd_networks import SmallUNet, Tied
from torch import nn

from faig_lab.attribution import Problem, attribute, discovered, quadrature
from faig_lab.attribution.methods import faig, fisher, input_gradients, signed_share, taylor, weight_change
from faig_lab.attribution.scores import share_metrics, share_rows
from faig_lab.data import PairedImage
from faig_lab.filters import FilterLayout, mask, under_every_name
from faig_lab.granularity import UNITS
from faig_lab.networks import SRCNNStyle, SRResNet

GRANULARITIES = list(UNITS)
NETWORKS = {
    "U-Net": SmallUNet,
    "SRResNet": lambda: SRResNet(features=4, blocks=1),
    "SRCNN": lambda: SRCNNStyle(widths=(4, 4)),
    "tied": Tied,
}
SMOOTH = ("U-Net", "tied")  # no kinks along the path


def states(network, moved):
    """Baseline and a target whose parameters are moved; buffers are equal."""
    baseline = {n: v.double() if v.is_floating_point() else v for n, v in network.state_dict().items()}
    names = [name for name, _ in network.named_parameters()]
    target = under_every_name(network, {n: baseline[n] + moved(n, baseline[n]) for n in names})
    return baseline, {n: target.get(n, v) for n, v in baseline.items()}


def images(count=1):
    kinds = ("clean", "blur", "noise")
    return tuple(
        PairedImage(f"{k}", torch.rand(3, 16, 16), {name: torch.rand(3, 8, 8) for name in kinds}) for k in range(count)
    )


@cache
def problem_of(kind, granularity="filter", rank_others=False):
    """The same problem of a network, cut in other ways; its integral is computed once."""
    torch.manual_seed(0)
    network = NETWORKS[kind]().eval()
    ends = states(network, lambda name, value: 0.1 * torch.randn_like(value))
    rule = quadrature("gauss_legendre", 12)
    return Problem(network, *ends, images(), ("blur", "noise"), rule, granularity=granularity, rank_others=rank_others)


@pytest.fixture(params=NETWORKS, ids=str)
def kind(request):
    return request.param


@pytest.fixture
def problem(kind):
    return problem_of(kind)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_units_of_all_parameters_add_up_to_the_loss_change(kind, granularity):
    ranked, whole = (problem_of(kind, granularity, value) for value in (False, True))
    for integral in (ranked.integral, whole.integral):
        added = integral.signed.sum(2) + integral.others.sum(2)
        torch.testing.assert_close(added, integral.total, rtol=1e-10, atol=1e-12)
        allowed = 1e-7 if kind in SMOOTH else 2e-2
        torch.testing.assert_close(added, integral.loss_change, rtol=allowed, atol=0)
    assert whole.integral.others.shape[2] == 0
    assert ranked.integral.others.shape[2] == len(ranked.layout.others)
    assert (ranked.integral.others.sum(2) / ranked.integral.loss_change).abs().max() > 1e-3


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_coarse_attributions_are_sums_of_fine_ones(problem, kind, granularity):
    coarse, finest = problem_of(kind, granularity, True), problem_of(kind, "weight", True)
    numbers = coarse.layout.scatter(torch.arange(len(coarse.layout)))
    owner = finest.layout.gather({n: v.expand_as(problem.target[n]) for n, v in numbers.items()})
    for name in ("signed", "magnitude", "squared"):
        fine, found = getattr(finest.integral, name), getattr(coarse.integral, name)
        summed = torch.zeros_like(found).index_add_(2, owner, fine)
        torch.testing.assert_close(found, summed, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_method_scores_every_unit(problem, granularity):
    chosen = replace(problem, granularity=granularity, rule=quadrature("midpoint", 1))
    for method in (faig, signed_share, taylor, fisher, weight_change, input_gradients):
        scores = method(chosen)
        assert scores.shape == (1, 2, len(chosen.layout))
        assert torch.isfinite(scores).all()
        by_layer = torch.split(scores[0, 0], [layer.units for layer in chosen.layout.layers])
        assert all((part != 0).any() for part in by_layer)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_planted_unit_is_found(problem, granularity):
    """One unit of the last layer differs between the two networks; all of the attribution is there."""
    layout = FilterLayout.of(problem.network, granularity)
    planted = len(layout) - 1
    inside = layout.mask([planted])
    ends = states(problem.network, lambda n, v: (0.3 * inside[n]).expand_as(v) if n in inside else torch.zeros_like(v))
    planted_problem = replace(
        problem, baseline=ends[0], target=ends[1], granularity=granularity, rule=quadrature("midpoint", 2)
    )
    integral = planted_problem.integral
    assert (integral.magnitude > 0).nonzero()[:, 2].unique().tolist() == [planted]
    assert (integral.others == 0).all()
    percent = 100 / len(layout)
    for method in (faig, weight_change):
        tops = [discovered(row, percent).tolist() for row in method(planted_problem)[0]]
        assert [planted] in tops


def test_shares_add_up_and_are_the_same_at_every_granularity(problem, kind):
    tables = []
    for granularity in GRANULARITIES:
        for rank_others in (False, True):
            chosen = problem_of(kind, granularity, rank_others)
            rows = share_rows(chosen.integral, chosen.layout)
            tables.append({(row["degradation"], row["parameter"]): row for row in rows})
    first, *others = tables
    names = {name for name, _ in problem.network.named_parameters()}
    assert set(first) == {(degradation, name) for degradation in ("blur", "noise") for name in names}
    for table in others:
        assert set(table) == set(first)
        for key, row in table.items():
            assert (row["kind"], row["weights"]) == (first[key]["kind"], first[key]["weights"])
            assert row["share"] == pytest.approx(first[key]["share"], rel=1e-9, abs=1e-12)
    integral = problem.integral
    metrics = share_metrics(list(first.values()))
    for k, degradation in enumerate(problem.degradations):
        shares = [row["share"] for (name, _), row in first.items() if name == degradation]
        expected = float(integral.total[:, k].sum() / integral.loss_change[:, k].sum())
        assert sum(shares) == pytest.approx(expected, rel=1e-9)
        assert metrics[f"share/kernel/{degradation}"] + metrics[f"share/other/{degradation}"] == pytest.approx(expected)
        conv = sum(row["share"] for (name, _), row in first.items() if name == degradation and row["kind"] == "kernel")
        assert metrics[f"share/kernel/{degradation}"] == pytest.approx(conv)


def test_without_a_change_of_the_loss_there_is_no_share(problem):
    equal = replace(problem, target=problem.baseline, rule=quadrature("midpoint", 1))
    rows = share_rows(equal.integral, equal.layout)
    assert {row["share"] for row in rows} == {None}
    assert share_metrics(rows) == {}


def test_filters_are_what_they_were_without_a_granularity(problem):
    """The default, its order and its numbers, against plain sums over kernels."""
    assert problem.granularity == "filter"
    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
    kernels = {id(module.weight) for module in problem.network.modules() if isinstance(module, kinds)}
    change = {n: (problem.target[n] - problem.baseline[n]).abs() for n in problem.target}
    plain = [change[n].reshape(*p.shape[:2], -1).sum(2).flatten()
             for n, p in problem.network.named_parameters() if id(p) in kernels]  # fmt: skip
    assert torch.equal(problem.layout.gather(change), torch.cat(plain))


def test_buffers_that_differ_are_pointed_out_and_are_the_targets_in_every_network(caplog):
    problem = replace(problem_of("U-Net"), rule=quadrature("midpoint", 1))
    moved = problem.target | {"batch_norm.running_mean": problem.target["batch_norm.running_mean"] + 1}
    attribute(problem, {"faig": faig})
    assert not caplog.messages
    changed = replace(problem, target=moved)
    attribute(changed, {"faig": faig})
    (message,) = caplog.messages
    assert message.startswith("attribution: 1 buffers (batch_norm.running_mean, …) differ between baseline and target")
    masked = mask(moved, problem.baseline, changed.layout, torch.arange(len(changed.layout)))
    assert masked["batch_norm.running_mean"] is moved["batch_norm.running_mean"]


class Pixelwise(nn.Module):
    """A linear layer on the channels of every pixel."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, lr):
        return self.layer(lr.movedim(1, -1)).movedim(-1, 1)


def test_a_linear_layer_is_a_1x1_convolution():
    """The same function, the same filters, the same scores."""
    torch.manual_seed(0)
    linear, convolution = Pixelwise(), nn.Sequential(OrderedDict(layer=nn.Conv2d(3, 3, 1)))
    first = {n: v.double() for n, v in linear.state_dict().items()}
    second = {n: v + 0.1 * torch.randn_like(v) for n, v in first.items()}
    image = PairedImage("a", torch.rand(3, 4, 4), {name: torch.rand(3, 4, 4) for name in ("clean", "blur", "noise")})

    def wide(state):
        return {n: v[..., None, None] if n == "layer.weight" else v for n, v in state.items()}

    rule = quadrature("midpoint", 3)
    plain = Problem(linear, first, second, (image,), ("blur", "noise"), rule)
    square = Problem(convolution, wide(first), wide(second), (image,), ("blur", "noise"), rule)
    assert len(plain.layout) == len(square.layout) == 9
    assert plain.layout.address(5) == ("layer.weight", (1, 2))
    for method in (faig, signed_share, taylor, fisher, weight_change):
        torch.testing.assert_close(method(plain), method(square), rtol=1e-9, atol=1e-15)
