"""A foreign network behind RGB images of any size: exact against the network itself, called by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from faig_lab.filters import evaluate
from faig_lab.networks.adapted import Contract, adapted


class Foreign(nn.Module):
    """×2; sides are multiples of 4, one image at a time, values from −1 to 1, the output in a tuple."""

    def __init__(self, taken=3, returned=3):
        super().__init__()
        self.conv = nn.Conv2d(taken, returned * 4, 3, padding=1)
        self.seen = []

    def forward(self, image):
        self.seen.append(tuple(image.shape))
        return F.pixel_shuffle(self.conv(image), 2), "features"


def padding(width, height):
    return -width % 4, -height % 4


def call(network, image):
    return network(2 * image - 1)[0] + 0.5


def make(taken=3, returned=3, pad=padding):
    torch.manual_seed(0)
    plain = Foreign(taken, returned).double().eval()
    contract = Contract(2, (taken, returned), pad, call, lambda state, place: dict(state))
    return plain, adapted(copy.deepcopy(plain), contract)


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_an_image_of_a_valid_size_is_given_to_the_network_itself():
    plain, network = make()
    image = images(1, 3, 8, 4)
    assert torch.equal(network(image), call(plain, image))


def test_another_size_is_padded_by_reflection_and_cropped():
    plain, network = make()
    image = images(1, 3, 7, 6)
    padded = torch.cat([image, image[..., 5:6, :]], -2)  # row 7 is row 5 again
    padded = torch.cat([padded, padded[..., 4:5], padded[..., 3:4]], -1)
    assert torch.equal(network(image), call(plain, padded)[..., :14, :12])
    assert network.seen == [(1, 3, 8, 8)]


def test_a_tiny_image_is_padded_by_repetition_where_reflection_ends():
    plain, network = make(pad=lambda width, height: (8 - width, 8 - height))
    image = images(1, 3, 2, 1)
    rows = torch.cat([image, image[..., :1, :]] + 5 * [image[..., :1, :]], -2)
    assert torch.equal(network(image), call(plain, rows.expand(1, 3, 8, 8))[..., :4, :2])


def test_the_images_of_a_batch_are_restored_one_by_one():
    _, network = make()
    batch = images(3, 3, 8, 8)
    output = network(batch)
    assert network.seen == 3 * [(1, 3, 8, 8)]
    assert all(torch.equal(output[k], network(batch[k : k + 1])[0]) for k in range(3))


def test_a_batch_is_restored_at_once_in_training_mode_where_that_works():
    _, network = make()
    batch = images(3, 3, 8, 8)
    expected = network(batch)
    network.train()
    network.seen.clear()
    torch.testing.assert_close(network(batch), expected, rtol=1e-12, atol=1e-12)
    assert network.seen == [(3, 3, 8, 8)]

    alone = adapted(Foreign().double(), Contract(2, (3, 3), padding, one_by_one, lambda state, place: dict(state)))
    alone.load_state_dict(network.state_dict())
    torch.testing.assert_close(alone(batch), expected, rtol=1e-12, atol=1e-12)


def one_by_one(network, image):
    """Fails for more than one image, as a map of one image that is put beside a batch."""
    torch.cat([image, torch.zeros(1, 1, *image.shape[-2:], dtype=image.dtype)], 1)
    return call(network, image)


def test_a_grey_network_restores_each_colour():
    plain, network = make(1, 1)
    image = images(1, 3, 8, 8)
    expected = torch.cat([call(plain, image[:, k : k + 1]) for k in range(3)], 1)
    assert torch.equal(network(image), expected)


@pytest.mark.parametrize("returned", [3, 4])
def test_a_fourth_channel_is_opacity(returned):
    plain, network = make(4, returned)
    image = images(1, 3, 8, 8)
    opaque = torch.cat([image, torch.ones(1, 1, 8, 8, dtype=image.dtype)], 1)
    assert torch.equal(network(image), call(plain, opaque)[:, :3])


@pytest.mark.parametrize("channels", [(3, 1), (1, 3), (2, 2), (6, 3)])
def test_other_channels_are_refused(channels):
    with pytest.raises(ValueError, match=f"takes {channels[0]} and returns {channels[1]} channels"):
        make(*channels)


def test_names_class_and_copies_are_the_networks_own():
    plain, network = make()
    assert list(network.state_dict()) == list(plain.state_dict())
    assert type(network).__name__ == "Foreign"
    assert isinstance(network, Foreign)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.conv.weight.zero_()
    image = images(1, 3, 8, 8)
    assert torch.equal(network(image), call(plain, image))
    assert not torch.equal(other(image), network(image))


def test_values_outside_of_the_range_stay_and_have_gradients():
    _, network = make()
    state = {name: 30 * value for name, value in network.state_dict().items()}
    weight = state["conv.weight"].requires_grad_()
    output = evaluate(network, state, images(1, 3, 6, 5))
    assert float(output.detach().max()) > 1.5
    (gradient,) = torch.autograd.grad(output.sum(), weight)
    step = torch.zeros_like(weight)
    step[5, 2, 1, 0] = 1e-6
    with torch.no_grad():
        ends = [evaluate(network, {**state, "conv.weight": weight + s * step}, images(1, 3, 6, 5)) for s in (1, -1)]
    torch.testing.assert_close((ends[0] - ends[1]).sum() / 2e-6, gradient[5, 2, 1, 0], rtol=1e-6, atol=1e-6)
