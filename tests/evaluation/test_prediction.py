"""Estimators on images whose noise and blur are known, and the two classifiers on points that a line separates."""

import numpy as np
import pytest
import torch
from kornia.filters import gaussian_blur2d

from faig_lab.evaluation.prediction import features, fit_linear, fit_thresholds, image_numbers, noise_level, sharpness
from faig_lab.networks import SRResNet


def plane(size=64):
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    return (0.3 + 0.2 * x + 0.1 * y + 0.1 * x * x - 0.2 * x * y).expand(3, -1, -1).clone()


def texture(size=64):
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(1))


def noisy(image, sigma):
    return image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(2))


def test_noise_level_of_a_quadratic_surface_is_zero():
    assert noise_level(plane().double()) < 1e-7


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.1, 0.2])
def test_noise_level_finds_the_sigma_of_white_noise(sigma):
    assert noise_level(noisy(plane(128), sigma)) == pytest.approx(sigma, rel=0.03)


def test_noise_level_is_immerkaers_formula():
    image = texture(5).double()
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    total = sum(
        abs((image[c, y : y + 3, x : x + 3].numpy() * kernel).sum())
        for c in range(3) for y in range(3) for x in range(3)
    )  # fmt: skip
    assert noise_level(image) == pytest.approx(np.sqrt(np.pi / 2) / (6 * 3 * 3 * 3) * total)


def test_sharpness_falls_with_blur_and_not_with_contrast():
    image = texture()  # white itself, which would count as noise; a blurred one does not
    blurred = [gaussian_blur2d(image[None], (21, 21), (sigma, sigma))[0] for sigma in (1.0, 1.4, 2.0, 3.0)]
    values = [sharpness(one) for one in blurred]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.2 * values[0]
    smooth = gaussian_blur2d(image[None], (21, 21), (1.0, 1.0))[0]
    assert sharpness(0.2 * smooth + 0.1) == pytest.approx(sharpness(smooth), rel=0.01)


def test_noise_alone_is_not_sharp():
    detailed = gaussian_blur2d(texture(128)[None], (9, 9), (0.8, 0.8))[0]
    assert sharpness(noisy(plane(128), 0.1)) < 0.1 * sharpness(noisy(detailed, 0.02))


def test_a_flat_image_has_neither():
    assert image_numbers(torch.full((3, 8, 8), 0.4)).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_thresholds_lie_in_the_middle_of_the_gaps():
    vectors = np.array([[0.0, 5.0], [1.0, 6.0], [0.5, 1.0], [1.5, 2.0], [9.0, 1.5], [10.0, 5.5]])
    labels = ["clean", "clean", "blur", "blur", "noise", "noise"]
    classify = fit_thresholds(vectors, labels)
    assert classify(vectors) == labels
    middle = (1.5 + 9.0) / 2
    assert classify(np.array([[middle - 0.01, 3.49], [middle - 0.01, 3.51], [middle + 0.01, 0.0]])) == [
        "blur",
        "clean",
        "noise",
    ]


@pytest.mark.parametrize("fit", [fit_thresholds, fit_linear])
def test_both_classifiers_learn_what_can_be_separated_for_any_number_of_names(fit):
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    vectors = np.concatenate([centres + 0.1 * i for i in range(4)])
    labels = ["a", "b", "c", "d"] * 4
    classify = fit(vectors, labels)
    assert classify(vectors + 0.3) == labels
    assert fit(vectors[:3], ["only"] * 3)(vectors) == ["only"] * 16


def test_features_are_the_means_of_what_the_last_layer_reads():
    network = SRResNet(features=4, blocks=1)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    state |= {"conv_hr.weight": torch.zeros(4, 4, 3, 3), "conv_hr.bias": torch.tensor([1.0, 2.0, -1.0, 0.0])}
    found = features(network, state, torch.rand(3, 8, 8))
    slope = torch.nn.functional.leaky_relu(torch.tensor(-1.0), 0.1).item()
    assert found.tolist() == pytest.approx([1.0, 2.0, slope, 0.0])
    assert not any(module._forward_pre_hooks for module in network.modules())
