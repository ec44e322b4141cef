"""Image quality against plain implementations, and the conventions of the field."""

import numpy as np
import pytest
import reference
import torch
from skimage.color import rgb2ycbcr

from faig_lab.data import PairedImage
from faig_lab.networks import SRResNet
from faig_lab.training import METRICS, as_image, bicubic, metrics, psnr, quality, restore
from faig_lab.training.metrics import PSNR_CEILING, luma


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


def test_psnr_is_taken_per_image_and_not_pooled():
    images, hr = pair()
    mean = float(psnr(images, hr).mean())
    pooled = float(-10 * torch.log10(((images - hr) ** 2).mean()))
    assert mean == pytest.approx(np.mean([reference.psnr(i, t, 0) for i, t in zip(images, hr, strict=True)]))
    assert mean > pooled + 0.5


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


def test_luma_has_the_studio_range():
    black, white = torch.zeros(1, 3, 1, 1).double(), torch.ones(1, 3, 1, 1).double()
    assert float(luma(black)) == pytest.approx(16 / 255, abs=1e-12)
    assert float(luma(white)) == pytest.approx(235 / 255, abs=1e-12)


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
    """SSIM of two (H, W) images by the definition: an 11×11 Gaussian window of σ = 1.5 around every pixel."""
    places = np.arange(-5, 6)
    window = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    window /= window.sum()

    def local_mean(values):
        views = np.lib.stride_tricks.sliding_window_view(np.pad(values, 5, mode="reflect"), (11, 11))
        return (views * window).sum(axis=(-2, -1))

    a, b = local_mean(image), local_mean(truth)
    var_a, var_b = local_mean(image**2) - a**2, local_mean(truth**2) - b**2
    covariance = local_mean(image * truth) - a * b
    c1, c2 = 0.01**2, 0.03**2
    return np.mean((2 * a * b + c1) * (2 * covariance + c2) / ((a**2 + b**2 + c1) * (var_a + var_b + c2)))


def test_ssim_is_the_definition():
    images, hr = pair(2, (20, 26), torch.float32)
    values = quality(images, hr, border=2)["ssim"]
    for value, image, truth in zip(values, as_image(images), hr, strict=True):
        y, y_hr = (luma(x[None].double())[0, 0, 2:-2, 2:-2].numpy() for x in (image, truth))
        assert float(value) == pytest.approx(plain_ssim(y, y_hr), abs=1e-4)


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


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_upscaling_keeps_what_is_flat_and_follows_what_is_smooth(scale):
    flat = torch.full((1, 3, 6, 5), 0.3, dtype=torch.float64)
    torch.testing.assert_close(bicubic(flat, scale), torch.full((1, 3, 6 * scale, 5 * scale), 0.3, dtype=torch.float64))
    places = (torch.arange(20 * scale, dtype=torch.float64) + 0.5) / scale - 0.5
    wave = torch.sin(torch.arange(20, dtype=torch.float64) / 3).expand(1, 3, 20, 20)
    error = bicubic(wave, scale)[0, 0, 0] - torch.sin(places / 3)
    assert float(error[2 * scale : -2 * scale].abs().max()) < 0.03


# Restoring


def image(name, height, width):
    generator = torch.Generator().manual_seed(height * width)
    lr = {kind: torch.rand(3, height, width, generator=generator) for kind in ("clean", "noise")}
    return PairedImage(name, torch.zeros(3, 2 * height, 2 * width), lr)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SRResNet(features=4, blocks=1)


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
    monkeypatch.setattr("faig_lab.training.metrics._CPU_PIXELS", 2 * 12 * 10)
    calls = []
    network.register_forward_pre_hook(lambda module, arguments: calls.append(len(arguments[0])))
    outputs = restore(network, network.state_dict(), images, "noise")
    assert calls == [2, 2, 1, 1]  # one that is larger goes alone
    for one, other in zip(outputs, together, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_restoring_leaves_the_network_alone(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    restore(network, {name: value + 1 for name, value in before.items()}, [image("a", 4, 4)], "clean")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_no_more_pixels_are_restored_at_once_than_a_gpu_bears():
    images = [image(name, 6, 5) for name in "abc"]
    groups = [[0, 1, 2]]
    found = [list(metrics._batches(images, groups, torch.device(name))) for name in ("cpu", "cuda")]
    assert found == [[[0, 1, 2]]] * 2
    large = [image(name, 600, 600) for name in "abcd"]
    assert [len(b) for b in metrics._batches(large, [range(4)], torch.device("cuda"))] == [2, 2]
