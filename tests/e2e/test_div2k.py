"""The study at paper scale through the command line, with a small DIV2K from a local server that breaks off."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from file_server import serving
from PIL import Image
from run_files import read
from tiny_case import refusal, run, tiny

TINY = tiny("experiment=blur_noise_paper", "data.probe_images=1", "training.workers=1", "analysis.percents=[1]")


def archive(folder, numbers):
    rng, file = np.random.default_rng(numbers[0]), io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for number in numbers:
            image = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(image, "PNG")
            content.writestr(f"{folder}/{number:04}.png", image.getvalue())
    return file.getvalue()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("faig_lab.data.div2k.time.sleep", lambda seconds: None)
    with serving() as server:
        server.files = {
            "DIV2K_train_HR.zip": archive("DIV2K_train_HR", [1, 2, 3]),
            "DIV2K_valid_HR.zip": archive("DIV2K_valid_HR", [801, 802, 803]),
        }
        yield server


def settings(server, folder):
    """Of the data; an archive that the server no longer has is described by the number of its images alone."""
    described = [f"data.root={folder / 'DIV2K'}", f"data.base_url={server.url}"]
    for side in ("train", "valid"):
        content = server.files.get(f"DIV2K_{side}_HR.zip")
        described += [f"data.{side}.images=3", f"data.{side}.sha256=null"]
        if content is not None:
            digest = hashlib.sha256(content).hexdigest()
            described[-1:] = [f"data.{side}.sha256={digest}", f"data.{side}.size={len(content)}"]
    return described


def test_the_study_at_paper_scale(server, tmp_path):
    server.broken = [10_000, 5_000]
    first = run(tmp_path / "first", *TINY, *settings(server, tmp_path))
    asked = [what for path, what in server.requests if path == "DIV2K_train_HR.zip"]
    assert asked == [None, "bytes=10000-", "bytes=15000-"]
    assert (first / "run.log").read_text().count("trying again") == 2
    provenance = read(first / "attribution" / "provenance.json")
    assert provenance["training"] == ["0001", "0002", "0003"]
    assert [name.split("_")[0] for name in provenance["probe"]] == ["0801"]
    assert [name.split("_")[0] for name in provenance["held_out"]] == ["0802", "0803"]

    server.files.clear()
    for path in (tmp_path / "DIV2K").glob("*.zip"):
        path.unlink()
    before = len(server.requests)
    again = run(tmp_path / "again", *TINY, *settings(server, tmp_path), "training.workers=0")
    assert len(server.requests) == before
    assert (again / "run.log").read_text().count("already trained") == 2


def test_a_server_that_is_not_there_is_one_line_and_loses_nothing(server, tmp_path, capsys):
    server.broken = [10_000, *[0] * 5]
    place = [f"store={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}"]
    line = refusal(capsys, *TINY, *settings(server, tmp_path), *place)
    assert line.startswith(f"data.train: {server.url}/DIV2K_train_HR.zip: the line broke off at 0.01 MB of")
    status = read(tmp_path / "run" / "status.json")
    assert (status["state"], status["stage"]) == ("failed", "data")
    assert (tmp_path / "DIV2K" / "DIV2K_train_HR.zip.part").stat().st_size == 10_000
