"""Recordings of functions of tensors, here on the processor: when one is made, what its kind is, what it keeps."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from graphs_case import on_processor

from faig_lab import cuda_graphs
from faig_lab.attribution import Compute, LossPath, Problem, faig, input_gradients, learned_mask, quadrature
from faig_lab.attribution import path as path_module
from faig_lab.attribution.methods import InputPath
from faig_lab.cuda_graphs import CALLS_BEFORE, MOST_KINDS, Replays
from faig_lab.data import CLEAN, PairedImage
from faig_lab.networks import SRResNet


@pytest.fixture
def recorder(monkeypatch):
    return on_processor(monkeypatch)


def double(given):
    return [2 * value for value in given]


def test_the_first_calls_of_a_kind_run_as_they_are(recorder):
    replays = Replays()
    for call in range(CALLS_BEFORE + 3):
        (found,) = replays("double", double, [torch.tensor([float(call)])])
        assert float(found) == 2 * call
        assert len(recorder.graphs) == (call >= CALLS_BEFORE)
    assert recorder.graphs[0].replays == 3


def test_other_kinds_shapes_precisions_layouts_and_modes_are_recorded_apart(recorder):
    replays, image = Replays(), torch.rand(2, 3, 4, 4)
    kinds = [
        ("a", image, False),
        ("b", image, False),
        ("a", image[:1], False),
        ("a", image.double(), False),
        ("a", image.contiguous(memory_format=torch.channels_last), False),
        ("a", image, True),
    ]
    for count, (kind, value, deterministic) in enumerate(kinds, 1):
        with torch.backends.cudnn.flags(enabled=True, deterministic=deterministic):
            for _ in range(CALLS_BEFORE + 1):
                (found,) = replays(kind, double, [value])
                assert torch.equal(found, 2 * value)
        assert len(recorder.graphs) == count


def test_only_the_latest_kinds_are_kept(recorder):
    replays = Replays()
    for _ in range(CALLS_BEFORE + 2):
        for side in range(1, MOST_KINDS + 2):
            replays("double", double, [torch.rand(side)])
    assert len(replays._recordings) == MOST_KINDS


def test_what_cannot_be_recorded_runs_as_it_is(monkeypatch):
    on_processor(monkeypatch, error=RuntimeError("capturing"))
    replays = Replays()
    for call in range(CALLS_BEFORE + 3):
        assert float(replays("double", double, [torch.tensor([float(call)])])[0]) == 2 * call


def test_inputs_that_do_not_fit_into_memory_twice_are_not_recorded(recorder):
    """The copies of the inputs are a part of the recording."""

    class Large(torch.Tensor):
        def clone(self):
            raise torch.OutOfMemoryError("CUDA out of memory")

    replays = Replays()
    for call in range(CALLS_BEFORE + 3):
        given = torch.tensor([float(call)]).as_subclass(Large)
        assert float(replays("double", double, [given])[0]) == 2 * call
    assert not recorder.graphs


def test_a_processor_records_nothing(monkeypatch):
    recorder = on_processor(monkeypatch)
    monkeypatch.setattr(cuda_graphs, "DEVICE", "cuda")
    replays = Replays()
    for _ in range(CALLS_BEFORE + 2):
        replays("double", double, [torch.rand(2)])
    assert not recorder.graphs


# Gradients of networks


def problem(images=3):
    torch.manual_seed(0)
    network = SRResNet(features=3, blocks=1).eval()
    baseline = {n: v.detach().clone() for n, v in network.state_dict().items()}
    target = {n: v + 0.1 * torch.randn_like(v) for n, v in baseline.items()}
    probe = tuple(
        PairedImage(str(k), torch.rand(3, 16, 16), {n: torch.rand(3, 8, 8) for n in (CLEAN, "blur", "noise")})
        for k in range(images)
    )
    return Problem(network, baseline, target, probe, ("blur", "noise"), quadrature("gauss_legendre", 4))


@pytest.mark.parametrize("method", [faig, input_gradients, lambda p: learned_mask(p, steps=9, crop=16)])
def test_recorded_passes_give_the_scores_of_plain_ones(monkeypatch, method):
    expected = method(problem())
    recorder = on_processor(monkeypatch)
    found = method(problem())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    assert sum(graph.replays for graph in recorder.graphs) >= 2 * 9 - 2 * CALLS_BEFORE


def test_one_recording_serves_all_images_of_a_size(recorder):
    faig(problem())
    (graph,) = recorder.graphs
    assert graph.replays == 3 * 2 * 4 - CALLS_BEFORE


def test_another_loss_has_a_recording_of_its_own(recorder):
    one = problem()
    image, lr = one.probe[0].hr[None], one.probe[0].lr["blur"][None]

    class Unhashable:
        __hash__ = None

        def __call__(self, output, hr):
            return (output - hr).abs().sum()

    losses = {"squared": lambda o, h: (o - h).square().sum(), "absolute": lambda o, h: (o - h).abs().sum()}
    for count, loss in enumerate(losses.values(), 1):
        path = LossPath(one.network, one.baseline, one.target, lr, image, loss=loss)
        for alpha in (0.1, 0.4, 0.6, 0.9):
            (found,) = path.gradients([alpha])
            plain = LossPath(one.network, one.baseline, one.target, lr, image, loss=loss)
            plain.kind = lambda: None
            (expected,) = plain.gradients([alpha])
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value)
        assert len(recorder.graphs) == count
    odd = LossPath(one.network, one.baseline, one.target, lr, image, loss=Unhashable())
    assert len(list(odd.gradients([0.1, 0.2, 0.3, 0.4]))) == 4
    assert len(recorder.graphs) == 2


def test_gradients_that_are_kept_do_not_change_with_the_next_pass(recorder):
    one = problem()
    path = LossPath(one.network, one.baseline, one.target, one.probe[0].lr["blur"][None], one.probe[0].hr[None])
    kept = list(path.gradients([0.1, 0.3, 0.5, 0.7, 0.9]))
    values = path.evaluate([0.1, 0.9])
    assert not torch.equal(kept[3]["conv_hr.weight"], kept[4]["conv_hr.weight"])
    again = LossPath(one.network, one.baseline, one.target, path.lr, path.hr).evaluate([0.1, 0.9])
    assert values == pytest.approx(again)


def test_kept_gradients_along_a_path_of_inputs_do_not_change_with_the_next_pass(monkeypatch):
    """The weights are fixed, so no product with γ' copies the gradients."""
    one, alphas = problem(), [0.1, 0.3, 0.5, 0.7, 0.9]
    images = [image[None] for image in (one.probe[0].lr[CLEAN], one.probe[0].lr["blur"], one.probe[0].hr)]
    plain, recorded = (InputPath(one.network, one.target, *images) for _ in range(2))
    expected = list(plain.gradients(alphas))
    recorder = on_processor(monkeypatch)
    kept = list(recorded.gradients(alphas))
    assert recorder.graphs[0].replays == len(alphas) - CALLS_BEFORE
    for found, wanted in zip(kept, expected, strict=True):
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
    assert recorded.evaluate(alphas) == pytest.approx(plain.evaluate(alphas))


@pytest.mark.parametrize("compute", [Compute(points_per_batch=2), Compute(memory=1e-4)], ids=["together", "tiles"])
def test_points_together_and_tiles_are_not_recorded(recorder, compute):
    one = problem(1)
    image = PairedImage("large", torch.rand(3, 160, 160), {n: torch.rand(3, 80, 80) for n in (CLEAN, "blur", "noise")})
    faig(replace(one, probe=(image,), compute=compute))
    assert sum(graph.replays for graph in recorder.graphs) == 0


def test_recordings_end_with_their_network(recorder):
    one = problem()
    network = weakref.ref(one.network)
    faig(one)
    assert recorder.graphs
    for graph in recorder.graphs:
        graph.run = None  # which a real one does not keep
    assert network() in path_module._REPLAYS
    del one
    gc.collect()
    assert network() is None
