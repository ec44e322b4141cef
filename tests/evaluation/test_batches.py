"""Images of mixed sizes are measured and converted in batches, and each gets its own result."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from network_fixtures import image

from faig_lab.evaluation import evaluator as module
from faig_lab.evaluation.evaluator import convert, measure
from faig_lab.filters import FilterLayout, mask
from faig_lab.metrics import as_image, edit_sums, gradient_map, map_difference, psnr

CPU = torch.device("cpu")


def pictures(*sizes, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, *size, generator=generator) for size in sizes]


SIZES = ((4, 6), (6, 4), (4, 6), (5, 5), (6, 4))


def test_each_image_gets_its_own_measures_in_its_place():
    images, others, calls = pictures(*SIZES), pictures(*SIZES, seed=2), []

    def function(a, b):
        calls.append(len(a))
        return a.sum((1, 2, 3)), (a * b).amax((1, 2, 3))

    sums, products = measure(function, images, others, device=CPU)
    assert calls == [2, 2, 1]
    expected = torch.stack([a.sum() for a in images])
    torch.testing.assert_close(sums, expected, rtol=1e-6, atol=0)
    assert products.tolist() == [float((a * b).max()) for a, b in zip(images, others, strict=True)]


def test_each_image_is_converted_in_its_place():
    images, calls = pictures(*SIZES), []

    def function(batch):
        calls.append(len(batch))
        return 2 * batch

    converted = convert(function, images)
    assert calls == [2, 2, 1]
    assert all(torch.equal(one, 2 * image) for one, image in zip(converted, images, strict=True))
    assert convert(function, []) == []


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="1 images, not 2"):
        measure(lambda a, b: [a.sum((1, 2, 3))], pictures((4, 6)), pictures((4, 6), (4, 6)), device=CPU)


def test_a_sum_rounds_alike_alone_and_in_a_batch_whatever_the_order_of_memory():
    """An image that a network gives in channels last has the same PSNR, bit for bit, alone and beside others."""
    images, truth = pictures(*[(60, 44)] * 5), pictures(*[(60, 44)] * 5, seed=2)
    images = [one.permute(1, 2, 0).contiguous().permute(2, 0, 1) for one in images]

    def function(one, hr):
        return [psnr(one, hr, 2)]

    (together,) = measure(function, images, truth, device=CPU)
    alone = [measure(function, [one], [hr], device=CPU)[0] for one, hr in zip(images, truth, strict=True)]
    assert torch.equal(torch.cat(alone), together)


def test_an_image_alone_in_its_batch_is_not_copied():
    """A photograph may be large."""
    (one,) = pictures((60, 44))
    found = []
    measure(lambda stack: [found.append(stack.data_ptr()) or stack.sum((1, 2, 3))], [one], device=CPU)
    assert found == [one.data_ptr()]


# The evaluator


@pytest.fixture
def evaluator(network, make_evaluator):
    sizes = ((8, 8), (9, 8), (8, 8), (8, 8), (8, 11), (9, 8))
    return make_evaluator(network, [image("abcdef"[k], size, seed=k) for k, size in enumerate(sizes)])


@pytest.fixture
def masked(evaluator):
    layout = FilterLayout.of(evaluator.network)
    return mask(evaluator.target, evaluator.baseline, layout, torch.arange(0, len(layout), 3))


def test_an_evaluation_is_that_of_the_images_one_by_one(evaluator, masked):
    found = evaluator.evaluate(masked, "blur")
    raw, ends = evaluator.raw(masked, "blur"), evaluator.ends("blur")
    outputs = zip(evaluator.images, raw, ends.baseline_outputs, ends.target_outputs, strict=True)
    differences = []
    for k, (one, m, b, t) in enumerate(outputs):
        expected = psnr(as_image(m)[None], one.hr[None], 2)
        torch.testing.assert_close(found.psnrs[k : k + 1], expected, rtol=1e-6, atol=0)
        for sums, wanted in zip(found.sums, edit_sums(m[None], b[None], t[None]), strict=True):
            torch.testing.assert_close(sums[k : k + 1], wanted, rtol=1e-12, atol=1e-12)
        maps = [gradient_map(as_image(output)[None]) for output in (m, t)]
        differences.append(float(map_difference(*maps)))
        torch.testing.assert_close(evaluator.maps("blur")[k][None], maps[1], rtol=1e-6, atol=1e-7)
    assert found.output_difference == pytest.approx(sum(differences) / len(differences), rel=1e-5)
    same = evaluator.effect(masked, "blur")
    assert torch.equal(same.psnrs, found.psnrs)
    assert all(map(torch.equal, same.sums, found.sums))
    torch.testing.assert_close(evaluator.psnrs(evaluator.outputs(masked, "blur")), found.psnrs, rtol=0, atol=0)


def test_an_image_has_the_same_numbers_whatever_images_stand_beside_it(evaluator, masked):
    together = evaluator.effect(masked, "noise")
    for k, one in enumerate(evaluator.images):
        alone = replace(evaluator, images=(one,)).effect(masked, "noise")
        torch.testing.assert_close(alone.psnrs, together.psnrs[k : k + 1], rtol=1e-6, atol=0)
        for a, b in zip(alone.sums, together.sums, strict=True):
            torch.testing.assert_close(a, b[k : k + 1], rtol=1e-4, atol=1e-9)  # the network's own rounding in batches


def test_images_of_one_size_take_one_call_each(evaluator, masked, monkeypatch):
    """Six images of three sizes: three calls of each measure for a network and an input, not six."""
    evaluator.maps("blur")
    calls = Counter()

    def watched(name, function):
        def counted(*args):
            calls[name] += 1
            return function(*args)

        return counted

    for name in ("psnr", "edit_sums", "gradient_map", "map_difference", "as_image"):
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    evaluator.evaluate(masked, "blur")
    assert calls == dict.fromkeys(("psnr", "edit_sums", "gradient_map", "map_difference", "as_image"), 3)
    calls.clear()
    evaluator.effect(masked, "blur")
    assert calls == dict.fromkeys(("psnr", "edit_sums", "as_image"), 3)


def test_on_the_processor_images_are_not_copied(evaluator):
    assert evaluator.storage == evaluator.device == CPU
    assert evaluator._placed is evaluator.images
