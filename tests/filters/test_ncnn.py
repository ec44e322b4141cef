"""ncnn's pairs of files: read to the bit, computed as a plain implementation does, refused in one line."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from ncnn_files import FLOAT32, Layer, forward, some_layers, write

from faig_lab.__main__ import main
from faig_lab.errors import UserError
from faig_lab.filters import load_weights, read_weights
from faig_lab.networks import UpConv7


@pytest.fixture
def layers():
    return some_layers()


def refusal(path, key="target.weights"):
    with pytest.raises(UserError) as caught:
        read_weights(path, key)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{key}: {path}")
    return message


def numpy(tensor):
    return tensor.numpy()


# Read to the bit


@pytest.mark.parametrize("suffix", [".bin", ".param"])
def test_every_number_is_that_of_the_file(layers, suffix, tmp_path):
    more = ["ReLU act 1 1 a b 0=0.1", "PixelShuffle up 1 1 b c 0=2", "Interp resize 1 1 c d 0=2 1=2.0 2=2.0"]
    state = read_weights(write(tmp_path, layers, more=more).with_suffix(suffix))  # these layers take no bytes
    assert list(state) == [f"{layer.name}.{kind}" for layer in layers for kind in ("weight", "bias")]
    for layer in layers:
        kernel = layer.kernel if layer.kind == "Convolution" else layer.kernel.transpose(1, 0, 2, 3)
        weight, bias = state[f"{layer.name}.weight"], state[f"{layer.name}.bias"]
        assert (weight.dtype, bias.dtype) == (torch.float16, torch.float32)
        assert weight.is_contiguous()
        np.testing.assert_array_equal(numpy(weight), kernel)
        np.testing.assert_array_equal(numpy(bias), layer.bias)


def test_a_kernel_of_an_odd_number_of_halves_is_padded_to_four_bytes(tmp_path):
    layers = [Layer("Convolution", n, np.full((1, 1, 3, 3), v, np.float16), None) for n, v in (("a", 2), ("b", 3))]
    path = write(tmp_path, layers)
    assert path.stat().st_size == 2 * (4 + 20)
    state = read_weights(path)
    assert list(state) == ["a.weight", "b.weight"]
    assert [value.unique().tolist() for value in state.values()] == [[2], [3]]


def test_float32_kernels_keep_their_precision(layers, tmp_path):
    exact = [dataclasses.replace(layer, kernel=layer.kernel.astype(np.float32) + 1e-6, tag=FLOAT32) for layer in layers]
    state = read_weights(write(tmp_path, exact))
    assert {value.dtype for value in state.values()} == {torch.float32}
    np.testing.assert_array_equal(numpy(state["conv1_layer.weight"]), exact[0].kernel)


def test_kernels_that_are_not_square(tmp_path):
    kernel = np.arange(2 * 3 * 5 * 1, dtype=np.float16).reshape(2, 3, 5, 1)
    state = read_weights(write(tmp_path, [Layer("Convolution", "tall", kernel, None)]))
    np.testing.assert_array_equal(numpy(state["tall.weight"]), kernel)


def test_a_checkpoint_of_torch_may_be_called_bin(network, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save(network.state_dict(), path)
    assert load_weights(path, network).keys() == network.state_dict().keys()


# As a network


@pytest.mark.parametrize(
    ("widths", "size", "count"),
    [((4, 5), (1, 1), 1_116), ((4, 5), (5, 7), 1_116), ((16, 32, 64, 128, 128, 256), (2, 3), 1_106_248)],
    ids=["one pixel", "small", "published"],
)
def test_the_network_computes_what_a_plain_implementation_does(widths, size, count, tmp_path):
    layers = some_layers(widths, seed=2)
    for layer in layers:
        layer.kernel = (layer.kernel * 0.1).astype(np.float16)
    path = write(tmp_path, layers)
    assert path.stat().st_size == count  # 1,106,248 bytes have the published files
    network = UpConv7(widths=widths)
    network.load_state_dict(load_weights(path, network))
    lr = np.random.default_rng(1).random((3, *size))
    with torch.no_grad():
        sr = network.double()(torch.from_numpy(lr)[None])[0].numpy()
    assert sr.shape == (3, 2 * size[0], 2 * size[1])
    expected = forward(layers, lr)
    np.testing.assert_allclose(sr, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


# Refused


def changed(path, old, new):
    text = path.with_suffix(".param").read_text()
    assert old in text
    path.with_suffix(".param").write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda p: p.write_bytes(p.read_bytes()[:-4]),
            r"a\.bin conv3_layer: the file ends within .* after [\d,]+ bytes",
        ),
        (lambda p: p.write_bytes(p.read_bytes()[:6]), r"a\.bin conv1_layer: the file ends"),
        (lambda p: p.write_bytes(p.read_bytes() + b"1234"), r"a\.bin has 1,470 bytes.* take 1,466|a\.bin has .* take "),
        (
            lambda p: p.write_bytes(b"\x38\x4b\x0d\x00" + p.read_bytes()[4:]),
            r"the layer conv1_layer has the tag 0x000d4b38; only float16 and float32 are read",
        ),
        (lambda p: changed(p, "Deconvolution", "InnerProduct"), r"the layer conv3_layer is InnerProduct; only Conv"),
        (lambda p: changed(p, "Input input", "PReLU act"), r"the layer act is PReLU"),
        (lambda p: changed(p, "0=4", "0=5"), r"the layer conv1_layer has 108 weights, which are no 5 kernels of 3×3"),
        (lambda p: changed(p, "0=4", "0=0"), r"the layer conv1_layer has 108 weights"),
        (lambda p: changed(p, "0=4", "0=-4"), r"the layer conv1_layer has 108 weights"),
        (lambda p: changed(p, "6=108", "6=1080000000"), r"a\.bin conv1_layer: the file ends within"),
        (lambda p: changed(p, "0=4", "8=2 0=4"), r"conv1_layer has 8-bit or computed weights"),
        (lambda p: changed(p, "0=4", "19=1 0=4"), r"conv1_layer has 8-bit or computed weights"),
        (lambda p: changed(p, "0=4", "four"), r"the line of the layer conv1_layer cannot be read"),
        (lambda p: changed(p, "conv2_layer ", "conv1_layer "), r"two layers of one name"),
        (lambda p: changed(p, "7767517", "7767516"), r"a\.param is no text file of ncnn, whose first line is 7767517"),
        (lambda p: p.with_suffix(".param").write_text(""), r"is empty|no text file of ncnn"),
        (lambda p: p.with_suffix(".param").write_text("7767517\n1 1\nInput a 0 1 b\n"), r"has no layer with weights"),
        (lambda p: p.with_suffix(".param").unlink(), r"one of two files of ncnn, and there is no a\.param beside it"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(layers, spoil, said, tmp_path):
    path = write(tmp_path, layers)
    spoil(path)
    message = refusal(path)
    assert "cannot be read as weights" in message
    assert re.search(said, message), message


def test_a_param_file_alone_names_the_missing_file(layers, tmp_path):
    path = write(tmp_path, layers)
    path.unlink()
    assert "there is no a.bin beside it" in refusal(path.with_suffix(".param"))


def test_inspect_describes_and_compares_pairs(layers, tmp_path, capsys):
    first, second = write(tmp_path, layers), write(tmp_path, some_layers(seed=5), "b")
    assert main(["inspect", str(first), str(second)]) == 0
    told = capsys.readouterr().out
    filters = 3 * 4 + 4 * 5 + 5 * 3
    assert f"{filters} filters in 3 2-D convolutions" in told
    assert "format     ncnn, " in told
    assert "precision  float16 (3 tensors), float32 (3 tensors)" in told
    assert "one architecture: 6 tensors of the same names and shapes" in told
    assert f"filters that differ         {filters} of {filters} (100.0%)" in told
