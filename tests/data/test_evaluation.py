"""Crops at detailed places, degraded as within the whole photograph; sets of images that are complete or refused."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch

from faig_lab.data import Degradation, PairedImage, Photograph, StudyData, evaluation
from faig_lab.data.evaluation import Region, degrade_regions, detailed_places, paired_images
from faig_lab.errors import UserError


@pytest.fixture
def photograph(rng: np.random.Generator) -> Photograph:
    return Photograph("a", "a", rng.integers(0, 256, (64, 96, 3), dtype=np.uint8), "")


def test_detail_is_found(rng: np.random.Generator) -> None:
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[64:96, 96:128] = rng.integers(0, 256, (32, 32, 3))
    pixels[0:32, 32:64] = rng.integers(0, 128, (32, 32, 3))
    (first, second) = detailed_places(pixels, (32, 32), count=2, step=2)
    assert np.abs(np.subtract(first, (64, 96))).max() <= 4
    assert np.abs(np.subtract(second, (0, 32))).max() <= 4


@pytest.mark.parametrize(("count", "fit"), [(1, 1), (2, 2), (6, 6), (7, 6)])
def test_places_do_not_overlap_and_as_many_as_fit_are_found(photograph: Photograph, count: int, fit: int) -> None:
    places = detailed_places(photograph.pixels, (32, 32), count=count, step=2)
    assert len(places) == fit
    covered = np.zeros((64, 96), int)
    for top, left in places:
        assert top % 2 == left % 2 == 0
        covered[top : top + 32, left : left + 32] += 1
    assert covered.sum() == fit * 32 * 32
    assert covered.max() == 1


def test_a_crop_equals_the_crop_of_the_degraded_photograph(photograph: Photograph, degradation: Degradation) -> None:
    inputs = {"clean": frozenset[str](), "blur": frozenset({"blur"})}
    (whole,) = degrade_regions([Region("w", photograph.pixels, 0, 0, (64, 96))], degradation, inputs)
    for top, left in ((0, 0), (32, 64), (16, 2), (0, 64)):
        (crop,) = degrade_regions([Region("c", photograph.pixels, top, left, (32, 32))], degradation, inputs)
        torch.testing.assert_close(crop.hr, whole.hr[:, top : top + 32, left : left + 32], rtol=0, atol=0)
        for name in inputs:
            expected = whole.lr[name][:, top // 2 : top // 2 + 16, left // 2 : left // 2 + 16]
            torch.testing.assert_close(crop.lr[name], expected, rtol=0, atol=1e-6)


def test_inputs_hold_what_they_say(photograph: Photograph, degradation: Degradation) -> None:
    (image,) = paired_images([photograph], degradation, crop=33, crops=1)
    assert list(image.lr) == ["clean", "blur", "noise", "blur+noise"]
    assert image.hr.shape == (3, 32, 32)
    assert image.scale == 2
    noise = image.lr["noise"] - image.lr["clean"]
    both = image.lr["blur+noise"] - image.lr["blur"]
    assert noise.std().item() == pytest.approx(0.1, rel=0.1)
    assert both.std().item() == pytest.approx(0.1, rel=0.1)
    assert not torch.equal(noise, both)
    assert image.lr["blur"].std() < 0.8 * image.lr["clean"].std()


@pytest.mark.parametrize("pixels_at_once", [evaluation._BATCH_PIXELS, 1])
def test_a_sample_does_not_depend_on_the_others(
    photograph: Photograph,
    degradation: Degradation,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    pixels_at_once: int,
) -> None:
    other = Photograph("b", "b", rng.integers(0, 65536, (64, 96, 3), dtype=np.uint16), "")
    alone, same = (paired_images([photograph], degradation, crop=32, crops=2) for _ in range(2))
    for one, twice in zip(alone, same, strict=True):
        assert torch.equal(one.hr, twice.hr)
        assert all(torch.equal(one.lr[name], twice.lr[name]) for name in one.lr)
    monkeypatch.setattr(evaluation, "_BATCH_PIXELS", pixels_at_once)
    among = paired_images([other, photograph], degradation, crop=32, crops=2)
    assert [image.name for image in among[2:]] == [image.name for image in alone]
    assert [image.scene for image in among] == ["b", "b", "a", "a"]
    for one, twice in zip(alone, among[2:], strict=True):
        for name, lr in one.lr.items():
            torch.testing.assert_close(twice.lr[name], lr, rtol=0, atol=1e-6)


def test_a_batch_is_free_before_the_next_one_is_cut(
    degradation: Degradation, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photograph that is used whole may be large: two of them need not be in memory as numbers."""
    photographs = [Photograph(name, name, rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), "") for name in "abc"]
    batches: list[weakref.ref[torch.Tensor]] = []
    cut, apply = evaluation.cut, Degradation.apply

    def watched_cut(*arguments: Any) -> Any:
        assert all(batch() is None for batch in batches)
        return cut(*arguments)

    def watched_apply(self: Degradation, hr: torch.Tensor, *arguments: Any) -> torch.Tensor:
        batches.append(weakref.ref(hr))
        return apply(self, hr, *arguments)

    monkeypatch.setattr(evaluation, "_BATCH_PIXELS", 1)
    monkeypatch.setattr(evaluation, "cut", watched_cut)
    monkeypatch.setattr(Degradation, "apply", watched_apply)
    assert len(paired_images(photographs, degradation, crop=None, crops=1)) == 3
    assert len(batches) == 3 * len(degradation.inputs())


def test_small_photographs_and_whole_ones(degradation: Degradation, rng: np.random.Generator) -> None:
    odd = Photograph("odd", "odd", rng.integers(0, 256, (21, 33, 3), dtype=np.uint8), "")
    (whole,) = paired_images([odd], degradation, crop=None, crops=4)
    assert (whole.name, whole.scene) == ("odd", "odd")
    assert whole.hr.shape == (3, 20, 32)
    (small,) = paired_images([odd], degradation, crop=64, crops=4)
    assert small.hr.shape == (3, 20, 32)
    assert len(paired_images([odd], degradation, crop=16, crops=4)) == 2
    dot = Photograph("dot", "dot", rng.integers(0, 256, (1, 33, 3), dtype=np.uint8), "")
    with pytest.raises(UserError, match=r"dot: a crop of 16 from 33×1 pixels has no LR pixel at scale 2"):
        paired_images([dot], degradation, crop=16, crops=1)


def image(name: str = "a", scale: int = 2, **inputs: torch.Tensor) -> PairedImage:
    lr = torch.zeros(3, 4, 5)
    return PairedImage(name, torch.zeros(3, scale * 4, scale * 5), {"clean": lr, "blur": lr, **inputs})


@pytest.mark.parametrize("shape", [(3, 9, 10), (3, 8, 15), (1, 8, 10), (3, 2, 2)])
def test_hr_is_a_multiple_of_lr(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="is no multiple of LR 4×5"):
        PairedImage("a", torch.zeros(shape), {"clean": torch.zeros(3, 4, 5)})


def test_inputs_have_one_shape_and_clean_is_among_them() -> None:
    with pytest.raises(ValueError, match=r"input noise is \(3, 4, 4\)"):
        image(noise=torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="no 'clean' among"):
        PairedImage("a", torch.zeros(3, 8, 8), {"blur": torch.zeros(3, 4, 4)})


@pytest.mark.parametrize(
    ("probe", "held_out", "message"),
    [
        ((), (image(),), "there is no probe image"),
        ((image(),), (), "there is no held-out image"),
        ((image("a"), image("a")), (image(),), "two probe images have one name"),
        ((image("a"), image("b", scale=3)), (image(),), "differ in scale or inputs"),
        ((image(),), (PairedImage("c", torch.zeros(3, 3, 3), {"clean": torch.zeros(3, 1, 1)}),), "no input for"),
    ],
)
def test_sets_are_complete(probe: tuple[PairedImage, ...], held_out: tuple[PairedImage, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StudyData((), probe, held_out, ("blur",))
