"""The way from HR to LR: order, choice and margins of the parts; what holds for all parts; the numbers of a study."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal

import numpy as np
import pytest
import torch
from degradation_case import BLUR, BLURS, BOTH, CLEAN, HR_NOISE, LINEAR, NOISE, PARTS, RANGED, generators
from numpy.typing import NDArray
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
    PoissonNoise,
    Resize,
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


# What holds for all parts


@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_a_sample_is_a_function_of_its_generator(part: Part, images: Tensor) -> None:
    before = images.clone()
    together = part.apply(images, generators(4))
    assert together.shape == images.shape
    assert together.dtype == images.dtype
    assert torch.equal(together, part.apply(images, generators(4)))
    for i in range(4):
        alone = part.apply(images[i : i + 1], [sample_rng(3, "test", i)])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-6)
    assert torch.equal(images, before)


@pytest.mark.parametrize("part", RANGED, ids=repr)
def test_samples_differ_by_number_stream_and_seed(part: Part, images: Tensor) -> None:
    same = images[:1].expand(4, -1, -1, -1).contiguous()
    first = part.apply(same, generators(4))
    assert len({sample.numpy().tobytes() for sample in first}) > 1
    assert not torch.equal(first, part.apply(same, generators(4, "other")))
    assert not torch.equal(first, part.apply(same, generators(4, seed=4)))


@pytest.mark.parametrize("part", PARTS, ids=repr)
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_input_is_an_image_and_as_large_as_it_must_be(part: Part, scale: int) -> None:
    degradation = Degradation({"part": part}, Downsample(), scale)
    side = 6 * scale + 2 * degradation.margin
    hr = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (4, 3, side, side)).astype(np.float32))
    lr = degradation.apply(hr, [frozenset({"part"})] * 4, generators(4))
    assert lr.shape == (4, 3, 6, 6)
    assert 0 <= float(lr.min()) <= float(lr.max()) <= 1


@pytest.mark.parametrize("part", [*BLURS, *LINEAR], ids=repr)
def test_a_constant_image_stays(part: Part) -> None:
    grey = torch.full((4, 3, 31, 37), 0.3, dtype=torch.float64)
    exact = 1e-6 if isinstance(part, MotionBlur) else 1e-12  # its kernels are in float32
    torch.testing.assert_close(part.apply(grey, generators(4)), grey, rtol=0, atol=exact)


def distances(part: Part, side: int, place: int, stream: str) -> NDArray[np.intp]:
    """How far from a changed pixel other pixels change."""
    before = torch.from_numpy(np.random.default_rng(1).random((1, 3, side, side)))
    after = before.clone()
    after[..., place, place] = 1 - after[..., place, place]
    changed = part.apply(before, generators(1, stream)) != part.apply(after, generators(1, stream))
    return np.abs(np.argwhere(changed.any(dim=1)[0].numpy()) - place).max(axis=1)


FACTORS = [
    Resize(factor, kernels, antialias)
    for factor in (0.15, 0.37, 0.5, 1.0, 2.3)
    for kernels in (["area"], ["bilinear"], ["bicubic"], ["area", "bilinear", "bicubic"])
    for antialias in (True, False)
]


@pytest.mark.parametrize("part", [*FACTORS, *PARTS], ids=repr)
def test_no_pixel_depends_on_one_that_is_farther_than_the_reach(part: Part) -> None:
    if isinstance(part, JPEG) and part.domain == "lr":
        assert part.reach == 0  # the whole input is the file
        return
    for place in (40, 43, 47):
        for stream in ("a", "b", "c"):
            assert max(distances(part, 90, place, stream), default=0) <= part.reach


@pytest.mark.parametrize(
    ("part", "reach"),
    [
        (GaussianBlur(1.5, 9), 4),
        (AnisotropicGaussianBlur(2.5, 0.7, 20.0, 9), 4),
        (MotionBlur(9, 0.0), 4),
        (Sinc(2.0, 9), 4),
        (Sinc(2.0, 13), 6),
        (JPEG(95, domain="hr"), 16),
        (JPEG(95, domain="hr", shift=5), 16),
        (Composed({"a": GaussianBlur(1.5, 9, 1.0), "b": GaussianBlur(1.5, 5, 1.0), "c": HR_NOISE}), 6),
        (Composed({"a": GaussianBlur(1.5, 9, 1.0), "b": GaussianBlur(1.5, 5, 0.0)}, choose="one"), 4),
    ],
)
def test_the_reach_is_reached(part: Part, reach: int) -> None:
    assert part.reach == reach
    assert max(max(distances(part, 96, place, "a"), default=0) for place in range(31, 48)) == reach


def test_the_reach_of_resizing_is_at_most_two_pixels_too_large() -> None:
    for factor, antialias in ((0.5, True), (0.2, True), (0.2, False), (0.15, False)):
        part = Resize(factor, ["bicubic"], antialias)
        found = max(max(distances(part, side, p, "a"), default=0) for side in (101, 118) for p in range(48, 60))
        assert part.reach - 2 <= found <= part.reach


@pytest.mark.parametrize("part", [GaussianBlur, GaussianNoise, PoissonNoise])
def test_a_range_of_one_value_is_that_value(part: type[Any], images: Tensor) -> None:
    name = fields(part)[0].name
    ranged = part(**{name: [2.0, 2.0]})
    if part is GaussianBlur:
        torch.testing.assert_close(ranged.apply(images, generators(4)), part(sigma=2.0).apply(images, generators(4)))
    else:
        rngs = generators(4)
        for rng in rngs:
            rng.random()  # the severity's own draw
        assert torch.equal(ranged.apply(images, generators(4)), part(**{name: 2.0}).apply(images, rngs))


WAY = {"parts": {"a": GaussianBlur(probability=0)}, "downsample": Downsample(), "scale": 2}


@pytest.mark.parametrize(
    ("part", "arguments", "message"),
    [
        (GaussianBlur, {"sigma": 0}, "sigma must be > 0 HR pixels, not 0"),
        (GaussianBlur, {"sigma": -1.5}, "sigma must be > 0 HR pixels, not -1.5"),
        (GaussianBlur, {"kernel_size": -3}, "kernel_size must be odd and positive, not -3"),
        (GaussianBlur, {"probability": 1.1}, r"probability must lie in 0\.\.1, not 1.1"),
        (GaussianBlur, {"sigma": (0, 2)}, r"sigma must be > 0 HR pixels, not \(0, 2\)"),
        (GaussianBlur, {"sigma": (3, 2)}, r"sigma must be a number or a range \[low, high\], not \(3, 2\)"),
        (GaussianBlur, {"sigma": [1]}, r"sigma must be a number or a range \[low, high\], not \[1\]"),
        (GaussianBlur, {"sigma": float("nan")}, "sigma must be a number"),
        (GaussianNoise, {"sigma": (-0.1, 0.1)}, "sigma must be >= 0"),
        (GaussianNoise, {"sigma": -0.1}, r"sigma must be >= 0 \(range \[0, 1\]\), not -0.1"),
        (GaussianNoise, {"probability": -0.1}, r"probability must lie in 0\.\.1, not -0\.1"),
        (AnisotropicGaussianBlur, {"sigma_y": 0}, "sigma_y must be > 0 HR pixels"),
        (AnisotropicGaussianBlur, {"angle": (90, 0)}, "angle must be a number or a range"),
        (AnisotropicGaussianBlur, {"kernel_size": 8}, "kernel_size must be odd and positive, not 8"),
        (MotionBlur, {"length": 1}, "length must be odd and at least 3 HR pixels, not 1"),
        (MotionBlur, {"length": (3, 8)}, r"length must be odd and at least 3 HR pixels, not \(3, 8\)"),
        (PoissonNoise, {"peak": 0}, "peak must be > 0 photons, not 0"),
        (JPEG, {"quality": 0}, r"quality must lie in 1\.\.100, not 0"),
        (JPEG, {"quality": (50, 101)}, r"quality must lie in 1\.\.100"),
        (Downsample, {"mode": "area"}, "antialias must be false for area"),
        (Downsample, {"mode": "lanczos"}, "mode must be bicubic, bilinear, area or nearest, not lanczos"),
        (Sinc, {"cutoff": 0}, "cutoff must be > 0 and at most π"),
        (Sinc, {"cutoff": (1, 3.2)}, r"cutoff must be > 0 and at most π = 3\.1415 radians per pixel, not \(1, 3\.2\)"),
        (Sinc, {"cutoff": (2, 1)}, "cutoff must be a number or a range"),
        (Sinc, {"kernel_size": 8}, "kernel_size must be odd and positive, not 8"),
        (Sinc, {"probability": 2}, r"probability must lie in 0\.\.1"),
        (Resize, {"factor": 0}, "factor must be > 0, not 0"),
        (Resize, {"factor": (0.5, 0.2)}, "factor must be a number or a range"),
        (Resize, {"kernels": ["cubic"]}, r"kernels must be one or more of area, bilinear, bicubic, not \['cubic'\]"),
        (Resize, {"kernels": []}, "kernels must be one or more of"),
        (Resize, {"kernels": ["area", "area"]}, "kernels must be one or more of"),
        (Resize, {"factor": (0.5, 1.5), "enlarged": 1.5}, r"enlarged must lie in 0\.\.1, not 1\.5"),
        (Resize, {"factor": (0.5, 0.9), "enlarged": 0.5}, "enlarged must be null where the factors"),
        (GaussianNoise, {"grey": 1.5}, r"grey must lie in 0\.\.1, not 1\.5"),
        (PoissonNoise, {"grey": -0.5}, r"grey must lie in 0\.\.1, not -0\.5"),
        (JPEG, {"shift": 16}, r"shift must lie in 0\.\.15, not 16"),
        (JPEG, {"shift": (-1, 3)}, r"shift must lie in 0\.\.15"),
        (Composed, {"parts": {}}, "parts must hold at least one part"),
        (Composed, {"parts": {"a": GaussianNoise()}}, r"parts\.a\.domain must be hr, the domain of all, not lr"),
        (Composed, {"parts": {"a": HR_NOISE}, "choose": "two"}, "choose must be each or one, not two"),
        (Composed, {"parts": {"a": GaussianBlur(probability=0)}, "choose": "one"}, "parts must have a probability"),
        (Degradation, {**WAY, "choose": "two"}, "choose must be each or one, not two"),
        (Degradation, {**WAY, "choose": "one"}, "parts must have a probability above 0"),
    ],
)
def test_refusals_name_the_argument(part: type[Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        part(**arguments)
