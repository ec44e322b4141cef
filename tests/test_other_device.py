"""A whole run with attribution and all analyses on a device that is not the processor: nothing is mixed.

No machine with a GPU is needed: see pretend_device. Training is Lightning's, on the processor; what it yields goes to
the device as it would to a GPU.
"""

import numpy as np
import pytest
import torch
from pretend_device import DEVICE, OnDevice, crossings, device
from run_files import arrays, read
from tiny_case import run, tiny

import faig_lab
from faig_lab.attribution import Adaptive, Attribution, Compute, Problem, methods, quadrature
from faig_lab.attribution.weight_paths import profile, train_middle
from faig_lab.cli import build, preflight, provenance
from faig_lab.data import CLEAN, PairedImage
from faig_lab.evaluation import evaluator, masking
from faig_lab.evaluation.evaluator import Evaluator
from faig_lab.evaluation.masking import restoration
from faig_lab.filters import apply_patches, make_patch, mask
from faig_lab.metrics import METRICS
from faig_lab.networks import SRResNet, TwoBranchSRResNet

TINY = tiny(
    *("+experiment=blur_noise", "network.features=3", "training.baseline.iterations=2"),
    *("training.target.iterations=2", "attribution=all", "attribution.methods.learned_mask.steps=3"),
    *("analysis.percents=[5,10]", "analysis.headline_percent=5", "analysis.studies.masking.resamples=10"),
)
FEW = {
    "curves": ["analysis.studies.curves.percents=[5]", "analysis.studies.curves.draws=1"],
    "sanity": ["analysis.studies.sanity.draws=1"],
    "stability": ["analysis.studies.stability.targets=1", "analysis.studies.stability.points=[2,3]"],
    "modulation": ["analysis.studies.modulation.strengths=[0,0.5,1]"],
    "patches": [],
    "prediction": ["analysis.studies.prediction.points=2", "analysis.studies.prediction.most=2"],
    "boundary": ["analysis.studies.boundary.factors=[0.5,1]"],
    "retraining": ["analysis.studies.retraining.iterations=2", "analysis.studies.retraining.percents=[10]"],
    "branches": ["analysis.studies.branches.timed_steps=0"],
    "clusters": ["analysis.studies.clusters.crop=32"],
    "switches": ["analysis.studies.switches.iterations=2", "analysis.studies.switches.draws=0"],
    "task_vectors": ["analysis.studies.task_vectors.iterations=2", "analysis.studies.task_vectors.strengths=[1]"],
}


def test_the_device_refuses_to_be_mixed():
    with device():
        one = torch.ones(2, 2).to(DEVICE)
        assert isinstance(one, OnDevice)
        assert one.device == DEVICE
        assert isinstance(one + 1, OnDevice)
        assert not isinstance(one.cpu(), OnDevice)
        assert float(one.sum()) == 4
        with pytest.raises(RuntimeError, match="two devices"):
            torch.where(torch.ones(2, 2, dtype=torch.bool), one, one)
        with pytest.raises(RuntimeError, match="numpy"):
            one.numpy()


def pair(kind=SRResNet):
    """A network, two states and a probe."""
    torch.manual_seed(0)
    network = kind(features=3, blocks=1).eval()
    baseline = {n: v.detach().clone() for n, v in network.state_dict().items()}
    target = {n: v + 0.1 * torch.randn_like(v) for n, v in baseline.items()}
    lr = {n: torch.rand(3, 8, 8) for n in (CLEAN, "blur", "noise")}
    return network, baseline, target, (PairedImage("a", torch.rand(3, 16, 16), lr),)


def there(state):
    return {name: value.to(DEVICE) for name, value in state.items()}


def problems(rule, kind=SRResNet, **more):
    """The problem on the processor, and a function that makes the device's."""
    network, baseline, target, probe = pair(kind)
    of = probe, ("blur", "noise"), rule
    here = Problem(network, baseline, target, *of, **more)
    return here, lambda: Problem(network.to(DEVICE), there(baseline), there(target), *of, **more)


METHODS = ("faig", "signed_share", "taylor", "fisher", "input_gradients", "weight_change")


@pytest.mark.parametrize("kind", [SRResNet, TwoBranchSRResNet])
@pytest.mark.parametrize(
    ("rule", "compute"),
    [
        (quadrature("gauss_legendre", 3), Compute()),
        (quadrature("trapezoid", 4), Compute(points_per_batch=3)),
        (Adaptive(9, 1e-3, 10.0), Compute(memory=1)),
    ],
    ids=["plain", "together", "adaptive"],
)
def test_every_method_gives_the_scores_of_the_processor(kind, rule, compute):
    here, make = problems(rule, kind, compute=compute)
    expected = {name: getattr(methods, name)(here) for name in METHODS}
    with device():
        own = make()
        for name, scores in expected.items():
            found = getattr(methods, name)(own)
            assert not isinstance(found, OnDevice)
            torch.testing.assert_close(found, scores, rtol=1e-3, atol=1e-5 * float(scores.abs().max()))


def test_the_curve_and_the_barrier_there():
    here, make = problems(quadrature("trapezoid", 3))
    middle, along = train_middle(here, 2), profile(here)
    with device():
        own = make()
        for name, value in train_middle(own, 2).items():
            assert isinstance(value, OnDevice)
            torch.testing.assert_close(value.cpu(), middle[name], rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(profile(own).psnr, along.psnr, rtol=1e-5, atol=1e-5)


def test_the_library_on_a_device():
    network, baseline, target, (image,) = pair()
    images = {name: (image.lr[name][None], image.hr[None]) for name in ("blur", "noise")}
    expected = faig_lab.attribute(network, baseline, target, images)
    with device():
        found = faig_lab.attribute(network, there(baseline), there(target), images)
        assert found.discovered("blur", 10).tolist() == expected.discovered("blur", 10).tolist()
        masked, dimmed = found.mask("blur", 10), found.modulate("noise", 0.5, 10)
        assert all(isinstance(value, OnDevice) for state in (masked, dimmed) for value in state.values())
        for state, other in ((masked, expected.mask("blur", 10)), (dimmed, expected.modulate("noise", 0.5, 10))):
            torch.testing.assert_close({n: v.cpu() for n, v in state.items()}, dict(other), rtol=1e-5, atol=1e-7)


@pytest.fixture
def evaluators():
    """Held-out images of two sizes, and the evaluator of the processor beside a function that makes the device's."""
    network, baseline, target, _ = pair()
    generator = torch.Generator().manual_seed(4)

    def held_out(name, height, width):
        lr = {kind: torch.rand(3, height, width, generator=generator) for kind in (CLEAN, "blur", "noise")}
        return PairedImage(name, torch.rand(3, 2 * height, 2 * width, generator=generator), lr)

    images = (held_out("a", 8, 8), held_out("b", 8, 9), held_out("c", 8, 8))
    here = Evaluator(network, baseline, target, images, 2)
    return here, lambda: Evaluator(network.to(DEVICE), there(baseline), there(target), images, 2)


def masked(evaluator):
    layout = faig_lab.FilterLayout.of(evaluator.network)
    return mask(evaluator.target, evaluator.baseline, layout, torch.arange(0, len(layout), 2))


def evaluated(evaluator):
    """All numbers of an evaluator, in the same order each time."""
    state = masked(evaluator)
    found = [evaluator.evaluate(state, "blur"), *evaluator.effects(state).values()]
    numbers = [values for one in found for values in (one.psnrs, *one.sums)]
    numbers.append(torch.tensor([found[0].removed, found[0].output_difference]))
    numbers.append(evaluator.psnrs(evaluator.outputs(state, "noise")))
    ends = [evaluator.ends(name) for name in evaluator.inputs]
    numbers += [values for end in ends for values in (end.baseline, end.target)]
    return [*numbers, torch.tensor([[row[name] for name in METRICS] for row in restoration(evaluator)])]


@pytest.fixture
def measured_on(monkeypatch):
    """The devices that images were measured on."""
    seen = set()

    def watched(function):
        def noted(*args):
            seen.update(type(one) for one in args if isinstance(one, torch.Tensor))
            return function(*args)

        return noted

    for name in ("psnr", "edit_sums", "map_difference"):
        monkeypatch.setattr(evaluator, name, watched(getattr(evaluator, name)))
    monkeypatch.setattr(masking, "quality", watched(masking.quality))
    return seen


@pytest.mark.parametrize("small", [True, False])
def test_images_are_measured_there(small, evaluators, measured_on, monkeypatch):
    """Large outputs are stored on the processor, and are measured on the device all the same."""
    expected = evaluated(evaluators[0])
    measured_on.clear()
    size = 4 * sum(image.hr.numel() for image in evaluators[0].images)
    monkeypatch.setattr(evaluator, "MOST_BYTES", size if small else size - 1)
    with device():
        own = evaluators[1]()
        found = evaluated(own)
        assert measured_on == {OnDevice}
        assert not any(isinstance(values, OnDevice) for values in found)
        ends, state = own.ends("blur"), masked(own)
        stored = [ends.baseline_outputs, ends.target_outputs, own.maps("blur"), own.upscaled("blur")]
        stored += [own.restore(state, "blur"), own.outputs(state, "blur"), own.outputs(own.target, "blur")]
        assert {isinstance(image, OnDevice) for images in stored for image in images} == {small}
        assert (own.storage == DEVICE) is small
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_images_go_to_the_device_once(evaluators):
    with device():
        own = evaluators[1]()
        state = masked(own)
        own.evaluate(own.target, "blur")
        crossings.clear()
        for name in ("blur", "blur", "noise"):
            own.evaluate(state, name)
        own.psnrs(own.outputs(state, "clean"))
        moved = [shape for where, shape in crossings if where == DEVICE.type]
        assert not [shape for shape in moved if len(shape) > 1]
        fetched = [shape for where, shape in crossings if where != DEVICE.type]
        assert fetched
        assert not [shape for shape in fetched if len(shape) > 1]  # numbers of images, but no image


def test_pictures_are_fetched_from_the_device(evaluators):
    found = {}
    for make in (lambda: evaluators[0], evaluators[1]):
        with device():
            own = make()
            layout = faig_lab.FilterLayout.of(own.network)
            scores = {"random": torch.rand(1, 2, len(layout), generator=torch.Generator().manual_seed(6))}
            attribution = Attribution(scores, ("blur", "noise"), layout)
            found[own.device.type] = evaluator.examples(own, attribution, "random", percent=10, positions=[1, 2])
    assert len(found["cpu"]) == 2 * 2
    for one, other in zip(found["cpu"], found[DEVICE.type], strict=True):
        assert one.restored.keys() == other.restored.keys()
        for name, picture in other.restored.items():
            assert not isinstance(picture, OnDevice)
            assert not isinstance(other.truth, OnDevice)
            torch.testing.assert_close(picture, one.restored[name], rtol=0, atol=1.01 / 255)
            assert other.psnr[name] == pytest.approx(one.psnr[name], abs=1e-3)


def test_patches_on_a_device():
    network, baseline, target, _ = pair()
    layout, filters = faig_lab.FilterLayout.of(network), torch.tensor([1, 5, 30])
    with device():
        states = there(baseline), there(target)
        patch = make_patch(states[1], states[0], layout, filters, rest=True)
        assert not isinstance(patch.values, OnDevice)
        state = apply_patches(states[0], patch)
        assert list(state) == list(baseline)
        assert all(isinstance(value, OnDevice) for value in state.values())


def test_whole_numbers_of_a_state_go_to_the_device_as_they_are(monkeypatch):
    monkeypatch.setattr(build, "compute_device", lambda settings: DEVICE)
    settings = type("S", (), {"attribution": type("A", (), {"precision": "float64"})})
    with device():
        moved = build.cast({"index": torch.arange(3), "weight": torch.ones(2)}, settings)
        assert all(isinstance(value, OnDevice) for value in moved.values())
    assert (moved["index"].dtype, moved["weight"].dtype) == (torch.int64, torch.float64)


@pytest.fixture
def on_device(monkeypatch):
    """Runs whose attribution and analyses are on the device."""
    for module in (build, preflight, provenance):
        monkeypatch.setattr(module, "compute_device", lambda settings: DEVICE)
    with device():
        yield


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("analysis", [None, *(pytest.param(name, marks=pytest.mark.slow) for name in FEW)])
def test_a_run_is_scored_and_analysed_there(analysis, tmp_path):
    """None is masking alone, which every run has."""
    more = [f"analysis=[masking,{analysis}]", *FEW[analysis]] if analysis else []
    folder = run(tmp_path / "run", *TINY, *more)
    assert read(folder / "status.json")["state"] == "done"
    assert read(folder / "attribution" / "provenance.json")["device"] == "meta"
    assert all(np.isfinite(scores).all() for scores in arrays(folder).values())
