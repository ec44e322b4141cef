"""Buffers of whole numbers or truth values may come first in a state: nothing takes its precision from them."""

from dataclasses import replace
from functools import partial

import numpy as np
import odd_networks as odd
import pytest
import torch
from study_case import METHODS, context_of, image

import faig_lab
from faig_lab.attribution import Compute, attribute, quadrature
from faig_lab.attribution.mask_training import learned_mask
from faig_lab.attribution.methods import fisher, input_gradients, taylor, weight_change, weight_change_absolute
from faig_lab.attribution.one_unit import OneUnit
from faig_lab.attribution.tiling import measure_receptive_field
from faig_lab.data import Degradation, Downsample, GaussianBlur, GaussianNoise, Photograph
from faig_lab.data.evaluation import paired_images
from faig_lab.evaluation.prediction import features
from faig_lab.filters import first_floating, mask
from faig_lab.metrics import restore
from faig_lab.networks import SRResNet
from faig_lab.studies.boundary import boundary
from faig_lab.studies.branches import _study, answers
from faig_lab.studies.context import Pair
from faig_lab.studies.patches import idle_orders
from faig_lab.studies.prediction import prediction
from faig_lab.studies.sanity import randomised

KINDS = [odd.IndexFirst, odd.MaskFirst]


@pytest.fixture(scope="module", params=KINDS, ids=["whole numbers", "truth values"])
def context(request):
    return context_of(make=request.param)


def test_the_table_comes_first(context):
    first = next(iter(context.problem.target.values()))
    assert not first.is_floating_point()
    assert first_floating(context.problem.target.values()) is context.problem.target["conv_first.weight"]


def test_nothing_but_whole_numbers_is_an_error():
    with pytest.raises(ValueError, match="no tensor of a floating type"):
        first_floating([torch.tensor([1]), torch.tensor([True])])
    assert first_floating([torch.tensor([1]), torch.zeros(1, dtype=torch.float16)]).dtype == torch.float16


def test_attribution_is_complete(context):
    assert context.attribution.scores["faig"].count_nonzero() > 200
    finer = replace(context.problem, rule=quadrature("gauss_legendre", 16))
    assert all(row["gap"] < 0.02 for row in finer.integral.rows())


@pytest.mark.parametrize(
    "compute", [Compute(torch.bfloat16), Compute(points_per_batch=2), Compute(memory=0.5)], ids=str
)
def test_attribution_in_other_ways(context, compute):
    found = attribute(replace(context.problem, compute=compute), METHODS).scores["faig"]
    expected = context.attribution.scores["faig"]
    assert float((found - expected).norm() / expected.norm()) < 0.1


def test_the_receptive_field(context):
    assert measure_receptive_field(context.problem.network, context.problem.target, 2) == measure_receptive_field(
        SRResNet(features=4, blocks=1), SRResNet(features=4, blocks=1).state_dict(), 2
    )


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_masked_networks_restore_images(context, autocast):
    problem = context.problem
    masked = mask(problem.target, problem.baseline, problem.layout, torch.arange(20))
    assert torch.equal(masked["a_table"], problem.target["a_table"])
    held_out = context.data.held_out
    for state in (problem.target, masked):
        for output, pair in zip(restore(problem.network, state, held_out, "blur", autocast), held_out, strict=True):
            lr = pair.lr["blur"][None]
            expected = torch.func.functional_call(problem.network, dict(state), (lr,))[0]
            torch.testing.assert_close(output, expected.detach(), rtol=0.05, atol=0.05)
            assert output.unique().numel() > 100  # whole numbers would have left few values


@pytest.mark.parametrize(
    "method",
    [
        *(weight_change, weight_change_absolute, taylor, fisher, input_gradients, OneUnit("loss")),
        partial(learned_mask, steps=2, crop=16, crops=1),
    ],
)
def test_other_methods(context, method):
    scores = method(context.problem)
    assert torch.isfinite(scores).all()
    assert scores.count_nonzero() > 100


def test_randomised_targets_and_idle_filters(context):
    problem = context.problem
    shuffled = randomised(problem.baseline, problem.target, 0)
    assert torch.equal(shuffled["a_table"], problem.target["a_table"])
    assert not torch.equal(shuffled["conv_hr.weight"], problem.target["conv_hr.weight"])
    assert all(len(order.unique()) == len(problem.layout) for order in idle_orders(context).values())


def test_boundary(context):
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    parts = {"blur": GaussianBlur(sigma=1.0, kernel_size=7), "noise": GaussianNoise(sigma=0.1)}
    degradation = Degradation(parts, Downsample("bicubic", True), 2)
    held_out = paired_images([Photograph("texture", "texture", pixels, "")], degradation, crop=40, crops=1)
    found = boundary(replace(context, degradation=degradation, data=replace(context.data, held_out=held_out)))
    rows = found.rows("boundary")
    assert rows
    assert np.isfinite([row["psnr"] for row in rows]).all()


def test_prediction(context):
    rows = prediction(context, crop=16, points=2, percent=10.0).rows("prediction")
    assert {row["method"] for row in rows} == {"overlap", "image_estimator", "linear_probe"}
    vectors = features(context.problem.network, context.problem.target, context.data.probe[0].lr["blur"])
    assert np.unique(vectors).size == 4


def test_branches(context):
    torch.manual_seed(1)
    network = odd.TwoBranchesIndexFirst()
    state = network.state_dict()
    assert not next(iter(state.values())).is_floating_point()
    images = [image(5, ("blur", "noise"))]
    before = images[0].lr["blur"].clone()
    assert answers(network, state, images, degradations=("blur", "noise"), crop=16)
    assert torch.equal(images[0].lr["blur"], before)
    target = {n: v + 0.05 * torch.randn_like(v) if v.is_floating_point() else v for n, v in state.items()}
    studied = _study(context, Pair(network, state, target), ["faig"])
    assert torch.equal(studied.problem.target["a_table"], state["a_table"])
    assert torch.isfinite(studied.attribution.scores["faig"]).all()


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_library(make, precision):
    torch.manual_seed(0)
    network = make()
    target = {n: 1.1 * v if v.is_floating_point() else v for n, v in network.state_dict().items()}
    lr, hr = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16)
    found = faig_lab.attribute(network, network, target, {"blur": (lr, hr)}, precision=precision)
    assert found.completeness_gap["blur"] < 1e-3
    assert found.mask("blur", 10)["a_table"].dtype == make.dtype
    nothing = found.isolation(
        "blur", images={"blur": lr}, weights=network
    )  # the baseline is the ideal edit of its only input
    assert nothing.isolation == pytest.approx(1)


def test_a_parameter_of_whole_numbers_is_no_weight():
    network = odd.Small()
    network.count = torch.nn.Parameter(torch.tensor([3]), requires_grad=False)
    target = {n: 1.1 * v if v.is_floating_point() else v for n, v in network.state_dict().items()}
    images = {"blur": (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16))}
    assert faig_lab.attribute(network, network, target, images).completeness_gap["blur"] < 1e-3
