"""What a download leaves in the place of weights is named, in `load_weights` and on the command line."""

from pathlib import Path

import pytest
import torch

from faig_lab.errors import UserError
from faig_lab.filters import load_weights, save_weights
from faig_lab.filters.weights import mistaken_for_weights
from faig_lab.networks import SRResNet

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<!DOCTYPE html><html>Not found</html>", "is a web page, not weights"),
        (b"\xef\xbb\xbf\n  <HTML>", "is a web page, not weights"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page, not weights"),
        (POINTER, "is a Git LFS pointer, not the weights; run git lfs pull"),
        (POINTER.replace(b"\n", b"\r\n"), "is a Git LFS pointer, not the weights; run git lfs pull"),
        (b"../../.git/annex/objects/x/y/MD5E-s1--0.pth/MD5E-s1--0.pth\n", "is a git-annex pointer"),
        (b"", "is empty; download it again"),
    ],
)
def test_files(content: bytes, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "net.pth"
    file.write_bytes(content)
    with pytest.raises(UserError) as refusal:
        load_weights(file, SRResNet(features=4, blocks=1), "target.weights")
    assert str(refusal.value).startswith(f"target.weights: {file} {expected}")
    assert "\n" not in str(refusal.value)


def test_folders(tmp_path: Path) -> None:
    network = SRResNet(features=4, blocks=1)
    with pytest.raises(UserError, match=r"is a folder without weights files$"):
        load_weights(tmp_path, network)
    save_weights(tmp_path / "b.pt", network.state_dict(), {})
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(UserError, match=r"is a folder; name a file in it: a\.ckpt, b\.pt$"):
        load_weights(tmp_path, network)


@pytest.mark.parametrize("old", [False, True])
def test_weights_are_weights(old: bool, tmp_path: Path) -> None:
    network = SRResNet(features=4, blocks=1)
    torch.save(network.state_dict(), tmp_path / "n.pth", _use_new_zipfile_serialization=not old)
    assert mistaken_for_weights(tmp_path / "n.pth") is None
    assert load_weights(tmp_path / "n.pth", network).keys() == network.state_dict().keys()
    assert mistaken_for_weights(tmp_path / "none.pth") is None
