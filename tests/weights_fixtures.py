"""What tests of weights files share: a state, a writer, the message of a refusal, and a trap in a pickle."""

import os

import pytest
import torch

from faig_lab.errors import UserError
from faig_lab.filters import load_weights


@pytest.fixture
def state(network):
    """Weights of `network` that are not its own."""
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(value.shape, generator=generator) for name, value in network.state_dict().items()}


@pytest.fixture
def save(tmp_path):
    """Write with torch.save, and return the path."""

    def write(content, name="weights.pth", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return write


def assert_same(some, other):
    """Two states have the same names in the same order, and the same bits."""
    assert list(some) == list(other)
    assert all(torch.equal(some[name], other[name]) and some[name].dtype == other[name].dtype for name in some)


def refusal(path, network, key="target.weights"):
    """The message that a file is refused with: one line that names key and file."""
    with pytest.raises(UserError) as caught:
        load_weights(path, network, key)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{key}: ")
    assert str(path) in message
    return message


class Trap:
    """Makes a folder as soon as it is unpickled by a reader that believes everything."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
