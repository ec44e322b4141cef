"""Pictures fit the page: lossless while there is room, smaller when there is not."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from faig_lab.plotting.style import new_figure, write_figure
from faig_lab.report.report import TABLES, downloads, embed_all, embed_charts
from faig_lab.runs.folder import RunFolder


def decoded(embedded):
    head, data = embedded.uri.split(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return head, np.asarray(image.convert("RGB"), dtype=int)


@pytest.fixture
def noisy(tmp_path):
    paths = []
    for k in range(4):
        path = tmp_path / f"{k}.png"
        rng = np.random.default_rng(k)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def test_with_room_the_files_are_embedded_as_they_are(noisy):
    for path, embedded in zip(noisy, embed_all(noisy), strict=True):
        assert base64.b64decode(embedded.uri.removeprefix("data:image/png;base64,")) == path.read_bytes()
        assert (embedded.width, embedded.height) == (64, 64)
        assert abs(embedded.bytes - path.stat().st_size) < 32


def test_without_room_they_shrink_to_the_budget(noisy):
    budget = sum(path.stat().st_size for path in noisy) // 2
    embedded = embed_all(noisy, budget)
    assert sum(picture.bytes for picture in embedded) <= budget + 32 * len(noisy)
    assert {decoded(picture)[0] for picture in embedded} == {"data:image/jpeg;base64"}


def test_charts_look_the_same_in_fewer_bytes(tmp_path):
    figure = new_figure(3)
    panel = figure.subplots()
    for k in range(6):
        panel.plot(np.sin(np.arange(50) / (k + 2)), label=f"series {k}")
    panel.legend()
    write_figure(tmp_path / "a.png", figure)
    (embedded,) = embed_charts([tmp_path / "a.png"])
    with Image.open(tmp_path / "a.png") as image:
        original = np.asarray(image.convert("RGB"), dtype=int)
    head, shown = decoded(embedded)
    assert head == "data:image/png;base64"
    assert embedded.bytes < 0.7 * (tmp_path / "a.png").stat().st_size
    assert np.abs(shown - original).max() <= 16
    assert np.abs(shown - original).mean() < 0.5


def test_a_table_beyond_the_budget_is_only_linked(make_run):
    run = make_run()
    path = run / "tables" / "masking.csv"
    row = path.read_text().splitlines(keepends=True)[1]
    with path.open("a") as file:
        file.write(row * (TABLES // len(row)))
    found = downloads(RunFolder(run))
    assert found["masking"].uri is None
    assert found["specificity"].uri is not None
    assert sum(len(table.uri or "") for table in found.values()) < 4 / 3 * TABLES + 1000
    assert found["specificity"].rows == len((run / "tables" / "specificity.csv").read_text().splitlines()) - 1
