"""Patches: cut with real pixels around them, each a pure function of (seed, stream, number), on every device."""

from itertools import chain

import numpy as np
import pytest
import torch
from pretend_device import DEVICE, OnDevice, device

from faig_lab.data import (
    JPEG,
    AnisotropicGaussianBlur,
    Batch,
    Composed,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    PatchDataset,
    PatchesOnDevice,
    Photograph,
    PoissonNoise,
    Resize,
    Sinc,
    StepSampler,
    bytes_on_device,
    cut,
    degrade,
)
from faig_lab.data import patches as module
from faig_lab.data.patches import Block, collate
from faig_lab.errors import InputError, UserError

CPU = torch.device("cpu")
CLEAN = frozenset[str]()


def photograph(height, width, name="a", dtype=np.uint8, seed=0):
    high = int(np.iinfo(dtype).max) + 1
    pixels = np.random.default_rng(seed).integers(0, high, (height, width, 3), dtype=dtype)
    return Photograph(name, name, pixels, "")


def dataset(*photographs, patch_size=8, margin=0, seed=0, stream="target"):
    return PatchDataset(photographs or (photograph(24, 32),), patch_size, margin, seed=seed, stream=stream)


def batch_of(data, numbers):
    return collate([data[number] for number in numbers])


# Cutting


@pytest.mark.parametrize("margin", [0, 1, 5, 9, 19, 20, 47])
@pytest.mark.parametrize(("height", "width"), [(10, 13), (2, 5), (1, 3)])
def test_beyond_the_border_pixels_are_reflected(height, width, margin):
    pixels = photograph(height, width).pixels
    padded = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    for size in ((height, width), (1, 2), (height, 1)):
        for top, left in ((0, 0), (height - size[0], width - size[1]), (0, width - size[1])):
            expected = padded[top : top + size[0] + 2 * margin, left : left + size[1] + 2 * margin]
            patch = cut(pixels, top, left, size, margin)
            np.testing.assert_array_equal(patch, expected)
            assert np.shares_memory(patch, pixels) == (margin == 0)


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
    for source in (photograph(24, 32), photograph(8, 8)):
        bare, framed = dataset(source), dataset(source, margin=6)
        for number in range(20):
            patch, whole = bare[number][0], framed[number][0]
            assert whole.shape == (20, 20, 3)
            np.testing.assert_array_equal(whole[6:-6, 6:-6], patch)


def test_every_place_turn_and_flip_occurs():
    pixels = np.arange(9, dtype=np.uint8).reshape(3, 3, 1).repeat(3, axis=2)
    data = dataset(Photograph("a", "a", pixels, ""), patch_size=2)
    found = {data[number][0][..., 0].tobytes() for number in range(600)}
    squares = [
        np.rot90(pixels[top : top + 2, left : left + 2, 0], quarter)
        for top in (0, 1)
        for left in (0, 1)
        for quarter in range(4)
    ]
    expected = {np.ascontiguousarray(turned).tobytes() for square in squares for turned in (square, square[:, ::-1])}
    assert len(expected) == 4 * 8
    assert found == expected


def test_photographs_are_drawn_in_proportion_to_their_pixels():
    small, large = (Photograph("a", "a", np.full((10 * n, 10, 3), n == 3, np.uint8), "") for n in (1, 3))
    data = dataset(small, large, patch_size=4)
    assert np.mean([data[number][0].max() for number in range(2000)]) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(("height", "width", "fits"), [(7, 40, 7), (40, 5, 5)])
def test_a_photograph_that_is_too_small_is_refused(height, width, fits):
    with pytest.raises(UserError, match=rf"^patch_size: 8 is larger than b \({width}×{height}\); at most {fits}"):
        dataset(photograph(24, 24), photograph(height, width, "b"))


# Batches


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_partition_each_global_batch_and_a_resumed_run_goes_on(world):
    ranks = [list(StepSampler(steps=5, batch_size=12, rank=rank, world=world)) for rank in range(world)]
    for step, shares in enumerate(zip(*ranks, strict=True)):
        assert {len(share) for share in shares} == {12 // world}
        assert sorted(chain.from_iterable(shares)) == list(range(12 * step, 12 * step + 12))
    rest = StepSampler(steps=5, batch_size=12, first=3, rank=world - 1, world=world)
    assert list(rest) == list(rest) == ranks[-1][3:]
    assert len(rest) == 2


def test_eight_and_sixteen_bits_can_be_mixed_and_a_batch_moves_as_one():
    narrow, wide = np.array([[[0, 128, 255]]], np.uint8), np.array([[[0, 1, 65535]]], np.uint16)
    batch = collate([(narrow, 4), (wide, 9)])
    assert batch.numbers == (4, 9)
    assert batch.patches.dtype == torch.uint16
    assert batch.patches[:, :, 0, 0].tolist() == [[0, 128 * 257, 65535], [0, 1, 65535]]
    assert collate([(narrow, 0), (narrow, 1)]).patches.dtype == torch.uint8
    assert collate([(wide, 0)]).patches.dtype == torch.uint16
    moved = batch.to(torch.device("meta"), non_blocking=True)
    assert (moved.patches.device.type, moved.numbers) == ("meta", (4, 9))


# From patches to network input


def way(scale=2, quantise=True, probability=0.5):
    blur, noise = GaussianBlur(1.0, 7, probability), GaussianNoise(0.1, probability)
    return Degradation({"blur": blur, "noise": noise}, Downsample(), scale, quantise)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_hr_is_the_centre_of_the_patch_and_lr_its_degraded_small_version(scale):
    own = way(scale, probability=1)
    data = dataset(photograph(80, 80), patch_size=6 * scale, margin=own.margin)
    batch = batch_of(data, range(4))
    (clean, hr), (degraded, same) = (degrade(batch, own, 0, "target", clean) for clean in (True, False))
    assert (clean.shape, hr.shape) == ((4, 3, 6, 6), (4, 3, 6 * scale, 6 * scale))
    assert clean.dtype == hr.dtype == torch.float32
    assert torch.equal(hr, same)
    centres = batch.patches[..., own.margin : -own.margin, own.margin : -own.margin]
    assert torch.equal((hr * 255).round().byte(), centres)
    assert torch.equal(clean, own.apply(batch.patches.float() / 255, [CLEAN] * 4, []))
    assert (degraded - clean).abs().mean(dim=(1, 2, 3)).min() > 0.03


def test_a_training_sample_does_not_depend_on_its_batch():
    own = way()
    data = dataset(photograph(60, 60), patch_size=16, margin=own.margin)
    together, _ = degrade(batch_of(data, range(12)), own, 5, "target", False)
    for numbers in ([0], [7, 3], [11, 2, 5]):
        assert torch.equal(degrade(batch_of(data, numbers), own, 5, "target", False)[0], together[numbers])
    for seed, stream in ((6, "target"), (5, "baseline")):
        assert not torch.equal(degrade(batch_of(data, range(12)), own, seed, stream, False)[0], together)


def test_sixteen_bits_reach_one():
    own = way(quantise=False)
    patches = torch.full((1, 3, 8 + 2 * own.margin, 8 + 2 * own.margin), 65535, dtype=torch.int32).to(torch.uint16)
    lr, hr = degrade(Batch(patches, (0,)), own, 0, "target", clean=True)
    assert torch.equal(hr, torch.ones_like(hr))
    torch.testing.assert_close(lr, torch.ones_like(lr))


# On the device of the training

RANGES = {
    "blur": GaussianBlur(sigma=(0.5, 2.0), kernel_size=7),
    "astigmatism": AnisotropicGaussianBlur(sigma_x=(1.0, 2.0), sigma_y=0.5, kernel_size=7),
    "motion": MotionBlur(length=(3, 7)),
    "ringing": Sinc(cutoff=(1.0, 3.0), kernel_size=7),
    "resize": Resize(),
    "noise": GaussianNoise(sigma=(0.02, 0.2), grey=0.5),
    "light": PoissonNoise(peak=(30.0, 80.0), grey=0.5),
    "jpeg": JPEG(quality=(20, 60), shift=(0, 7)),
    "both": Composed({"a": GaussianNoise(0.1), "b": GaussianNoise(0.2)}, choose="one", domain="lr"),
}
THREE = photograph(24, 40), photograph(31, 17, seed=1), photograph(8, 9, seed=2)


def loader(own, sampler, *, clean=False, place=CPU):
    return PatchesOnDevice(dataset(*THREE, margin=own.margin, seed=3), sampler, own, clean, place)


def made(own, numbers, *, clean=False):
    some = loader(own, StepSampler(4, 2), clean=clean)
    return some.made(Block(some.dataset, CPU), numbers)


def test_a_patch_is_what_the_processor_cuts_turns_and_flips():
    """With a margin that reflects the smallest photograph more than once."""
    data, numbers = dataset(*THREE, margin=12), range(400)
    block = Block(data, CPU)
    patches = block.patches(numbers)
    assert patches.dtype == torch.uint8
    for patch, picked, top, left, turns, flip in zip(patches, *block.places(numbers), strict=True):
        expected = np.rot90(cut(THREE[picked].pixels, top, left, (8, 8), 12), turns)
        assert np.array_equal(patch.permute(1, 2, 0).numpy(), expected[:, ::-1] if flip else expected)


def test_places_are_drawn_uniformly():
    picked, top, left, turns, flips = Block(dataset(*THREE), CPU).places(range(8000))
    sizes = np.array([p.pixels.size for p in THREE])
    np.testing.assert_allclose(np.bincount(picked) / 8000, sizes / sizes.sum(), atol=0.02)
    np.testing.assert_allclose(np.bincount(turns) / 8000, 0.25, atol=0.02)
    assert flips.mean() == pytest.approx(0.5, abs=0.02)
    assert set(top[picked == 0]) == set(range(24 - 8 + 1))
    assert set(left[picked == 0]) == set(range(40 - 8 + 1))


def test_a_sample_is_the_same_in_any_batch():
    own = Degradation(RANGES, Downsample(), 2)
    whole, part = made(own, range(24)), made(own, [17, 5])
    assert [whole.names[n] for n in (17, 5)] == list(part.names)
    assert torch.equal(whole.hr[[17, 5]], part.hr)
    off = (whole.lr[[17, 5]] - part.lr).abs() * 255
    assert float(off.max()) <= 1.001  # rounded to 8 bits after sums in another order
    assert float((off > 0.5).float().mean()) < 0.01


def test_batches_are_those_of_the_sampler_for_any_rank_and_start(monkeypatch):
    own = way()
    monkeypatch.setattr(module, "AT_ONCE", 3)
    batches = list(loader(own, StepSampler(7, 4)))
    assert len(batches) == len(loader(own, StepSampler(7, 4))) == 7
    later = list(loader(own, StepSampler(7, 4, first=4)))
    assert len(later) == 3
    for one, two in zip(batches[4:], later, strict=True):
        assert torch.equal(one.lr, two.lr)
        assert torch.equal(one.hr, two.hr)
    ranks = [list(loader(own, StepSampler(7, 4, rank=rank, world=2))) for rank in (0, 1)]
    for step, batch in enumerate(batches):
        expected = made(own, range(4 * step, 4 * step + 4))
        assert batch.names == expected.names
        assert torch.equal(batch.hr, expected.hr)
        assert torch.equal(batch.hr, torch.stack([ranks[n % 2][step].hr[n // 2] for n in range(4)]))


def test_lr_is_hr_degraded_by_the_parts_of_the_sample():
    own, numbers = Degradation({"blur": GaussianBlur(sigma=1.5, kernel_size=7)}, Downsample(), 2), range(16)
    images = Block(loader(own, StepSampler(4, 2)).dataset, CPU).patches(numbers).float() / 255
    for clean in (False, True):
        batch = made(own, numbers, clean=clean)
        assert {len(names) for names in batch.names} == ({0} if clean else {0, 1})
        torch.testing.assert_close(batch.lr, own.apply(images, batch.names, [np.random.default_rng(0)] * 16))
        assert torch.equal(batch.hr, images[..., own.margin : -own.margin, own.margin : -own.margin])


def test_16_bits_do_not_fit_and_bytes_are_counted():
    assert bytes_on_device(THREE) == 3 * (24 * 40 + 31 * 17 + 8 * 9)
    with pytest.raises(InputError, match="deep has 16"):
        bytes_on_device([*THREE, photograph(9, 9, "deep", np.uint16)])


def test_fewer_steps_at_once_where_patches_are_large():
    big = dataset(*THREE, margin=400)
    assert PatchesOnDevice(big, StepSampler(9, 64), way(), False, CPU).steps_at_once == 1
    assert PatchesOnDevice(big, StepSampler(9, 1), way(), False, CPU).steps_at_once == 34
    assert loader(way(), StepSampler(9, 2)).steps_at_once == module.AT_ONCE


@pytest.mark.parametrize("name", list(RANGES))
def test_nothing_is_mixed_with_the_processor(name):
    own = Degradation({name: RANGES[name]}, Downsample(), 2)
    expected = list(loader(own, StepSampler(3, 4)))
    assert len(expected) == 3
    with device():
        for batch, other in zip(loader(own, StepSampler(3, 4), place=DEVICE), expected, strict=True):
            assert isinstance(batch.lr, OnDevice)
            assert batch.to(DEVICE) is batch
            assert batch.names == other.names
            torch.testing.assert_close(batch.hr.cpu(), other.hr, rtol=0, atol=1e-6)
            torch.testing.assert_close(batch.lr.cpu(), other.lr, rtol=0, atol=1.001 / 255)
