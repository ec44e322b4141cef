"""The way from HR to LR: order, choice and margins of the parts, and the numbers that a study always gets."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from degradation_case import BLUR, BLURS, BOTH, CLEAN, HR_NOISE, NOISE, generators
from kornia.filters import gaussian_blur2d
from torch import Tensor

from faig_lab.data import (
    JPEG,
    AnisotropicGaussianBlur,
    Composed,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    Part,
    Sinc,
    sample_rng,
)


def study(scale=2, quantise=True, downsample=None, sigma=0.1):
    parts = {"blur": GaussianBlur(sigma=1.2, kernel_size=9), "noise": GaussianNoise(sigma=sigma)}
    return Degradation(parts, downsample or Downsample(), scale, quantise)


def patches(degradation, count, side=8, dtype=torch.float32):
    size = side * degradation.scale + 2 * degradation.margin
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


ONE_BLUR = [
    (GaussianBlur(sigma=1.2, kernel_size=9), scale, downsample)
    for scale in (2, 3, 4)
    for downsample in (Downsample(), Downsample("bilinear", False), Downsample("bicubic", False))
]


def assert_cuts_are_degraded_alike(degradation: Degradation, names: frozenset[str], exact: float) -> None:
    """Cuts of a large image, each with its margin, become cuts of the degraded image."""
    scale, margin = degradation.scale, degradation.margin
    whole = torch.rand(1, 3, 20 * scale + 2 * margin, 24 * scale + 2 * margin, dtype=torch.float64)
    expected = degradation.apply(whole, [names], generators(1))
    assert expected.shape == (1, 3, 20, 24)
    for top, left in ((0, 0), (3, 5), (14, 18)):
        rows = slice(top * scale, (top + 6) * scale + 2 * margin)
        columns = slice(left * scale, (left + 6) * scale + 2 * margin)
        patch = degradation.apply(whole[..., rows, columns], [names], generators(1))
        torch.testing.assert_close(patch, expected[..., top : top + 6, left : left + 6], rtol=0, atol=exact)


@pytest.mark.parametrize(("part", "scale", "downsample"), [*((part, 2, Downsample()) for part in BLURS), *ONE_BLUR])
def test_a_cut_with_margin_is_degraded_as_within_the_whole_image(
    part: Part, scale: int, downsample: Downsample
) -> None:
    degradation = Degradation({"part": part}, downsample, scale, quantise=False)
    exact = 1e-6 if isinstance(part, MotionBlur) else 1e-12  # its kernels are in float32
    for names in (CLEAN, frozenset({"part"})):
        assert_cuts_are_degraded_alike(degradation, names, exact)


IN_ANY_DOMAIN: list[Callable[[Any], Any]] = [
    lambda domain: GaussianBlur(1.5, 9, domain=domain),
    lambda domain: AnisotropicGaussianBlur(2.0, 1.0, None, 9, domain=domain),
    lambda domain: Sinc(1.5, 9, domain=domain),
    lambda domain: Composed({"blur": GaussianBlur(1.5, 9, 1.0, domain=domain)}, domain=domain),
]


@pytest.mark.parametrize("make", IN_ANY_DOMAIN)
@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("domains", [("lr",), ("lr", "lr"), ("hr", "lr")])
def test_a_cut_is_degraded_as_within_the_whole_image_also_after_downsampling(
    make: Callable[[Any], Any], scale: int, domains: tuple[str, ...]
) -> None:
    named = {str(number): make(domain) for number, domain in enumerate(domains)}
    degradation = Degradation(named, Downsample(), scale, quantise=False)
    assert degradation.margin == (
        sum(4 * (scale if domain == "lr" else 1) for domain in domains) + 2 * scale + (-4 % scale) * ("hr" in domains)
    )
    assert_cuts_are_degraded_alike(degradation, frozenset(named), 1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_margin_holds_every_reach_and_is_a_multiple_of_the_scale(scale):
    two = {"a": GaussianBlur(1.0, 9), "b": GaussianBlur(1.0, 5), "noise": GaussianNoise()}
    margin = Degradation(two, Downsample(), scale).margin
    assert margin % scale == 0
    assert 4 + 2 + 2 * scale <= margin < 4 + 2 + 3 * scale
    assert Degradation({"noise": GaussianNoise()}, Downsample(), scale).margin == 2 * scale


def test_clean_input_is_only_downsampled():
    degradation = study(quantise=False)
    hr = patches(degradation, 1)
    border = degradation.margin // 2
    expected = Downsample().apply(hr, 2)[..., border:-border, border:-border]
    assert torch.equal(degradation.apply(hr, [CLEAN], generators(1)), expected)


def test_blur_comes_before_downsampling_and_noise_after_it():
    degradation = study(quantise=False)
    hr, border = patches(degradation, 1), degradation.margin // 2
    blurred = GaussianBlur(sigma=1.2, kernel_size=9).apply(hr, [])
    small = Downsample().apply(blurred, 2)[..., border:-border, border:-border]
    assert torch.equal(degradation.apply(hr, [BOTH], generators(1)), GaussianNoise().apply(small, generators(1)))


def test_jpeg_comes_after_noise_in_the_order_of_the_parts(images: Tensor) -> None:
    noise, jpeg = GaussianNoise(), JPEG(quality=20)
    degradation = Degradation({"noise": noise, "jpeg": jpeg}, Downsample(), scale=2)
    lr = degradation.apply(images, [frozenset({"noise", "jpeg"})] * 4, generators(4))
    clean = degradation.apply(images, [frozenset()] * 4, generators(4))
    rngs = generators(4)
    unrounded = Downsample().apply(images, 2)
    border = degradation.margin // 2
    unrounded = unrounded[..., border:-border, border:-border]
    torch.testing.assert_close(lr, jpeg.apply(noise.apply(unrounded, rngs), rngs), rtol=0, atol=1e-6)
    assert not torch.equal(lr, clean)


def test_a_last_jpeg_sees_the_input_alone() -> None:
    parts = {"blur": GaussianBlur(1.0, 5, domain="lr"), "jpeg": JPEG(20)}
    degradation = Degradation(parts, Downsample(), 2)
    margin = degradation.margin
    hr = torch.rand(1, 3, 32 + 2 * margin, 32 + 2 * margin)
    blurred = Degradation({"blur": parts["blur"]}, Downsample(), 2, quantise=False)
    assert blurred.margin == margin
    small = blurred.apply(hr, [frozenset({"blur"})], generators(1))
    assert small.shape == (1, 3, 16, 16)
    assert torch.equal(
        degradation.apply(hr, [frozenset(parts)], generators(1)),
        torch.round(JPEG(20).apply(small, generators(1)) * 255) / 255,
    )


@pytest.mark.parametrize("quantise", [True, False])
def test_only_the_chosen_samples_are_degraded(quantise):
    degradation = study(quantise=quantise)
    hr = patches(degradation, 4)
    before = hr.clone()
    mixed = degradation.apply(hr, [CLEAN, BLUR, NOISE, BOTH], generators(4))
    for row, parts in enumerate((CLEAN, BLUR, NOISE, BOTH)):
        same = degradation.apply(hr, [parts] * 4, generators(4))
        torch.testing.assert_close(mixed[row], same[row], rtol=0, atol=1e-6)
        for other in {CLEAN, BLUR, NOISE, BOTH} - {parts}:
            assert not torch.allclose(mixed[row], degradation.apply(hr, [other] * 4, generators(4))[row], atol=1e-3)
    assert torch.equal(hr, before)


def test_a_sample_is_the_same_bytes_in_any_batch():
    degradation = study()
    hr = patches(degradation, 8)
    names = [CLEAN, BLUR, NOISE, BOTH, BOTH, NOISE, BLUR, CLEAN]
    together = degradation.apply(hr, names, generators(8))
    for chosen in ([0], [3], [7, 1], [5, 2, 4], list(range(8))[::-1]):
        alone = degradation.apply(hr[chosen], [names[i] for i in chosen], [generators(8)[i] for i in chosen])
        assert torch.equal(alone, together[chosen])


def test_quantised_input_is_what_an_image_file_holds():
    hr = patches(study(), 2) * 1.4 - 0.2
    lr, exact = (study(quantise=q, sigma=0.5).apply(hr, [NOISE] * 2, generators(2)) for q in (True, False))
    levels = lr * 255
    assert torch.equal(levels, levels.round())
    assert (float(lr.min()), float(lr.max())) == (0, 1)
    assert float(exact.min()) < 0 < 1 < float(exact.max())
    assert float((lr - exact.clamp(0, 1)).abs().max()) <= 0.5 / 255 + 1e-6


def test_what_is_evaluated():
    blur, noise = GaussianBlur(), GaussianNoise()
    three = {"blur": blur, "noise": noise, "more noise": noise}
    assert Degradation({"blur": blur}, Downsample(), 2).inputs() == {"clean": CLEAN, "blur": BLUR}
    assert study().inputs() == {"clean": CLEAN, "blur": BLUR, "noise": NOISE, "blur+noise": BOTH}
    names = list(Degradation(three, Downsample(), 2).inputs())
    assert names == ["clean", "blur", "noise", "more noise", "blur+noise+more noise"]


def test_parts_are_drawn_with_their_probability_and_independently():
    parts = {"blur": GaussianBlur(probability=0.3), "noise": GaussianNoise(probability=0.6)}
    degradation = Degradation(parts, Downsample(), 2)
    drawn = [degradation.draw(sample_rng(0, "draw", number)) for number in range(4000)]
    share = {parts: drawn.count(parts) / len(drawn) for parts in (CLEAN, BLUR, NOISE, BOTH)}
    assert share[BLUR] == pytest.approx(0.3 * 0.4, abs=0.03)
    assert share[NOISE] == pytest.approx(0.7 * 0.6, abs=0.03)
    assert share[BOTH] == pytest.approx(0.3 * 0.6, abs=0.03)


def test_probabilities_of_zero_and_one_are_certain():
    parts = {"blur": GaussianBlur(probability=0), "noise": GaussianNoise(probability=1)}
    degradation = Degradation(parts, Downsample(), 2)
    assert {degradation.draw(generator) for generator in generators(200)} == {NOISE}


def test_fixed_blur_and_noise_are_plain_formulas_bit_for_bit(images: Tensor) -> None:
    blurred = gaussian_blur2d(images, (21, 21), (2.0, 2.0), border_type="reflect")
    assert torch.equal(GaussianBlur().apply(images, generators(4)), blurred)
    noise = np.stack([rng.standard_normal((3, 40, 36), dtype=np.float32) for rng in generators(4)])
    assert torch.equal(GaussianNoise().apply(images, generators(4)), images + 0.1 * torch.from_numpy(noise))


def test_blur_and_noise_give_the_numbers_that_they_always_gave() -> None:
    """Computed before severities could be ranges: a change here changes every result there is."""
    rng = np.random.default_rng(7)
    rng.integers(0, 256, (4, 3, 48, 48))
    degradation = Degradation({"blur": GaussianBlur(), "noise": GaussianNoise()}, Downsample(), scale=2)
    assert degradation.margin == 14
    hr = torch.from_numpy(rng.integers(0, 256, (4, 3, 40, 40)).astype(np.float32) / 255)
    names = [frozenset[str](), frozenset({"blur"}), frozenset({"noise"}), frozenset({"blur", "noise"})]
    levels = (degradation.apply(hr, names, [sample_rng(3, "pin", i) for i in range(4)]) * 255).round().int()
    assert levels[:, :, 2, 3].tolist() == [[165, 111, 147], [139, 132, 123], [114, 104, 32], [127, 101, 111]]
    assert levels[:, 0, 0].tolist() == [
        [135, 113, 133, 173, 111, 101],
        [127, 134, 129, 120, 125, 133],
        [72, 104, 162, 131, 58, 106],
        [116, 138, 92, 99, 85, 99],
    ]
    assert levels.sum() == 55964
    grey = GaussianNoise().apply(torch.full((2, 3, 4, 4), 0.5), [sample_rng(3, "pin", i) for i in range(2)])
    bits = ["0x1.9eea70p-2", "0x1.148cb8p-2", "0x1.2d0c28p-2", "0x1.052466p-1", "0x1.f2bb9ep-2", "0x1.5b1eaep-2"]
    assert grey[:, :, 1, 2].flatten().tolist() == [float.fromhex(value) for value in bits]


def test_a_composed_part_of_certain_parts_is_one_after_the_other(images: Tensor) -> None:
    parts = {"blur": GaussianBlur(1.5, 9, 1.0), "noise": GaussianNoise(0.1, 1.0, domain="hr")}
    composed = Composed(parts)
    rngs = generators(4)
    for rng in rngs:
        rng.random(2)  # the draws of the two parts
    expected = parts["noise"].apply(parts["blur"].apply(images, rngs), rngs)
    assert torch.equal(composed.apply(images, generators(4)), expected)
    assert composed.reach == 4


def whole(parts: dict[str, GaussianBlur], choose: Literal["each", "one"] = "each") -> Degradation:
    return Degradation(parts, Downsample(), 2, choose=choose)


def test_a_composed_part_draws_as_a_whole_degradation(images: Tensor) -> None:
    parts = {"a": GaussianBlur(1.0, 5, 0.3), "b": GaussianBlur(2.0, 5, 0.6)}
    for choose in ("each", "one"):
        rngs = generators(4)
        names = [whole(parts, choose).draw(rng) for rng in rngs]
        expected = [
            parts[one].apply(image[None], [rng]) if (one := next(iter(chosen), None)) and len(chosen) == 1 else None
            for image, chosen, rng in zip(images, names, rngs, strict=True)
        ]
        found = Composed(parts, choose=choose).apply(images, generators(4))
        for image, value in zip(found, expected, strict=True):
            assert value is None or torch.equal(image, value[0])


def test_only_known_choices_with_a_part_to_choose() -> None:
    never = {"a": GaussianBlur(probability=0), "b": GaussianBlur(probability=0)}
    with pytest.raises(ValueError, match="choose must be each or one, not two"):
        whole(never, "two")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parts must have a probability above 0"):
        whole(never, "one")
    assert whole(never).draw(sample_rng(0, "draw", 0)) == frozenset()


def test_each_part_or_one_of_them_is_drawn() -> None:
    parts = {"a": GaussianBlur(probability=0.2), "b": GaussianBlur(probability=0.6)}
    draws = [whole(parts).draw(rng) for rng in generators(4000)]
    expected = {frozenset(): 0.32, frozenset("a"): 0.08, frozenset("b"): 0.48, frozenset("ab"): 0.12}
    for names, share in expected.items():
        assert draws.count(names) / 4000 == pytest.approx(share, abs=0.03)
    one = [whole(parts, "one").draw(rng) for rng in generators(4000)]
    assert set(one) == {frozenset("a"), frozenset("b")}
    assert one.count(frozenset("a")) / 4000 == pytest.approx(0.25, abs=0.03)


def test_the_reach_of_a_composed_part() -> None:
    parts = {"a": GaussianBlur(1.0, 9), "b": GaussianBlur(1.0, 5), "c": HR_NOISE}
    assert Composed(parts).reach == 6
    assert Composed(parts, choose="one").reach == 4


def test_a_generator_is_a_pure_function_of_seed_stream_and_index():
    assert sample_rng(3, "target", 7).random(5).tolist() == sample_rng(3, "target", 7).random(5).tolist()
    arguments = [
        (seed, stream, *index)
        for seed in (0, 1, 2**32 - 1)
        for stream in ("target", "baseline", "target/patch")
        for index in ((0,), (1,), (2**31,), (0, 1), (1, 1))
    ]
    first = [float(sample_rng(*given).random()) for given in arguments]
    assert len(set(first)) == len(arguments)


def test_generators_share_no_state():
    one, other = sample_rng(0, "a", 0), sample_rng(0, "a", 1)
    expected = sample_rng(0, "a", 1).random(3).tolist()
    one.random(100)
    assert other.random(3).tolist() == expected
