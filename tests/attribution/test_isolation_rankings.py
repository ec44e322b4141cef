"""Rankings that aim at isolation, against plain sums and closed forms."""

import copy
import dataclasses
from functools import partial

import pytest
import torch
from attribution_case import THREE, random_image, random_pair

from faig_lab.attribution import integrate, quadrature
from faig_lab.attribution.methods import (
    isolation_integral,
    isolation_share,
    iterated_isolation,
    share_given_clean,
    share_per_change,
    signed_share,
)
from faig_lab.networks import SRResNet


def make(kinds=THREE, points=16, **changes):
    torch.manual_seed(0)
    probe = random_image(1, kinds, (6, 5), torch.float64), random_image(2, kinds, (4, 7), torch.float64)
    rule = quadrature("gauss_legendre", points)
    return random_pair(SRResNet(features=3, blocks=1).double(), kinds, 0.05, probe, rule=rule, **changes)


def energy(problem, kind):
    """Σ ‖y_t − y_b‖² over the probe, not clipped."""
    ends = problem.target, problem.baseline
    pairs = [[output(problem, state, x.lr[kind]) for state in ends] for x in problem.probe]
    return sum(float((y_t - y_b).square().sum()) for y_t, y_b in pairs)


def output(problem, state, lr):
    net = copy.deepcopy(problem.network)
    net.load_state_dict(state)
    with torch.no_grad():
        return net(lr[None])


@pytest.mark.parametrize("kinds", [("blur",), THREE], ids=len)
def test_the_parts_of_isolation_are_the_attributions_of_its_distances(kinds):
    problem = make(kinds)
    signed, absolute = isolation_integral(problem)[0], isolation_share(problem)[0]
    layout = problem.layout

    def parts(kind, end):
        total = 0
        for x in problem.probe:
            y = output(problem, getattr(problem, end), x.lr[kind])
            ends = problem.baseline, problem.target
            total = total + layout.gather(
                integrate(problem.network, *ends, x.lr[kind][None], y, problem.rule).attributions
            )
        return total

    for k, own in enumerate(kinds):
        rest = [kind for kind in kinds if kind != own]
        back, unit = parts(own, "baseline"), energy(problem, own)
        aside = [parts("clean", "target"), *(parts(kind, "target") / len(rest) for kind in rest)]
        torch.testing.assert_close(signed[k], (back + sum(aside)) / unit, rtol=1e-6, atol=1e-9)
        less = sum(part.abs() for part in aside)
        torch.testing.assert_close(absolute[k], (back - less) / unit, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kinds", [("blur",), ("blur", "noise"), THREE], ids=len)
def test_the_cost_in_units_of_faigs_path_integral(kinds):
    """(2K + 1) / K, rounds · (K + 1) and, beside the path integral itself, 1 / K: as the docstrings say."""
    problem, count = make(kinds, 3), len(kinds)
    distances = (2 * count + 1) / count if count > 1 else 2
    for method in (isolation_integral, isolation_share, iterated_isolation, share_given_clean, share_per_change):
        method(problem)
    unit = problem.costs["path_integral"]
    assert unit[:2] == (2 * count * 3, (30 + 28) * count * 3)
    expected = {
        "isolation_integral": distances,
        "isolation_share": distances,
        "iterated_isolation": 5 * (count + 1),
        "share_given_clean": 1 / count,
    }
    assert problem.costs.keys() == {"path_integral", *expected}
    for name, times in expected.items():
        cost = problem.costs[name]
        assert cost[:2] == tuple(round(times * part) for part in unit[:2]), name
        assert cost.seconds > 0


@pytest.mark.parametrize("method", [isolation_integral, isolation_share, partial(iterated_isolation, rounds=2)])
def test_the_cost_is_that_of_the_last_call(method):
    problem, found = make(("blur", "noise"), 4), []
    for _ in range(2):
        method(problem)
        (cost,) = problem.costs.values()
        found.append(cost[:2])
    assert found[0] == found[1]


def test_one_round_of_the_iterated_ranking_is_the_ranking_of_the_share():
    problem = make(("blur", "noise"), 4)
    order = torch.argsort(isolation_share(problem), descending=True, stable=True)
    once = iterated_isolation(problem, rounds=1, percent=5)
    assert torch.equal(once.argsort(-1, descending=True), order)


def test_the_second_round_starts_from_the_masked_network():
    problem = make(("blur", "noise"), 4)
    count = len(problem.layout)
    first, half = isolation_share(problem)[0], round(count * 0.1 / 2)
    scores = iterated_isolation(problem, rounds=2, percent=10)[0]
    for k, own in enumerate(problem.degradations):
        ranked, order = scores[k].argsort(descending=True).tolist(), first[k].argsort(descending=True).tolist()
        assert ranked[:half] == order[:half]
        assert sorted(ranked) == list(range(count))
        masked = dict(problem.target)
        for name, places in problem.layout.mask(order[:half]).items():
            masked[name] = torch.where(places, problem.baseline[name], masked[name])
        again = torch.zeros(count, dtype=torch.float64)
        other = "noise" if own == "blur" else "blur"
        for kind, end in ((own, "baseline"), (other, "target"), ("clean", "target")):
            part = torch.zeros(count, dtype=torch.float64)
            for x in problem.probe:
                y = output(problem, getattr(problem, end), x.lr[kind])
                ends = problem.baseline, masked
                integral = integrate(problem.network, *ends, x.lr[kind][None], y, problem.rule)
                part += problem.layout.gather(integral.attributions)
            again += part if end == "baseline" else -part.abs()
        again[order[:half]] = -torch.inf
        rest = again.argsort(descending=True).tolist()[: count - half]
        assert ranked[half:] == rest
    assert scores.argsort(-1, descending=True).tolist() != first.argsort(-1, descending=True).tolist()


def test_the_share_given_clean_takes_the_part_on_clean_input_off():
    problem = make()
    clean = sum(
        problem.layout.gather(
            integrate(
                problem.network, problem.baseline, problem.target, x.lr["clean"][None], x.hr[None], problem.rule
            ).attributions
        )
        for x in problem.probe
    )
    change = problem.integral.loss_change.sum(0).abs()[:, None]
    torch.testing.assert_close(signed_share(problem)[0] - share_given_clean(problem)[0], clean.abs() / change)


def test_the_share_per_change_is_divided_by_the_norm_of_the_change():
    problem = make()
    difference = {n: (problem.target[n] - problem.baseline[n]) ** 2 for n in problem.target}
    norm = problem.layout.gather(difference).sqrt()
    torch.testing.assert_close(share_per_change(problem)[0] * norm, signed_share(problem)[0])
    kept = dataclasses.replace(problem, target=dict(problem.target))
    first = problem.layout.layers[0]
    kept.target[first.name] = problem.baseline[first.name]
    assert share_per_change(kept)[0, :, : first.units].abs().max() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rounds": 0}, "rounds must be > 0, not 0"),
        ({"percent": 0}, r"percent must be in \(0, 100\], not 0"),
        ({"percent": 101}, r"percent must be in \(0, 100\], not 101"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        iterated_isolation(make(), **arguments)
