"""Blurs, downsampling and resizing against their definitions, plain implementations and each other."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from degradation_case import BLURS, generators
from kornia.filters import gaussian_blur2d
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, special, stats
from torch import Tensor

from faig_lab.data import (
    AnisotropicGaussianBlur,
    Composed,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    Resize,
    Sinc,
    clipped_kernels,
)

Blur = AnisotropicGaussianBlur | MotionBlur


@pytest.mark.parametrize("blur", [BLURS[2], BLURS[3], BLURS[4], BLURS[5]], ids=repr)
def test_kernels_sum_to_one_and_are_symmetric(blur: Blur) -> None:
    kernels = blur.kernels(generators(5))
    assert kernels.shape == (5, 9, 9)
    assert (kernels >= 0).all()
    torch.testing.assert_close(kernels.sum(dim=(1, 2)), torch.ones(5, dtype=kernels.dtype))
    torch.testing.assert_close(kernels, kernels.flip(1, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 33.0, None])
def test_equal_sigmas_are_isotropic(images: Tensor, angle: float | None) -> None:
    blurred = AnisotropicGaussianBlur(1.5, 1.5, angle, kernel_size=11).apply(images, generators(4))
    expected = GaussianBlur(sigma=1.5, kernel_size=11).apply(images, generators(4))
    torch.testing.assert_close(blurred, expected, rtol=0, atol=1e-6)


def test_axes_of_the_anisotropic_blur(images: Tensor) -> None:
    def blurred(sigma_x: float, sigma_y: float, angle: float) -> Tensor:
        return AnisotropicGaussianBlur(sigma_x, sigma_y, angle, kernel_size=13).apply(images, generators(4))

    # kornia's pair is (vertical, horizontal).
    axes = gaussian_blur2d(images, (13, 13), (0.8, 2.5), border_type="reflect")
    torch.testing.assert_close(blurred(2.5, 0.8, 0), axes, rtol=0, atol=1e-6)
    torch.testing.assert_close(blurred(0.8, 2.5, 90), axes, rtol=0, atol=1e-6)
    torch.testing.assert_close(blurred(2.5, 0.8, 180), axes, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "make", [lambda angle: AnisotropicGaussianBlur(3.0, 0.7, angle, 15), lambda angle: MotionBlur(15, angle)]
)
@pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, 135.0])
def test_angles_are_counter_clockwise_from_horizontal(make: Callable[[float], Blur], angle: float) -> None:
    """The kernel's principal axis, from its second moments."""
    (kernel,) = make(angle).kernels(generators(1)).double()
    place = torch.arange(15) - 7.0
    right, up = place[None, :], -place[:, None]
    xx, yy, xy = ((kernel * moment).sum() for moment in (right**2 + 0 * up, up**2 + 0 * right, right * up))
    found = torch.rad2deg(torch.atan2(2 * xy, xx - yy)).item() / 2
    assert (found - angle + 90) % 180 - 90 == pytest.approx(0, abs=1)


def test_motion_along_an_axis_is_the_mean_of_the_line(images: Tensor) -> None:
    moved = MotionBlur(length=5, angle=0).apply(images, generators(4))
    mean = torch.stack([images[..., i : 36 - 4 + i] for i in range(5)]).mean(dim=0)
    torch.testing.assert_close(moved[..., 2:-2], mean, rtol=0, atol=1e-6)
    (turned,) = MotionBlur(length=5, angle=90).kernels(generators(1))
    expected = torch.zeros(5, 5)
    expected[:, 2] = 0.2
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)


def test_lengths_of_a_range_are_odd_and_all_occur() -> None:
    kernels = MotionBlur(length=(3, 9), angle=0).kernels(generators(60))
    lengths = (kernels[:, 4] > 0).sum(dim=1)
    assert set(lengths.tolist()) == {3, 5, 7, 9}


@pytest.mark.parametrize(("sigma", "kernel_size"), [(2.0, 21), (0.7, 3), (5.0, 7), (1.0, 1)])
def test_blur_is_a_dense_gaussian_convolution(sigma: float, kernel_size: int, rng: np.random.Generator) -> None:
    images = rng.random((2, 3, 24, 30))
    blurred = GaussianBlur(sigma, kernel_size).apply(torch.from_numpy(images), []).numpy()
    line = np.exp(-((np.arange(kernel_size) - kernel_size // 2) ** 2) / (2 * sigma**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    np.testing.assert_allclose(blurred, convolved(images, kernel), rtol=0, atol=1e-12)


def convolved(images: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """A dense convolution of (N, 3, H, W) that reflects the border."""
    return ndimage.convolve(images, kernel[None, None], mode="mirror")


def published_sinc(cutoff: float, kernel_size: int) -> NDArray[np.float64]:
    """`circular_lowpass_kernel` of Real-ESRGAN, without its padding."""
    place = np.arange(kernel_size) - (kernel_size - 1) / 2
    radius = np.hypot(place[:, None], place[None])
    radius[kernel_size // 2, kernel_size // 2] = 1  # where the limit is taken
    kernel = cutoff * special.j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[kernel_size // 2, kernel_size // 2] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


@pytest.mark.parametrize("cutoff", [0.3, math.pi / 3, 2.0, math.pi])
@pytest.mark.parametrize("kernel_size", [1, 7, 21])
def test_sinc_kernels_are_the_published_ones(cutoff: float, kernel_size: int) -> None:
    kernels = Sinc(cutoff, kernel_size).kernels(generators(3))
    assert kernels.dtype == torch.float64
    for kernel in kernels:
        np.testing.assert_allclose(kernel.numpy(), published_sinc(cutoff, kernel_size), rtol=0, atol=1e-12)


def test_sinc_is_a_convolution_that_is_clipped(images: Tensor) -> None:
    black_and_white = images.round().double()
    filtered = Sinc(cutoff=(1.0, 2.0), kernel_size=11).apply(black_and_white, generators(4)).numpy()
    kernels = [published_sinc(rng.uniform(1.0, 2.0), 11) for rng in generators(4)]
    plain = np.stack([convolved(one[None], k)[0] for one, k in zip(black_and_white.numpy(), kernels, strict=True)])
    assert ((plain < 0) | (plain > 1)).sum() > 100
    np.testing.assert_allclose(filtered, plain.clip(0, 1), rtol=0, atol=1e-10)


def test_sinc_keeps_what_is_below_the_cutoff_and_removes_what_is_above_it() -> None:
    place = np.arange(200.0)
    for frequency, kept in ((0.4, True), (2.0, False)):
        wave = 0.5 + 0.3 * np.cos(frequency * place)
        image = torch.from_numpy(np.broadcast_to(wave, (1, 3, 64, 200)).copy())
        result = Sinc(cutoff=1.2, kernel_size=61).apply(image, generators(1))[0, 0, 32, 40:-40].numpy()
        assert np.ptp(result) == pytest.approx(0.6, rel=0.1) if kept else np.ptp(result) < 0.06


def outside(kernel_size: int, sigma_x: float, sigma_y: float) -> float:
    """By sampling: the share of a Gaussian outside a square."""
    points = np.random.default_rng(0).normal(size=(400_000, 2)) * (sigma_x, sigma_y)
    return float((np.abs(points) > kernel_size / 2).any(axis=1).mean())


def test_what_is_cut_off_is_said_with_the_size_that_would_do() -> None:
    """The largest sigma of a range counts, of both axes, and of the parts of a composed part."""
    assert outside(21, 6, 6) == pytest.approx(0.154, abs=0.003)
    assert outside(35, 6, 6) < 0.01 < outside(33, 6, 6)
    said = "15 % of the Gaussian with sigma = 6 lies outside 21×21 pixels; kernel_size=35 holds 99 %"
    parts = {
        "fine": GaussianBlur((0.5, 3.0), 21),
        "noise": GaussianNoise(),
        "blur": GaussianBlur((0.5, 6.0), 21),
        "enough": GaussianBlur(6.0, 35),
        "mix": Composed({"wide": GaussianBlur(6.0, 21)}),
        "two": AnisotropicGaussianBlur((1, 2), (3, 8), kernel_size=21),
    }
    blur, mix, two = clipped_kernels(parts)
    assert blur == f"degradation.parts.blur.kernel_size: {said}"
    assert mix == f"degradation.parts.mix.parts.wide.kernel_size: {said}"
    assert two.startswith(f"degradation.parts.two.kernel_size: {100 * outside(21, 2, 8):.2g} % of the Gaussian with ")
    assert "sigma_x = 2, sigma_y = 8" in two


# Downsampling and resizing


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


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
def test_downsampling_is_two_products_of_matrices(scale: int, mode: Any, antialias: bool, images: Tensor) -> None:
    """Bicubic has a = −0.5 with antialiasing and a = −0.75 without."""
    image = images[:, :, :36, :24].double()
    rows, columns = (plain_weights(size, size // scale, mode, antialias) for size in (36, 24))
    expected = rows @ image.numpy() @ columns.T
    ours = Downsample(mode, antialias).apply(image, scale).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("kernel", "pillow"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_antialiased_downsampling_and_resizing_are_pillows(
    kernel: Any, pillow: Any, scale: int, rng: np.random.Generator
) -> None:
    image = rng.random((3, 24 * scale, 20 * scale), dtype=np.float32)
    small = [Image.fromarray(channel).resize((20, 24), pillow) for channel in image]
    ours = Downsample(kernel, antialias=True).apply(torch.from_numpy(image)[None], scale)[0].numpy()
    expected = np.stack([np.asarray(channel) for channel in small])
    np.testing.assert_allclose(ours[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], rtol=0, atol=1e-5)
    ours = Resize(1 / scale, [kernel]).apply(torch.from_numpy(image)[None], generators(1))[0].numpy()
    expected = np.stack([np.asarray(channel.resize((20 * scale, 24 * scale), pillow)) for channel in small])
    np.testing.assert_allclose(ours, expected.clip(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_area_and_nearest_take_blocks(scale: int) -> None:
    images = torch.arange(12 * 12 * 3, dtype=torch.float32).reshape(1, 3, 12, 12)
    blocks = images.reshape(1, 3, 12 // scale, scale, 12 // scale, scale)
    area = Downsample("area", antialias=False).apply(images, scale)
    torch.testing.assert_close(area, blocks.mean(dim=(3, 5)))
    nearest = Downsample("nearest", antialias=False).apply(images, scale)
    assert torch.equal(nearest, blocks[:, :, :, scale // 2, :, scale // 2])


@pytest.mark.parametrize("mode", ["bicubic", "bilinear", "area", "nearest"])
def test_each_downsampling_keeps_grey_and_needs_no_more_than_its_reach(mode: Any, images: Tensor) -> None:
    for antialias in (True, False) if mode in ("bicubic", "bilinear") else (False,):
        downsample = Downsample(mode, antialias)
        assert downsample.apply(images, 1) is images
        torch.testing.assert_close(downsample.apply(torch.full((1, 3, 12, 12), 0.3), 3), torch.full((1, 3, 4, 4), 0.3))
        whole, reach = downsample.apply(images, 2), downsample.reach(2)
        part = downsample.apply(images[..., 10 - reach : 18 + reach, 10 - reach : 18 + reach], 2)
        border = reach // 2
        torch.testing.assert_close(part[..., border:-border, border:-border], whole[..., 5:9, 5:9], rtol=0, atol=1e-6)


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


def test_every_pair_of_kernels_is_drawn_alike(images: Tensor) -> None:
    single = images[:1, :, :12, :12].double()
    results = Resize(0.5).apply(single.expand(900, -1, -1, -1), generators(900)).numpy()
    counts = []
    for there, back in itertools.product(("area", "bilinear", "bicubic"), repeat=2):
        both = plain_weights(6, 12, back, True) @ plain_weights(12, 6, there, True)
        expected = np.clip(both @ single[0].numpy() @ both.T, 0, 1)
        counts.append(int((np.abs(results - expected).max(axis=(1, 2, 3)) < 1e-9).sum()))
    assert sum(counts) == 900
    assert stats.chisquare(counts).pvalue > 1e-3


def test_factors_are_split_at_one() -> None:
    def factors(enlarged: float | None) -> NDArray[np.float64]:
        part = Resize(factor=(0.2, 1.5), enlarged=enlarged)
        return np.array([part._draw_factor(rng) for rng in generators(2000)])

    split = factors(0.25)
    assert (split > 1).mean() == pytest.approx(0.25, abs=0.04)
    for found, low, high in ((split[split <= 1], 0.2, 1), (split[split > 1], 1, 1.5), (factors(None), 0.2, 1.5)):
        assert stats.kstest(found, stats.uniform(low, high - low).cdf).pvalue > 1e-3
