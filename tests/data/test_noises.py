"""Noise and JPEG: the distributions, plain implementations, and Pillow."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from degradation_case import generators
from PIL import Image
from scipy import stats
from torch import Tensor

from faig_lab.data import JPEG, Degradation, Downsample, GaussianNoise, Part, PoissonNoise
from faig_lab.data.degradations.noises import poisson_quantile


def test_noise_is_white_gaussian_of_the_given_sigma():
    grey = torch.full((4, 3, 128, 128), 0.5, dtype=torch.float64)
    noise = GaussianNoise(sigma=0.1).apply(grey, generators(4)) - grey
    count = noise.numel()
    assert abs(float(noise.mean())) < 5 * 0.1 / math.sqrt(count)
    assert float(noise.std()) == pytest.approx(0.1, rel=5 / math.sqrt(2 * count))
    kurtosis = float((noise**4).mean() / noise.var() ** 2)
    assert kurtosis == pytest.approx(3, abs=0.1)
    rows = noise.flatten(2).flatten(0, 1)
    correlation = torch.corrcoef(rows) - torch.eye(12, dtype=torch.float64)
    assert float(correlation.abs().max()) < 6 / math.sqrt(128 * 128)
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    assert abs(float(neighbours)) < 6 / math.sqrt(count)


def test_noise_of_sigma_zero_is_none_and_does_not_depend_on_the_precision_of_the_image(images: Tensor) -> None:
    assert torch.equal(GaussianNoise(sigma=0).apply(images, generators(4)), images)
    single, double = (GaussianNoise().apply(some, generators(4)) for some in (images, images.double()))
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-7)


def test_poisson_has_the_mean_and_variance_of_photons() -> None:
    brightness = torch.tensor([0.0, 0.02, 0.3, 1.0])
    images = brightness[:, None, None, None].expand(4, 3, 100, 100)
    noisy = PoissonNoise(peak=40).apply(images, generators(4)).double()
    variance = brightness.double() / 40
    error = (variance / 30_000).sqrt()
    assert ((noisy.mean(dim=(1, 2, 3)) - brightness).abs() <= 4 * error).all()
    torch.testing.assert_close(noisy.var(dim=(1, 2, 3)), variance, rtol=0.05, atol=0)
    counts = noisy * 40
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-4)
    assert noisy[0].max() == 0


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.7, 5.0, 49.3, 2000.0])
def test_poisson_quantiles_are_those_of_scipy(rate: float, rng: np.random.Generator) -> None:
    probability = torch.from_numpy(np.append(rng.random(2000), [1e-9, 1 - 1e-9]))
    found = poisson_quantile(probability, torch.full_like(probability, rate))
    expected = stats.poisson.ppf(probability.numpy(), rate) if rate else np.zeros(2002)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_poisson_quantiles_end_at_the_ends() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for rate in (0.0, 1e-9, 3.0, 1e6):
        low, high = poisson_quantile(ends, torch.full_like(ends, rate)).tolist()
        assert 0 <= low <= rate <= high + (rate == 1e-9)
        assert high <= rate + 8 * rate**0.5 + 12


def test_one_pixel_does_not_change_the_noise_of_another(images: Tensor) -> None:
    changed = images.clone()
    changed[0, 0, 0, 0] = 1 - changed[0, 0, 0, 0]
    for part in (GaussianNoise(), PoissonNoise(peak=1000)):
        differs = part.apply(images, generators(4)) != part.apply(changed, generators(4))
        assert differs.sum() == differs[0, 0, 0, 0] == 1
    assert PoissonNoise(peak=20).apply(images - 2, generators(4)).abs().max() == 0  # no photons below black


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


@pytest.mark.parametrize(("quality", "shift"), [(1, 0), (30, 0), (100, 0), (50, 3), (50, 8), (50, 15)])
@pytest.mark.parametrize("domain", ["hr", "lr"])
def test_jpeg_is_pillows_round_trip_of_a_larger_image(
    quality: int, shift: int, domain: Any, rng: np.random.Generator
) -> None:
    pixels = rng.integers(0, 256, (2, 33, 47, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    compressed = JPEG(quality, shift=shift, domain=domain).apply(images, generators(2))
    # Rows and columns of the border are repeated.
    rows, columns = [0] * shift + list(range(33)), [0] * shift + list(range(47))
    for image, original in zip(compressed, pixels, strict=True):
        file = io.BytesIO()
        Image.fromarray(original[rows][:, columns]).save(file, "JPEG", quality=quality)
        decoded = np.asarray(Image.open(file))[shift:, shift:]
        np.testing.assert_array_equal((image * 255).round().byte().permute(1, 2, 0), decoded)
    torch.testing.assert_close(compressed * 255, (compressed * 255).round(), rtol=0, atol=1e-4)


def test_jpeg_clips(images: Tensor) -> None:
    over, clipped = (JPEG(50).apply(some, generators(4)) for some in (3 * images - 1, (3 * images - 1).clamp(0, 1)))
    torch.testing.assert_close(over, clipped)


def test_one_mix_holds_two_parts_of_one_class() -> None:
    """At one grid a second JPEG of one quality changes next to nothing; at another it does."""
    y, x = np.mgrid[0:64, 0:64]
    smooth = np.stack([0.5 + 0.3 * np.sin(x / 5 + y / 9 + c) for c in range(3)])
    hr = torch.from_numpy(smooth[None].astype(np.float32))

    def change(second: JPEG) -> float:
        degradation = Degradation({"first": JPEG(20), "second": second}, Downsample(), 1)
        once, twice = (
            degradation.apply(hr, [degradation.inputs()[name]], generators(1)) for name in ("first", "first+second")
        )
        return float((once - twice).abs().mean())

    assert min(change(JPEG(20, shift=4)), change(JPEG(10))) > 3 * change(JPEG(20))
