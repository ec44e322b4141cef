"""Trouble of the machine's in one line that names the setting; everything else passes through."""

import errno
import io
import logging
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from faig_lab.cli.console import LogFile, check_text, explain, explained, print_anything
from faig_lab.errors import InputError, UserError
from faig_lab.files import gigabytes, require_space

SETTINGS = {
    "store": "store",
    "data": {"probe_crop": 128, "probe_crops": 2, "test_crop": None, "prepared": None},
    "training": {"batch_size": 16, "patch_size": 64, "workers": 2},
}
GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8 GiB")


def line(error, stage="", settings=SETTINGS, folder=Path("run")):
    found = explain(error, settings, folder, stage=stage)
    assert isinstance(found, UserError)
    assert "\n" not in str(found)
    return str(found)


@pytest.mark.parametrize(
    ("stage", "start", "lower"),
    [
        ("baseline", "training.batch_size", "lower training.batch_size (now 16) or training.patch_size (now 64)"),
        ("target", "training.batch_size", "lower training.batch_size (now 16) or training.patch_size (now 64)"),
        ("attribution", "data.probe_crop", "lower data.probe_crop (now 128)"),
        ("analysis", "data.test_crop", "lower data.test_crop (now null: the whole image)"),
        ("analysis/curves", "data.test_crop", "lower data.test_crop (now null: the whole image)"),
        ("analysis/retraining", "training.batch_size", "lower training.batch_size (now 16)"),
        ("report", "data", "use smaller images"),
    ],
)
def test_memory_names_what_to_lower_in_each_stage(stage, start, lower):
    found = line(GPU, stage)
    assert found.startswith(f"{start}: out of memory in {stage} (20.00 GiB asked for); {lower}")
    assert found.endswith("; what was finished is kept")
    found = line(GPU, stage, {"store": "store", "data": {"hr_dir": "a"}})  # settings that are not there are not named
    assert found.startswith(f"data: out of memory in {stage} (20.00 GiB asked for); use smaller images")


def torch_on_a_cpu():
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("fail", [torch_on_a_cpu, lambda: bytearray(2**60)])
def test_real_errors_of_memory(fail):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        fail()
    assert line(caught.value, "data").startswith("data.probe_crop: out of memory in data")
    assert "or give data.prepared=FOLDER" in line(caught.value, "data")


def test_a_worker_that_was_killed():
    error = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
    assert line(error, "target").startswith(
        "training.workers: a process that cuts patches was killed; lower the value 2"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize(
    ("file", "key"),
    [("run/tables/a.csv", "hydra.run.dir"), ("store/x/weights.pt", "store"), ("prepared/a.npy", "data.prepared")],
)
def test_a_full_disk_names_the_folder_of_the_file(number, file, key, tmp_path):
    settings = SETTINGS | {"data": {"prepared": "prepared"}}
    found = line(OSError(number, os.strerror(number), file), settings=settings)
    assert found.startswith(f"{key}: no space left to write to {tmp_path / file.split('/')[0]} (")


def test_without_a_file_it_is_the_fullest_disk(monkeypatch, tmp_path):
    for name in ("run", "store"):
        (tmp_path / name).mkdir()
    free = {tmp_path / "run": 5_000_000_000, tmp_path / "store": 3000}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[folder]))
    assert line(OSError(errno.ENOSPC, "full")).startswith(
        f"store: no space left to write to {tmp_path / 'store'} (0.00"
    )


def test_a_file_in_a_folders_place_is_real_trouble(tmp_path):
    (tmp_path / "store").touch()
    for make in (lambda: Path("store").mkdir(exist_ok=True), lambda: (Path("store") / "x").mkdir(parents=True)):
        with pytest.raises(OSError, match="store") as caught:
            make()
        assert line(caught.value).startswith(f"store: {tmp_path / 'store'} cannot be written to (")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of order"),
        RuntimeError("shapes do not fit"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/file"),
        FileNotFoundError(errno.ENOENT, "No such file", "run/x"),
        OSError("no number"),
    ],
)
def test_other_errors_are_left_as_they_are(error):
    assert explain(error, SETTINGS, Path("run")) is None
    with pytest.raises(type(error)) as caught, explained(SETTINGS, Path("run")):
        raise error
    assert caught.value is error


def test_the_cause_is_kept_and_a_users_error_passes():
    with pytest.raises(UserError) as caught, explained(SETTINGS, Path("run"), lambda: "attribution"):
        raise GPU
    assert caught.value.__cause__ is GPU
    with pytest.raises(UserError, match=r"^mine$"), explained(SETTINGS, Path("run")):
        raise UserError("mine")
    with pytest.raises(KeyboardInterrupt), explained(SETTINGS, Path("run")):
        raise KeyboardInterrupt


def test_space_is_required_before_a_large_write(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    require_space(tmp_path, 10**9, "root", "a.zip")
    message = f"root: a.zip takes 3.50 GB and {tmp_path} has 1.00 GB free; free some space, or set `root` to"
    with pytest.raises(InputError) as caught:
        require_space(tmp_path, 3_500_000_000, "root", "a.zip")
    assert str(caught.value).startswith(message)


def test_sizes_for_people():
    assert [gigabytes(n) for n in (0, 1500, 99_000_000, 3_530_603_713)] == ["0.00 MB", "0.00 MB", "99.00 MB", "3.53 GB"]


def test_a_log_on_a_full_disk_loses_lines_quietly(capsys, tmp_path, monkeypatch):
    handler = LogFile(tmp_path / "run.log")

    def fail(text):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(handler, "stream", SimpleNamespace(write=fail, flush=lambda: None))
        handler.emit(logging.makeLogRecord({"msg": "lost"}))
        assert capsys.readouterr().err == ""
        handler.emit(logging.makeLogRecord({"msg": "%d", "args": ("no number",)}))
        assert "Logging error" in capsys.readouterr().err
    handler.emit(logging.makeLogRecord({"msg": "kept"}))
    handler.close()
    assert (tmp_path / "run.log").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("encoding", "remedy"), [("utf-8", "rename the file or folder"), ("ascii", "set PYTHONUTF8=1, or LC_ALL=C.UTF-8")]
)
def test_an_argument_that_is_no_text(encoding, remedy, monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: encoding)
    check_text(["data.train_dir=ä", "seed=1"])
    with pytest.raises(UserError) as caught:
        check_text(["seed=1", "data.train_dir=\udce4"])
    assert str(caught.value) == rf"data.train_dir=\xe4: not a name in {encoding}, as Python reads it; {remedy}"


def test_a_working_folder_that_is_no_text(monkeypatch, tmp_path):
    folder = tmp_path / "\udce4"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"\\xe4: not a name in"):
        check_text([])


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", rb"\u22121 \xe4"), ("latin-1", b"\\u22121 \xe4"), ("utf-8", "−1 ä".encode())]
)
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_every_letter_can_be_printed(name, encoding, shown, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    print_anything()
    print("−1 ä", end="", file=getattr(sys, name), flush=True)
    assert raw.getvalue() == shown
