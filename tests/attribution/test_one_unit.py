"""One-unit ablation against a plain loop, and what it refuses."""

import copy
import dataclasses

import pytest
import torch
from attribution_case import THREE, random_image, random_pair
from odd_networks import Tied
from torch import nn

from faig_lab.attribution import Compute, Problem, quadrature
from faig_lab.attribution.one_unit import OneUnit
from faig_lab.attribution.tiling import ReceptiveField, cut
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import check_selection
from faig_lab.config import check
from faig_lab.errors import InputError, UserError
from faig_lab.filters import FilterLayout, under_every_name
from faig_lab.networks import SRResNet


def image(seed, kinds, size=(6, 5)):
    return random_image(seed, kinds, size, torch.float64)


def make(kinds=THREE, granularity="output_channel", **changes):
    torch.manual_seed(0)
    probe = image(1, kinds), image(2, kinds, (4, 7))
    network = SRResNet(features=4, blocks=1).double()
    return random_pair(network, kinds, 0.05, probe, granularity=granularity, **changes)


def outputs(problem, state, kind):
    """All of the probe's outputs with some weights, flat."""
    net = copy.deepcopy(problem.network)
    net.load_state_dict(state)
    with torch.no_grad():
        return torch.cat([net(image.lr[kind][None]).flatten() for image in problem.probe])


def set_back(problem, unit):
    """The target with one unit at the baseline's values, by its address."""
    layer, place = problem.layout.address(unit)
    state = {name: value.clone() for name, value in problem.target.items()}
    index = (slice(None), *place) if problem.granularity == "input_channel" else place
    state[layer][index] = problem.baseline[layer][index]
    return state


def isolation_by_hand(problem, state, own):
    """1 − [Σ ‖y_m − y_b‖² on D + mean Σ ‖y_m − y_t‖² on the others + the same on clean] / E_D."""

    def distance(kind, one, other):
        a, b = (outputs(problem, s, kind).clamp(0, 1) for s in (one, other))
        return float(((a - b) ** 2).sum())

    rest = [distance(kind, state, problem.target) for kind in problem.degradations if kind != own]
    left = distance(own, state, problem.baseline) + sum(rest) / max(1, len(rest))
    left += distance("clean", state, problem.target)
    return 1 - left / distance(own, problem.target, problem.baseline)


@pytest.mark.parametrize("kinds", [("blur",), ("blur", "noise"), THREE], ids=len)
@pytest.mark.parametrize("granularity", ["layer", "output_channel", "input_channel"])
def test_isolation_of_each_unit_is_that_of_a_plain_loop(kinds, granularity):
    problem = make(kinds, granularity)
    scores = OneUnit()(problem)
    assert scores.shape == (1, *problem.shape)
    assert scores.dtype == torch.float64
    for k, own in enumerate(kinds):
        expected = [isolation_by_hand(problem, set_back(problem, unit), own) for unit in range(len(problem.layout))]
        torch.testing.assert_close(scores[0, k], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
    assert len(set(scores.flatten().tolist())) > 1


def test_a_weight_with_two_names_is_one_unit():
    torch.manual_seed(0)
    problem = random_pair(Tied().double(), ("blur",), probe=(image(1, ("blur",)),), granularity="layer")
    parameters = [name for name, _ in problem.network.named_parameters()]
    scores = OneUnit()(problem)[0, 0].tolist()
    assert len(scores) == len(problem.layout) > 0
    for unit, score in enumerate(scores):
        state = set_back(problem, unit)
        whole = under_every_name(problem.network, {name: state[name] for name in parameters})
        assert score == pytest.approx(isolation_by_hand(problem, whole, "blur"), abs=1e-10)


def test_the_share_of_the_loss_is_that_of_a_plain_loop():
    problem = make(granularity="layer")
    truth = torch.cat([image.hr.flatten() for image in problem.probe])

    def loss(state, kind):
        return float(((outputs(problem, state, kind) - truth) ** 2).sum())

    share = torch.tensor(
        [
            [
                (loss(set_back(problem, unit), kind) - loss(problem.target, kind))
                / (loss(problem.baseline, kind) - loss(problem.target, kind))
                for unit in range(len(problem.layout))
            ]
            for kind in THREE
        ],
        dtype=torch.float64,
    )
    for contrast in ("mean", "max"):
        scores = OneUnit("loss", contrast=contrast)(problem)[0]
        for k in range(3):
            rest = share.abs()[[i for i in range(3) if i != k]]
            expected = share[k] - (rest.mean(0) if contrast == "mean" else rest.amax(0))
            torch.testing.assert_close(scores[k], expected, rtol=1e-9, atol=1e-9)


def test_a_unit_that_did_not_change_has_exactly_no_effect():
    problem = make(granularity="layer")
    same = dict(problem.target)
    first = problem.layout.layers[0].name
    same[first] = problem.baseline[first]
    unchanged = dataclasses.replace(problem, target=same)
    for measure in ("isolation", "loss"):
        assert OneUnit(measure)(unchanged)[0, :, 0].tolist() == [0, 0, 0]
        nothing = dataclasses.replace(problem, target=dict(problem.baseline))
        assert not OneUnit(measure)(nothing).any()


def test_several_units_at_once_give_the_same():
    problem = make(granularity="output_channel")
    plain = OneUnit()(problem)
    together = dataclasses.replace(problem, compute=Compute(points_per_batch=5))
    torch.testing.assert_close(OneUnit()(together), plain, rtol=0, atol=1e-10)


def test_tiles_give_the_same(monkeypatch):
    problem = dataclasses.replace(make(), probe=(image(3, THREE, (40, 6)),))
    whole = OneUnit()(problem)
    rows = ReceptiveField(radius=12, period=1)  # more than the network sees
    monkeypatch.setattr(Compute, "tiles", lambda self, network, state, lr, scale: cut(40, 6, scale, rows, 200))
    assert len(cut(40, 6, 2, rows, 200)) > 1
    torch.testing.assert_close(OneUnit()(problem), whole, rtol=0, atol=1e-10)


def test_it_tells_its_progress():
    steps = []
    problem = make(progress=steps.append)
    OneUnit()(problem)
    count = len(problem.layout)
    assert steps[0] == f"image1, clean, {count} output channels one by one"
    assert len(steps) == 2 * (1 + len(THREE))  # images, inputs


def test_buffers_are_the_targets_everywhere():
    network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.PixelShuffle(2)).double().eval()
    baseline = {n: v.clone() for n, v in network.state_dict().items()}
    target = {n: v + 0.05 if v.is_floating_point() else v for n, v in baseline.items()}
    problem = Problem(network, baseline, target, (image(1, THREE),), THREE, quadrature("left", 1), granularity="layer")
    with_buffers = {n: v if n in dict(network.named_parameters()) else target[n] for n, v in baseline.items()}
    same = dataclasses.replace(problem, baseline=with_buffers)
    assert torch.equal(OneUnit()(problem), OneUnit()(same))
    assert torch.equal(OneUnit("loss")(problem), OneUnit("loss")(same))


def test_more_units_than_the_budget_are_refused_with_their_number():
    problem = make(granularity="filter")
    count = len(problem.layout)
    assert OneUnit(budget=count)(problem).shape == (1, *problem.shape)
    with pytest.raises(
        InputError, match=rf"^budget: {count} filters would take {count} passes .* budget is {count - 1};"
    ):
        OneUnit(budget=count - 1)(problem)
    layout = FilterLayout.of(SRResNet(features=24, blocks=8))
    with pytest.raises(InputError, match=r"^budget: 12,240 filters would take 12,240 passes for each"):
        OneUnit().check(layout)


def test_a_run_refuses_too_many_units_before_it_starts():
    check_selection(check(compose(["attribution=one_unit", "analysis.percents=[1,10]"])))
    chosen = ["attribution=one_unit", "attribution.granularity=filter"]
    with pytest.raises(UserError, match=r"^attribution\.methods\.one_unit\.budget: 12,240 filters") as refused:
        check_selection(check(compose(chosen)))
    assert "\n" not in str(refused.value)
    assert "(attribution.granularity) or raise the budget" in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"measure": "psnr"}, "measure must be isolation or loss, not psnr"),
        ({"budget": 0}, "budget must be > 0, not 0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        OneUnit(**arguments)
