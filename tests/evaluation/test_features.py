"""What a layer reads, principal components, the index of known groups, and places by t-SNE."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from faig_lab.errors import InputError
from faig_lab.evaluation.prediction import (
    check_layer,
    embedding,
    last_layer,
    layer_input,
    principal_components,
    separation,
)
from faig_lab.networks import SRResNet


@pytest.fixture
def small():
    torch.manual_seed(0)
    return SRResNet(features=4, blocks=1)


def hooks(network):
    return [module for module in network.modules() if module._forward_pre_hooks]


def test_a_layer_reads_what_comes_before_it(small):
    image = torch.rand(3, 8, 9)
    assert last_layer(small) == "conv_last"
    assert torch.equal(layer_input(small, small.state_dict(), image, "conv_first"), image[None])
    read = layer_input(small, small.state_dict(), image, "conv_last")
    assert read.shape == (1, 4, 16, 18)
    seen = []
    small.conv_last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        small(image[None])
    assert torch.equal(read, seen[0])


def test_the_weights_are_those_of_the_state(small):
    image, state = torch.rand(3, 8, 8), {name: 0 * value for name, value in small.state_dict().items()}
    assert not layer_input(small, state, image, "conv_last").any()
    assert layer_input(small, small.state_dict(), image, "conv_last").any()


class Idle(nn.Module):
    """A network with a layer that it never calls."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(3, 3, 1)
        self.idle = nn.Conv2d(3, 3, 1)

    def forward(self, lr):
        return self.last(lr)


def test_layers_that_are_not_there_are_refused(small):
    with pytest.raises(InputError, match="layer: the network has no layer 'conv_lst'; nearest: conv_last"):
        check_layer(small, "conv_lst")
    with pytest.raises(InputError, match="layer: the network has no layer ''"):
        layer_input(small, small.state_dict(), torch.rand(3, 8, 8), "")
    idle = Idle()
    with pytest.raises(InputError, match="never calls the layer 'idle'"):
        layer_input(idle, idle.state_dict(), torch.rand(3, 8, 8), "idle")
    assert not hooks(idle)


def test_no_hook_stays_when_the_network_fails(small):
    with pytest.raises(RuntimeError):
        layer_input(small, small.state_dict(), torch.rand(5, 8, 8), "conv_last")
    assert not hooks(small)


@pytest.mark.parametrize(("n", "d", "components"), [(12, 200_000, 5), (12, 30, 50), (40, 7, 7), (2, 9, 5)])
def test_components_are_those_of_a_singular_value_decomposition(n, d, components):
    vectors = np.random.default_rng(0).normal(3, 1, (n, d))
    found = principal_components(vectors, components)
    expected = PCA(min(components, n - 1), svd_solver="full").fit_transform(vectors)
    assert found.shape == expected.shape
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-8 * np.abs(expected).max())
    single = principal_components(vectors.astype(np.float32), components)
    np.testing.assert_allclose(np.abs(single), np.abs(found), atol=1e-4 * np.abs(found).max())


def test_the_index_by_hand():
    """Means 1 and 11 around 6: B = 4·25 = 100 with one degree of freedom, W = 4 with two."""
    points = np.array([[0.0], [2.0], [10.0], [12.0]])
    assert separation(points, ["a", "a", "b", "b"]) == pytest.approx(100 / (4 / 2), rel=1e-12)
    turned = points * np.array([[3.0, 4.0]]) + 7
    assert separation(turned, ["a", "a", "b", "b"]) == pytest.approx(50, rel=1e-12)


def test_the_index_of_equal_groups_is_0_and_of_random_labels_1():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 4))
    assert separation(np.concatenate([points, points]), [0] * 30 + [1] * 30) == pytest.approx(0, abs=1e-12)
    drawn = [separation(points, rng.permutation(np.arange(30) % 3).tolist()) for _ in range(500)]
    assert np.mean(drawn) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("points", "labels"),
    [
        ([[0.0], [1.0]], ["a", "a"]),
        ([[0.0], [1.0]], ["a", "b"]),
        ([[0.0], [0.0], [1.0], [1.0]], ["a", "a", "b", "b"]),
    ],
)
def test_an_index_that_is_not_defined(points, labels):
    assert separation(np.array(points), labels) is None


def test_places_keep_groups_together_and_follow_from_the_seed():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(20, 6)), rng.normal(size=(20, 6)) + 30])
    found = embedding(points, 0)
    assert found.shape == (40, 2)
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1) + 1e9 * np.eye(40)
    assert ((distances.argmin(1) < 20) == (np.arange(40) < 20)).all()
    assert np.array_equal(found, embedding(points, 0))


@pytest.mark.parametrize("n", [2, 3, 4, 7])
def test_few_points_have_places_too(n):
    points = np.random.default_rng(0).normal(size=(n, n - 1))
    found = embedding(points, 0)
    assert found.shape == (n, 2)
    assert np.isfinite(found).all()
