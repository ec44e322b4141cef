"""Agreement with the authors' published functions, and with the plain reference."""

from dataclasses import replace
from functools import cache

import golden_case
import numpy as np
import pytest
import reference
import torch
from golden_case import DEGRADATIONS, golden

from faig_lab.attribution import Adaptive, Problem, discovered, quadrature
from faig_lab.attribution.methods import faig, faig_reference, input_gradients
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_methods, make_rule
from faig_lab.config import check
from faig_lab.filters import FilterLayout, mask

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


@cache
def problem(rule: str, dtype: torch.dtype) -> Problem:
    """The golden pair and its probe; the integral, which takes seconds, is computed once for all tests."""
    baseline, target = golden_case.states(dtype)
    return Problem(golden_case.network(), baseline, target, golden_case.probe(), DEGRADATIONS, quadrature(rule, 10))


def assert_agrees(ours: np.ndarray, theirs: np.ndarray, dtype: torch.dtype) -> None:
    assert np.abs(ours - theirs).max() <= TOLERANCE[dtype] * np.abs(theirs).max()
    count = len(theirs) // 100
    top, expected = (set(np.argsort(-scores, kind="stable")[:count].tolist()) for scores in (ours, theirs))
    assert top == expected


def test_faig_is_the_mean_over_the_probe():
    p = problem("right", torch.float64)
    torch.testing.assert_close(faig(p) * 4, faig_reference(p))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_single_scores_are_the_authors(dtype):
    magnitude = problem("right", dtype).integral.magnitude
    for k, name in enumerate(DEGRADATIONS):
        assert_agrees(magnitude[0, k].numpy(), golden(f"single_{name}_10_astronaut"), dtype)


@pytest.mark.parametrize(("precision", "dtype"), [("float64", torch.float64), ("float32", torch.float32)])
def test_the_preset_is_the_authors_with_every_method_of_theirs(precision, dtype):
    """FAIG has its points from the target and IG from the clean input: one rule for both is 1.5e-2 off for one."""
    chosen = ["attribution=faig_reference", "attribution.points=10", f"attribution.precision={precision}"]
    settings = check(compose(chosen))
    p = replace(problem("midpoint", dtype), rule=make_rule(settings), probe=golden_case.probe()[::3])
    methods = make_methods(settings)
    faig_scores, ig_scores, change = (methods[name](p)[0].numpy() for name in ("faig_reference", "ig", "weight_change"))
    for k, name in enumerate(DEGRADATIONS):
        assert_agrees(faig_scores[k], golden(f"faig_{name}_10")[::3].sum(0), dtype)
        assert_agrees(ig_scores[k] * 2, golden(f"ig_{name}_10")[::3].sum(0), dtype)
        assert_agrees(change[k], golden("weight_change"), dtype)


def test_input_gradients_have_the_points_of_an_adaptive_rule():
    few = replace(problem("left", torch.float64), probe=golden_case.probe()[:1])
    adaptive = replace(few, rule=Adaptive(10, 0.01, 1))
    torch.testing.assert_close(input_gradients(adaptive, "left"), input_gradients(few), rtol=0, atol=0)
    assert not torch.equal(input_gradients(few, "right"), input_gradients(few))


def test_masked_outputs_are_the_authors():
    baseline, target = golden_case.states(torch.float32)
    layout = FilterLayout.of(golden_case.network())
    image = golden_case.probe()[0]
    p = problem("right", torch.float64)
    scores = faig(p)[0]
    with np.load(golden_case.FOLDER / "masked_astronaut_float32.npz") as stored:
        for key in stored.files:
            _, chosen, percent, _, shown = key.split("_")
            filters = discovered(scores[DEGRADATIONS.index(chosen)], float(percent))
            state = mask(target, baseline, layout, filters)
            output = torch.func.functional_call(p.network, state, (image.lr[shown][None].float(),))[0]
            assert np.abs(output.detach().numpy()[:, ::4, ::4] - stored[key]).max() < 1e-6


def test_the_reference_agrees_with_both():
    """The slow implementation, the authors' numbers and ours are three ways to the same scores."""
    p = problem("right", torch.float64)
    image = p.probe[0]
    hr, lr = image.hr[None].double(), {name: value[None].double() for name, value in image.lr.items()}
    network = golden_case.network().double()
    slow = reference.single_faig(network, p.baseline, p.target, lr["blur"], hr, 10)
    assert_agrees(slow, golden("single_blur_10_astronaut"), torch.float64)
    slow = reference.input_gradients(network, p.target, lr["clean"], lr["noise"], 10)
    assert_agrees(slow, golden("ig_noise_10")[0], torch.float64)
    assert_agrees(reference.weight_change(network, p.baseline, p.target), golden("weight_change"), torch.float64)
