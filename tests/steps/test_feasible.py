"""Whether the machine has what attribution asks for is known, and said, before anything is trained."""

import logging

import pytest
import torch

from faig_lab.cli.composition import compose
from faig_lab.cli.preflight import check_compiler, check_memory, check_network, check_sizes
from faig_lab.config import check
from faig_lab.data import CLEAN, PairedImage, StudyData
from faig_lab.errors import UserError
from faig_lab.metrics import quality

SMALL = ("+experiment=blur_noise", "network.features=4", "network.blocks=1")


def data(*sides):
    images = [(torch.rand(3, 2 * side, 2 * side), torch.rand(3, side, side)) for side in sides]
    probe = tuple(PairedImage(f"{i}", hr, {CLEAN: lr, "blur": lr, "noise": lr}) for i, (hr, lr) in enumerate(images))
    return StudyData([], probe, probe[:1], ("blur", "noise"))


def settings(memory, *more):
    return check(compose([*SMALL, f"attribution.memory={memory}", *more]))


def test_images_that_fit_are_not_spoken_of(caplog):
    with caplog.at_level(logging.INFO):
        check_memory(settings(3), data(32, 100))
        check_memory(settings("null"), data(100))
    assert not caplog.records


def test_images_that_are_cut_are_named_once_for_each_size(caplog):
    with caplog.at_level(logging.INFO):
        check_memory(settings(0.002), data(48, 100, 100, 160))
    assert [record.getMessage().split(" for each ")[1] for record in caplog.records] == [
        "probe image of 200×200 HR pixels",
        "probe image of 320×320 HR pixels",
    ]


def test_a_network_that_cannot_be_cut_is_refused():
    two_branch = ("network=two_branch_small", "network.features=4", "network.blocks=1")
    with pytest.raises(UserError, match=r"^attribution\.memory: 0\.004 GB .* TwoBranchSRResNet"):
        check_memory(settings(0.004, *two_branch), data(160))


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    check_compiler(settings(3))
    with pytest.raises(UserError, match=r"^attribution\.compile: .*no no-such-compiler here; .*compile=null$"):
        check_compiler(settings(3, "attribution.compile=default", "trainer=cpu"))


def odd(name):
    return check(compose([*SMALL[:1], f"network._target_=odd_networks.{name}", "~network.features", "~network.blocks"]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ReturningTuple", "ReturningTuple returns a tuple; expected one tensor"),
        ("Grey", r"Grey makes torch\.float32 \(1, 1, 64, 64\) of LR \(1, 3, 32, 32\)"),
        ("OfAnotherScale", "OfAnotherScale makes 128×128 pixels of 32×32, but the images have 64×64 at scale 2"),
        ("WithoutGradients", "the output of WithoutGradients has no gradient"),
        ("PartlyInPlace", "PartlyInPlace cannot be differentiated in evaluation mode"),
    ],
)
def test_a_network_that_does_not_work_is_named(name, words):
    with pytest.raises(UserError, match=f"^network: {words}"):
        check_network(odd(name), data(32))


@pytest.mark.parametrize("sides", [(7,), (200,), (32, 16)])
def test_a_network_that_works_is_not_spoken_of(sides, caplog):
    check_network(odd("IndexFirst"), data(*sides))
    check_network(settings(3), data(*sides))
    assert not caplog.records


def sized(height, width, scale=2):
    lr = torch.rand(3, height // scale, width // scale)
    return PairedImage("small", torch.rand(3, height, width), {CLEAN: lr, "blur": lr, "noise": lr})


@pytest.mark.parametrize(("height", "width", "scale"), [(8, 40, 2), (40, 8, 2), (9, 30, 3), (12, 12, 4)])
def test_images_too_small_for_ssim_are_named(height, width, scale):
    large, small = sized(60, 60, scale), sized(height, width, scale)
    least = 11 + 2 * scale
    words = rf"image small has {width}×{height} HR pixels; SSIM needs at least {least}×{least} at scale {scale}$"
    with pytest.raises(UserError, match=rf"^data: the held-out {words}"):
        check_sizes(StudyData((), (large,), (small,), ("blur",)))
    check_sizes(StudyData((), (small,), (large,), ("blur",)))  # nothing is trained, so the probe is not judged
    with pytest.raises(UserError, match=rf"^data: the probe {words}"):
        check_sizes(StudyData((object(),), (small,), (large,), ("blur",)))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_smallest_images_have_an_ssim(scale):
    side = 11 + 2 * scale
    hr = torch.rand(1, 3, side, side)
    assert torch.isfinite(quality(hr, hr, scale)["ssim"]).all()
    with pytest.raises(ValueError, match="SSIM needs at least"):
        quality(hr[..., 1:], hr[..., 1:], scale)
