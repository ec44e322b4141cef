"""Patches that are cut and degraded on the device of the training: the same samples in any batch, step and rank."""

import numpy as np
import pytest
import torch
from pretend_device import DEVICE, OnDevice, device

from faig_lab.data import (
    JPEG,
    AnisotropicGaussianBlur,
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
)
from faig_lab.data import patches as module
from faig_lab.data.patches import Block
from faig_lab.errors import InputError

CPU = torch.device("cpu")
RANGES = {
    "blur": GaussianBlur(sigma=(0.5, 2.0), kernel_size=7),
    "astigmatism": AnisotropicGaussianBlur(sigma_x=(1.0, 2.0), sigma_y=0.5, kernel_size=7),
    "motion": MotionBlur(length=(3, 7)),
    "ringing": Sinc(cutoff=(1.0, 3.0), kernel_size=7),
    "resize": Resize(),
    "noise": GaussianNoise(sigma=(0.02, 0.2), grey=0.5),
    "light": PoissonNoise(peak=(30.0, 80.0), grey=0.5),
    "jpeg": JPEG(quality=(20, 60), shift=(0, 7)),
}


def photographs(kind=np.uint8):
    rng = np.random.default_rng(0)
    shapes = {"a": (24, 40), "b": (31, 17), "c": (8, 9)}
    return tuple(
        Photograph(name, name, rng.integers(0, 256, (*shape, 3)).astype(kind), name) for name, shape in shapes.items()
    )


def degradation(**parts):
    return Degradation(
        parts or {"blur": GaussianBlur(sigma=1.0, kernel_size=5), "noise": GaussianNoise()}, Downsample(), 2
    )


def dataset(margin=12, size=8):
    return PatchDataset(photographs(), size, margin, seed=3, stream="target")


def loader(own, sampler, *, clean=False, place=CPU):
    return PatchesOnDevice(dataset(own.margin), sampler, own, clean, place)


def test_a_patch_is_what_the_processor_cuts_turns_and_flips():
    """With a margin that reflects the smallest photograph more than once."""
    data = dataset()
    block = Block(data, CPU)
    numbers = range(400)
    patches = block.patches(numbers)
    assert patches.dtype == torch.uint8
    for patch, photograph, top, left, turns, flip in zip(patches, *block.places(numbers), strict=True):
        expected = np.rot90(cut(data.photographs[photograph].pixels, top, left, (8, 8), 12), turns)
        assert np.array_equal(patch.permute(1, 2, 0).numpy(), expected[:, ::-1] if flip else expected)


def test_places_are_drawn_uniformly():
    data = dataset()
    photograph, top, left, turns, flips = Block(data, CPU).places(range(8000))
    sizes = np.array([p.pixels.size for p in data.photographs])
    np.testing.assert_allclose(np.bincount(photograph) / 8000, sizes / sizes.sum(), atol=0.02)
    np.testing.assert_allclose(np.bincount(turns) / 8000, 0.25, atol=0.02)
    assert flips.mean() == pytest.approx(0.5, abs=0.02)
    inside = photograph == 0
    assert set(top[inside]) == set(range(24 - 8 + 1))
    assert set(left[inside]) == set(range(40 - 8 + 1))


def test_a_sample_is_the_same_in_any_batch():
    own = degradation(**RANGES)
    some = loader(own, StepSampler(4, 2))
    block = Block(some.dataset, CPU)
    whole, part = some.made(block, range(24)), some.made(block, [17, 5])
    assert [whole.names[n] for n in (17, 5)] == list(part.names)
    assert torch.equal(whole.hr[[17, 5]], part.hr)
    off = (whole.lr[[17, 5]] - part.lr).abs() * 255
    assert float(off.max()) <= 1.001  # rounded to 8 bits after sums in another order
    assert float((off > 0.5).float().mean()) < 0.01


def test_batches_are_those_of_the_sampler_for_any_rank_and_start(monkeypatch):
    own = degradation()
    monkeypatch.setattr(module, "AT_ONCE", 3)
    batches = list(loader(own, StepSampler(7, 4)))
    assert len(batches) == len(loader(own, StepSampler(7, 4))) == 7
    block = Block(dataset(own.margin), CPU)
    for step, batch in enumerate(batches):
        expected = loader(own, StepSampler(7, 4)).made(block, range(4 * step, 4 * step + 4))
        assert batch.names == expected.names
        assert torch.equal(batch.hr, expected.hr)
    later = list(loader(own, StepSampler(7, 4, first=4)))
    assert len(later) == 3
    for one, two in zip(batches[4:], later, strict=True):
        assert torch.equal(one.lr, two.lr)
        assert torch.equal(one.hr, two.hr)
    ranks = [list(loader(own, StepSampler(7, 4, rank=rank, world=2))) for rank in (0, 1)]
    for step, batch in enumerate(batches):
        assert torch.equal(batch.hr[::2], ranks[0][step].hr)
        assert torch.equal(batch.hr[1::2], ranks[1][step].hr)


def test_lr_is_hr_degraded_by_the_parts_of_the_sample():
    blur = GaussianBlur(sigma=1.5, kernel_size=7)
    own = degradation(blur=blur)
    some = loader(own, StepSampler(4, 2))
    block, numbers = Block(some.dataset, CPU), range(16)
    batch = some.made(block, numbers)
    images = block.patches(numbers).float() / 255
    expected = own.apply(images, batch.names, [np.random.default_rng(0)] * 16)
    assert {len(names) for names in batch.names} == {0, 1}
    torch.testing.assert_close(batch.lr, expected, rtol=0, atol=1e-6)
    inner = slice(own.margin, -own.margin)
    assert torch.equal(batch.hr, images[..., inner, inner])
    clean = loader(own, StepSampler(4, 2), clean=True).made(block, numbers)
    assert set(clean.names) == {frozenset()}
    torch.testing.assert_close(clean.lr, own.apply(images, clean.names, [np.random.default_rng(0)] * 16))


@pytest.mark.parametrize("choose", ["each", "one"])
def test_parts_are_drawn_with_their_probability(choose):
    parts = {"blur": GaussianBlur(probability=0.6, kernel_size=3), "noise": GaussianNoise(probability=0.2)}
    own = Degradation(parts, Downsample(), 2, choose=choose)
    rngs = module.SampleDraws(0, "target", range(6000), CPU)
    names = own.draw_each(rngs)
    shares = [np.mean([part in each for each in names]) for part in parts]
    expected = [0.6, 0.2] if choose == "each" else [0.75, 0.25]
    assert shares == pytest.approx(expected, abs=0.02)
    both = np.mean([len(each) == 2 for each in names])
    assert both == pytest.approx(0.12 if choose == "each" else 0, abs=0.02)


def test_a_degradation_with_a_draw_of_its_own_keeps_it():
    class Always(Degradation):
        def draw(self, rng):
            return frozenset(self.parts)

    own = Always({"noise": GaussianNoise(probability=0.0)}, Downsample(), 2)
    assert set(own.draw_each(module.SampleDraws(0, "target", range(9), CPU))) == {frozenset({"noise"})}


def test_a_composed_part_draws_for_each_sample():
    inner = {"a": GaussianNoise(sigma=0.1, probability=0.5), "b": GaussianNoise(sigma=0.2, probability=0.5)}
    own = degradation(both=Composed(inner, choose="one", probability=1.0, domain="lr"))
    some = loader(own, StepSampler(4, 2))
    block = Block(some.dataset, CPU)
    whole, part = some.made(block, range(12)), some.made(block, [11, 2])
    torch.testing.assert_close(whole.lr[[11, 2]], part.lr, rtol=0, atol=1e-6)


def test_16_bits_do_not_fit_and_bytes_are_counted():
    assert bytes_on_device(photographs()) == 3 * (24 * 40 + 31 * 17 + 8 * 9)
    with pytest.raises(InputError, match="a has 16"):
        bytes_on_device(photographs(np.uint16))


def test_fewer_steps_at_once_where_patches_are_large():
    big = PatchDataset(photographs(), 8, 400, seed=0, stream="target")
    assert PatchesOnDevice(big, StepSampler(9, 64), degradation(), False, CPU).steps_at_once == 1
    assert PatchesOnDevice(big, StepSampler(9, 1), degradation(), False, CPU).steps_at_once == 34
    assert loader(degradation(), StepSampler(9, 2)).steps_at_once == module.AT_ONCE


@pytest.mark.parametrize("name", list(RANGES))
def test_nothing_is_mixed_with_the_processor(name):
    own = degradation(**{name: RANGES[name]})
    expected = list(loader(own, StepSampler(3, 4)))
    with device():
        for batch, other in zip(loader(own, StepSampler(3, 4), place=DEVICE), expected, strict=True):
            assert isinstance(batch.lr, OnDevice)
            assert batch.to(DEVICE) is batch
            assert batch.names == other.names
            torch.testing.assert_close(batch.hr.cpu(), other.hr, rtol=0, atol=1e-6)
            torch.testing.assert_close(batch.lr.cpu(), other.lr, rtol=0, atol=1.001 / 255)
