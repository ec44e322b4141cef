"""What must not pass without a word: gaps, parameters without gradients, scores that are no numbers."""

import math
from dataclasses import replace

import odd_networks as odd
import pytest
import torch

from faig_lab.attribution import LARGEST_GAP, Compute, Problem, attribute, gap_warnings, integrate, quadrature
from faig_lab.attribution.methods import faig, signed_share, weight_change
from faig_lab.data import PairedImage
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout

METHODS = {"faig": faig}


def problem_of(network, scale=2, dtype=torch.float64, seed=0, points=8, size=0.1):
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(shape, generator=generator)

    network = network.eval().to(dtype)
    baseline = {n: v.clone() for n, v in network.state_dict().items()}
    target = {n: v + size * (rand(*v.shape) - 0.5).to(v) if v.is_floating_point() else v for n, v in baseline.items()}
    names = ("clean", "blur", "noise")
    images = tuple(
        PairedImage(f"{k}", rand(3, 8 * scale, 8 * scale), {name: rand(3, 8, 8) for name in names}) for k in range(2)
    )
    return Problem(network, baseline, target, images, ("blur", "noise"), quadrature("gauss_legendre", points))


class Shifted(odd.Small):
    """What `WritesIntoInput` computes, without writing."""

    def forward(self, lr):
        return super().forward(lr - 0.5) + 0.5


class Doubled(odd.Small):
    """What `MultipliesInput` computes, without writing."""

    def forward(self, lr):
        return super().forward(2 * lr)


@pytest.mark.parametrize(("writing", "plain"), [(odd.WritesIntoInput, Shifted), (odd.MultipliesInput, Doubled)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_network_that_writes_into_its_input_is_its_twin_that_does_not(writing, plain, dtype):
    own, other = problem_of(writing(), dtype=dtype), problem_of(plain(), dtype=dtype)
    other.network.load_state_dict(own.network.state_dict())
    other = replace(other, baseline=own.baseline, target=own.target)
    pixels = [{name: lr.clone() for name, lr in image.lr.items()} for image in own.probe]
    assert torch.equal(attribute(own, METHODS).scores["faig"], attribute(other, METHODS).scores["faig"])
    assert own.integral.gap("blur") == other.integral.gap("blur") < 1e-4
    assert all(
        torch.equal(image.lr[n], lr) for image, kept in zip(own.probe, pixels, strict=True) for n, lr in kept.items()
    )


@pytest.mark.parametrize(
    "compute", [Compute(points_per_batch=3), Compute(memory=1.0), Compute(torch.bfloat16)], ids=str
)
def test_a_network_that_writes_into_its_input_can_be_computed_in_any_way(compute):
    problem = problem_of(odd.WritesIntoInput(), dtype=torch.float32)
    plain, found = (integrate_first(problem, one).attributions for one in (Compute(), compute))
    assert list(found) == list(plain) == [name for name, _ in problem.network.named_parameters()]
    for name, value in found.items():
        torch.testing.assert_close(value, plain[name], rtol=0.1, atol=0.1 * float(value.abs().max()))


def integrate_first(problem, compute):
    image = problem.probe[0]
    like = problem.target["first.weight"]
    pair = image.lr["blur"][None].to(like), image.hr[None].to(like)
    return integrate(problem.network, problem.baseline, problem.target, *pair, problem.rule, compute)


@pytest.mark.parametrize("make", [odd.Checkpointed, odd.Noisy])
def test_a_large_gap_is_a_warning(make):
    torch.manual_seed(0)
    problem = problem_of(make(), size=0.5)
    problem.network.load_state_dict({n: v + 0.5 for n, v in problem.baseline.items()})  # what is computed again
    found = attribute(problem, METHODS)
    gaps = {name: problem.integral.gap(name) for name in problem.degradations}
    assert max(gaps.values()) > LARGEST_GAP
    assert found.warnings == gap_warnings(gaps)


def test_a_small_gap_is_none():
    assert attribute(problem_of(odd.Small()), METHODS).warnings == ()


def test_gaps_at_the_bound_and_those_that_are_no_numbers():
    assert gap_warnings({"a": LARGEST_GAP, "b": 0.0}) == ()
    (sentence,) = gap_warnings({"a": 0.01, "blur": 7.0})
    assert "on blur input" in sentence
    assert "700 %" in sentence
    assert len(gap_warnings({"a": math.inf, "b": math.nan})) == 2


@pytest.mark.parametrize("make", [odd.Detached, odd.PartlyWithoutGradients, odd.Reentrant])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # torch's own word on checkpoints
def test_a_parameter_without_gradient_is_an_error_that_names_it(make):
    with pytest.raises(UserError, match=r"^network: first\.weight \(and 1 more\) differs .* but gets no gradient"):
        attribute(problem_of(make()), METHODS)


@pytest.mark.parametrize("name", ["first.weight", "first.bias"])
def test_only_what_differs_needs_a_gradient(name):
    problem = problem_of(odd.Detached())
    fixed = {n: v for n, v in problem.baseline.items() if n.startswith("first.")}
    assert attribute(replace(problem, target={**problem.target, **fixed}), METHODS).warnings == ()
    one = {**problem.target, **fixed, name: problem.target[name]}
    with pytest.raises(UserError, match=rf"^network: {name} differs"):
        attribute(replace(problem, target=one), METHODS)


def test_a_parameter_that_nothing_depends_on_needs_none():
    assert attribute(problem_of(odd.Unused()), METHODS).scores.keys() == METHODS.keys()


@pytest.mark.parametrize("make", [odd.WithoutGradients, odd.ForInference])
@pytest.mark.parametrize("together", [1, 3])
def test_a_forward_without_gradients_is_refused(make, together):
    problem = replace(problem_of(make()), compute=Compute(points_per_batch=together))
    with pytest.raises(UserError, match=rf"^network: the output of {make.__name__} has no gradient"):
        attribute(problem, METHODS)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_an_error_that_names_the_method(value):
    def mine(problem):
        scores = weight_change(problem)
        scores[0, 1, 3] = value
        return scores

    with pytest.raises(UserError, match=r"^methods: mine returned 1 of 180 scores that are not finite"):
        attribute(problem_of(odd.Small()), {"faig": faig, "mine": mine})


def test_gradients_that_overflow_are_an_error_of_the_method():
    problem = problem_of(odd.Small(), dtype=torch.float32)
    huge = {n: 1e25 * v for n, v in problem.target.items()}
    with pytest.raises(UserError, match=r"^methods: signed_share returned"):
        attribute(replace(problem, target=huge), {"signed_share": signed_share})


@pytest.mark.parametrize("differing", [[], ["first.bias"], ["first.bias", "last.bias"]])
def test_networks_with_the_same_filters_are_refused(differing):
    problem = problem_of(odd.Small())
    same = replace(problem, target={**problem.baseline, **{n: problem.target[n] for n in differing}})
    with pytest.raises(UserError, match=r"^target: its filters are those of the baseline"):
        attribute(same, METHODS)


def test_a_single_bias_is_enough_where_biases_are_ranked():
    problem = problem_of(odd.Small())
    one = {**problem.baseline, "last.bias": problem.target["last.bias"]}
    found = attribute(replace(problem, target=one, rank_others=True), METHODS)
    assert found.scores["faig"].count_nonzero() == 2 * 12


@pytest.mark.parametrize("kdim", [None, 2])
def test_the_projections_of_an_attention_are_ranked(kdim):
    network = odd.Attention(kdim)
    kinds = {layer.name: layer.shape for layer in FilterLayout.of(network).layers}
    inner = {n: tuple(p.shape) for n, p in network.attention.named_parameters() if n.endswith("proj_weight")}
    assert len(inner) == (1 if kdim is None else 3)
    assert {f"attention.{n}": shape for n, shape in inner.items()}.items() <= kinds.items()
    scores = attribute(problem_of(network, 1), METHODS).scores["faig"][0, 0]
    layout = FilterLayout.of(network)
    first = layout.index(f"attention.{next(iter(inner))}", 0, 0)
    assert torch.count_nonzero(scores[first : first + 16]) > 8


def test_other_parameters_with_several_axes_are_named_with_their_share():
    problem = problem_of(odd.Attention(), 1)
    (sentence,) = attribute(problem, METHODS).warnings
    assert sentence.startswith("Not ranked, since they belong to no convolution and no linear layer: table (")
    k = [other.name for other in problem.layout.others].index("table")
    share = (problem.integral.others[:, :, k].sum(0) / problem.integral.loss_change.sum(0)).abs().max()
    assert f"table ({100 * float(share):.2g} %)" in sentence
    assert attribute(replace(problem, rank_others=True), METHODS).warnings == ()
    fixed = {**problem.target, "table": problem.baseline["table"]}
    assert attribute(replace(problem, target=fixed), METHODS).warnings == ()
