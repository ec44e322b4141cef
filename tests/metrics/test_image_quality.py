"""Image quality against plain implementations, and the conventions of the field."""

import numpy as np
import pytest
import reference
import torch
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import structural_similarity

from faig_lab.data import PairedImage
from faig_lab.metrics import METRICS, PSNR_CEILING, as_image, batches, bicubic, luma, psnr, quality, restore, ssim
from faig_lab.networks import SRResNet


def pair(count=3, size=(20, 24), dtype=torch.float64, noise=0.1):
    generator = torch.Generator().manual_seed(2)
    hr = torch.rand(count, 3, *size, generator=generator, dtype=dtype)
    spread = noise * torch.arange(1, count + 1, dtype=dtype).view(-1, 1, 1, 1)
    return (hr + spread * torch.randn(hr.shape, generator=generator, dtype=dtype)).clamp(0, 1), hr


@pytest.mark.parametrize("border", [0, 1, 4])
def test_psnr_is_the_definition(border):
    images, hr = pair()
    expected = [reference.psnr(image, truth, border) for image, truth in zip(images, hr, strict=True)]
    # torchmetrics holds ln 10 in single precision, which is off by 5e-8 of the value.
    np.testing.assert_allclose(psnr(images, hr, border).numpy(), expected, rtol=1e-7)


def test_a_perfect_image_has_the_ceiling():
    _, hr = pair()
    assert psnr(hr, hr).tolist() == [PSNR_CEILING] * 3
    nearly = hr.clone()
    nearly[0, 0, 0, 0] += 1e-9
    assert psnr(nearly, hr).tolist() == [PSNR_CEILING] * 3


def test_what_lies_in_the_border_does_not_count():
    _, hr = pair()
    spoilt = hr.clone()
    spoilt[..., :2, :] = spoilt[..., -2:, :] = spoilt[..., :2] = spoilt[..., -2:] = 0
    assert psnr(spoilt, hr, 2).tolist() == [PSNR_CEILING] * 3
    assert (psnr(spoilt, hr, 1) < 30).all()
    assert (quality(as_image(spoilt), as_image(hr), 2)["ssim"] == 1).all()


def test_luma_is_matlabs():
    images, _ = pair()
    expected = rgb2ycbcr(images.numpy(), channel_axis=1)[:, :1] / 255
    np.testing.assert_allclose(luma(images).numpy(), expected, rtol=0, atol=1e-5)


def test_an_output_is_clipped_and_rounded_as_a_file_would_be():
    output = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.5, 100.4 / 255])
    assert (as_image(output) * 255).tolist() == pytest.approx([0, 0, 0, 1, 255, 255, 100])
    assert as_image(output.to(torch.bfloat16)).dtype == torch.float32


def test_quality_has_all_measures_of_every_image():
    images, hr = pair(dtype=torch.float32)
    values = quality(images, hr, border=2)
    assert tuple(values) == METRICS
    rounded = as_image(images)
    for position in range(3):
        image, truth = rounded[position].numpy(), hr[position].numpy()
        assert float(values["psnr"][position]) == pytest.approx(reference.psnr(image, truth, 2), abs=1e-4)
        y, y_hr = (luma(x[position : position + 1].double())[0].numpy() for x in (rounded, hr))
        assert float(values["psnr_y"][position]) == pytest.approx(reference.psnr(y, y_hr, 2), abs=1e-4)
        alone = quality(images[position : position + 1], hr[position : position + 1], 2)
        for metric in METRICS:
            assert float(alone[metric]) == pytest.approx(float(values[metric][position]), abs=1e-4)


def plain_ssim(image, truth):
    """SSIM of two (H, W) images by the definition: an 11×11 Gaussian window of σ = 1.5 wherever it lies inside."""
    places = np.arange(-5, 6)
    window = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    window /= window.sum()

    def local_mean(values):
        return (np.lib.stride_tricks.sliding_window_view(values, (11, 11)) * window).sum(axis=(-2, -1))

    a, b = local_mean(image), local_mean(truth)
    var_a, var_b = local_mean(image**2) - a**2, local_mean(truth**2) - b**2
    covariance = local_mean(image * truth) - a * b
    c1, c2 = 0.01**2, 0.03**2
    return np.mean((2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (var_a + var_b + c2)))


def scikit_images_ssim(image, truth):
    """SSIM of two (H, W) images by scikit-image, averaged over the places where the window lies inside."""
    _, values = structural_similarity(
        image, truth, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return values[5:-5, 5:-5].mean()


@pytest.mark.parametrize("size", [(11, 11), (11, 30), (20, 26)])
@pytest.mark.parametrize("other", [plain_ssim, scikit_images_ssim])
def test_ssim_is_the_definition_and_scikit_images(other, size):
    images, hr = pair(2, size)
    y, y_hr = luma(images), luma(hr)
    expected = [other(a[0].numpy(), b[0].numpy()) for a, b in zip(y, y_hr, strict=True)]
    np.testing.assert_allclose(ssim(y, y_hr).numpy(), expected, rtol=0, atol=1e-12)


def test_quality_has_the_ssim_of_the_inside():
    images, hr = pair(2, (20, 26), torch.float32)
    values = quality(images, hr, border=2)["ssim"]
    assert values.dtype == torch.float32
    for value, image, truth in zip(values, as_image(images), hr, strict=True):
        y, y_hr = (luma(x[None])[0, 0, 2:-2, 2:-2].double().numpy() for x in (image, truth))
        assert float(value) == pytest.approx(scikit_images_ssim(y, y_hr), abs=1e-7)


def test_ssim_of_flat_images_compares_their_brightness():
    a, b = 0.2, 0.7
    flat = torch.ones(1, 1, 15, 13, dtype=torch.float64)
    expected = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)
    assert float(ssim(a * flat, b * flat)) == pytest.approx(expected, abs=1e-12)


def test_ssim_of_stripes_and_their_negative():
    """Stripes of one pixel: there are two kinds of windows, and the moments of both are known."""
    stripes = torch.tensor([0.25, 0.75], dtype=torch.float64).repeat(10).expand(1, 1, 20, 20)
    inverted = 1 - stripes
    window = torch.softmax(-torch.arange(-5, 6, dtype=torch.float64).square() / 4.5, 0)
    odd = float(window[::2].sum())  # the part of a window on stripes of one kind
    means = [0.25 + 0.5 * share for share in (odd, 1 - odd)]
    variance = 0.25 * odd * (1 - odd)
    c1, c2 = 0.01**2, 0.03**2
    expected = np.mean(
        [(2 * m * (1 - m) + c1) / (m**2 + (1 - m) ** 2 + c1) * (c2 - 2 * variance) / (c2 + 2 * variance) for m in means]
    )
    assert float(ssim(stripes, inverted)) == pytest.approx(expected, abs=1e-12)


def test_ssim_needs_one_whole_window():
    small = torch.zeros(1, 1, 10, 40)
    with pytest.raises(ValueError, match="SSIM needs at least 11×11 pixels, not 10×40"):
        ssim(small, small)


def test_equal_images_have_an_ssim_of_one():
    _, hr = pair(dtype=torch.float32)
    hr = as_image(hr)
    values = quality(hr, hr, border=2)
    assert values["ssim"].tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    assert values["psnr"].tolist() == values["psnr_y"].tolist() == [PSNR_CEILING] * 3


def test_the_output_may_leave_the_range():
    _, hr = pair(dtype=torch.float32)
    white = torch.ones_like(hr)
    assert quality(white * 7, hr, 2)["psnr"].tolist() == quality(white, hr, 2)["psnr"].tolist()


def keys(distance, a):
    """The cubic convolution kernel (Keys, IEEE Trans. Acoustics, Speech, and Signal Processing 1981)."""
    x = abs(distance)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def upscaled(values, scale, a=-0.5):
    """Cubic convolution of a row by the formula; the kernel's part inside the row is normalised."""
    result = []
    for place in (np.arange(len(values) * scale) + 0.5) / scale - 0.5:
        weights = np.array([keys(place - i, a) for i in range(len(values))])
        result.append((weights * values).sum() / weights.sum())
    return np.array(result)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_upscaling_is_cubic_convolution_with_a_half(scale):
    row, column = np.random.default_rng(1).random((2, 9))
    image = torch.from_numpy(np.outer(column, row)).expand(1, 3, 9, 9)
    expected = np.outer(upscaled(column, scale), upscaled(row, scale))
    np.testing.assert_allclose(bicubic(image, scale)[0, 1].numpy(), expected, rtol=0, atol=1e-12)
    other = np.outer(upscaled(column, scale, -0.75), upscaled(row, scale, -0.75))
    assert np.abs(bicubic(image, scale)[0, 1].numpy() - other).max() > 0.01


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_upscaling_is_pillows(scale):
    image = np.random.default_rng(0).random((7, 10)).astype(np.float32)
    expected = Image.fromarray(image).resize((10 * scale, 7 * scale), Image.Resampling.BICUBIC)
    ours = bicubic(torch.from_numpy(image).expand(2, 3, 7, 10), scale)
    assert ours.shape == (2, 3, 7 * scale, 10 * scale)
    np.testing.assert_allclose(ours[1, 2].numpy(), np.asarray(expected), rtol=0, atol=1e-6)


# Restoring


def image(name, height, width):
    generator = torch.Generator().manual_seed(height * width)
    lr = {kind: torch.rand(3, height, width, generator=generator) for kind in ("clean", "noise")}
    return PairedImage(name, torch.zeros(3, 2 * height, 2 * width), lr)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_of_several_sizes_are_restored_in_their_order(network, dtype):
    images = [image("a", 6, 5), image("b", 4, 8), image("c", 6, 5), image("d", 4, 8), image("e", 7, 7)]
    images[2].lr["noise"].add_(0.1)
    state = {name: value.to(dtype) + 0.01 for name, value in network.state_dict().items()}
    plain = SRResNet(features=4, blocks=1).to(dtype)
    plain.load_state_dict(state)
    calls = []
    network.register_forward_pre_hook(lambda module, arguments: calls.append(tuple(arguments[0].shape)))
    outputs = restore(network, state, images, "noise")
    assert calls == [(2, 3, 6, 5), (2, 3, 4, 8), (1, 3, 7, 7)]
    for one, output in zip(images, outputs, strict=True):
        with torch.no_grad():
            expected = plain(one.lr["noise"][None].to(dtype))[0]
        assert output.dtype == dtype
        assert not output.requires_grad
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)


def test_no_more_pixels_are_restored_at_once_than_a_cpu_bears(network, monkeypatch):
    images = [image(name, 6, 5) for name in "abcde"] + [image("f", 16, 16)]
    together = restore(network, network.state_dict(), images, "noise")
    monkeypatch.setattr("faig_lab.metrics._CPU_PIXELS", 2 * 12 * 10)
    calls = []
    network.register_forward_pre_hook(lambda module, arguments: calls.append(len(arguments[0])))
    outputs = restore(network, network.state_dict(), images, "noise")
    assert calls == [2, 2, 1, 1]  # one that is larger goes alone
    for one, other in zip(outputs, together, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_no_more_pixels_are_computed_at_once_than_a_gpu_bears():
    small, large = [(3, 12, 10)] * 3, [(3, 1200, 1200)] * 4
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [list(batches(small, device)) for device in (cpu, gpu)] == [[[0, 1, 2]]] * 2
    assert list(batches(large, cpu)) == [[0], [1], [2], [3]]
    assert list(batches(large, gpu)) == [[0, 1], [2, 3]]


def test_a_batch_has_images_of_one_shape_in_their_order():
    shapes = [(3, 4, 6), (3, 6, 4), (3, 4, 6), (1, 4, 6)]
    assert list(batches(shapes, torch.device("cpu"))) == [[0, 2], [1], [3]]
    assert list(batches([], torch.device("cpu"))) == []
