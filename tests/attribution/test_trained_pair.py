"""On the pair that the package ships, and on photographs: what random weights and noise cannot show."""

import pytest
import torch

import faig_lab
from faig_lab.attribution.methods import isolation_share
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_degradation
from faig_lab.config import check
from faig_lab.config.targets import make

INPUTS = ("blur", "noise")


@pytest.fixture(scope="module")
def photographs():
    """Probe and held-out crops: input → (LR, HR), five of 48×48 HR pixels."""
    settings = check(
        compose(["experiment=first_look", "data.probe_crop=48", "data.probe_crops=1", "data.test_crop=48"])
    )
    data = make(settings.data).load(make_degradation(settings), settings.seed)
    return [
        {name: (torch.stack([i.lr[name] for i in images]), torch.stack([i.hr for i in images])) for name in which}
        for images, which in ((data.probe, INPUTS), (data.held_out, (*INPUTS, "clean")))
    ]


@pytest.fixture(scope="module")
def result(shipped_pair, photographs):
    methods = {
        "isolation_share": isolation_share,
        "faig": faig_lab.methods.faig,
        "random": faig_lab.methods.random_filters,
    }
    rule = faig_lab.quadrature("gauss_legendre", 4)
    return faig_lab.attribute(*shipped_pair, photographs[0], methods=methods, rule=rule)


def test_half_a_percent_isolates_each_function_and_random_filters_do_not(result, photographs):
    seen_by_nobody = {name: lr for name, (lr, _) in photographs[1].items()}
    for name in INPUTS:
        found = result.isolation(name, percent=0.5, images=seen_by_nobody)
        assert found.isolation > 0.6
        chance = result.by("random").isolation(name, percent=0.5, images=seen_by_nobody)
        assert chance.isolation < 0.2


def test_the_sets_are_not_exchangeable(result, photographs):
    """Masking the filters of one function, judged as if they were the other's, is harm."""
    seen_by_nobody = {name: lr for name, (lr, _) in photographs[1].items()}
    for own, other in (INPUTS, INPUTS[::-1]):
        wrong = result.mask(other, percent=0.5)
        assert result.isolation(own, images=seen_by_nobody, weights=wrong).isolation < 0


def test_few_points_are_exact_and_find_the_filters_that_many_find(shipped_pair, photographs):
    few, many = (
        faig_lab.attribute(*shipped_pair, photographs[0], rule=faig_lab.quadrature("gauss_legendre", points))
        for points in (6, 24)
    )
    for name in INPUTS:
        assert few.completeness_gap[name] < 0.05
        tops = [set(one.discovered(name, percent=1).tolist()) for one in (few, many)]
        assert len(tops[0] & tops[1]) >= 0.9 * len(tops[0])
        total = float(many.scores[name].abs().sum())
        assert float((few.scores[name] - many.scores[name]).abs().sum()) < 0.1 * total
