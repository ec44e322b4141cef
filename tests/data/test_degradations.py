"""The way from HR to LR: order, choice and margins of the parts, and the numbers that a study always gets."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from degradation_case import BLUR, BLURS, BOTH, CLEAN, NOISE, generators
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
from faig_lab.data.degradations.draws import SampleDraws


def study(quantise: bool = True, sigma: float = 0.1) -> Degradation:
    parts = {"blur": GaussianBlur(sigma=1.2, kernel_size=9), "noise": GaussianNoise(sigma=sigma)}
    return Degradation(parts, Downsample(), 2, quantise)


def patches(degradation: Degradation, count: int) -> Tensor:
    size = 8 * degradation.scale + 2 * degradation.margin
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def inner(degradation: Degradation, lr: Tensor) -> Tensor:
    border = degradation.margin // degradation.scale
    return lr[..., border:-border, border:-border]


ANY_DOMAIN: list[Callable[[Any], Any]] = [
    lambda domain: GaussianBlur(1.5, 9, domain=domain),
    lambda domain: AnisotropicGaussianBlur(2.0, 1.0, None, 9, domain=domain),
    lambda domain: Sinc(1.5, 9, domain=domain),
    lambda domain: Composed({"blur": GaussianBlur(1.5, 9, 1.0, domain=domain)}, domain=domain),
]
PLAIN = Downsample("bilinear", False), Downsample("bicubic", False)


@pytest.mark.parametrize(
    ("parts", "scale", "downsample"),
    [
        *(([part], 2, Downsample()) for part in BLURS),
        *(([BLURS[0]], scale, downsample) for scale in (2, 3, 4) for downsample in (Downsample(), *PLAIN)),
        *(
            ([make(domain) for domain in domains], scale, Downsample())
            for make in ANY_DOMAIN
            for scale in (2, 3)
            for domains in (("lr",), ("lr", "lr"), ("hr", "lr"))
        ),
    ],
)
def test_a_cut_with_margin_is_degraded_as_within_the_whole_image(
    parts: list[Part], scale: int, downsample: Downsample
) -> None:
    """Every kernel is of 9×9."""
    named = {str(number): part for number, part in enumerate(parts)}
    degradation = Degradation(named, downsample, scale, quantise=False)
    margin, hr = degradation.margin, sum(part.domain == "hr" for part in parts)
    assert margin == (-(-(4 * hr + 2 * scale) // scale) + 4 * (len(parts) - hr)) * scale
    exact = 1e-6 if isinstance(parts[0], MotionBlur) else 1e-12  # its kernels are in float32
    whole = torch.rand(1, 3, 20 * scale + 2 * margin, 24 * scale + 2 * margin, dtype=torch.float64)
    for names in (CLEAN, frozenset(named)):
        expected = degradation.apply(whole, [names], generators(1))
        assert expected.shape == (1, 3, 20, 24)
        for top, left in ((0, 0), (3, 5), (14, 18)):
            rows = slice(top * scale, (top + 6) * scale + 2 * margin)
            columns = slice(left * scale, (left + 6) * scale + 2 * margin)
            patch = degradation.apply(whole[..., rows, columns], [names], generators(1))
            torch.testing.assert_close(patch, expected[..., top : top + 6, left : left + 6], rtol=0, atol=exact)


def test_blur_comes_before_downsampling_and_noise_after_it() -> None:
    degradation = study(quantise=False)
    hr = patches(degradation, 1)
    for names, before in ((CLEAN, hr), (BOTH, GaussianBlur(sigma=1.2, kernel_size=9).apply(hr, []))):
        small = inner(degradation, Downsample().apply(before, 2))
        expected = GaussianNoise().apply(small, generators(1)) if names else small
        assert torch.equal(degradation.apply(hr, [names], generators(1)), expected)


def test_jpeg_comes_after_noise_in_the_order_of_the_parts(images: Tensor) -> None:
    noise, jpeg = GaussianNoise(), JPEG(quality=20)
    degradation = Degradation({"noise": noise, "jpeg": jpeg}, Downsample(), scale=2)
    lr = degradation.apply(images, [frozenset({"noise", "jpeg"})] * 4, generators(4))
    rngs = generators(4)
    noisy = noise.apply(inner(degradation, Downsample().apply(images, 2)), rngs)
    torch.testing.assert_close(lr, jpeg.apply(noisy, rngs), rtol=0, atol=1e-6)


def test_a_last_jpeg_sees_the_input_alone() -> None:
    parts = {"blur": GaussianBlur(1.0, 5, domain="lr"), "jpeg": JPEG(20)}
    degradation = Degradation(parts, Downsample(), 2)
    blurred = Degradation({"blur": parts["blur"]}, Downsample(), 2, quantise=False)
    assert blurred.margin == degradation.margin
    hr = patches(degradation, 1)
    small = blurred.apply(hr, [BLUR], generators(1))
    expected = torch.round(JPEG(20).apply(small, generators(1)) * 255) / 255
    assert torch.equal(degradation.apply(hr, [frozenset(parts)], generators(1)), expected)


@pytest.mark.parametrize("quantise", [True, False])
def test_only_the_chosen_samples_are_degraded(quantise: bool) -> None:
    degradation, choices = study(quantise), (CLEAN, BLUR, NOISE, BOTH)
    hr = patches(degradation, 4)
    before = hr.clone()
    mixed = degradation.apply(hr, choices, generators(4))
    for row, names in enumerate(choices):
        for other in choices:
            same = degradation.apply(hr, [other] * 4, generators(4))[row]
            assert torch.allclose(mixed[row], same, rtol=0, atol=1e-6 if other is names else 1e-3) == (other is names)
    assert torch.equal(hr, before)


def test_a_sample_is_the_same_bytes_in_any_batch() -> None:
    degradation = study()
    hr = patches(degradation, 8)
    names = [CLEAN, BLUR, NOISE, BOTH, BOTH, NOISE, BLUR, CLEAN]
    together = degradation.apply(hr, names, generators(8))
    for chosen in ([0], [3], [7, 1], [5, 2, 4], list(range(8))[::-1]):
        alone = degradation.apply(hr[chosen], [names[i] for i in chosen], [generators(8)[i] for i in chosen])
        assert torch.equal(alone, together[chosen])


def test_quantised_input_is_what_an_image_file_holds() -> None:
    hr = patches(study(), 2) * 1.4 - 0.2
    lr, exact = (study(quantise, sigma=0.5).apply(hr, [NOISE] * 2, generators(2)) for quantise in (True, False))
    levels = lr * 255
    assert torch.equal(levels, levels.round())
    assert (float(lr.min()), float(lr.max())) == (0, 1)
    assert float(exact.min()) < 0 < 1 < float(exact.max())
    assert float((lr - exact.clamp(0, 1)).abs().max()) <= 0.5 / 255 + 1e-6


def test_what_is_evaluated() -> None:
    blur, noise = GaussianBlur(), GaussianNoise()
    assert Degradation({"blur": blur}, Downsample(), 2).inputs() == {"clean": CLEAN, "blur": BLUR}
    assert study().inputs() == {"clean": CLEAN, "blur": BLUR, "noise": NOISE, "blur+noise": BOTH}
    names = list(Degradation({"blur": blur, "noise": noise, "more noise": noise}, Downsample(), 2).inputs())
    assert names == ["clean", "blur", "noise", "more noise", "blur+noise+more noise"]


def test_blur_and_noise_give_the_numbers_that_they_always_gave() -> None:
    """Computed before severities could be ranges: a change here changes every result there is."""
    rng = np.random.default_rng(7)
    rng.integers(0, 256, (4, 3, 48, 48))
    degradation = Degradation({"blur": GaussianBlur(), "noise": GaussianNoise()}, Downsample(), scale=2)
    assert degradation.margin == 14
    hr = torch.from_numpy(rng.integers(0, 256, (4, 3, 40, 40)).astype(np.float32) / 255)
    rngs = [sample_rng(3, "pin", i) for i in range(4)]
    levels = (degradation.apply(hr, [CLEAN, BLUR, NOISE, BOTH], rngs) * 255).round().int()
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


# The choice of parts


def chosen(parts: dict[str, Any], choose: Literal["each", "one"] = "each") -> Degradation:
    return Degradation(parts, Downsample(), 2, choose=choose)


@pytest.mark.parametrize("by_counter", [False, True])
def test_each_part_or_one_of_them_is_drawn(by_counter: bool) -> None:
    parts = {"a": GaussianBlur(probability=0.2), "b": GaussianNoise(probability=0.6), "c": GaussianBlur(probability=0)}
    rngs = SampleDraws(0, "target", range(4000), torch.device("cpu")) if by_counter else generators(4000)
    expected = {
        "each": {frozenset(): 0.32, frozenset("a"): 0.08, frozenset("b"): 0.48, frozenset("ab"): 0.12},
        "one": {frozenset("a"): 0.25, frozenset("b"): 0.75},
    }
    for choose, shares in expected.items():
        draws = chosen(parts, choose).draw_each(rngs)  # type: ignore[arg-type]
        assert set(draws) == set(shares)
        for names, share in shares.items():
            assert draws.count(names) / 4000 == pytest.approx(share, abs=0.03)
    assert set(chosen({"sure": GaussianBlur(probability=1)}).draw_each(rngs)) == {frozenset({"sure"})}


def test_a_degradation_with_a_draw_of_its_own_keeps_it() -> None:
    class Always(Degradation):
        def draw(self, rng: np.random.Generator) -> frozenset[str]:
            return frozenset(self.parts)

    always = Always({"noise": GaussianNoise(probability=0.0)}, Downsample(), 2)
    assert set(always.draw_each(SampleDraws(0, "target", range(9), torch.device("cpu")))) == {NOISE}


def test_a_composed_part_of_certain_parts_is_one_after_the_other(images: Tensor) -> None:
    parts = {"blur": GaussianBlur(1.5, 9, 1.0), "noise": GaussianNoise(0.1, 1.0, domain="hr")}
    rngs = generators(4)
    for rng in rngs:
        rng.random(2)  # the draws of the two parts
    expected = parts["noise"].apply(parts["blur"].apply(images, rngs), rngs)
    assert torch.equal(Composed(parts).apply(images, generators(4)), expected)


@pytest.mark.parametrize("choose", ["each", "one"])
def test_a_composed_part_draws_as_a_whole_degradation(images: Tensor, choose: Any) -> None:
    parts = {"a": GaussianBlur(1.0, 5, 0.3), "b": GaussianBlur(2.0, 5, 0.6)}
    rngs = generators(4)
    expected = images
    names = [chosen(parts, choose).draw(rng) for rng in rngs]
    for name, part in parts.items():
        picked = torch.tensor([name in some for some in names])[:, None, None, None]
        expected = torch.where(picked, part.apply(expected, rngs), expected)
    found = Composed(parts, choose=choose).apply(images, generators(4))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
