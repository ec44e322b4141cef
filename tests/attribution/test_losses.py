"""Losses: closed forms, completeness for each, tiles, the target's own output as truth, and the PSNR of the profile."""

from dataclasses import replace

import pytest
import torch
from study_case import context_of

import faig_lab
from faig_lab.attribution import (
    AbsoluteError,
    Charbonnier,
    Compute,
    SquaredError,
    profile,
    quadrature,
)
from faig_lab.data import PairedImage
from faig_lab.filters import evaluate

LOSSES = [SquaredError(), AbsoluteError(), Charbonnier(0.05)]


@pytest.fixture
def problem():
    return replace(context_of().problem, rule=quadrature("gauss_legendre", 64))


def test_closed_forms():
    output, truth = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.0, 0.1, 0.7])
    assert SquaredError()(output, truth).item() == pytest.approx(0.16 + 0.09)
    assert AbsoluteError()(output, truth).item() == pytest.approx(0.4 + 0.3)
    expected = sum((d * d + 0.01) ** 0.5 - 0.1 for d in (0.0, 0.4, 0.3))
    assert Charbonnier(0.1)(output, truth).item() == pytest.approx(expected)
    assert Charbonnier()(truth, truth).item() == 0


@pytest.mark.parametrize("epsilon", [0.0, -1.0])
def test_epsilon_is_above_0(epsilon):
    with pytest.raises(ValueError, match="epsilon must be > 0"):
        Charbonnier(epsilon)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("truth", ["ground_truth", "target"])
def test_the_attributions_add_up_to_the_change_of_the_loss(problem, loss, truth):
    integral = replace(problem, loss=loss, truth=truth).integral
    assert (integral.total - integral.loss_change).abs().max() < 0.02 * integral.loss_change.abs().min()
    image = problem.probe[0]
    for k, name in enumerate(problem.degradations):
        outputs = [evaluate(problem.network, s, image.lr[name][None]) for s in (problem.baseline, problem.target)]
        against = image.hr[None] if truth == "ground_truth" else outputs[1]
        change = loss(outputs[1], against) - loss(outputs[0], against)
        assert float(integral.loss_change[0, k]) == pytest.approx(float(change), rel=1e-4)


def test_against_its_own_output_the_target_has_no_loss(problem):
    integral = replace(problem, truth="target").integral
    assert integral.loss_target.abs().max() < 1e-9 * integral.loss_baseline.min()
    assert (integral.loss_baseline > 0).all()


@pytest.mark.parametrize("truth", ["ground_truth", "target"])
def test_tiles_change_nothing(problem, truth):
    generator = torch.Generator().manual_seed(5)
    lr = {name: torch.rand(3, 80, 72, generator=generator) for name in ("blur", "noise", "clean")}
    image = PairedImage("large", torch.rand(3, 160, 144, generator=generator), lr)
    large = replace(problem, probe=(image,), loss=AbsoluteError(), truth=truth, rule=quadrature("midpoint", 2))
    whole = large.integral
    tiled = replace(large, compute=Compute(memory=0.0005))
    assert len(tiled.compute.tiles(problem.network, problem.target, lr["blur"][None], 2)) > 1
    assert torch.allclose(tiled.integral.signed, whole.signed, rtol=1e-3, atol=1e-4)


def test_the_profile_is_in_psnr_whatever_the_loss_is(problem):
    points = quadrature("trapezoid", 5)
    expected = profile(replace(problem, rule=points))
    found = profile(replace(problem, rule=points, loss=AbsoluteError(), truth="target"))
    assert found.inputs == expected.inputs
    assert torch.allclose(found.psnr, expected.psnr, atol=1e-6)


def test_the_library_takes_a_loss_of_the_users_own():
    torch.manual_seed(0)
    network = faig_lab.SRResNet(features=4, blocks=1)
    baseline = network.state_dict()
    target = {name: value + 0.05 * torch.randn_like(value) for name, value in baseline.items()}
    pair = (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16))
    images = {"blur": pair, "noise": (torch.rand(1, 3, 8, 8), pair[1])}

    def twice(output, truth):
        return 2 * (output - truth).square().sum()

    found = faig_lab.attribute(network, baseline, target, images, loss=twice)
    expected = faig_lab.attribute(network, baseline, target, images)
    assert torch.allclose(found.scores["blur"], 2 * expected.scores["blur"], rtol=1e-5)
    with pytest.raises(faig_lab.UserError, match="truth"):
        faig_lab.attribute(network, baseline, target, images, truth="targets")
