"""The page has the numbers of the tables, needs no other file, and is complete for every kind of run."""

import base64
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from markupsafe import escape
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image
from tiny_case import figures_of

from faig_lab.files import write_json, write_text
from faig_lab.plotting.pictures import Pictures
from faig_lab.plotting.style import MIX, SCALE, new_figure, write_figure
from faig_lab.plotting.words import ABSENT
from faig_lab.report.figures import write_figures
from faig_lab.report.report import TABLES, FiltersMap, downloads, embed_all, embed_charts, filters_map, write_report
from faig_lab.report.texts import summary
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import read_table, records, write_table

MakeRun = Callable[..., Path]
MakePictures = Callable[..., list[Pictures]]
VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}
LAYERS = 20


class Page(HTMLParser):
    """Checks that tags balance; collects the text, the headings' levels, images, links and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.levels: list[int] = []
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "img":
            self.images.append(named)
        if tag == "a":
            self.links.append(named["href"])
        if "id" in named:
            self.ids.append(named["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def _page(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_numbers_are_those_of_the_tables(make_run: MakeRun) -> None:
    run = make_run()
    html = write_report(run).read_text(encoding="utf-8")
    text = Page(html).text
    assert ("Masking 1 % (122 of 12,240) deblurring filters removes 85 % of deblurring and 22 % of denoising") in text
    for row in records(read_table(run / "tables" / "specificity.csv")):
        if row["percent"] == 1 and row["method"] == "faig":
            assert f"{row['own']:.2f}" in text
            assert f"{row['other']:.2f}" in text
    rows = records(read_table(run / "tables" / "restoration.csv"))
    psnr = [float(row["psnr"]) for row in rows if (row["network"], row["degradation"]) == ("target", "noise")]
    assert f"{np.mean(psnr):.2f}" in text
    # The gap is that of metrics.json. The mean over the images is larger.
    gap = f"{100 * json.loads((run / 'metrics.json').read_text())['completeness_gap/blur']:.2g} %"
    assert f"blurred {gap} 20 %" in text
    assert gap in summary(run, None)
    cell = "Deblurring filters of FAIG masked: 0.22 of denoising removed; noisy input from 30.12 to 30.51 dB"
    assert f'style="--share: 22.0%" data-tip="{cell}">0.22<' in html
    assert "by construction" in text
    assert "target: EMA weights (decay 0.999) after training" in text


@pytest.mark.parametrize(
    ("degradations", "methods"),
    [
        (("blur",), ("faig",)),
        (("blur", "noise"), ("faig", "signed_share", "random")),
        (("blur", "noise", "jpeg"), ("faig",)),
    ],
)
def test_every_kind_of_run_has_a_page(make_run: MakeRun, degradations: Sequence[str], methods: Sequence[str]) -> None:
    run = make_run(degradations, methods, trained=False, notes=["judged on the probe"], drawn=True)
    page = _page(run)
    assert "judged on the probe" in page.text
    assert "weights given: b.pth" in page.text
    tiles = 2 * len(degradations) * (len(degradations) + 4)
    assert len(page.images) == tiles + len(("masking_curves", "layers")) + LAYERS
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", page.text.split("name: blur_noise")[0])
    assert page.levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(page.levels))
    # A run of an earlier version has no tiles, and its pictures are whole.
    shutil.rmtree(run / "figures" / "pictures")
    alts = [image["alt"] for image in _page(run).images]
    assert sum(alt.startswith("Grid of photographs with ") for alt in alts) == len(degradations)


@pytest.mark.parametrize("given", [(), ("target",), ("baseline", "target")])
def test_networks_are_trained_or_read_from_files(make_run: MakeRun, given: tuple[str, ...]) -> None:
    run = make_run()
    file = "package:srresnet_small_{}.safetensors"
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    for name in given:
        config[name]["weights"] = file.format(name)
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    text = _page(run).text.split("name: blur_noise")[0]
    for name in ("baseline", "target"):
        assert (f"{name} from {file.format(name)} (faig_lab ships the file)" in text) == (name in given)
    nothing = len(given) == 2
    assert ("This run trained neither network." in text) == nothing
    assert ("What was trained" in text) == ("the networks are trained on" in text) == (not nothing)


def test_the_page_needs_no_other_file_and_is_the_same_elsewhere(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(drawn=True)
    path = write_report(run)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert path.stat().st_size < 6_000_000
    assert not re.search(r"<(link|iframe|object)\b|@import|url\(|\bfetch\(|XMLHttpRequest|import\(", html)
    assert re.findall(r"<script[^>]*>", html) == ["<script>"]
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    outside = {link for link in page.links if not link.startswith(("#", "data:"))}
    assert outside == {f"tables/{table.name}" for table in (run / "tables").glob("*.csv")}
    inside = {link for link in page.links if link.startswith("data:")}
    assert inside == {
        f"data:text/csv;charset=utf-8;base64,{base64.b64encode(table.read_bytes()).decode()}"
        for table in (run / "tables").glob("*.csv")
    }
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    # The policy lets no other script run.
    script = html[html.index("<script>") + len("<script>") : html.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert f'content="{escape(policy)}"' in html
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    assert write_report(moved).read_bytes() == path.read_bytes()


def test_an_empty_or_a_failed_run_has_a_page_with_its_text_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "This run has no masking result." in _page(tmp_path / "nothing").text
    run = make_run(methods=("faig",), notes=["<script>alert(1)</script>"])
    rows = [{**row, "removed": None} for row in records(read_table(run / "tables" / "masking.csv"))]
    write_table(run / "tables" / "masking.csv", rows)
    write_json(run / "status.json", {"state": "failed", "error": "loss is not finite at step 12"})
    html = write_report(run).read_text(encoding="utf-8")
    assert "This run failed: loss is not finite at step 12." in html
    assert f"removes {ABSENT} of deblurring and {ABSENT} of denoising" in html
    assert "&lt;script&gt;alert" in html
    assert html.count("<script>") == 1


# Pictures and tables within the budget of bytes


def decoded(uri: str) -> tuple[str, NDArray[np.int_]]:
    head, data = uri.split(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return head, np.asarray(image.convert("RGB"), dtype=int)


def test_pictures_are_embedded_unchanged_or_within_the_budget(make_run: MakeRun, make_pictures: MakePictures) -> None:
    paths = [Path(f"{k}.png") for k in range(4)]
    for k, path in enumerate(paths):
        noise = np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    for path, embedded in zip(paths, embed_all(paths), strict=True):
        assert base64.b64decode(embedded.uri.removeprefix("data:image/png;base64,")) == path.read_bytes()
        assert (embedded.width, embedded.height) == (64, 64)
        assert abs(embedded.bytes - path.stat().st_size) < 32
    budget = sum(path.stat().st_size for path in paths) // 2
    smaller = embed_all(paths, budget)
    assert sum(picture.bytes for picture in smaller) <= budget + 32 * len(paths)
    assert {decoded(picture.uri)[0] for picture in smaller} == {"data:image/jpeg;base64"}
    assert {(picture.width, picture.height) for picture in smaller} == {(64, 64)}
    run = make_run()
    with figures_of("before_after"):
        write_figures(run, make_pictures(size=200, rows=6))
    assert write_report(run).stat().st_size < 6_000_000


def test_charts_look_the_same_in_fewer_bytes() -> None:
    figure, path = new_figure(3), Path("a.png")
    panel = figure.subplots()
    for k in range(6):
        panel.plot(np.sin(np.arange(50) / (k + 2)), label=f"series {k}")
    panel.legend()
    write_figure(path, figure)
    (embedded,) = embed_charts([path])
    with Image.open(path) as image:
        original = np.asarray(image.convert("RGB"), dtype=int)
    head, shown = decoded(embedded.uri)
    assert head == "data:image/png;base64"
    assert embedded.bytes < 0.7 * path.stat().st_size
    assert np.abs(shown - original).max() <= 16
    assert np.abs(shown - original).mean() < 0.5


def test_a_table_beyond_the_budget_is_only_linked(make_run: MakeRun) -> None:
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


# The map of the filters


def rank(run: Path, name: str, leaders: Sequence[int], total: int = 12240) -> None:
    leading = set(leaders)
    rest = [index for index in range(total) if index not in leading]
    write_text(run / "attribution" / f"{name}_index.txt", "".join(f"{index}\n" for index in [*leaders, *rest]))


def map_of(run: Path) -> FiltersMap:
    found = filters_map(RunFolder(run))
    assert found is not None
    return found


def rgb(colour: str) -> list[int]:
    return [round(255 * part) for part in to_rgb(colour)]


def test_planted_filters_are_marked_in_their_layer_row_and_column(make_run: MakeRun) -> None:
    """Blur: the first 122 filters; noise: the last 122, and one of blur's instead of its last."""
    run = make_run()
    rank(run, "blur", range(122))
    rank(run, "noise", [*range(12239, 12118, -1), 5])
    found = map_of(run)
    first, second, last = found.layers[0], found.layers[1], found.layers[-1]
    assert (first.name, first.outputs, first.inputs) == ("conv_first", 24, 3)
    assert [layer.counts for layer in (first, second, last)] == [
        {"blur": 72, "noise": 1}, {"blur": 50, "noise": 0}, {"blur": 0, "noise": 72}
    ]  # fmt: skip
    assert sum(sum(layer.counts.values()) for layer in found.layers) == 2 * 122
    _, shown = decoded(second.uri)
    wanted = np.zeros((24, 24), dtype=bool)
    wanted.flat[:50] = True
    np.testing.assert_array_equal((shown == rgb(found.colours["blur"])).all(axis=-1), wanted)
    # The filter of flat index 72 + 27 is row 1, column 3, and the 100th of its ranking.
    assert (round(SCALE * 3.5 / 24), round(SCALE * 1.5 / 24), 0, "out 1, in 3: rank 100") in second.marks.points
    assert second.marks.labels == ["deblurring filter", "denoising filter"]
    assert len(second.marks.points) == 50
    # A filter of several sets has a colour of its own.
    assert found.shared
    assert decoded(first.uri)[1][1, 2].tolist() == rgb(MIX)
    rank(run, "noise", range(12239, 12117, -1))
    assert not map_of(run).shared
    # Layers are drawn to fit.
    sizes = {layer.name: layer.size for layer in found.layers}
    assert (sizes["conv_first"], sizes["body.0.conv1"], sizes["upconv1"]) == (4, 4, 2)
    for path in (run / "attribution").glob("*_index.txt"):
        path.unlink()
    assert filters_map(RunFolder(run)) is None


def test_the_full_network_stays_light(make_run: MakeRun) -> None:
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
    found = map_of(run)
    assert sum(len(layer.uri) for layer in found.layers) < 60_000
    assert sum(len(str(layer.marks.points)) for layer in found.layers) < 150_000
