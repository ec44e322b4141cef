"""The gradient map against explicit loops, and the measure made of it."""

import numpy as np
import pytest
import reference
import torch

from faig_lab.metrics import gradient_map, map_difference


@pytest.fixture
def images():
    return torch.rand(2, 3, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_gradient_map_is_the_definition(images):
    maps = gradient_map(images)
    assert maps.shape == (2, 1, 7, 9)
    for image, found in zip(images.numpy(), maps.numpy(), strict=True):
        np.testing.assert_allclose(found[0], reference.gradient_map(image), rtol=0, atol=1e-12)


def test_a_black_image_has_the_smallest_gradient():
    assert torch.equal(gradient_map(torch.zeros(1, 3, 4, 4)), torch.full((1, 1, 4, 4), 1e-6).sqrt())


def test_all_three_channels_count():
    colours = torch.eye(3, dtype=torch.float64)[:, :, None, None].expand(3, 3, 5, 5)
    sizes = gradient_map(colours)[:, 0, 0, 2]
    np.testing.assert_allclose(sizes, np.sqrt(np.array([0.299, 0.587, 0.114]) ** 2 + 1e-6), rtol=1e-12)


def test_the_difference_is_the_mean_square_times_a_thousand(images):
    other = torch.rand(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    maps = gradient_map(images), gradient_map(other)
    values = map_difference(*maps)
    assert values.shape == (2,)
    for value, a, b in zip(values, images.numpy(), other.numpy(), strict=True):
        expected = 1000 * np.mean((reference.gradient_map(a) - reference.gradient_map(b)) ** 2)
        assert float(value) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(map_difference(*maps[::-1]), values)
