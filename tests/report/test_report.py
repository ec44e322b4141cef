"""The page holds the numbers of the tables, needs no other file, and stands for every kind of run."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from markupsafe import escape
from tiny_case import figures_of

from faig_lab.files import write_json
from faig_lab.plotting.pictures import Pictures
from faig_lab.plotting.words import ABSENT
from faig_lab.report.figures import write_figures
from faig_lab.report.report import write_report
from faig_lab.report.texts import summary
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
        self.images: list[dict[str, str | None]] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "img":
            self.images.append(named)
        if tag == "a":
            self.links.append(named["href"] or "")
        if named.get("id"):
            self.ids.append(named["id"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)


def _page(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_tells_the_finding_in_the_numbers_of_the_tables(make_run: MakeRun) -> None:
    run = make_run()
    text = _page(run).text
    (size,) = {row["filters"] for row in records(read_table(run / "tables" / "masking.csv")) if row["percent"] == 1}
    total = json.loads((run / "attribution" / "layout.json").read_text())["filters"]
    assert isinstance(size, float)
    assert (
        f"Masking 1 % ({size:.0f} of {total:,}) deblurring filters removes 85 % of deblurring and 22 % of denoising"
    ) in text
    for row in records(read_table(run / "tables" / "specificity.csv")):
        if row["percent"] == 1 and row["method"] == "faig":
            assert f"{row['own']:.2f}" in text
            assert f"{row['other']:.2f}" in text
    assert "by construction" in text
    assert "target: EMA weights (decay 0.999) after training" in text


def test_the_gap_is_that_of_metrics_json_and_not_the_mean_of_the_images(make_run: MakeRun) -> None:
    run = make_run()
    gap = json.loads((run / "metrics.json").read_text())["completeness_gap/blur"]
    text = _page(run).text
    assert f"blurred {100 * gap:.2g} % 20 %" in text
    assert f"{100 * gap:.2g} %" in summary(run, None)


def test_psnr_is_the_mean_of_the_table(make_run: MakeRun) -> None:
    run = make_run()
    rows = records(read_table(run / "tables" / "restoration.csv"))
    psnr = [float(row["psnr"] or 0) for row in rows if (row["network"], row["degradation"]) == ("target", "noise")]
    assert f"{sum(psnr) / len(psnr):.2f}" in _page(run).text


@pytest.mark.parametrize(
    ("degradations", "methods"),
    [
        (("blur",), ("faig",)),
        (("blur", "noise"), ("faig", "signed_share", "random")),
        (("blur", "noise", "jpeg"), ("faig",)),
    ],
)
def test_stands_for_every_kind_of_run(make_run: MakeRun, degradations: Sequence[str], methods: Sequence[str]) -> None:
    run = make_run(degradations, methods, trained=False, notes=["judged on the probe"], drawn=True)
    page = _page(run)
    assert "judged on the probe" in page.text
    assert "weights given: b.pth" in page.text
    tiles = 2 * len(degradations) * (len(degradations) + 4)
    charts = ["masking_curves", "layers"]
    assert len(page.images) == tiles + len(charts) + LAYERS
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", page.text.split("name: blur_noise")[0])


@pytest.mark.parametrize("given", [(), ("target",), ("baseline", "target")])
def test_says_which_networks_were_trained_and_which_were_read(make_run: MakeRun, given: tuple[str, ...]) -> None:
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


def test_needs_no_other_file(make_run: MakeRun) -> None:
    run = make_run(drawn=True)
    path = write_report(run)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert path.stat().st_size < 6_000_000
    assert not re.search(r"<(link|iframe|object)\b|@import|url\(|\bfetch\(|XMLHttpRequest|import\(", html)
    assert re.findall(r"<script[^>]*>", html) == ["<script>"]
    assert all((image["src"] or "").startswith("data:image/") for image in page.images)
    assert all(image["alt"] for image in page.images)
    outside = [link for link in page.links if not link.startswith(("#", "data:text/csv;"))]
    assert all((run / link).is_file() and link.endswith(".csv") for link in outside)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_headings_have_one_title_and_no_skipped_level(make_run: MakeRun) -> None:
    levels = _page(make_run()).levels
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_large_pictures_are_kept_within_the_budget(make_run: MakeRun, make_pictures: MakePictures) -> None:
    run = make_run()
    with figures_of("before_after"):
        write_figures(run, make_pictures(size=200, rows=6))
    assert write_report(run).stat().st_size < 6_000_000


def test_an_empty_run_folder_still_has_a_page(tmp_path: Path) -> None:
    assert "This run has no masking result." in _page(tmp_path).text


def test_absent_numbers_are_dashes(make_run: MakeRun) -> None:
    run = make_run(methods=("faig",))
    rows = [{**row, "removed": None} for row in records(read_table(run / "tables" / "masking.csv"))]
    write_table(run / "tables" / "masking.csv", rows)
    assert f"removes {ABSENT} of deblurring and {ABSENT} of denoising" in _page(run).text


def test_text_from_the_run_is_escaped(make_run: MakeRun) -> None:
    run = make_run(notes=["<script>alert(1)</script>"])
    html = write_report(run).read_text(encoding="utf-8")
    assert "&lt;script&gt;alert" in html
    assert html.count("<script>") == 1


def test_the_policy_lets_no_other_script_run(make_run: MakeRun) -> None:
    html = write_report(make_run()).read_text(encoding="utf-8")
    script = html[html.index("<script>") + len("<script>") : html.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert f'content="{escape(policy)}"' in html


def test_every_table_is_in_the_page(make_run: MakeRun) -> None:
    run = make_run()
    page = _page(run)
    for path in (run / "tables").glob("*.csv"):
        assert f"data:text/csv;charset=utf-8;base64,{base64.b64encode(path.read_bytes()).decode()}" in page.links
        assert f"tables/{path.name}" in page.links


def test_a_run_from_before_there_were_tiles_keeps_its_pictures(make_run: MakeRun) -> None:
    run = make_run(drawn=True)
    shutil.rmtree(run / "figures" / "pictures")
    alts = [image["alt"] or "" for image in _page(run).images]
    assert sum(alt.startswith("Grid of photographs with ") for alt in alts) == 2


def test_a_cell_of_the_matrix_says_what_it_means(make_run: MakeRun) -> None:
    html = write_report(make_run()).read_text(encoding="utf-8")
    said = "Deblurring filters of FAIG masked: 0.22 of denoising removed; noisy input from 30.12 to 30.51 dB"
    assert f'style="--share: 22.0%" data-tip="{said}">0.22<' in html


def test_a_failed_run_says_so(make_run: MakeRun) -> None:
    run = make_run()
    write_json(run / "status.json", {"state": "failed", "error": "loss is not finite at step 12"})
    assert "This run failed: loss is not finite at step 12." in _page(run).text


def test_the_same_files_give_the_same_page_wherever_they_lie(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    page = write_report(run).read_bytes()
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    assert write_report(moved).read_bytes() == page
