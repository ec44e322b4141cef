"""The library says in one line what it cannot work with, and rounds nothing on its own."""

import logging

import odd_networks as odd
import pytest
import torch

import faig_lab
from faig_lab.api.scoring import probe_of
from faig_lab.data import Degradation, Downsample, Photograph
from faig_lab.data.evaluation import paired_images
from faig_lab.errors import UserError


def rand(*shape, seed=1, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def images(dtype=torch.float32, size=8, scale=2):
    hr = rand(1, 3, scale * size, scale * size, dtype=dtype)
    return {
        name: (rand(1, 3, size, size, seed=seed, dtype=dtype), hr) for seed, name in enumerate(("blur", "noise"), 2)
    }


def moved(network, by=1.1):
    return {n: by * v.detach() if v.is_floating_point() else v for n, v in network.state_dict().items()}


def attribute(network, **options):
    return faig_lab.attribute(network, network, moved(network), images(), **options)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (odd.Returning(lambda y: (y,)), "network: Returning returns a tuple"),
        (odd.Returning(lambda y: y[..., ::2, ::2]), r"images: Returning makes \(3, 8, 8\) of LR"),
        (odd.WithoutGradients(), "network: the output of WithoutGradients has no gradient"),
        (odd.Detached(), r"network: first\.weight \(and 1 more\) differs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_networks_that_do_not_work(network, words):
    with pytest.raises(UserError, match=f"^{words}"):
        attribute(network)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")  # it is what is tested
def test_the_old_weight_norm():
    network = odd.Small()
    torch.nn.utils.weight_norm(network.first)
    network(rand(1, 3, 8, 8))  # from now on the weight is a result, which no copy can be made of
    with pytest.raises(UserError, match=r"^network: first\.weight is no parameter but computed from others"):
        attribute(network)
    torch.nn.utils.remove_weight_norm(network.first)
    assert attribute(network).completeness_gap["blur"] < 1e-3


def test_percents_that_select_nothing():
    found = attribute(odd.Small())
    words = r"^percent: 0\.01 % of 90 filters is none; the smallest percent that selects one is 1\.12$"
    for call in (found.mask, found.discovered, lambda name, percent: found.modulate(name, 0.5, percent)):
        with pytest.raises(UserError, match=words):
            call("blur", 0.01)
    assert len(found.discovered("blur", 1.12)) == 1
    with pytest.raises(UserError, match=r"1 % of 90 filters is none"):  # the default
        found.mask("noise")
    assert all(torch.equal(value, found.target[name]) for name, value in found.mask("blur", 0).items())
    layers = attribute(odd.Small(), granularity="layer")
    with pytest.raises(UserError, match=r"^percent: 49 % of 2 layers is none; .* is 50$"):
        layers.mask("blur", 49)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_networks(dtype):
    network = odd.Small().to(dtype)
    with pytest.raises(UserError, match=r"^target: its filters are those of the baseline"):
        faig_lab.attribute(network, network, network.state_dict(), images())


def test_double_precision_is_kept():
    given, network = images(torch.float64), odd.Small()
    options = {"precision": "float64", "rule": faig_lab.quadrature("gauss_legendre", 12)}
    found = faig_lab.attribute(network, network, moved(network), given, **options)
    assert found.completeness_gap["blur"] < 1e-12
    exact = float((network.double()(given["blur"][0]).detach() - given["blur"][1]).square().sum())
    assert float(found.problem.integral.loss_baseline[0, 0]) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize(
    ("given", "kept"), [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)]
)
def test_precision_of_the_images(given, kept):
    probe, _ = probe_of({name: tuple(part.to(given) for part in pair) for name, pair in images().items()})
    assert {probe[0].hr.dtype, *(lr.dtype for lr in probe[0].lr.values())} == {kept}
    assert torch.equal(probe[0].lr["noise"], images()["noise"][0][0].to(given).to(kept))


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_clean_input_is_the_command_lines(scale, dtype):
    pixels = (255 * rand(12 * scale, 12 * scale, 3)).byte()
    photograph = Photograph("a", "a", pixels.numpy(), "")
    (expected,) = paired_images([photograph], Degradation({}, Downsample(), scale), crop=None, crops=1)
    hr = pixels.movedim(-1, 0).to(dtype) / 255
    probe, _ = probe_of({"blur": (rand(3, 12, 12), hr)})
    clean = probe[0].lr["clean"]
    torch.testing.assert_close(clean, expected.lr["clean"].to(dtype), rtol=0, atol=1e-6)
    assert clean.min() >= 0
    assert clean.max() <= 1
    torch.testing.assert_close(clean * 255, (clean * 255).round(), rtol=0, atol=1e-4)


def test_a_clean_input_that_is_given_is_left_alone():
    given = {**images(), "clean": images()["noise"]}
    assert torch.equal(probe_of(given)[0][0].lr["clean"], given["clean"][0][0])


def test_methods_that_return_what_is_no_number():
    def mine(problem):
        return torch.full((1, *problem.shape), torch.nan)

    with pytest.raises(UserError, match=r"^methods: mine returned 180 of 180 scores that are not finite"):
        attribute(odd.Small(), methods={"mine": mine})


def test_warnings_are_in_the_result_and_in_the_log(caplog):
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING):
        found = attribute(odd.Noisy())
    assert found.completeness_gap["blur"] > 0.05
    assert any("blur input" in sentence for sentence in found.warnings)
    assert found.warnings[0] in caplog.text
    assert attribute(odd.Small()).warnings == ()


@pytest.mark.parametrize("make", [odd.WritesIntoInput, odd.MultipliesInput])
def test_a_network_that_writes_into_its_input_leaves_the_users_images_alone(make):
    given = images()
    before = given["blur"][0].clone()
    network = make()
    found = faig_lab.attribute(network, network, moved(network), given)
    assert torch.equal(given["blur"][0], before)
    assert found.completeness_gap["blur"] < 1e-3
    assert found.warnings == ()
