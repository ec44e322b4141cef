"""The map shows exactly the filters that lead the rankings, in their layer, row and column."""

import base64
import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from faig_lab.files import write_text
from faig_lab.plotting.style import MIX, SCALE
from faig_lab.report.report import filters_map
from faig_lab.runs.folder import RunFolder


def rank(run, name, leaders, total=12240):
    leading = set(leaders)
    rest = [index for index in range(total) if index not in leading]
    write_text(run / "attribution" / f"{name}_index.txt", "".join(f"{index}\n" for index in [*leaders, *rest]))


def pixels(layer):
    data = base64.b64decode(layer.uri.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def rgb(colour):
    return [round(255 * part) for part in to_rgb(colour)]


@pytest.fixture
def run(make_run):
    """Blur: the first 122 filters; noise: the last 122, and one of blur's instead of its last."""
    run = make_run()
    rank(run, "blur", range(122))
    rank(run, "noise", [*range(12239, 12118, -1), 5])
    return run


def test_planted_filters_are_marked_where_they_are(run):
    found = filters_map(RunFolder(run))
    first, second, last = found.layers[0], found.layers[1], found.layers[-1]
    assert (first.name, first.outputs, first.inputs) == ("conv_first", 24, 3)
    assert first.counts == {"blur": 72, "noise": 1}
    assert second.counts == {"blur": 50, "noise": 0}
    assert last.counts == {"blur": 0, "noise": 72}
    shown = pixels(second)
    assert shown.shape == (24, 24, 3)
    wanted = np.zeros((24, 24), dtype=bool)
    wanted.flat[:50] = True
    np.testing.assert_array_equal((shown == rgb(found.colours["blur"])).all(axis=-1), wanted)
    assert sum(sum(layer.counts.values()) for layer in found.layers) == 2 * 122


def test_a_filter_of_several_sets_has_a_colour_of_its_own(run):
    found = filters_map(RunFolder(run))
    assert found.shared
    assert pixels(found.layers[0])[1, 2].tolist() == rgb(MIX)
    rank(run, "noise", range(12239, 12117, -1))
    assert not filters_map(RunFolder(run)).shared


def test_marks_say_channel_and_rank(run):
    layer = filters_map(RunFolder(run)).layers[1]
    # The filter of flat index 72 + 25 is row 1, column 1, and the 98th of its ranking.
    assert (round(SCALE * 1.5 / 24), round(SCALE * 1.5 / 24), 0, "out 1, in 1: rank 98") in layer.marks.points
    assert layer.marks.labels == ["deblurring filter", "denoising filter"]
    assert len(layer.marks.points) == 50


def test_layers_are_drawn_to_fit(run):
    sizes = {layer.name: layer.size for layer in filters_map(RunFolder(run)).layers}
    assert (sizes["conv_first"], sizes["body.0.conv1"], sizes["upconv1"]) == (4, 4, 2)


def test_the_full_network_stays_light(make_run):
    from faig_lab.files import write_json

    run = make_run()
    shapes = [(64, 3), *((64, 64) for _ in range(33)), (256, 64), (3, 64)]
    offsets = np.cumsum([0, *(out * inputs for out, inputs in shapes)])
    layers = [
        {"name": f"layer.{k}.weight", "out": out, "in": inputs, "kernel": [3, 3], "offset": int(offset)}
        for k, ((out, inputs), offset) in enumerate(zip(shapes, offsets[:-1], strict=True))
    ]
    total = int(offsets[-1])
    assert total == 151_936
    write_json(run / "attribution" / "layout.json", {"layers": layers, "filters": total})
    rng = np.random.default_rng(0)
    for name in ("blur", "noise"):
        rank(run, name, rng.permutation(total)[:1519].tolist(), total)
    found = filters_map(RunFolder(run))
    assert sum(len(layer.uri) for layer in found.layers) < 60_000
    assert sum(len(str(layer.marks.points)) for layer in found.layers) < 150_000


def test_no_map_without_layout_or_ranking(run):
    for path in (run / "attribution").glob("*_index.txt"):
        path.unlink()
    assert filters_map(RunFolder(run)) is None
