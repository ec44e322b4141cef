"""The safetensors format: read and written to the bit, and refused in one line when it is damaged or too large."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from weights_fixtures import refusal

from faig_lab.errors import UserError
from faig_lab.files import PRETRAINED, weights_file
from faig_lab.filters import load_weights, save_weights


def packed(header, data=b""):
    """A file of the format with any header, a lying one too."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype="F32", shape=(1,), place=(0, 4)):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}}


def test_the_librarys_own_reader_reads_what_is_written(network, tmp_path):
    state, path = network.state_dict(), tmp_path / "weights.safetensors"
    save_weights(path, state, {})
    other = load_file(path)
    assert all(torch.equal(other[name], value) for name, value in state.items())


def test_files_of_others_are_read(network, tmp_path):
    """Any order, metadata, prefixes of wrappers, and tied weights under both names."""
    state = {f"module.{name}": value for name, value in reversed(network.state_dict().items())}
    save_file(state, tmp_path / "a.SAFETENSORS", metadata={"made by": "somebody"})
    read = load_weights(tmp_path / "a.SAFETENSORS", network)
    assert all(torch.equal(value, read[name]) for name, value in network.state_dict().items())
    tied = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    tied[1].weight = tied[0].weight
    save_weights(tmp_path / "tied.safetensors", tied.state_dict(), {})
    assert load_weights(tmp_path / "tied.safetensors", tied).keys() == tied.state_dict().keys()


def test_what_is_read_is_no_longer_the_file(network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(path, network.state_dict(), {})
    read = load_weights(path, network)
    path.write_bytes(bytes(path.stat().st_size))  # written over in place
    assert all(torch.equal(value, read[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0", "header too small"),
        (struct.pack("<Q", 10**15) + b"{}", "header too large"),  # a petabyte
        (struct.pack("<Q", 50_000) + b"{}", "invalid header length"),
        (packed(b"\xff\xfe{}"), "invalid UTF-8"),
        (packed(b'{"a": '), "invalid JSON"),
        (packed(b'{"a":' * 100_000), "recursion limit"),
        (packed(tensor(shape=[10**12], place=[0, 4 * 10**12]), b"1234"), "not fully covered"),  # four terabytes
        (packed(tensor(shape=[10**12]), b"1234"), "invalid shape"),
        (packed(tensor(shape=[2**62, 2**62]), b"1234"), "overflow"),
        (packed(tensor(shape=[-1]), b"1234"), "invalid JSON"),
        (packed(tensor(place=[4, 0]), b"1234"), "invalid"),
        (packed(tensor() | {"b": tensor()["a"]}, b"1234"), "invalid offset"),  # two tensors in one place
        (packed(tensor(), b"123"), "not fully covered"),
        (packed(tensor(), b"1234567"), "not fully covered"),
        (packed(tensor("F128"), b"1234"), "invalid JSON"),
        (packed(tensor("F8_E8M0", [4]), b"1234"), "it has tensors of type 'F8_E8M0', which torch lacks"),
    ],
)
def test_a_damaged_or_lying_header_is_refused_before_a_tensor_is_made(content, words, network, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    message = refusal(path, network)
    assert "cannot be read as weights" in message
    assert words in message


def test_other_files_under_this_suffix_are_refused(network, tmp_path):
    path = tmp_path / "a.safetensors"
    torch.save(network.state_dict(), path)
    assert "it is damaged or no safetensors file" in refusal(path, network)
    path.write_text("<!DOCTYPE html><html>Not found</html>")
    assert "is a web page" in refusal(path, network)
    for header in ({}, {"__metadata__": {"params": "x"}}):
        path.write_bytes(packed(header))
        assert "holds no weights" in refusal(path, network)


def test_another_precision_is_refused(network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(path, {n: value.to(torch.float8_e4m3fn) for n, value in network.state_dict().items()}, {})
    assert "is torch.float8_e4m3fn; expected floating numbers of 16 to 64 bits" in refusal(path, network)


# Weights that the package ships


def test_a_path_stays_a_path_and_shipped_weights_have_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert weights_file("~/a.pt") == tmp_path / "a.pt"
    assert str(weights_file("package/a.pt")).replace("\\", "/") == "package/a.pt"
    names = [f"package:{file.name}" for file in PRETRAINED.glob("*.safetensors")]
    assert len(names) == 2
    assert all(weights_file(name).parent == PRETRAINED and weights_file(name).is_file() for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "srresnet_small_targe.safetensors",
        "srresnet_small_target.yaml",
        "",
        "../files.py",
        "../pretrained/srresnet_small_target.safetensors",
        "/etc/passwd",
        "*.safetensors",
    ],
)
def test_a_name_can_only_be_that_of_a_shipped_file(name):
    with pytest.raises(UserError) as caught:
        weights_file(f"package:{name}", "target.weights")
    assert str(caught.value) == (
        f"target.weights: faig_lab ships no weights package:{name}; choices: "
        "package:srresnet_small_baseline.safetensors, package:srresnet_small_target.safetensors"
    )
