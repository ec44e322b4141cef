"""The PSNR along the path and its barrier, and curves that avoid a barrier."""

import dataclasses

import pytest
import torch
from study_case import context_of
from torch import nn

from faig_lab.attribution import Adaptive, Problem, quadrature
from faig_lab.attribution.weight_paths import BARRIER_LIMIT, PathSpec, profile, train_middle
from faig_lab.data import PairedImage


class TwoUnits(nn.Module):
    """out = Σ_k a_k b_k · x: two units that can each carry the function alone, as permuted networks do."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 2, 1, bias=False)
        self.second = nn.Conv2d(2, 3, 1, bias=False)

    def forward(self, x):
        return self.second(self.first(x))


def carried_by(unit):
    first, second = torch.zeros(2, 3, 1, 1).double(), torch.zeros(3, 2, 1, 1).double()
    first[unit], second[:, unit] = 1.0, 1 / 3
    return {"first.weight": first, "second.weight": second}


@pytest.fixture
def swapped():
    """Baseline and target are one function; half-way between them it is half as large: a barrier."""
    grey = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)).double().expand(3, 8, 8)
    noisy = grey + 0.03
    image = PairedImage("a", grey, {"clean": grey, "dim": grey, "noise": noisy})
    return Problem(TwoUnits(), carried_by(0), carried_by(1), (image,), ("dim", "noise"), quadrature("midpoint", 9))


def test_the_barrier_is_what_the_psnr_falls_below_its_worse_end(swapped):
    found = profile(swapped)
    assert found.inputs == ("dim", "noise", "clean")
    image = swapped.probe[0]
    for row, name in enumerate(found.inputs):
        x = image.lr[name]
        for alpha, value in zip(found.alphas.tolist(), found.psnr[row].tolist(), strict=True):
            scale = (1 - alpha) ** 2 + alpha**2
            error = (scale * x.mean(0, keepdim=True).expand(3, 8, 8) - image.hr).square().mean()
            assert value == pytest.approx(float(-10 * error.clamp_min(1e-10).log10()), abs=1e-6)
    noise = found.psnr[1]
    assert found.barriers["noise"] == pytest.approx(float(min(noise[0], noise[-1]) - noise.min()))
    assert found.barriers["noise"] > 5
    assert len(found.warnings()) == 1
    assert "noise" in found.warnings()[0]
    assert f"{BARRIER_LIMIT:g} dB" in found.warnings()[0]


def test_a_curve_avoids_the_barrier_of_the_straight_line(swapped):
    straight = profile(swapped).barriers["noise"]
    middle = train_middle(swapped, 200)
    curve = profile(dataclasses.replace(swapped, path=PathSpec("curve", (middle,)))).barriers["noise"]
    assert curve < straight / 10


def test_a_curve_is_the_same_twice_and_its_training_sees_the_seed(swapped):
    first, second = (train_middle(swapped, 5) for _ in range(2))
    other = train_middle(dataclasses.replace(swapped, seed=1), 5)
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert not all(torch.equal(first[n], other[n]) for n in first)
    with pytest.raises(ValueError, match="steps must be > 0"):
        train_middle(swapped, 0)


def test_a_curve_between_equal_networks_stays_there(swapped):
    equal = dataclasses.replace(swapped, target=swapped.baseline)
    middle = train_middle(equal, 3)
    assert list(middle) == list(swapped.baseline)
    assert all(torch.equal(v, swapped.baseline[n]) for n, v in middle.items())


def test_with_adaptive_quadrature_the_profile_has_the_points_that_all_images_share():
    found = profile(dataclasses.replace(context_of().problem, rule=Adaptive(17, 0.5, 10.0)))
    assert found.inputs == ("blur", "noise", "clean")
    assert not found.psnr.isnan().any()
    assert found.alphas[0] == 0
    assert found.alphas[-1] == 1
    assert len(found.rows()) == 3 * len(found.alphas)
