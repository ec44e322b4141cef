"""One contract for all attribution methods, and planted filters for each that can find them."""

import copy
import dataclasses
from functools import partial

import pytest
import torch
from attribution_case import THREE, TWO, random_image, random_pair
from torch import nn

from faig_lab.attribution import (
    Adaptive,
    OneUnit,
    Problem,
    attribute,
    discovered,
    isolation_integral,
    isolation_share,
    iterated_isolation,
    learned_mask,
    quadrature,
    share_given_clean,
    share_per_change,
)
from faig_lab.attribution import methods as methods_module
from faig_lab.attribution.methods import (
    faig,
    faig_reference,
    faig_shares,
    fisher,
    input_gradients,
    random_filters,
    signed_share,
    signed_sum,
    taylor,
    weight_change,
    weight_change_absolute,
)
from faig_lab.data import PairedImage
from faig_lab.networks import SRResNet

METHODS = [
    faig,
    faig_reference,
    signed_share,
    faig_shares,
    signed_sum,
    taylor,
    fisher,
    input_gradients,
    weight_change,
    weight_change_absolute,
    random_filters,
]
ISOLATION = [isolation_integral, isolation_share, iterated_isolation, share_given_clean, share_per_change]
OTHERS = {  # in modules of their own
    "learned_mask": partial(learned_mask, steps=8, crops=2, crop=16),
    "one_unit": OneUnit(),
}


@pytest.fixture(scope="module", params=[("blur",), TWO, THREE], ids=len)
def problem(request):
    """One for all methods, which share its path integral."""
    torch.manual_seed(0)
    probe = tuple(random_image(seed, request.param, (6, 6)) for seed in (1, 2))
    return random_pair(SRResNet(features=4, blocks=1), request.param, 0.05, probe)


@pytest.mark.parametrize("method", [*METHODS, *ISOLATION, *OTHERS.values()])
def test_contract(problem, method):
    before = copy.deepcopy(problem.network.state_dict())
    scores = method(problem)
    assert scores.shape[1:] == problem.shape
    assert scores.shape[0] == (10 if method is random_filters else 1)
    assert scores.dtype == torch.float64
    assert torch.isfinite(scores).all()
    assert torch.equal(scores, method(problem))
    assert all(torch.equal(before[n], v) for n, v in problem.network.state_dict().items())
    assert not any(v.requires_grad for v in (*problem.target.values(), *problem.network.buffers()))
    assert all(p.grad is None for p in problem.network.parameters())
    same = dataclasses.replace(problem, target=dict(problem.baseline))
    assert torch.isfinite(method(same)).all()


@pytest.fixture(scope="module")
def adaptive_and_fine(problem):
    rules = Adaptive(33, 0.05, 10), quadrature("gauss_legendre", 33)
    return [dataclasses.replace(problem, rule=rule) for rule in rules]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.__name__)
def test_adaptive_quadrature_serves_every_method(adaptive_and_fine, method):
    found, expected = map(method, adaptive_and_fine)
    assert float((found - expected).norm()) <= 0.05 * float(expected.norm())


@pytest.mark.parametrize("method", [faig, signed_share, faig_shares, signed_sum, taylor, fisher])
def test_contrast_with_the_mean_or_the_maximum_of_the_others(problem, method):
    mean, largest = (method(problem, contrast=over) for over in ("mean", "max"))
    assert torch.equal(mean, method(problem))
    if len(problem.degradations) < 3:
        assert torch.equal(mean, largest)
    else:
        assert (largest <= mean + 1e-15).all()
        assert not torch.equal(largest, mean)


def test_taylor_is_faig_by_the_one_point_right_rule(problem):
    one = dataclasses.replace(problem, rule=quadrature("right", 1))
    assert torch.equal(taylor(problem), faig(one))
    assert torch.equal(fisher(problem), fisher(one))


def test_taylor_and_fisher_of_one_convolution_by_hand():
    """One output pixel: ∂L/∂w = 2 · residual · input, of the output and the input channel of w."""
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 1, bias=False)
    baseline = {"weight": torch.rand(3, 3, 1, 1).double()}
    target = {"weight": torch.rand(3, 3, 1, 1).double()}
    kinds = ("clean", "blur", "noise")
    images = [PairedImage(name, torch.rand(3, 1, 1), {n: torch.rand(3, 1, 1) for n in kinds}) for name in "ab"]
    first, second = torch.zeros(2, 9).double(), torch.zeros(2, 9).double()
    for x in images:
        for k, name in enumerate(kinds[1:]):
            residual = (target["weight"] * x.lr[name]).sum((1, 2, 3)) - x.hr[:, 0, 0]
            change = 2 * residual[:, None, None, None] * x.lr[name] * (target["weight"] - baseline["weight"])
            first[k] += change.abs().sum((2, 3)).flatten() / 2
            second[k] += change.square().sum((2, 3)).flatten() / 2 / 2
    p = Problem(network, baseline, target, tuple(images), ("blur", "noise"), quadrature("left", 2))
    torch.testing.assert_close(taylor(p)[0], first - first.flip(0))
    torch.testing.assert_close(fisher(p)[0], second - second.flip(0))


def test_every_method_of_the_module_is_in_the_contract():
    public = {
        name
        for name, value in vars(methods_module).items()
        if callable(value)
        and getattr(value, "__module__", "") == methods_module.__name__
        and name[0].islower()
        and name[0] != "_"
    }
    assert public == {method.__name__ for method in (*METHODS, *ISOLATION)}


def test_the_path_is_walked_once_for_all_methods(problem):
    steps = []
    counted = dataclasses.replace(problem, progress=steps.append)
    attribute(counted, {m.__name__: m for m in (faig, signed_share, faig_shares, signed_sum, faig_reference)})
    assert len(steps) == len(problem.probe) * len(problem.degradations)


class Planted(nn.Module):
    """Two 1×1 paths: channel 0 sees the mean of the input, channel 1 its deviation from the local mean."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)

    def forward(self, lr):
        smooth = nn.functional.avg_pool2d(lr.mean(1, keepdim=True), 3, 1, 1)
        x = self.conv(torch.cat([smooth, lr.mean(1, keepdim=True) - smooth], 1))
        return nn.functional.interpolate(x.sum(1, keepdim=True).expand(-1, 3, -1, -1), scale_factor=2)


def planted_problem():
    """The target doubles the smooth part, which every input needs, and drops the rest, which "rough" needs."""
    baseline = {"conv.weight": torch.eye(2)[..., None, None].clone()}
    target = {"conv.weight": torch.tensor([[2.0, 0.0], [0.0, 0.0]])[..., None, None]}
    flat = torch.full((3, 8, 8), 0.25)
    rough = flat + 0.2 * torch.sign(torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)))
    image = PairedImage("flat", torch.full((3, 16, 16), 0.5), {"clean": flat, "dim": flat, "rough": rough})
    return Problem(Planted(), baseline, target, (image,), ("dim", "rough"), quadrature("gauss_legendre", 4))


@pytest.mark.parametrize("method", [faig, faig_reference, signed_share, faig_shares, signed_sum])
def test_a_planted_filter_is_found(method):
    """Only "rough" input excites filter (1, 1), whose removal is all that reduces its loss there."""
    scores = method(planted_problem())[0]
    assert int(discovered(scores[1], 25)) == 3


def test_weight_change_finds_the_filter_that_changed():
    p = planted_problem()
    target = {"conv.weight": p.baseline["conv.weight"].clone()}
    target["conv.weight"][1, 0] = 0.5
    changed = Problem(p.network, p.baseline, target, p.probe, p.degradations, p.rule)
    for method in (weight_change, weight_change_absolute):
        assert discovered(method(changed)[0, 0], 25).tolist() == [2]


def test_random_draws_are_seeded_permutations_of_their_own(problem):
    draws = random_filters(problem, draws=3)
    count = len(problem.layout)
    assert all(sorted(row.tolist()) == list(range(count)) for draw in draws for row in draw)
    flat = draws.flatten(0, 1)
    assert len({tuple(row.tolist()) for row in flat}) == len(flat)
    other = dataclasses.replace(problem, seed=4)
    assert not torch.equal(draws, random_filters(other, draws=3))
    with pytest.raises(ValueError, match="draws must be > 0"):
        random_filters(problem, draws=0)


# The four methods of one form, on problems whose integrals are known in closed form.
X = {"blur": torch.tensor([0.3, 0.1]), "noise": torch.tensor([0.2, 0.9]), "jpeg": torch.tensor([0.5, 0.6])}
TRUTH = 0.4
W_BASELINE, W_TARGET = torch.tensor([0.1, 0.5]), torch.tensor([0.9, 0.2])


class Sum(nn.Module):
    """The output is w_0 x_0 + w_1 x_1 for each pixel, in all three channels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 1, bias=False)

    def forward(self, lr):
        return self.conv(lr[:, :2]).expand(-1, 3, -1, -1)


def pixel(kinds=("blur", "noise"), scale=1.0):
    """One LR pixel; the loss is 3 (w·x − truth)², so every integral is exact by the midpoint rule with one point."""
    lr = {k: torch.tensor([*(X[k] * scale).tolist(), 0.0]).view(3, 1, 1).double() for k in kinds}
    lr["clean"] = torch.zeros(3, 1, 1)
    image = PairedImage("pixel", torch.full((3, 1, 1), TRUTH * scale), lr)
    ends = [{"conv.weight": w.view(1, 2, 1, 1).double()} for w in (W_BASELINE, W_TARGET)]
    return Problem(Sum().double(), *ends, (image,), kinds, quadrature("midpoint", 1))


def by_hand(kind, scale=1.0):
    """(2,) a_j = (w_j − w̄_j) · 6 · mean residual · x_j, and ΔL."""
    x = X[kind].double() * scale
    truth = TRUTH * scale
    before, after = (float(w.double() @ x) - truth for w in (W_BASELINE, W_TARGET))
    change = 3 * (after**2 - before**2)
    return (W_TARGET - W_BASELINE).double() * 6 * (before + after) / 2 * x, change


def close(ours, expected):
    torch.testing.assert_close(ours, expected.expand_as(ours), rtol=1e-6, atol=1e-12)


def test_all_four_are_one_form_with_two_ingredients():
    p, kinds = pixel(), ("blur", "noise")
    parts = torch.stack([by_hand(kind)[0] for kind in kinds])
    change = torch.tensor([by_hand(kind)[1] for kind in kinds], dtype=torch.float64)[:, None]
    values = {
        faig: parts.abs(),
        faig_shares: parts.abs() / change.abs(),
        signed_sum: change.sign() * parts,
        signed_share: parts / change,
    }
    for method, value in values.items():
        close(method(p)[0], value - value.abs().flip(0))
    scores = [method(p) for method in values]
    assert not any(torch.allclose(a, b) for i, a in enumerate(scores) for b in scores[:i])


def test_with_three_degradations_the_others_are_averaged_or_their_largest_counts():
    kinds = tuple(X)
    p = pixel(kinds)
    parts = torch.stack([by_hand(kind)[0] for kind in kinds])
    change = torch.tensor([by_hand(kind)[1] for kind in kinds], dtype=torch.float64)[:, None]
    for method, value in ((faig_shares, parts.abs() / change.abs()), (signed_sum, change.sign() * parts)):
        for k in range(3):
            rest = value.abs()[[i for i in range(3) if i != k]]
            close(method(p)[0, k], value[k] - rest.mean(0))
            close(method(p, contrast="max")[0, k], value[k] - rest.amax(0))


@pytest.mark.parametrize("method", [faig, faig_shares, signed_sum, signed_share])
def test_only_shares_are_free_of_the_unit_of_the_loss(method):
    """The loss is quadratic in the brightness: sums grow by its square and shares stay."""
    factor = 1 if method in (faig_shares, signed_share) else 4
    close(method(pixel(scale=2.0)), factor * method(pixel()))


def test_a_degradation_without_a_change_of_the_loss_has_nothing_to_share():
    p = pixel()
    same = dataclasses.replace(p, target=dict(p.baseline))
    for method in (faig_shares, signed_sum):
        assert torch.equal(method(same), torch.zeros(1, 2, 2).double())
