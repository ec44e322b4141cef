"""Downsampling and resizing: every weight from the kernel's formula, and Pillow."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from degradation_case import generators
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from torch import Tensor

from faig_lab.data import Downsample, Resize


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
