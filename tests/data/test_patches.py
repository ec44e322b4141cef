"""Patches: cut with real pixels around them, each a pure function of (seed, stream, number)."""

import os
from itertools import chain

import numpy as np
import pytest
import torch

from faig_lab.data import (
    Batch,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    PatchDataset,
    Photograph,
    StepSampler,
    cut,
    degrade,
    patch_loader,
)
from faig_lab.data.patches import collate
from faig_lab.errors import UserError


def photograph(height, width, name="a", dtype=np.uint8, seed=0):
    high = int(np.iinfo(dtype).max) + 1
    pixels = np.random.default_rng(seed).integers(0, high, (height, width, 3), dtype=dtype)
    return Photograph(name, name, pixels, "")


def dataset(*photographs, patch_size=8, margin=0, seed=0, stream="target"):
    return PatchDataset(photographs or (photograph(24, 32),), patch_size, margin, seed=seed, stream=stream)


# Cutting


def test_a_cut_inside_is_the_pixels_themselves():
    pixels = photograph(20, 30).pixels
    patch = cut(pixels, 5, 7, (4, 6), margin=3)
    np.testing.assert_array_equal(patch, pixels[2:12, 4:16])
    assert np.shares_memory(patch, pixels)


@pytest.mark.parametrize("margin", [0, 1, 5, 9, 19, 20, 47])
@pytest.mark.parametrize(("height", "width"), [(10, 13), (2, 5), (1, 3)])
def test_beyond_the_border_pixels_are_reflected(height, width, margin):
    pixels = photograph(height, width).pixels
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    for size in ((height, width), (1, 2), (height, 1)):
        for top, left in ((0, 0), (height - size[0], width - size[1]), (0, width - size[1])):
            expected = padded[top : top + size[0] + 2 * margin, left : left + size[1] + 2 * margin]
            np.testing.assert_array_equal(cut(pixels, top, left, size, margin), expected)


# The stream of patches


def test_an_item_depends_on_seed_stream_and_number_alone():
    photographs = photograph(24, 32), photograph(40, 20, "b", seed=1)
    data, again = dataset(*photographs, margin=5), dataset(*photographs, margin=5)
    forwards = [data[number][0] for number in range(12)]
    backwards = [again[number][0] for number in reversed(range(12))][::-1]
    for one, same in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one, same)
    assert [data[number][1] for number in (3, 10**9)] == [3, 10**9]
    for other in (dataset(*photographs, margin=5, seed=1), dataset(*photographs, margin=5, stream="baseline")):
        assert not all(np.array_equal(a, other[n][0]) for n, a in enumerate(forwards))


def test_the_margin_does_not_change_which_patch_it_is():
    bare, framed = dataset(patch_size=8), dataset(patch_size=8, margin=6)
    for number in range(20):
        patch, whole = bare[number][0], framed[number][0]
        assert whole.shape == (20, 20, 3)
        np.testing.assert_array_equal(whole[6:-6, 6:-6], patch)


def test_every_place_turn_and_flip_occurs():
    pixels = np.arange(9, dtype=np.uint8).reshape(3, 3, 1).repeat(3, axis=2)
    data = PatchDataset([Photograph("a", "a", pixels, "")], 2, 0, seed=0, stream="target")
    found = {data[number][0][..., 0].tobytes() for number in range(600)}
    expected = {
        np.ascontiguousarray(turned).tobytes()
        for top in (0, 1)
        for left in (0, 1)
        for quarter in range(4)
        for square in [np.rot90(pixels[top : top + 2, left : left + 2, 0], quarter)]
        for turned in (square, square[:, ::-1])
    }
    assert len(expected) == 4 * 8
    assert found == expected


def test_photographs_are_drawn_in_proportion_to_their_pixels():
    small = Photograph("small", "small", np.zeros((10, 10, 3), np.uint8), "")
    large = Photograph("large", "large", np.ones((30, 10, 3), np.uint8), "")
    data = dataset(small, large, patch_size=4)
    share = np.mean([data[number][0].max() for number in range(2000)])
    assert share == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(("height", "width", "fits"), [(7, 40, 7), (40, 5, 5)])
def test_a_photograph_that_is_too_small_is_refused(height, width, fits):
    with pytest.raises(UserError, match=rf"^patch_size: 8 is larger than b \({width}×{height}\); at most {fits}"):
        dataset(photograph(24, 24), photograph(height, width, "b"))


def test_a_photograph_of_the_patchs_size_is_enough():
    patch, _ = dataset(photograph(8, 8), margin=20)[0]
    assert patch.shape == (48, 48, 3)


def test_the_number_of_workers_does_not_matter():
    data = dataset(photograph(24, 32), photograph(20, 40, "b", np.uint16), margin=2)
    sampler = StepSampler(steps=5, batch_size=3)
    workers = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    alone, helped = (list(patch_loader(data, sampler, count)) for count in (0, workers))
    assert [batch.numbers for batch in alone] == [tuple(range(3 * s, 3 * s + 3)) for s in range(5)]
    for one, same in zip(alone, helped, strict=True):
        assert one.numbers == same.numbers
        assert one.patches.dtype == same.patches.dtype
        np.testing.assert_array_equal(one.patches.numpy(), same.patches.numpy())


# Batches


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_partition_each_global_batch(world):
    ranks = [list(StepSampler(steps=5, batch_size=12, rank=rank, world=world)) for rank in range(world)]
    for step, shares in enumerate(zip(*ranks, strict=True)):
        assert {len(share) for share in shares} == {12 // world}
        assert sorted(chain.from_iterable(shares)) == list(range(12 * step, 12 * step + 12))


def test_a_resumed_run_goes_on_where_it_stopped():
    whole = list(StepSampler(steps=7, batch_size=4, rank=1, world=2))
    rest = StepSampler(steps=7, batch_size=4, first=3, rank=1, world=2)
    assert list(rest) == whole[3:]
    assert len(rest) == 4
    assert list(rest) == list(rest)


def test_eight_and_sixteen_bits_can_be_mixed():
    narrow, wide = np.array([[[0, 128, 255]]], np.uint8), np.array([[[0, 1, 65535]]], np.uint16)
    batch = collate([(narrow, 4), (wide, 9)])
    assert batch.numbers == (4, 9)
    assert batch.patches.dtype == torch.uint16
    assert batch.patches[:, :, 0, 0].tolist() == [[0, 128 * 257, 65535], [0, 1, 65535]]
    assert collate([(narrow, 0), (narrow, 1)]).patches.dtype == torch.uint8
    assert collate([(wide, 0)]).patches.dtype == torch.uint16


def test_a_batch_moves_as_one():
    batch = collate([dataset()[0]])
    moved = batch.to(torch.device("meta"), non_blocking=True)
    assert (moved.patches.device.type, moved.numbers) == ("meta", (0,))


# From patches to network input


def degradation(scale=2, quantise=True, probability=0.5):
    blur, noise = GaussianBlur(1.0, 7, probability), GaussianNoise(0.1, probability)
    return Degradation({"blur": blur, "noise": noise}, Downsample(), scale, quantise)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_hr_is_the_centre_of_the_patch_and_lr_its_small_version(scale):
    way = degradation(scale)
    data = dataset(photograph(80, 80), patch_size=6 * scale, margin=way.margin)
    batch = collate([data[number] for number in range(4)])
    for clean in (True, False):
        lr, hr = degrade(batch, way, 0, "target", clean)
        assert (lr.shape, hr.shape) == ((4, 3, 6, 6), (4, 3, 6 * scale, 6 * scale))
        assert lr.dtype == hr.dtype == torch.float32
        for number in range(4):
            centre = data[number][0][way.margin : -way.margin, way.margin : -way.margin]
            np.testing.assert_array_equal((hr[number] * 255).round().byte().permute(1, 2, 0).numpy(), centre)


def test_clean_and_degraded_input():
    way = degradation(probability=1)
    data = dataset(photograph(60, 60), patch_size=16, margin=way.margin)
    batch = collate([data[number] for number in range(3)])
    clean, hr = degrade(batch, way, 0, "target", clean=True)
    degraded, same = degrade(batch, way, 0, "target", clean=False)
    assert torch.equal(hr, same)
    whole = batch.patches.float() / 255
    assert torch.equal(clean, way.apply(whole, [frozenset[str]()] * 3, []))
    assert (degraded - clean).abs().mean(dim=(1, 2, 3)).min() > 0.03


def test_a_training_sample_does_not_depend_on_its_batch():
    way = degradation()
    data = dataset(photograph(60, 60), patch_size=16, margin=way.margin)
    together, _ = degrade(collate([data[number] for number in range(12)]), way, 5, "target", False)
    for numbers in ([0], [7, 3], [11, 2, 5]):
        lr, _ = degrade(collate([data[number] for number in numbers]), way, 5, "target", False)
        assert torch.equal(lr, together[numbers])
    for seed, stream in ((6, "target"), (5, "baseline")):
        other, _ = degrade(collate([data[number] for number in range(12)]), way, seed, stream, False)
        assert not torch.equal(other, together)


def test_sixteen_bits_reach_one():
    way = degradation(quantise=False)
    patches = torch.full((1, 3, 8 + 2 * way.margin, 8 + 2 * way.margin), 65535, dtype=torch.int32).to(torch.uint16)
    lr, hr = degrade(Batch(patches, (0,)), way, 0, "target", clean=True)
    assert torch.equal(hr, torch.ones_like(hr))
    torch.testing.assert_close(lr, torch.ones_like(lr))
