"""The library: the same numbers as the rooms behind it, in plain words what does not fit, imported when used."""

import ast
import doctest
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import golden_case
import pytest
import reference
import torch
import yaml
from torch import nn
from torch.func import functional_call

import faig_lab
from faig_lab import api
from faig_lab.attribution import Problem, attribute, quadrature, save_attribution
from faig_lab.attribution.methods import faig, random_filters
from faig_lab.errors import UserError
from faig_lab.files import write_json
from faig_lab.filters import interventions
from faig_lab.networks import SRResNet
from faig_lab.runs.tables import records

PACKAGE = Path(faig_lab.__file__).parent


def pair():
    torch.manual_seed(0)
    network = SRResNet(features=4, blocks=1)
    baseline = {name: value.clone() for name, value in network.state_dict().items()}
    target = {name: value + 0.05 * torch.randn_like(value) for name, value in baseline.items()}
    return network, baseline, target


def images(count=2, size=8, names=("blur", "noise")):
    generator = torch.Generator().manual_seed(1)
    hr = torch.rand(count, 3, 2 * size, 2 * size, generator=generator)
    return {name: (torch.rand(count, 3, size, size, generator=generator), hr) for name in names}


@pytest.fixture(scope="module")
def result():
    return faig_lab.attribute(*pair(), images())


# Names


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import faig_lab, sys; dir(faig_lab); print(sorted({'torch', 'numpy', 'hydra', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_there_for_the_reader_and_for_the_type_checker():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == set(api.__all__) == set(faig_lab.__all__) - {"__version__"}
    assert all(getattr(faig_lab, name) is getattr(api, name) for name in typed)
    assert typed <= set(dir(faig_lab))
    assert (PACKAGE / "py.typed").is_file()


def test_no_name_is_that_of_a_room():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    assert not rooms & set(faig_lab.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'atribute'"):
        faig_lab.atribute  # noqa: B018


@pytest.mark.parametrize("name", ["results", "scoring", "weights"])
def test_examples_in_docstrings(name):
    assert doctest.testmod(import_module(f"faig_lab.api.{name}")).failed == 0


# Numbers


def test_scores_are_those_of_the_authors():
    """The golden pair in double precision, images of different sizes, the authors' rule with 10 points."""
    probe = golden_case.probe()[::3]
    given = {
        kind: ([image.lr[kind] for image in probe], [image.hr for image in probe])
        for kind in (*golden_case.DEGRADATIONS, "clean")
    }
    found = faig_lab.attribute(
        golden_case.network(),
        *golden_case.states(torch.float64),
        given,
        methods={"faig_reference": faig_lab.methods.faig_reference},
        rule=faig_lab.quadrature("right", 10),
        precision="float64",
    )
    assert found.degradations == golden_case.DEGRADATIONS
    for name in golden_case.DEGRADATIONS:
        expected = torch.from_numpy(golden_case.golden(f"faig_{name}_10")[::3].sum(0))
        torch.testing.assert_close(found.scores[name], expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


def test_scores_are_those_of_the_problem_behind_it(result):
    network, baseline, target = pair()
    problem = Problem(
        network, baseline, target, result.problem.probe, ("blur", "noise"), quadrature("gauss_legendre", 16)
    )
    behind = attribute(problem, {"faig": faig}).scores["faig"][0]
    assert result.method == "faig"
    assert torch.equal(torch.stack(list(result.scores.values())), behind)


def test_shares_and_the_rest_add_up_to_the_loss_change(result):
    integral = result.problem.integral
    assert result.degradations == ("blur", "noise")
    for k, name in enumerate(result.degradations):
        change = float(integral.loss_change[:, k].sum())
        in_filters = float(result.shares[name].sum())
        elsewhere = float(integral.total[:, k].sum() - integral.signed[:, k].sum()) / change
        assert in_filters + elsewhere == pytest.approx(1, abs=1.01 * result.completeness_gap[name] + 1e-12)
        assert 0 < result.completeness_gap[name] < 0.01


def test_other_methods_by_name(result):
    assert result.methods == ("faig", "signed_share")
    other = result.by("signed_share")
    assert other.method == "signed_share"
    assert torch.equal(other.shares["blur"], result.shares["blur"])
    assert not torch.equal(other.scores["blur"], result.scores["blur"])


def test_discovered_filters_are_the_best(result):
    best = result.discovered("noise", percent=10)
    assert len(best) == 13  # of 136
    rest = torch.ones(136, dtype=torch.bool)
    rest[best] = False
    assert result.scores["noise"][best].min() >= result.scores["noise"][rest].max()
    assert len(result.discovered("noise", percent=0)) == 0


def test_masking_and_modulation(result):
    _, baseline, target = pair()
    filters = result.discovered("blur", 10)
    masked = result.mask("blur", 10)
    expected = interventions.mask(target, baseline, result.layout, filters)
    half = result.modulate("blur", 0.5, percent=10)
    for name, value in target.items():
        assert torch.equal(masked[name], expected[name])
        torch.testing.assert_close(half[name], (masked[name] + value) / 2)
        assert torch.equal(result.modulate("blur", 1.0)[name], value)
    network = SRResNet(features=4, blocks=1)
    network.load_state_dict(baseline)
    again = faig_lab.mask(target, network, result.layout, filters.tolist())
    assert all(torch.equal(again[name], masked[name]) for name in masked)


def test_nothing_of_the_users_is_changed_or_shared():
    network, baseline, target = pair()
    network.load_state_dict(target)
    network.train()
    found = faig_lab.attribute(network, baseline, network, images())
    before = found.mask("blur", 0)
    assert network.training
    assert all(torch.equal(value, target[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(value, target[name]) for name, value in before.items())
    assert found.problem.integral.loss_target.min() > 0


class Denoiser(nn.Module):
    """A network that does not upscale, with a dropout that would make every forward another."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return x + self.last(self.dropout(torch.relu(self.first(x))))


def test_any_network_and_one_degradation():
    torch.manual_seed(0)
    network, other = Denoiser(), Denoiser()
    noisy, clean = torch.rand(3, 9, 9), torch.rand(3, 9, 9)
    some = [faig_lab.attribute(network, network, other, {"noise": (noisy, clean)}) for _ in range(2)]
    assert torch.equal(some[0].scores["noise"], some[1].scores["noise"])
    assert len(some[0].layout) == 3 * 6 + 6 * 3
    assert some[0].completeness_gap["noise"] < 0.05


def test_adaptive_quadrature_and_progress():
    said = []
    found = faig_lab.attribute(
        *pair(), images(), rule=faig_lab.Adaptive(65, 0.05, 10.0), seed=3, progress=said.append,
        methods={"random": random_filters, "faig": faig},
    )  # fmt: skip
    assert (found.method, len(said)) == ("random", 4)
    assert found.attribution.scores["random"].shape == (10, 2, 136)
    assert sorted(found.scores["blur"].tolist()) == list(range(136))
    assert found.problem.integral.points.max() <= 65


def test_other_units_than_filters():
    found = faig_lab.attribute(*pair(), images(), granularity="layer", rank_others=True)
    parameters = list(pair()[1])
    assert [found.layout.address(i).layer for i in range(len(found.layout))] == parameters
    _, baseline, target = pair()
    masked = found.mask("blur", percent=100)
    assert all(torch.equal(masked[name], baseline[name]) for name in parameters)
    assert sum(float(v) for v in found.shares["blur"]) == pytest.approx(1, abs=1.01 * found.completeness_gap["blur"])
    assert target.keys() == masked.keys()


# What does not fit


def refused(message, call):
    with pytest.raises(UserError) as caught:
        call()
    assert message in str(caught.value)


def without(state, name):
    return {n: v for n, v in state.items() if n != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "conv_hr.bias"), "target: conv_hr.bias of this SRResNet is missing"),
        (lambda s: {**s, "conv_hrr.bias": s["conv_hr.bias"]}, "did you mean conv_hr.bias?"),
        (lambda s: {**s, "conv_hr.bias": torch.zeros(5)}, "target: conv_hr.bias is (5,), but (4,) in this SRResNet"),
        (lambda s: {**s, "conv_hr.bias": torch.full((4,), torch.nan)}, "conv_hr.bias has values that are not finite"),
    ],
)
def test_weights_that_do_not_fit(change, message):
    network, baseline, target = pair()
    refused(message, lambda: faig_lab.attribute(network, baseline, change(target), images()))


def lr(**changes):
    return {name: (changes.get(name, lr), hr) for name, (lr, hr) in images().items()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "images: no degradation given"),
        ({"clean": images()["blur"]}, "images: no degradation given"),
        (lr(noise=torch.rand(3, 3, 8, 8)), "images['noise']: 3 LR images for 2 HR images"),
        (lr(noise=torch.rand(2, 3, 9, 8)), "images: image 0: input noise is (3, 9, 8), not (3, 8, 8)"),
        (lr(blur=torch.rand(2, 8, 8, 3)), "images['blur']: expected (N, 3, H, W) or (3, H, W), not (8, 8, 3)"),
        (lr(blur=torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), "floating values in [0, 1], not torch.uint8 up to 0"),
        (lr(blur=255 * torch.ones(2, 3, 8, 8)), "floating values in [0, 1], not torch.float32 up to 255"),
        (lr(blur=torch.full((2, 3, 8, 8), torch.nan)), "floating values in [0, 1], not torch.float32 up to nan"),
        (lr(blur=[]), "images['blur']: there is no image"),
        (lr(blur=torch.rand(0, 3, 8, 8)), "images['blur']: there is no image"),
        (
            lr(blur=torch.rand(2, 3, 7, 8), noise=torch.rand(2, 3, 7, 8)),
            "images: image 0: input blur is (3, 7, 8), not (3, 8, 8)",
        ),
        (
            {name: (torch.rand(2, 3, 4, 4), hr) for name, (_, hr) in images().items()},
            "images: SRResNet makes (3, 8, 8) of LR (3, 4, 4), but HR is (3, 16, 16)",
        ),
        (
            {**images(), "noise": (images()["noise"][0], torch.rand(2, 3, 16, 16))},
            "images['noise']: its HR images are not those of 'blur', in the same order",
        ),
    ],
)
def test_images_that_do_not_fit(given, message):
    refused(message, lambda: faig_lab.attribute(*pair(), given))


def test_names_and_numbers_that_do_not_fit(result):
    _, baseline, target = pair()
    layout = result.layout
    refused("degradation: there is no blurr; did you mean blur? (choices: blur, noise)", lambda: result.mask("blurr"))
    refused("method: there is no fraig; did you mean faig?", lambda: result.by("fraig"))
    refused("percent: 101 is not in 0..100", lambda: result.discovered("blur", 101))
    refused("precision: there is no half", lambda: faig_lab.attribute(*pair(), images(), precision="half"))
    refused("granularity: there is no kernel", lambda: faig_lab.attribute(*pair(), images(), granularity="kernel"))
    grey = nn.Upsample(scale_factor=2)
    grey.unused = nn.Parameter(torch.zeros(1))
    refused("network: the network has no convolution", lambda: faig_lab.attribute(grey, grey, grey, images()))
    refused("filters: 136 is not in the layout; it has 0..135", lambda: faig_lab.mask(target, baseline, layout, [136]))
    refused("filters: -1 is not in", lambda: faig_lab.mask(target, baseline, layout, torch.tensor([3, -1])))
    refused("expected flat indices", lambda: faig_lab.mask(target, baseline, layout, torch.ones(136) > 0))
    refused(
        "target: conv_hr.weight is missing",
        lambda: faig_lab.mask(without(target, "conv_hr.weight"), baseline, layout, []),
    )
    refused("strength: a strength must be finite", lambda: result.modulate("blur", float("inf")))
    wrong = {"mine": lambda problem: torch.zeros(2, 136)}
    refused("methods: mine returned (2, 136), not", lambda: faig_lab.attribute(*pair(), images(), methods=wrong))


# Files


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_weights_there_and_back(tmp_path, suffix):
    network, _, target = pair()
    path = tmp_path / f"target{suffix}"
    faig_lab.save_weights(str(path), target, {"network": "SRResNet", "scale": 2})
    back = faig_lab.load_weights(path, network)
    assert all(torch.equal(back[name], target[name]) for name in target)
    assert yaml.safe_load(path.with_suffix(".yaml").read_text())["scale"] == 2
    refused("did you mean", lambda: faig_lab.load_weights(tmp_path / f"tagret{suffix}", network))


def run_folder(folder, result):
    """What a run leaves behind, as far as it concerns the library."""
    faig_lab.save_weights(folder / "weights" / "baseline.pt", result.baseline)
    faig_lab.save_weights(folder / "weights" / "target.pt", result.target)
    provenance = {"degradations": list(result.degradations), "completeness_gap": result.completeness_gap}
    save_attribution(result.attribution, result.method, folder / "attribution", provenance)
    network = {"_target_": "faig_lab.networks.SRResNet", "scale": 2, "features": 4, "blocks": 1}
    config = {"network": network, "attribution": {"name": result.method}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    write_json(folder / "metrics.json", {"psnr/target/blur": 30.5})
    (folder / "tables").mkdir()
    (folder / "tables" / "masking.csv").write_text("method,percent,psnr\nfaig,1,30.5\nfaig,3,\n")
    return folder


def test_a_finished_run(tmp_path, result):
    folder = run_folder(tmp_path / "run", result)
    run = faig_lab.open_run(str(folder))
    assert (run.path, run.method, run.methods) == (folder, "faig", ("faig", "signed_share"))
    assert run.completeness_gap == result.completeness_gap
    assert run.metrics == {"psnr/target/blur": 30.5}
    assert records(run.table("masking"))[1] == {"method": "faig", "percent": 3.0, "psnr": None}
    for name in ("blur", "noise"):
        assert torch.equal(run.scores[name], result.scores[name])
        assert torch.equal(run.by("signed_share").scores[name], result.by("signed_share").scores[name])
    masked = run.mask("noise", 5)
    assert all(torch.equal(masked[name], value) for name, value in result.mask("noise", 5).items())
    refused("table: there is no maskin; did you mean masking?", lambda: run.table("maskin"))
    refused(f"did you mean {folder}?", lambda: faig_lab.open_run(tmp_path / "rum"))
    (folder / "attribution" / "scores.npz").unlink()
    refused("has no attribution/scores.npz", lambda: faig_lab.open_run(folder))


def test_a_curve_and_given_states_are_paths_too():
    network, baseline, target = pair()
    middle = {name: torch.lerp(value, target[name], 0.5) for name, value in baseline.items()}
    straight, through = (
        faig_lab.attribute(network, baseline, target, images(), precision="float64", path=path)
        for path in ("straight", [middle])
    )
    # The middle of the straight line bends nothing.
    for name in straight.degradations:
        difference = torch.linalg.vector_norm(through.scores[name] - straight.scores[name])
        assert difference < 0.05 * torch.linalg.vector_norm(straight.scores[name])
    assert set(straight.barriers) == {"blur", "noise", "clean"}
    bent = faig_lab.attribute(network, baseline, target, images(), path="curve")
    assert not torch.equal(bent.scores["blur"], straight.scores["blur"].to(bent.scores["blur"]))
    with pytest.raises(UserError, match="path"):
        faig_lab.attribute(network, baseline, target, images(), path="curved")
    with pytest.raises(UserError, match=r"path\[0\]"):
        faig_lab.attribute(network, baseline, target, images(), path=[{"no": middle["conv_first.weight"]}])


# Isolation


def inputs(count=2, size=8, names=("blur", "noise", "clean")):
    generator = torch.Generator().manual_seed(9)
    return {name: torch.rand(count, 3, size, size, generator=generator) for name in names}


@pytest.mark.parametrize("names", [("blur", "clean"), ("blur", "noise"), ("blur", "noise", "jpeg", "clean")])
def test_isolation_is_the_definition(result, names):
    first, second = inputs(1, names=names), inputs(names=names)
    given = {n: [first[n][0], second[n][1, :, :6]] for n in names}  # of two sizes

    @torch.no_grad()
    def outputs(state):
        call = partial(functional_call, result.network, dict(state))
        return {name: [call((image[None],))[0] for image in images] for name, images in given.items()}

    found = result.isolation("blur", percent=10, images=given)
    ends = outputs(result.mask("blur", 10)), outputs(result.baseline), outputs(result.target)
    others, clean = [n for n in names[1:] if n != "clean"], "clean" if "clean" in names else None
    expected, back, off, side = reference.edit(*ends, "blur", others, clean)
    assert found.isolation == pytest.approx(expected, rel=1e-4)
    assert set(found.back) == set(found.off) == set(names)
    assert set(found.side_effects) == set(names) - {"blur"}
    for name in names:
        assert (found.back[name], found.off[name]) == pytest.approx((back[name], off[name]), rel=1e-3, abs=1e-6)
    for name, value in found.side_effects.items():
        assert value == pytest.approx(side[name], rel=1e-3)
    effects = [found.side_effects[n] for n in others]
    missing = found.own_left + (sum(effects) / len(effects) if effects else 0) + found.side_effects.get("clean", 0)
    assert found.isolation == pytest.approx(1 - missing, rel=1e-9)


def test_isolation_of_any_weights(result):
    nothing = result.isolation("noise", images=inputs(), weights=result.target)
    assert (nothing.isolation, nothing.own_left) == (0, 1)
    assert set(nothing.side_effects.values()) == {0}
    back = result.isolation("noise", images={"noise": inputs()["noise"]}, weights=result.baseline)
    assert (back.isolation, back.own_left, back.back["noise"]) == pytest.approx((1, 0, 1))


def test_mixed_input_is_told_and_does_not_count(result):
    mixed = inputs() | {"blur+noise": inputs()["clean"]}
    with_it, without = (result.isolation("blur", 10, images=given) for given in (mixed, inputs()))
    assert with_it.isolation == without.isolation
    assert with_it.side_effects["blur+noise"] == without.side_effects["clean"]


@pytest.mark.parametrize(
    ("degradation", "given", "message"),
    [
        ("jpeg", inputs(), "degradation: there is no jpeg"),
        ("clean", inputs(), "degradation: there is no clean"),
        ("blur", {"blur": torch.rand(3, 8)}, r"images\['blur'\]: expected"),
        ("blur", {"blur": 255 * torch.rand(1, 3, 8, 8)}, r"images\['blur'\]: expected floating values"),
    ],
)
def test_what_does_not_fit_is_said(result, degradation, given, message):
    with pytest.raises(UserError, match=message):
        result.isolation(degradation, images=given, weights=result.target)
    same = replace(result, target=result.baseline)
    refused("nothing can be removed", lambda: same.isolation("blur", images=inputs()))
