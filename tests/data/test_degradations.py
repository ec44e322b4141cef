"""Degradations: exact where mathematics gives the answer, against independent implementations, pure in every sample."""

import io
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d
from PIL import Image
from scipy import stats
from torch import Tensor

from faig_lab.data import (
    JPEG,
    AnisotropicGaussianBlur,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    Part,
    PoissonNoise,
    sample_rng,
)
from faig_lab.data.degradations.noises import poisson_quantile
from faig_lab.data.degradations.pipeline import draw, draw_whole

CLEAN, BLUR, NOISE = frozenset[str](), frozenset({"blur"}), frozenset({"noise"})
BOTH = BLUR | NOISE
HR_PARTS = [
    GaussianBlur(sigma=1.5, kernel_size=9),
    GaussianBlur(sigma=(0.5, 3.0), kernel_size=9),
    AnisotropicGaussianBlur(sigma_x=2.5, sigma_y=0.7, kernel_size=9),
    AnisotropicGaussianBlur(sigma_x=(1, 3), sigma_y=(0.5, 1), angle=(20, 60), kernel_size=9),
    MotionBlur(length=9),
    MotionBlur(length=(3, 9), angle=30.0),
]
LR_PARTS = [
    GaussianNoise(sigma=0.1),
    GaussianNoise(sigma=(0.05, 0.2)),
    PoissonNoise(peak=30),
    PoissonNoise(peak=(10, 100)),
    JPEG(quality=40),
    JPEG(quality=(5, 95)),
]
PARTS = HR_PARTS + LR_PARTS
RANGED = [PARTS[i] for i in (1, 3, 5, 7, 9, 11)]
Blur = AnisotropicGaussianBlur | MotionBlur


def generators(count: int, stream: str = "test") -> list[np.random.Generator]:
    return [sample_rng(3, stream, number) for number in range(count)]


@pytest.fixture
def images(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.random((4, 3, 40, 36), dtype=np.float32))


@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_a_sample_is_a_function_of_its_generator(part: Part, images: Tensor) -> None:
    together = part.apply(images, generators(4))
    assert together.shape == images.shape
    assert together.dtype == images.dtype
    assert torch.equal(together, part.apply(images, generators(4)))
    for i in range(4):
        alone = part.apply(images[i : i + 1], [sample_rng(3, "test", i)])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("part", RANGED, ids=repr)
def test_severities_of_a_range_differ_between_samples(part: Part, images: Tensor) -> None:
    same = images[:1].expand(4, -1, -1, -1).contiguous()
    harm = (part.apply(same, generators(4)) - same).square().mean(dim=(1, 2, 3))
    assert harm.unique().numel() > 1
    assert not torch.equal(part.apply(same, generators(4)), part.apply(same, generators(4, "other")))


@pytest.mark.parametrize("part", HR_PARTS, ids=repr)
def test_a_blur_leaves_a_constant_image_and_reaches_as_far_as_it_says(part: Part) -> None:
    grey = torch.full((2, 3, 31, 31), 0.3)
    torch.testing.assert_close(part.apply(grey, generators(2)), grey)
    point = torch.zeros(1, 3, 31, 31)
    point[..., 15, 15] = 1
    blurred = part.apply(point, generators(1))
    assert blurred.sum().item() == pytest.approx(3, rel=1e-5)
    assert part.reach == 4
    inner = blurred[..., 11:20, 11:20]
    assert torch.count_nonzero(blurred) == torch.count_nonzero(inner)
    if isinstance(part, GaussianBlur):  # no pixel of its kernel is zero
        assert (inner > 0).all()


@pytest.mark.parametrize("blur", [HR_PARTS[2], HR_PARTS[3], HR_PARTS[4], HR_PARTS[5]], ids=repr)
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


def test_no_photons_below_black(images: Tensor) -> None:
    assert PoissonNoise(peak=20).apply(images - 2, generators(4)).abs().max() == 0


@pytest.mark.parametrize("quality", [1, 30, 100])
def test_jpeg_is_pillows_round_trip(rng: np.random.Generator, quality: int) -> None:
    pixels = rng.integers(0, 256, (2, 33, 47, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    compressed = JPEG(quality=quality).apply(images, generators(2))
    for image, original in zip(compressed, pixels, strict=True):
        file = io.BytesIO()
        Image.fromarray(original).save(file, "JPEG", quality=quality)
        decoded = np.asarray(Image.open(file))
        np.testing.assert_array_equal((image * 255).round().byte().permute(1, 2, 0), decoded)
    torch.testing.assert_close(compressed * 255, (compressed * 255).round(), rtol=0, atol=1e-4)


def test_jpeg_clips_and_worsens_with_lower_quality(images: Tensor) -> None:
    torch.testing.assert_close(
        JPEG(quality=50).apply(3 * images - 1, generators(4)),
        JPEG(quality=50).apply((3 * images - 1).clamp(0, 1), generators(4)),
    )
    errors = [(JPEG(quality=q).apply(images, generators(4)) - images).square().mean().item() for q in (10, 50, 95)]
    assert errors == sorted(errors, reverse=True)


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


def test_draws_lie_in_the_range() -> None:
    rng = np.random.default_rng(0)
    values = np.array([draw((0.5, 3.0), rng) for _ in range(2000)])
    assert values.min() >= 0.5
    assert values.max() <= 3.0
    assert stats.kstest(values, stats.uniform(0.5, 2.5).cdf).pvalue > 1e-3
    whole = [draw_whole((10, 13), rng) for _ in range(400)]
    assert set(whole) == {10, 11, 12, 13}
    assert draw((2.0, 2.0), rng) == 2.0


def test_a_number_takes_nothing_from_the_generator() -> None:
    used, fresh = np.random.default_rng(0), np.random.default_rng(0)
    assert (draw(2, used), draw_whole(30, used)) == (2.0, 30)
    assert used.random() == fresh.random()


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
    ],
)
def test_refusals_name_the_argument(part: type[Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        part(**arguments)


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
        torch.testing.assert_close(downsample.apply(torch.full((1, 3, 12, 12), 0.3), 3), torch.full((1, 3, 4, 4), 0.3))
        whole, reach = downsample.apply(images, 2), downsample.reach(2)
        part = downsample.apply(images[..., 10 - reach : 18 + reach, 10 - reach : 18 + reach], 2)
        border = reach // 2
        torch.testing.assert_close(part[..., border:-border, border:-border], whole[..., 5:9, 5:9], rtol=0, atol=1e-6)


def study(scale=2, quantise=True, downsample=None, sigma=0.1):
    parts = {"blur": GaussianBlur(sigma=1.2, kernel_size=9), "noise": GaussianNoise(sigma=sigma)}
    return Degradation(parts, downsample or Downsample(), scale, quantise)


def patches(degradation, count, side=8, dtype=torch.float32):
    size = side * degradation.scale + 2 * degradation.margin
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


# Blur


def dense_blur(image, sigma, kernel_size):
    """The definition with explicit shifts: a normalised two-dimensional Gaussian over the reflected image."""
    reach = kernel_size // 2
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    total, result = 0.0, np.zeros_like(image)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            weight = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
            height, width = image.shape[1:]
            result += weight * padded[:, reach + dy : reach + dy + height, reach + dx : reach + dx + width]
            total += weight
    return result / total


@pytest.mark.parametrize(("sigma", "kernel_size"), [(2.0, 21), (0.7, 3), (5.0, 7), (1.0, 1)])
def test_blur_is_a_dense_gaussian_convolution(sigma, kernel_size, rng):
    images = rng.random((2, 3, 24, 30))
    blurred = GaussianBlur(sigma, kernel_size).apply(torch.from_numpy(images), []).numpy()
    for image, result in zip(images, blurred, strict=True):
        np.testing.assert_allclose(result, dense_blur(image, sigma, kernel_size), rtol=0, atol=1e-12)


# Noise


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


def test_noise_differs_between_samples_and_streams_and_is_none_of_sigma_zero(images):
    first, other = (GaussianNoise(sigma=0.1).apply(images, generators(4, stream)) - images for stream in ("a", "b"))
    assert not torch.equal(first[0], first[1])
    assert not (first == other).flatten(1).all(1).any()
    assert torch.equal(GaussianNoise(sigma=0).apply(images, generators(4)), images)


def test_noise_does_not_depend_on_the_precision_of_the_image():
    image = torch.full((1, 3, 8, 8), 0.5)
    single = GaussianNoise().apply(image, generators(1))
    double = GaussianNoise().apply(image.double(), generators(1))
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-7)


# Downsampling


def pillow(image, scale, kernel):
    """Pillow's resize of (3, H, W), channel by channel in 32-bit floats."""
    height, width = image.shape[1] // scale, image.shape[2] // scale
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in image]
    return np.stack([np.asarray(channel.resize((width, height), kernel)) for channel in channels])


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("mode", "kernel"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_antialiased_downsampling_is_pillows(mode, kernel, scale, rng):
    image = rng.random((3, 24 * scale, 20 * scale)).astype(np.float32)
    ours = Downsample(mode, antialias=True).apply(torch.from_numpy(image)[None], scale)[0].numpy()
    expected = pillow(image, scale, kernel)
    assert ours.shape == expected.shape == (3, 24, 20)
    np.testing.assert_allclose(ours[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], rtol=0, atol=1e-5)


def cubic(distance, a):
    """Keys' kernel of cubic convolution."""
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize(("antialias", "a", "widened"), [(True, -0.5, 2), (False, -0.75, 1)])
def test_bicubic_halving_has_the_kernel_that_is_documented(antialias, a, widened, rng):
    row = rng.random(24)
    image = torch.from_numpy(row).expand(1, 3, 24, 24)
    ours = Downsample("bicubic", antialias).apply(image, 2)[0, 0, 6].numpy()
    for place in range(2, 10):  # away from the border
        weights = np.array([cubic((2 * place + 0.5 - i) / widened, a) for i in range(24)])
        assert ours[place] == pytest.approx((weights * row).sum() / weights.sum(), abs=1e-12)


def test_plain_bilinear_halving_is_the_mean_of_four(rng):
    image = rng.random((2, 3, 12, 10))
    ours = Downsample("bilinear", antialias=False).apply(torch.from_numpy(image), 2).numpy()
    np.testing.assert_allclose(ours, image.reshape(2, 3, 6, 2, 5, 2).mean(axis=(3, 5)), rtol=0, atol=1e-15)


def test_plain_bilinear_by_three_takes_the_centre(rng):
    image = torch.from_numpy(rng.random((1, 3, 12, 9)))
    torch.testing.assert_close(Downsample("bilinear", antialias=False).apply(image, 3), image[..., 1::3, 1::3])


def test_a_factor_of_one_changes_nothing():
    image = torch.rand(1, 3, 5, 5)
    assert Downsample().apply(image, 1) is image


# The whole way

ONE_BLUR = [
    (GaussianBlur(sigma=1.2, kernel_size=9), scale, downsample)
    for scale in (2, 3, 4)
    for downsample in (Downsample(), Downsample("bilinear", False), Downsample("bicubic", False))
]


@pytest.mark.parametrize(("part", "scale", "downsample"), [*((part, 2, Downsample()) for part in HR_PARTS), *ONE_BLUR])
def test_a_cut_with_margin_is_degraded_as_within_the_whole_image(part, scale, downsample):
    degradation = Degradation({"part": part}, downsample, scale, quantise=False)
    margin = degradation.margin
    whole = torch.rand(1, 3, 20 * scale + 2 * margin, 24 * scale + 2 * margin, dtype=torch.float64)
    exact = 1e-6 if isinstance(part, MotionBlur) else 1e-12  # its kernels are in float32
    for parts in (CLEAN, frozenset({"part"})):
        expected = degradation.apply(whole, [parts], generators(1))
        for top, left in ((0, 0), (3, 5), (14, 18)):
            rows = slice(top * scale, (top + 6) * scale + 2 * margin)
            columns = slice(left * scale, (left + 6) * scale + 2 * margin)
            patch = degradation.apply(whole[..., rows, columns], [parts], generators(1))
            assert patch.shape == (1, 3, 6, 6)
            inside = expected[..., top : top + 6, left : left + 6]
            torch.testing.assert_close(patch, inside, rtol=0, atol=exact)


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


# Randomness


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
