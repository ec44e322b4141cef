"""Weights files: read and written in every format, nothing executed, and every refusal is one line."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from golden_case import FOLDER
from omegaconf import OmegaConf
from weights_fixtures import Trap, assert_same, refusal

from faig_lab.errors import UserError
from faig_lab.filters import load_weights, save_weights
from faig_lab.networks import SRResNet

FORMATS = {
    "flat": lambda state: state,
    "raw where nothing is averaged": lambda state: {"params_ema": None, "params": state},
    "parallel": lambda state: {"params": {f"module.{n}": v for n, v in state.items()}},
    "Lightning": lambda state: {
        "epoch": 1,
        "global_step": 3,
        "state_dict": {f"network.{n}": v for n, v in state.items()},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]}],
        "current_model_state": {f"network.{n}": torch.zeros_like(v) for n, v in state.items()},
    },
    "another order": lambda state: dict(reversed(state.items())),
}


@pytest.mark.parametrize("form", FORMATS, ids=str)
def test_every_format_is_read_and_the_network_is_not_changed(form, network, state, save):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert_same(load_weights(save(FORMATS[form](state)), network), state)
    assert_same(dict(network.state_dict()), before)


def test_the_authors_files_are_read():
    network = SRResNet(features=16, blocks=2)
    for name in ("baseline", "target"):
        assert load_weights(FOLDER / f"{name}.pth", network).keys() == network.state_dict().keys()


def test_old_files_of_torch_are_read(network, state, save):
    assert_same(load_weights(save(state, _use_new_zipfile_serialization=False), network), state)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_saved_and_loaded_is_the_same_to_the_bit(dtype, suffix, network, state, tmp_path):
    state = {name: value.to(dtype) for name, value in state.items()}
    path = tmp_path / "some" / f"a{suffix}"
    description = {"what": "target", "network": {"_target_": "faig_lab.networks.SRResNet", "scale": 2}, "seed": None}
    save_weights(path, state, description)
    assert_same(load_weights(path, network), state)
    assert OmegaConf.to_container(OmegaConf.load(path.with_suffix(".yaml"))) == description
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "a.yaml"}


def test_memory_format_and_gradients_do_not_get_into_the_file(network, state, tmp_path):
    network = network.to(memory_format=torch.channels_last)
    network.load_state_dict(state)
    save_weights(tmp_path / "a.pt", dict(network.named_parameters()), {})
    stored = torch.load(tmp_path / "a.pt", weights_only=True)
    assert all(type(value) is torch.Tensor and value.is_contiguous() for value in stored.values())
    assert not any(value.requires_grad for value in stored.values())
    assert_same(stored, state)


def test_only_the_tensors_themselves_are_stored(network, tmp_path):
    big = torch.zeros(1000, *network.state_dict()["conv_first.weight"].shape)
    save_weights(tmp_path / "a.pt", {"x": big[0]}, {})
    assert (tmp_path / "a.pt").stat().st_size < 10_000


def test_a_failed_write_leaves_the_old_file(network, state, tmp_path, monkeypatch):
    save_weights(tmp_path / "a.pt", state, {})

    def fail(path, data):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(tmp_path / "a.pt", {n: v + 1 for n, v in state.items()}, {})
    monkeypatch.undo()
    assert_same(load_weights(tmp_path / "a.pt", network), state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "a.yaml"]


@pytest.mark.parametrize("form", ["pickle", "torch", "old torch", "beside tensors"])
def test_nothing_in_a_file_is_executed(form, network, state, tmp_path):
    trap, path = tmp_path / "executed", tmp_path / "evil.pth"
    evil = Trap(trap)
    if form == "pickle":
        path.write_bytes(pickle.dumps(evil, protocol=2))
    else:
        content = {"params": state, "extra": evil} if form == "beside tensors" else evil
        torch.save(content, path, _use_new_zipfile_serialization=form != "old torch")
    assert "nothing in it was executed" in refusal(path, network)
    assert not trap.exists()
    if form == "pickle":  # The trap is a real one.
        pickle.loads(path.read_bytes())
        assert trap.exists()


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_a_truncated_file_is_refused(share, zipped, network, state, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    words = "its end is missing" if zipped else "damaged or incomplete|no pickle of tensors"
    assert re.search(words if share else "is empty", refusal(path, network))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
NO_PICKLE = "torch.save did not write it|no pickle of tensors"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty; download it again"),
        (b"0.5,1.2\n", NO_PICKLE),
        (b"The weights are elsewhere\n", NO_PICKLE),
        (b"\x89PNG\r\n\x1a\n", NO_PICKLE),
        (b'{"params": {}}', NO_PICKLE),
        (bytes(range(256)), NO_PICKLE),
        (b"PK\x03\x04", "its end is missing"),
        (POINTER, "is a Git LFS pointer, not the weights; run git lfs pull"),
        (POINTER.replace(b"\n", b"\r\n"), "is a Git LFS pointer, not the weights; run git lfs pull"),
        (b"../../.git/annex/objects/x/y/MD5E-s1--0.pth/MD5E-s1--0.pth\n", "is a git-annex pointer"),
        (b"<!DOCTYPE html><html>Not found</html>", "is a web page, not weights"),
        (b"\xef\xbb\xbf\n  <HTML>", "is a web page, not weights"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page, not weights"),
    ],
)
def test_a_file_that_is_something_else_is_refused(content, words, network, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert re.search(words, refusal(path, network))


def test_a_folder_is_refused_with_the_files_in_it(network, state, save, tmp_path):
    assert refusal(tmp_path, network).endswith("is a folder without weights files")
    save(state, "b.pt")
    (tmp_path / "a.ckpt").touch()
    (tmp_path / "a.txt").touch()
    assert refusal(tmp_path, network).endswith("is a folder; name a file in it: a.ckpt, b.pt")


@pytest.mark.parametrize(
    "content", [None, [], {}, [torch.zeros(2)], torch.zeros(2), {"params": {}}, {"params": {"a": 1}}, {"epoch": 3}]
)
def test_a_file_without_weights_is_refused(content, network, save):
    assert "holds no weights; expected a dict of tensors" in refusal(save(content), network)


def test_a_missing_file_names_the_nearest(network, state, save, tmp_path):
    save(state, "baseline_ema.pth")
    save(state, "target.pth")
    message = refusal(tmp_path / "basline_ema.pth", network, "baseline.weights")
    assert message.endswith(f"did you mean {tmp_path / 'baseline_ema.pth'}?")
    assert "did you mean" not in refusal(tmp_path / "zzz", network)
    assert "no file" in refusal(tmp_path / "no folder" / "a.pth", network)


def test_missing_and_unknown_names_are_named(network, state, save):
    message = refusal(save({n: v for n, v in state.items() if not n.startswith("conv_hr")}), network)
    assert "is not for this SRResNet: it lacks conv_hr.weight, conv_hr.bias; see the network settings" in message
    message = refusal(save(state | {"upconv2.weight": torch.zeros(1)}), network)
    assert "it has unknown upconv2.weight; see the network settings" in message
    message = refusal(save({"features.0.weight": torch.zeros(1)}), network)
    assert f"it lacks {', '.join(list(state)[:3])} and {len(state) - 3} more and has unknown features.0.w" in message


def test_a_wrong_shape_names_scale_and_size(network, save):
    message = refusal(save(SRResNet(scale=3, features=4, blocks=1).state_dict()), network, "target.weights")
    assert "upconv1.weight is 36×4×3×3 in the file and 16×4×3×3 in the network; check scale and size" in message
    assert "conv_first.weight is 6×3×3×3" in refusal(save(SRResNet(features=6, blocks=1).state_dict()), network)


def test_the_authors_code_reads_their_format(network, state, tmp_path):
    for name in ("ours.pt", "theirs.pth"):
        save_weights(tmp_path / name, state, {})
    theirs = torch.load(tmp_path / "theirs.pth", weights_only=True)
    assert list(theirs) == ["params", "params_ema"]
    for content in theirs.values():
        network.load_state_dict(content, strict=True)  # as the authors' code does it
        assert_same(dict(network.state_dict()), state)
    # Both keys share their tensors: the file is no larger for them.
    assert (tmp_path / "theirs.pth").stat().st_size < 1.5 * (tmp_path / "ours.pt").stat().st_size + 5000
    with pytest.raises(
        UserError, match=r"the suffix must be \.pt \(our format\), \.pth \(the authors' format\) or \.safetensors"
    ):
        save_weights(tmp_path / "weights.bin", state, {})
