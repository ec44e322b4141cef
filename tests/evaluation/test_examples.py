"""Pictures of what masking does show what they say."""

import pytest
import reference
import torch

from faig_lab.attribution import discovered
from faig_lab.data import PairedImage
from faig_lab.evaluation.evaluator import colourfulness, examples, images_to_show
from faig_lab.filters import mask


def test_examples_are_the_outputs_of_the_networks_they_name(network, make_evaluator, make_attribution):
    evaluator, attribution = make_evaluator(network), make_attribution(network)
    found = examples(evaluator, attribution, "random", percent=10, positions=[0, 2])
    assert [(e.degradation, e.image) for e in found] == [(d, i) for d in ("blur", "noise") for i in "ac"]
    states = {"baseline": evaluator.baseline, "target": evaluator.target}
    for k, name in enumerate(attribution.degradations):
        filters = discovered(attribution.scores["random"][0, k], 10)
        states[name] = mask(evaluator.target, evaluator.baseline, attribution.layout, filters)
    for example in found:
        image = evaluator.images["abc".index(example.image)]
        assert example.truth is image.hr
        assert example.input is image.lr[example.degradation]
        assert list(example.restored) == list(example.psnr) == ["baseline", "target", "blur", "noise"]
        for name, restored in example.restored.items():
            position = evaluator.images.index(image)
            assert torch.equal(restored, evaluator.outputs(states[name], example.degradation)[position])
            assert restored.shape == image.hr.shape
            assert 0 <= float(restored.min()) <= float(restored.max()) <= 1
            expected = reference.psnr(restored.numpy(), image.hr.numpy(), 2)
            assert example.psnr[name] == pytest.approx(expected, abs=1e-4)


def test_no_positions_are_no_examples(network, make_evaluator, make_attribution):
    assert examples(make_evaluator(network), make_attribution(network), "faig", percent=10, positions=[]) == []


def test_colourfulness_of_grey_and_of_two_halves():
    grey = torch.rand(1, 4, 6, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    assert colourfulness(grey) == 0
    halves = torch.zeros(3, 4, 6)
    halves[0, :, :3] = 1  # red beside black: red − green is 1 and 0, (red + green) / 2 − blue half of that
    assert colourfulness(halves) == pytest.approx((0.5**2 + 0.25**2) ** 0.5 * (1 + 0.3))


@pytest.mark.parametrize(
    ("colour", "expected"), [([0, 4], [0, 2]), ([1, 3], [1, 0]), ([2], [2, 0]), ([4], [4, 0]), ([], [0, 2])]
)
def test_the_first_colour_photograph_is_shown_first(colour, expected):
    images = [PairedImage(str(k), torch.full((3, 4, 4), 0.5), {"clean": torch.zeros(3, 2, 2)}) for k in range(5)]
    for position in colour:
        images[position].hr[0, :2] = 1
    assert images_to_show(images) == expected
    assert images_to_show(images[:1]) == [0]
