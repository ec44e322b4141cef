"""Given weights: tensors of every kind and flipped bits. What is read is right, the rest is refused in one line."""

import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from weights_fixtures import refusal

import faig_lab
from faig_lab.cli.preflight import check_restores
from faig_lab.data import PairedImage
from faig_lab.errors import UserError
from faig_lab.files import RefusedError, read_arrays, read_tensors
from faig_lab.filters import FilterLayout, load_patch, load_weights, make_patch, read_states, save_patch, write_states
from faig_lab.training.fitting import saved_step

NAME = "conv_hr.bias"


class Counting(nn.Module):
    """A network with an integer and a truth value beside its weights, the integer first."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("seen", torch.tensor([True, False]))
        self.conv = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x):
        return nn.functional.pixel_shuffle(self.conv(x), 2)


KINDS = {
    "int64": (lambda v: v.long(), "is torch.int64; expected floating numbers of 16 to 64 bits, as torch.float32"),
    "uint8": (lambda v: v.abs().byte(), "is torch.uint8; expected floating numbers"),
    "bool": (lambda v: v > 0, "is torch.bool; expected floating numbers"),
    "complex": (lambda v: v.to(torch.complex64), "is torch.complex64; expected floating numbers"),
    "fp8": (lambda v: v.to(torch.float8_e4m3fn), "is torch.float8_e4m3fn; expected floating numbers"),
    "sparse": (lambda v: v.to_sparse(), "is sparse (torch.sparse_coo); expected an ordinary tensor of torch.float32"),
    "csr": (lambda v: v[None].to_sparse_csr(), "is sparse (torch.sparse_csr)"),
    "quantised": (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "is quantised (torch.qint8)"),
    "meta": (lambda v: v.to("meta"), "is a meta tensor, which has a shape and no values"),
    "jagged": (lambda v: torch.nested.nested_tensor([v, v], layout=torch.jagged), "is a nested tensor"),
    "float64": (lambda v: torch.full_like(v, -1e300, dtype=torch.float64), "has values up to 1e+300, too large for"),
    "not finite": (lambda v: torch.full_like(v, torch.nan), "has values that are not finite"),
    "not finite, bfloat16": (lambda v: torch.full_like(v, torch.inf, dtype=torch.bfloat16), "has values that are not"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:torch.quantize_per_tensor", "ignore:TypedStorage")
def test_tensors_of_other_kinds_are_refused_by_file_name_and_kind(kind, network, save):
    change, words = KINDS[kind]
    state = network.state_dict()
    state[NAME] = change(state[NAME].detach())
    path = save(state)
    assert refusal(path, network).startswith(f"target.weights: {path}: {NAME} {words}")


@pytest.mark.parametrize("kind", ["int64", "sparse", "meta", "complex", "float64"])
def test_the_library_refuses_them_in_states_too(kind, network):
    change, words = KINDS[kind]
    state = dict(network.state_dict())
    state[NAME] = change(state[NAME].detach())
    images = {"blur": (torch.rand(1, 3, 16, 16), torch.rand(1, 3, 32, 32))}
    with pytest.raises(UserError) as caught:
        faig_lab.attribute(network, network.state_dict(), state, images)
    assert f"{NAME} {words}" in str(caught.value)
    state = dict(network.state_dict())
    state["conv_hr.weight"] = change(state["conv_hr.weight"].detach())
    if kind != "float64":  # masking computes in the precision that it is given
        with pytest.raises(UserError, match=r"target: conv_hr\.weight is "):
            faig_lab.mask(state, network.state_dict(), FilterLayout.of(network), [0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_integers_keep_their_type_beside_weights_of_any_precision(dtype, save):
    state = Counting().to(dtype).state_dict()
    read = load_weights(save(state), Counting())
    assert [value.dtype for value in read.values()] == [torch.int64, torch.bool, dtype, dtype]
    assert all(torch.equal(read[name], value) for name, value in state.items())


def test_integers_convert_where_nothing_is_lost(save):
    network = Counting()
    state = network.state_dict()
    narrow = state | {"steps": torch.tensor(3, dtype=torch.int32), "seen": torch.tensor([1, 0])}
    read = load_weights(save(narrow), network)
    assert read["steps"].dtype == torch.int64
    assert read["seen"].dtype == torch.bool
    assert all(torch.equal(read[name], value) for name, value in state.items())
    for name, value, words in (
        ("seen", torch.tensor([2, 0]), "is torch.int64 with values that torch.bool cannot hold"),
        ("steps", torch.tensor(3.0), "is torch.float32; expected torch.int64"),
        ("steps", torch.tensor(3j), "is torch.complex64; expected torch.int64"),
    ):
        assert f": {name} {words}" in refusal(save(state | {name: value}), network)


def test_weights_that_are_finite_and_give_no_finite_output_are_refused(network):
    lr = torch.rand(3, 16, 16)
    image = PairedImage("boat", torch.rand(3, 32, 32), {"clean": lr, "blur": lr})
    state = {name: value.clone() for name, value in network.state_dict().items()}
    check_restores(network, state, image, "target.weights: a.pt")
    large = {name: value * 1e38 for name, value in state.items()}
    assert all(value.isfinite().all() for value in large.values())
    with pytest.raises(UserError) as caught:
        check_restores(network, large, image, "target.weights: a.pt")
    assert str(caught.value).startswith(
        "target.weights: a.pt: the network's output on the clean input of boat is not finite; the largest weight is"
    )
    # A few weights are enough, and they may be of any precision.
    one = state | {NAME: torch.full((4,), 3e38, dtype=torch.float64), "conv_last.weight": torch.ones(3, 4, 3, 3)}
    with pytest.raises(UserError, match=r"largest weight is 3e\+38"):
        check_restores(network, one, image, "baseline.weights: b.pt")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_a_flipped_bit_is_noticed_or_changes_nothing(suffix, save):
    network = nn.Conv2d(3, 2, 1)
    state = network.state_dict()
    forms = {".pt": state, ".pth": {"params": state, "params_ema": state}, ".ckpt": {"state_dict": state, "epoch": 1}}
    path = save(forms[suffix], f"weights{suffix}")
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            read = load_weights(path, network)
        except UserError:
            refused += 1
        else:
            assert all(torch.equal(read[name], value) for name, value in state.items())
    assert refused > 100


def flip_in_data(path, values):
    """One bit of the first of `values` where the file holds them."""
    content = bytearray(path.read_bytes())
    content[content.index(values.detach().numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_files_without_checksums_are_read(network, save):
    torch.serialization.set_crc32_options(False)
    try:
        path = save(network.state_dict())
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(path) as archive:
        assert not any(info.CRC for info in archive.infolist())
    loaded = load_weights(path, network)
    assert all(torch.equal(v, loaded[n]) for n, v in network.state_dict().items())


def test_a_flipped_weight_is_damage_in_every_file_of_tensors_and_arrays(network, save, tmp_path, caplog):
    state = network.state_dict()
    path = save(state)
    flip_in_data(path, state[NAME])
    assert torch.load(path, weights_only=True)[NAME].isfinite().all()  # torch itself does not notice
    assert "cannot be read as weights (it is damaged: the checksum of weights/data/" in refusal(path, network)
    write_states(tmp_path / "path.pt", [state])
    assert read_states(tmp_path / "path.pt", "run")[0].keys() == state.keys()
    flip_in_data(tmp_path / "path.pt", state[NAME])
    with pytest.raises(UserError, match=r"run: .*path.pt cannot be read as states of a network \(it is damaged: "):
        read_states(tmp_path / "path.pt", "run")
    (tmp_path / "partial").mkdir()
    checkpoint = save({"global_step": 4, "state_dict": state}, "partial/training.ckpt")
    assert saved_step(tmp_path / "partial") == 4
    flip_in_data(checkpoint, state[NAME])
    assert saved_step(tmp_path / "partial") is None
    assert "it is damaged: the checksum of" in caplog.text
    values = np.arange(40.0)
    np.savez(tmp_path / "a.npz", values=values)
    flip_in_data(tmp_path / "a.npz", torch.from_numpy(values[1:]))
    with pytest.raises(RefusedError, match=r"it is damaged: .*values.npy"):
        read_arrays((tmp_path / "a.npz").read_bytes())
    with pytest.raises(RefusedError, match="it is damaged: "):
        read_tensors(_encrypted(save(state, "flag.pt")))


def _encrypted(path):
    """Let the first member of a file say that it needs a password: a single bit."""
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["int64", "bool", "complex", "float64", "not finite"])
@pytest.mark.parametrize("rest", [False, True])
def test_patches_of_other_kinds_are_refused(kind, rest, network, tmp_path):
    change, words = KINDS[kind]
    baseline = {name: value.clone() for name, value in network.state_dict().items()}
    target = {name: value + 1 for name, value in baseline.items()}
    layout = FilterLayout.of(network)
    patch = make_patch(target, baseline, layout, torch.arange(len(layout)), rest=rest)
    if rest:
        patch.rest[NAME] = change(patch.rest[NAME])
    else:
        object.__setattr__(patch, "values", change(patch.values))
    save_patch(tmp_path / "a.npz", patch)
    with pytest.raises(UserError) as caught:
        load_patch(tmp_path / "a.npz", baseline, layout)
    name = NAME if rest else layout.layers[0].name
    assert str(caught.value).startswith(f"patch: {tmp_path / 'a.npz'}: {name} {words}")
