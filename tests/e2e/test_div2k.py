"""The study at paper scale through the command line, with a small DIV2K from a local server that breaks off."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from file_server import serving
from PIL import Image
from run_files import read
from tiny_case import tiny, without_report

from faig_lab.__main__ import main

TINY = tiny("+experiment=blur_noise_paper", "data.probe_images=1", "training.workers=1", "analysis.percents=[1]")


def archive(folder, numbers):
    rng, file = np.random.default_rng(numbers[0]), io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for number in numbers:
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(image, "PNG")
            content.writestr(f"{folder}/{number:04}.png", image.getvalue())
    return file.getvalue()


@pytest.fixture
def server():
    with serving() as server:
        server.files = {
            "DIV2K_train_HR.zip": archive("DIV2K_train_HR", [1, 2, 3]),
            "DIV2K_valid_HR.zip": archive("DIV2K_valid_HR", [801, 802, 803]),
        }
        yield server


def settings(server, folder):
    described = []
    for side, name in (("train", "DIV2K_train_HR.zip"), ("valid", "DIV2K_valid_HR.zip")):
        content = server.files[name]
        described += [
            f"data.{side}.images=3",
            f"data.{side}.size={len(content)}",
            f"data.{side}.sha256={hashlib.sha256(content).hexdigest()}",
        ]
    return [
        *TINY,
        *described,
        f"data.root={folder / 'DIV2K'}",
        f"data.base_url={server.url}",
        f"store={folder / 'store'}",
    ]


def test_the_study_at_paper_scale(server, tmp_path, monkeypatch):
    monkeypatch.setattr("faig_lab.data.div2k.time.sleep", lambda seconds: None)
    server.broken = [10_000, 5_000]
    with without_report():
        assert main([*settings(server, tmp_path), f"hydra.run.dir={tmp_path / 'first'}"]) == 0
    asked = [what for path, what in server.requests if path == "DIV2K_train_HR.zip"]
    assert asked == [None, "bytes=10000-", "bytes=15000-"]
    log = (tmp_path / "first" / "run.log").read_text()
    assert log.count("trying again") == 2
    provenance = read(tmp_path / "first" / "attribution" / "provenance.json")
    assert provenance["training"] == ["0001", "0002", "0003"]
    assert [name.split("_")[0] for name in provenance["probe"]] == ["0801"]
    assert [name.split("_")[0] for name in provenance["held_out"]] == ["0802", "0803"]

    server.files.clear()
    for path in (tmp_path / "DIV2K").glob("*.zip"):
        path.unlink()
    before = len(server.requests)
    again = [*TINY, "data.train.images=3", "data.train.sha256=null", "data.valid.images=3", "data.valid.sha256=null"]
    again += [f"data.root={tmp_path / 'DIV2K'}", f"data.base_url={server.url}", f"store={tmp_path / 'store'}"]
    with without_report():
        assert main([*again, "training.workers=0", f"hydra.run.dir={tmp_path / 'again'}"]) == 0
    assert len(server.requests) == before
    assert (tmp_path / "again" / "run.log").read_text().count("already trained") == 2


def test_a_server_that_is_not_there_is_one_line_and_loses_nothing(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("faig_lab.data.div2k.time.sleep", lambda seconds: None)
    given = settings(server, tmp_path)
    server.broken = [10_000, *[0] * 5]
    assert main([*given, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"error: data.train: {server.url}/DIV2K_train_HR.zip: the line broke off at 0.01 MB of")
    status = read(tmp_path / "run" / "status.json")
    assert (status["state"], status["stage"]) == ("failed", "data")
    assert (tmp_path / "DIV2K" / "DIV2K_train_HR.zip.part").stat().st_size == 10_000
