"""Degradations that published networks are trained with: against plain implementations, and exact in their reach."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, special, stats
from torch import Tensor

from faig_lab.data import (
    JPEG,
    AnisotropicGaussianBlur,
    Composed,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    Part,
    PoissonNoise,
    Resize,
    Sinc,
    clipped_kernels,
    sample_rng,
)

HR_NOISE = GaussianNoise(sigma=0.1, domain="hr")
HR_BLUR = GaussianBlur(sigma=1.5, kernel_size=9)
PARTS: list[Any] = [
    Sinc(cutoff=1.2, kernel_size=9),
    Sinc(cutoff=(1.05, 3.14), kernel_size=13, domain="lr"),
    Resize(),
    Resize(factor=(0.3, 1.5), enlarged=0.5, antialias=False, domain="lr"),
    Resize(factor=0.5, kernels=["bicubic"]),
    GaussianNoise(sigma=(0.05, 0.2), grey=0.5),
    PoissonNoise(peak=(10, 100), grey=0.5),
    JPEG(quality=(30, 95), shift=(0, 15)),
    JPEG(quality=40, domain="hr"),
    Composed({"a": HR_BLUR, "b": HR_NOISE}),
    Composed({"a": HR_BLUR, "b": HR_NOISE}, choose="one"),
]
RANGED = [PARTS[i] for i in (1, 2, 3, 5, 6, 7)]
LINEAR = [part for part in PARTS if isinstance(part, Sinc | Resize)]


def generators(count: int, stream: str = "test", seed: int = 3) -> list[np.random.Generator]:
    return [sample_rng(seed, stream, number) for number in range(count)]


@pytest.fixture
def images(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.random((4, 3, 40, 36), dtype=np.float32))


# What holds for all


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
def test_samples_differ_by_seed_stream_and_number(part: Part, images: Tensor) -> None:
    same = images[:1].expand(4, -1, -1, -1).contiguous()
    first = part.apply(same, generators(4))
    assert not any(torch.equal(first[0], other) for other in first[1:])
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


@pytest.mark.parametrize("part", [*LINEAR, JPEG(90), JPEG(90, domain="hr")], ids=repr)
def test_a_part_is_within_the_range_by_itself(part: Part, images: Tensor) -> None:
    result = part.apply(images.round(), generators(4))
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


@pytest.mark.parametrize("part", LINEAR, ids=repr)
def test_a_constant_image_stays(part: Part) -> None:
    grey = torch.full((4, 3, 31, 37), 0.3, dtype=torch.float64)
    torch.testing.assert_close(part.apply(grey, generators(4)), grey, rtol=0, atol=1e-12)


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
    [(Sinc(2.0, 9), 4), (Sinc(2.0, 13), 6), (JPEG(95, domain="hr"), 16), (JPEG(95, domain="hr", shift=5), 16)],
)
def test_the_reach_is_reached(part: Part, reach: int) -> None:
    assert part.reach == reach
    assert max(max(distances(part, 96, place, "a"), default=0) for place in range(31, 48)) == reach


def test_the_reach_of_resizing_is_at_most_two_pixels_too_large() -> None:
    for factor, antialias in ((0.5, True), (0.2, True), (0.2, False), (0.15, False)):
        part = Resize(factor, ["bicubic"], antialias)
        found = max(max(distances(part, side, p, "a"), default=0) for side in (101, 118) for p in range(48, 60))
        assert part.reach - 2 <= found <= part.reach


# Sinc


def published_sinc(cutoff: float, kernel_size: int) -> NDArray[np.float64]:
    """`circular_lowpass_kernel` of Real-ESRGAN, without its padding."""
    centre = (kernel_size - 1) / 2
    kernel = np.zeros((kernel_size, kernel_size))
    for y in range(kernel_size):
        for x in range(kernel_size):
            radius = math.hypot(x - centre, y - centre)
            if radius == 0:
                kernel[y, x] = cutoff**2 / (4 * math.pi)
            else:
                kernel[y, x] = cutoff * special.j1(cutoff * radius) / (2 * math.pi * radius)
    return kernel / kernel.sum()


@pytest.mark.parametrize("cutoff", [0.3, math.pi / 3, 2.0, math.pi])
@pytest.mark.parametrize("kernel_size", [1, 7, 21])
def test_sinc_kernels_are_the_published_ones(cutoff: float, kernel_size: int) -> None:
    kernels = Sinc(cutoff, kernel_size).kernels(generators(3))
    assert kernels.dtype == torch.float64
    for kernel in kernels:
        np.testing.assert_allclose(kernel.numpy(), published_sinc(cutoff, kernel_size), rtol=0, atol=1e-12)


def test_sinc_is_a_convolution_that_is_clipped(images: Tensor) -> None:
    part = Sinc(cutoff=(1.0, 2.0), kernel_size=11)
    filtered = part.apply(images.round().double(), generators(4)).numpy()
    clipped = 0
    for image, result, rng in zip(images.round().double().numpy(), filtered, generators(4), strict=True):
        kernel = published_sinc(rng.uniform(1.0, 2.0), 11)
        plain = np.stack([ndimage.convolve(channel, kernel, mode="mirror") for channel in image])
        clipped += int(((plain < 0) | (plain > 1)).sum())
        np.testing.assert_allclose(result, plain.clip(0, 1), rtol=0, atol=1e-10)
    assert clipped > 100


def test_sinc_keeps_what_is_below_the_cutoff_and_removes_what_is_above_it() -> None:
    place = np.arange(400.0)
    for frequency, kept in ((0.4, True), (2.0, False)):
        wave = 0.5 + 0.3 * np.cos(frequency * place)
        image = torch.from_numpy(np.broadcast_to(wave, (1, 3, 120, 400)).copy())
        result = Sinc(cutoff=1.2, kernel_size=61).apply(image, generators(1))[0, 0, 60, 40:-40].numpy()
        assert np.ptp(result) == pytest.approx(0.6, rel=0.1) if kept else np.ptp(result) < 0.06


# Resizing


def plain_weights(size: int, new: int, kernel: str, antialias: bool) -> NDArray[np.float64]:
    """One axis as a matrix (new, size): every weight from the kernel's formula."""
    ratio = size / new
    if kernel == "area":
        matrix = np.zeros((new, size))
        for row in range(new):
            matrix[row, math.floor(row * ratio + 1e-9) : math.ceil((row + 1) * ratio - 1e-9)] = 1
        return matrix / matrix.sum(axis=1, keepdims=True)
    widened = max(1.0, ratio) if antialias else 1.0
    a = -0.5 if antialias else -0.75
    centre = (np.arange(new) + 0.5) * ratio - 0.5
    matrix = np.zeros((new, size))
    for row in range(new):
        for tap in range(math.floor(centre[row] - 2 * widened) - 1, math.ceil(centre[row] + 2 * widened) + 2):
            x = abs(centre[row] - tap) / widened
            if kernel == "bilinear":
                weight = max(0.0, 1 - x)
            elif x <= 1:
                weight = (a + 2) * x**3 - (a + 3) * x**2 + 1
            else:
                weight = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0
            if antialias and not 0 <= tap < size:
                continue  # the kernel's part inside the image is normalised
            matrix[row, min(max(tap, 0), size - 1)] += weight
    return matrix / matrix.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("factor", [0.15, 0.4, 0.5, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("kernel", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_is_two_products_of_matrices(factor: float, kernel: Any, antialias: bool, images: Tensor) -> None:
    resized = Resize(factor, [kernel], antialias).apply(images[:, :, :, :33].double(), generators(4)).numpy()
    expected = images[:, :, :, :33].double().numpy()
    for axis in (2, 3):
        size = expected.shape[axis]
        new = math.ceil(round(size * factor, 6))
        there, back = plain_weights(size, new, kernel, antialias), plain_weights(new, size, kernel, antialias)
        expected = np.moveaxis(np.tensordot(back @ there, expected, axes=(1, axis)), 0, axis)
    np.testing.assert_allclose(resized, expected.clip(0, 1), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("kernel", "pillow"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_antialiased_resizing_is_pillows(kernel: Any, pillow: Any, images: Tensor) -> None:
    resized = Resize(0.5, [kernel]).apply(images, generators(4)).numpy()
    for image, result in zip(images.numpy(), resized, strict=True):
        for channel, found in zip(image, result, strict=True):
            expected = Image.fromarray(channel).resize((18, 20), pillow).resize((36, 40), pillow)
            np.testing.assert_allclose(found, np.asarray(expected).clip(0, 1), rtol=0, atol=1e-5)


def test_every_pair_of_kernels_is_drawn_alike(images: Tensor) -> None:
    single = images[:1, :, :12, :12]
    kernels = ("area", "bilinear", "bicubic")
    matrices = {
        (there, back): plain_weights(6, 12, back, True) @ plain_weights(12, 6, there, True)
        for there in kernels
        for back in kernels
    }
    expected = {
        pair: np.clip(np.einsum("ih,chw,jw->cij", m, single[0].double().numpy(), m), 0, 1)
        for pair, m in matrices.items()
    }
    results = Resize(0.5).apply(single.double().expand(900, -1, -1, -1), generators(900)).numpy()
    counts = {pair: int((np.abs(results - e).max(axis=(1, 2, 3)) < 1e-9).sum()) for pair, e in expected.items()}
    assert sum(counts.values()) == 900
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_factors_are_split_at_one() -> None:
    part = Resize(factor=(0.2, 1.5), enlarged=0.25)
    factors = np.array([part._draw_factor(rng) for rng in generators(2000)])
    assert (factors > 1).mean() == pytest.approx(0.25, abs=0.04)
    assert stats.kstest(factors[factors <= 1], stats.uniform(0.2, 0.8).cdf).pvalue > 1e-3
    assert stats.kstest(factors[factors > 1], stats.uniform(1, 0.5).cdf).pvalue > 1e-3
    uniform = np.array([Resize(factor=(0.2, 1.5))._draw_factor(rng) for rng in generators(2000)])
    assert stats.kstest(uniform, stats.uniform(0.2, 1.3).cdf).pvalue > 1e-3


# Noise and JPEG


def test_grey_gaussian_noise_is_one_for_all_channels(images: Tensor) -> None:
    noise = GaussianNoise(sigma=0.1, grey=1.0).apply(images.double(), generators(4)) - images.double()
    torch.testing.assert_close(noise, noise[:, :1].expand(-1, 3, -1, -1), rtol=0, atol=1e-15)
    for one, rng in zip(noise, generators(4), strict=True):
        rng.random()  # whether the sample is grey
        np.testing.assert_allclose(one[0], 0.1 * rng.standard_normal((3, 40, 36), dtype=np.float32)[0], atol=1e-7)


def test_grey_poisson_noise_is_that_of_the_luma(images: Tensor) -> None:
    noisy = PoissonNoise(peak=40, grey=1.0).apply(images.double(), generators(4))
    for image, result, rng in zip(images.double().numpy(), noisy.numpy(), generators(4), strict=True):
        rng.random()
        luma = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        counts = stats.poisson.ppf(rng.random((3, 40, 36))[0], 40 * luma)
        np.testing.assert_allclose(result, image + counts / 40 - luma, rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", [GaussianNoise(0.1, grey=0.3), PoissonNoise(40, grey=0.3)], ids=repr)
def test_the_share_of_grey_samples(part: Part) -> None:
    flat = torch.full((2000, 3, 3, 3), 0.5)
    noise = part.apply(flat, generators(2000)) - 0.5
    grey = (noise - noise[:, :1]).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert float(grey.float().mean()) == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("shift", [0, 3, 8, 15])
@pytest.mark.parametrize("domain", ["hr", "lr"])
def test_a_shifted_jpeg_is_pillows_of_a_larger_image(shift: int, domain: Any, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    compressed = JPEG(50, shift=shift, domain=domain).apply(
        torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, generators(1)
    )
    # Rows and columns of the border are repeated.
    rows, columns = [0] * shift + list(range(33)), [0] * shift + list(range(47))
    file = io.BytesIO()
    Image.fromarray(pixels[rows][:, columns]).save(file, "JPEG", quality=50)
    decoded = np.asarray(Image.open(file))[shift:, shift:]
    np.testing.assert_array_equal((compressed[0] * 255).round().byte().permute(1, 2, 0), decoded)


def test_one_mix_holds_two_parts_of_one_class() -> None:
    """At one grid a second JPEG of one quality changes next to nothing; at another it does."""
    y, x = np.mgrid[0:64, 0:64]
    smooth = np.stack([0.5 + 0.3 * np.sin(x / 5 + y / 9 + c) for c in range(3)])
    hr = torch.from_numpy(smooth[None].astype(np.float32))

    def lr(second: JPEG, names: frozenset[str]) -> Tensor:
        degradation = Degradation({"first": JPEG(20), "second": second}, Downsample(), 1)
        return degradation.apply(hr, [names], generators(1))

    both = frozenset({"first", "second"})
    once = lr(JPEG(20), frozenset({"first"}))
    same = (lr(JPEG(20), both) - once).abs().mean()
    other = (lr(JPEG(20, shift=4), both) - once).abs().mean()
    worse = (lr(JPEG(10), both) - once).abs().mean()
    assert float(other) > 3 * float(same)
    assert float(worse) > 3 * float(same)
    assert set(Degradation({"first": JPEG(20), "second": JPEG(60)}, Downsample(), 2).inputs()) == {
        "clean", "first", "second", "first+second",
    }  # fmt: skip


# Composed parts, and parts of the other domain


def test_a_composed_part_of_certain_parts_is_one_after_the_other(images: Tensor) -> None:
    parts = {"blur": GaussianBlur(1.5, 9, 1.0), "noise": GaussianNoise(0.1, 1.0, domain="hr")}
    composed = Composed(parts)
    rngs = generators(4)
    for rng in rngs:
        rng.random(2)  # the draws of the two parts
    expected = parts["noise"].apply(parts["blur"].apply(images, rngs), rngs)
    assert torch.equal(composed.apply(images, generators(4)), expected)
    assert composed.reach == 4


def test_each_part_or_one_of_them_is_drawn() -> None:
    parts = {"a": GaussianBlur(probability=0.2), "b": GaussianBlur(probability=0.6)}
    draws = [Composed(parts)._draw(rng) for rng in generators(4000)]
    expected = {frozenset(): 0.32, frozenset("a"): 0.08, frozenset("b"): 0.48, frozenset("ab"): 0.12}
    for names, share in expected.items():
        assert draws.count(names) / 4000 == pytest.approx(share, abs=0.03)
    one = [Composed(parts, choose="one")._draw(rng) for rng in generators(4000)]
    assert set(one) == {frozenset("a"), frozenset("b")}
    assert one.count(frozenset("a")) / 4000 == pytest.approx(0.25, abs=0.03)


def test_the_reach_of_a_composed_part() -> None:
    parts = {"a": GaussianBlur(1.0, 9), "b": GaussianBlur(1.0, 5), "c": HR_NOISE}
    assert Composed(parts).reach == 6
    assert Composed(parts, choose="one").reach == 4


BLURS: list[Callable[[Any], Any]] = [
    lambda domain: GaussianBlur(1.5, 9, domain=domain),
    lambda domain: AnisotropicGaussianBlur(2.0, 1.0, None, 9, domain=domain),
    lambda domain: Sinc(1.5, 9, domain=domain),
    lambda domain: Composed({"blur": GaussianBlur(1.5, 9, 1.0, domain=domain)}, domain=domain),
]


@pytest.mark.parametrize("make", BLURS)
@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("parts", [("lr",), ("lr", "lr"), ("hr", "lr")])
def test_a_cut_is_degraded_as_within_the_whole_image_also_after_downsampling(
    make: Callable[[Any], Any], scale: int, parts: tuple[str, ...]
) -> None:
    named = {str(number): make(domain) for number, domain in enumerate(parts)}
    degradation = Degradation(named, Downsample(), scale, quantise=False)
    margin = degradation.margin
    assert margin == sum(4 * (scale if domain == "lr" else 1) for domain in parts) + 2 * scale + (-4 % scale) * (
        "hr" in parts
    )
    whole = torch.rand(1, 3, 16 * scale + 2 * margin, 18 * scale + 2 * margin, dtype=torch.float64)
    expected = degradation.apply(whole, [frozenset(named)], generators(1))
    assert expected.shape == (1, 3, 16, 18)
    for top, left in ((0, 0), (3, 5), (10, 12)):
        rows = slice(top * scale, (top + 6) * scale + 2 * margin)
        columns = slice(left * scale, (left + 6) * scale + 2 * margin)
        patch = degradation.apply(whole[..., rows, columns], [frozenset(named)], generators(1))
        torch.testing.assert_close(patch, expected[..., top : top + 6, left : left + 6], rtol=0, atol=1e-12)


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


# Kernels that are cut off


def outside(kernel_size: int, sigma_x: float, sigma_y: float) -> float:
    """By sampling: the share of a Gaussian outside a square."""
    points = np.random.default_rng(0).normal(size=(400_000, 2)) * (sigma_x, sigma_y)
    return float((np.abs(points) > kernel_size / 2).any(axis=1).mean())


@pytest.mark.parametrize(("sigma", "kernel_size"), [(6.0, 21), (0.3, 1), (9.0, 5)])
def test_a_kernel_that_is_cut_off_still_sums_to_one(sigma: float, kernel_size: int) -> None:
    grey = torch.full((1, 3, 31, 31), 0.7, dtype=torch.float64)
    for part in (GaussianBlur(sigma, kernel_size), AnisotropicGaussianBlur(sigma, sigma, 20.0, kernel_size)):
        torch.testing.assert_close(part.apply(grey, generators(1)), grey, rtol=0, atol=1e-12)


def test_what_is_cut_off_is_said_with_the_size_that_would_do() -> None:
    (line,) = clipped_kernels({"blur": GaussianBlur(6.0, 21), "noise": GaussianNoise(), "fine": GaussianBlur()})
    assert outside(21, 6, 6) == pytest.approx(0.154, abs=0.003)
    assert line == (
        "degradation.parts.blur.kernel_size: 15 % of the Gaussian with sigma = 6 lies outside 21×21 pixels; "
        "kernel_size=35 holds 99 %"
    )
    assert outside(35, 6, 6) < 0.01 < outside(33, 6, 6)
    assert list(clipped_kernels({"blur": GaussianBlur(6.0, 35)})) == []


def test_the_largest_sigma_of_a_range_counts_and_of_both_axes() -> None:
    assert list(clipped_kernels({"a": GaussianBlur((0.5, 3.0), 21)})) == []
    assert len(list(clipped_kernels({"a": GaussianBlur((0.5, 6.0), 21)}))) == 1
    (line,) = clipped_kernels({"a": AnisotropicGaussianBlur((1, 2), (3, 8), kernel_size=21)})
    assert "sigma_x = 2, sigma_y = 8" in line
    assert f"{100 * outside(21, 2, 8):.2g} %" in line
    inner = Composed({"wide": GaussianBlur(6.0, 21)})
    (line,) = clipped_kernels({"mix": inner})
    assert line.startswith("degradation.parts.mix.parts.wide.kernel_size: 15 %")


@pytest.mark.parametrize(
    ("part", "arguments", "message"),
    [
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
    ],
)
def test_refusals_name_the_argument(part: type[Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        part(**arguments)
