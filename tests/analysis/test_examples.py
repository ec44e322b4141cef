"""Pictures of what masking does show what they say."""

import pytest
import reference
import torch

from faig_lab.analysis import examples, mask
from faig_lab.attribution import discovered


def test_examples_are_the_outputs_of_the_networks_they_name(network, make_judge, make_attribution):
    judge, attribution = make_judge(network), make_attribution(network)
    found = examples(judge, attribution, "random", 10, [0, 2])
    assert [(e.degradation, e.image) for e in found] == [(d, i) for d in ("blur", "noise") for i in "ac"]
    states = {"baseline": judge.baseline, "target": judge.target}
    for k, name in enumerate(attribution.degradations):
        filters = discovered(attribution.scores["random"][0, k], 10)
        states[name] = mask(judge.target, judge.baseline, attribution.layout, filters)
    for example in found:
        image = judge.images["abc".index(example.image)]
        assert example.truth is image.hr
        assert example.input is image.lr[example.degradation]
        assert list(example.restored) == list(example.psnr) == ["baseline", "target", "blur", "noise"]
        for name, restored in example.restored.items():
            position = judge.images.index(image)
            assert torch.equal(restored, judge.outputs(states[name], example.degradation)[position])
            assert restored.shape == image.hr.shape
            assert 0 <= float(restored.min()) <= float(restored.max()) <= 1
            expected = reference.psnr(restored.numpy(), image.hr.numpy(), 2)
            assert example.psnr[name] == pytest.approx(expected, abs=1e-4)


def test_no_positions_are_no_examples(network, make_judge, make_attribution):
    assert examples(make_judge(network), make_attribution(network), "faig", 10, []) == []
