"""Degradations against independent implementations, and the purity of every sample."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from faig_lab.data import Degradation, Downsample, GaussianBlur, GaussianNoise, sample_rng

CLEAN, BLUR, NOISE = frozenset[str](), frozenset({"blur"}), frozenset({"noise"})
BOTH = BLUR | NOISE


def rngs(count, stream="test"):
    return [sample_rng(0, stream, number) for number in range(count)]


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


def test_blur_sees_as_far_as_its_reach_and_no_further():
    blur = GaussianBlur(sigma=3.0, kernel_size=11)
    impulse = torch.zeros(1, 3, 31, 31, dtype=torch.float64)
    impulse[..., 15, 15] = 1
    seen = blur.apply(impulse, [])[0, 0].nonzero()
    assert blur.reach == 5
    assert seen.min(0).values.tolist() == [10, 10]
    assert seen.max(0).values.tolist() == [20, 20]


# Noise


def test_noise_is_white_gaussian_of_the_given_sigma():
    grey = torch.full((4, 3, 128, 128), 0.5, dtype=torch.float64)
    noise = GaussianNoise(sigma=0.1).apply(grey, rngs(4)) - grey
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


def test_noise_is_a_function_of_the_generator():
    images = torch.rand(2, 3, 8, 8)
    noise = GaussianNoise(sigma=0.1)
    first, second, third = (noise.apply(images, rngs(2, stream)) for stream in ("a", "a", "b"))
    assert torch.equal(first, second)
    assert not (first == third).any(dim=(1, 2, 3)).all()
    assert not torch.equal((first - images)[0], (first - images)[1])
    assert torch.equal(GaussianNoise(sigma=0).apply(images, rngs(2)), images)


def test_noise_does_not_depend_on_the_precision_of_the_image():
    image = torch.full((1, 3, 8, 8), 0.5)
    single = GaussianNoise().apply(image, rngs(1))
    double = GaussianNoise().apply(image.double(), rngs(1))
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


@pytest.mark.parametrize("downsample", [Downsample(), Downsample("bilinear", False), Downsample("bicubic", False)])
def test_downsampling_keeps_a_constant(downsample):
    image = torch.full((1, 3, 24, 24), 0.3, dtype=torch.float64)
    torch.testing.assert_close(downsample.apply(image, 4), torch.full((1, 3, 6, 6), 0.3, dtype=torch.float64))


# The whole way


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    "downsample", [Downsample(), Downsample("bilinear", False), Downsample("bicubic", False)], ids=str
)
def test_a_cut_with_margin_is_degraded_as_within_the_whole_image(scale, downsample):
    degradation = study(scale, quantise=False, downsample=downsample)
    margin = degradation.margin
    whole = torch.rand(1, 3, 20 * scale + 2 * margin, 24 * scale + 2 * margin, dtype=torch.float64)
    for parts in (CLEAN, BLUR):
        expected = degradation.apply(whole, [parts], rngs(1))
        for top, left in ((0, 0), (3, 5), (14, 18)):
            rows = slice(top * scale, (top + 6) * scale + 2 * margin)
            columns = slice(left * scale, (left + 6) * scale + 2 * margin)
            patch = degradation.apply(whole[..., rows, columns], [parts], rngs(1))
            assert patch.shape == (1, 3, 6, 6)
            inside = expected[..., top : top + 6, left : left + 6]
            torch.testing.assert_close(patch, inside, rtol=0, atol=1e-12)


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
    assert torch.equal(degradation.apply(hr, [CLEAN], rngs(1)), expected)


def test_blur_comes_before_downsampling_and_noise_after_it():
    degradation = study(quantise=False)
    hr, border = patches(degradation, 1), degradation.margin // 2
    blurred = GaussianBlur(sigma=1.2, kernel_size=9).apply(hr, [])
    small = Downsample().apply(blurred, 2)[..., border:-border, border:-border]
    assert torch.equal(degradation.apply(hr, [BOTH], rngs(1)), GaussianNoise().apply(small, rngs(1)))


@pytest.mark.parametrize("quantise", [True, False])
def test_only_the_chosen_samples_are_degraded(quantise):
    degradation = study(quantise=quantise)
    hr = patches(degradation, 4)
    before = hr.clone()
    mixed = degradation.apply(hr, [CLEAN, BLUR, NOISE, BOTH], rngs(4))
    for row, parts in enumerate((CLEAN, BLUR, NOISE, BOTH)):
        same = degradation.apply(hr, [parts] * 4, rngs(4))
        torch.testing.assert_close(mixed[row], same[row], rtol=0, atol=1e-6)
        for other in {CLEAN, BLUR, NOISE, BOTH} - {parts}:
            assert not torch.allclose(mixed[row], degradation.apply(hr, [other] * 4, rngs(4))[row], atol=1e-3)
    assert torch.equal(hr, before)


def test_a_sample_is_the_same_bytes_in_any_batch():
    degradation = study()
    hr = patches(degradation, 8)
    names = [CLEAN, BLUR, NOISE, BOTH, BOTH, NOISE, BLUR, CLEAN]
    together = degradation.apply(hr, names, rngs(8))
    for chosen in ([0], [3], [7, 1], [5, 2, 4], list(range(8))[::-1]):
        alone = degradation.apply(hr[chosen], [names[i] for i in chosen], [rngs(8)[i] for i in chosen])
        assert torch.equal(alone, together[chosen])


def test_quantised_input_is_what_an_image_file_holds():
    hr = patches(study(), 2) * 1.4 - 0.2
    lr, exact = (study(quantise=q, sigma=0.5).apply(hr, [NOISE] * 2, rngs(2)) for q in (True, False))
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
    assert {degradation.draw(generator) for generator in rngs(200)} == {NOISE}


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


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianBlur(sigma=0), "sigma must be > 0 HR pixels, not 0"),
        (lambda: GaussianBlur(sigma=-1.5), "sigma must be > 0 HR pixels, not -1.5"),
        (lambda: GaussianBlur(kernel_size=4), "kernel_size must be odd and positive, not 4"),
        (lambda: GaussianBlur(kernel_size=-3), "kernel_size must be odd and positive, not -3"),
        (lambda: GaussianBlur(probability=1.1), r"probability must lie in 0\.\.1, not 1.1"),
        (lambda: GaussianNoise(sigma=-0.1), r"sigma must be >= 0 \(range \[0, 1\]\), not -0.1"),
        (lambda: GaussianNoise(probability=-0.1), r"probability must lie in 0\.\.1, not -0.1"),
        (lambda: Downsample(mode="lanczos"), "mode must be .*bicubic.*, not lanczos"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
