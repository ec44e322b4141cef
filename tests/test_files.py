"""Atomic writes: a reader sees the old file or the new one."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from faig_lab.files import atomic_write, overwrite_json, text_of, write_json, write_npz, write_tensors, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == path.suffix
        assert temporary.name.startswith(".")
    with path.open() as reader, atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert path.read_text() == reader.read() == "old"
    assert path.read_text() == "first"  # the first context ends last
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("removed", [False, True])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, removed):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            if removed:  # by the writer itself
                temporary.unlink()
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failure_of_the_final_step_leaves_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").touch()
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "a", "text")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_of_any_other_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "text")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode


@pytest.mark.parametrize(
    ("name", "text"), [(b"a", "a"), ("ä☃".encode(), "ä☃"), (b"a\xe4", r"a\xe4"), (b"\xff", r"\xff")]
)
def test_the_bytes_of_a_name_are_text(name, text):
    assert text_of(os.fsdecode(name)) == text
    assert text_of(os.fsdecode(name)).encode()


def test_a_name_that_is_no_utf_8_can_be_written(tmp_path):
    name = os.fsdecode(b"a\xe4")
    write_text(tmp_path / "a.txt", name)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == r"a\udce4"
    for write in (write_json, overwrite_json):
        write(tmp_path / "a.json", {"error": name})
        assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"error": name}
        (tmp_path / "a.json").write_text("another")


def test_json_is_readable_by_people_and_machines(tmp_path):
    value = {"psnr/target/blur": 31.5, "name": "θ̄ × 2", "nothing": None, "list": [1, 2]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "θ" in text
    assert text.endswith("}\n")
    assert text.count("\n") > len(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number(tmp_path, value):
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": [value]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


def test_arrays_are_read_back_to_the_bit_under_names_with_slashes(tmp_path):
    arrays = {"blur": np.random.default_rng(0).random(5), "random/blur": np.arange(6).reshape(2, 3)}
    (tmp_path / "scores.npz").write_bytes(b"half a file")
    write_npz(tmp_path / "scores.npz", arrays)
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as stored:
        assert sorted(stored.files) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(stored[name], array)
            assert stored[name].dtype == array.dtype
    assert names(tmp_path) == ["scores.npz"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.pt"
    write_tensors(path, {"a": torch.ones(3)})
    before = path.read_bytes()

    def write():
        with atomic_write(path) as temporary:
            temporary.unlink()
            temporary.symlink_to("/dev/full")
            temporary.write_bytes(b"more")

    with pytest.raises(OSError, match="No space left on device") as caught:
        write()
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.pt"]


def test_tensors_are_read_back_and_the_same_ones_are_the_same_bytes(tmp_path):
    content = {"a": torch.arange(5.0), "b": {"c": torch.zeros(2, 3, dtype=torch.int64)}}
    for name in ("one.pt", "two.pt"):
        write_tensors(tmp_path / name, content)
    stored = torch.load(tmp_path / "one.pt", weights_only=True)
    assert torch.equal(stored["a"], content["a"])
    assert torch.equal(stored["b"]["c"], content["b"]["c"])
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


def test_a_file_that_is_there_can_be_overwritten(tmp_path):
    write_json(tmp_path / "a.json", {"state": "running", "stage": "target"})
    inode = (tmp_path / "a.json").stat().st_ino
    for value in ({"state": "failed", "error": "long " * 50}, {"a": 1}):
        overwrite_json(tmp_path / "a.json", value)
        assert json.loads((tmp_path / "a.json").read_text()) == value
        assert (tmp_path / "a.json").stat().st_ino == inode
    with pytest.raises(FileNotFoundError):
        overwrite_json(tmp_path / "b.json", value)
