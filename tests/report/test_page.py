"""The page in a browser: what pointer, finger and keyboard do, and that it stands without JavaScript."""

import base64
import json
import re

import numpy as np
import pytest
import torch
from browser import find, running
from matplotlib.colors import to_rgb
from PIL import Image
from run_fixtures import pictures_of, write_run

from faig_lab.evaluation.evaluator import Example
from faig_lab.plotting.style import MISSING
from faig_lab.report.figures import write_figures, write_strips
from faig_lab.report.report import write_report
from faig_lab.runs.tables import read_table, records, write_table

CHROMIUM = find()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium or Chrome on this machine: the page is not driven"
)

DESKTOP, PHONE = (1280, 900), (390, 844)
STRENGTHS = (0, 0.5, 1, 1.5)
# Grey levels of the restorations, and what they are said to reach.
GREY = {0: 40, 0.5: 80, 1: 200, 1.5: 120}
PSNR = {0: 22.0, 0.5: 24.0, 1: 28.0, 1.5: 25.0}

VISIBLE = "(e => !!e && e.getClientRects().length > 0)($({}))"
TIP = "$('.tip').hidden ? '' : $('.tip').innerText"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with running(CHROMIUM, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with modulation, whose restorations are even grey."""
    folder = tmp_path_factory.mktemp("page") / "run"
    write_run(folder)
    draw(folder, pictures_of())
    return folder


def draw(folder, pictures):
    rows = [
        {
            "method": "faig", "percent": 1.0, "filters": 122, "modulated": name, "strength": float(strength),
            "degradation": shown, "psnr": PSNR[strength], "removed": 0.0,
        }
        for name in ("blur", "noise", "blur+noise") for shown in ("blur", "noise") for strength in STRENGTHS
    ]  # fmt: skip
    write_table(folder / "tables" / "modulation.csv", rows)
    keys = {f"{name}/{strength:g}": strength for name in ("blur", "noise", "blur+noise") for strength in STRENGTHS}
    even = {key: torch.full((3, 32, 32), GREY[strength] / 255) for key, strength in keys.items()}
    psnr = {key: PSNR[strength] for key, strength in keys.items()}
    truth = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    write_strips(folder, "modulation", [Example("a", d, truth, truth, even, psnr) for d in ("blur", "noise")])
    write_figures(folder, pictures)
    write_report(folder)


@pytest.fixture
def page(chromium, run):
    chromium.scheme("light")
    chromium.open(run / "report.html", *DESKTOP)
    yield chromium
    assert chromium.errors == []
    assert chromium.requests == [(run / "report.html").resolve().as_uri()]


def box(page, selector):
    """Left, top, width and height of an element, brought into the window."""
    return page.js(
        f"(e => {{ e.scrollIntoView({{behavior: 'instant', block: 'center'}}); const b = e.getBoundingClientRect();"
        f" return [b.left, b.top, b.width, b.height]; }})($({json.dumps(selector)}))"
    )


def pixel(page, path, x, y):
    page.screenshot(path)
    with Image.open(path) as image:
        return image.convert("RGB").getpixel((round(x), round(y)))


def choose(page, selector, value, event="change"):
    event = f"new Event({json.dumps(event)}, {{bubbles: true}})"
    element = f"$({json.dumps(selector)})"
    page.js(f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent({event}); }})({element})")


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_nothing_is_wider_than_the_window(page, run, size):
    page.open(run / "report.html", *size)
    assert page.js("document.documentElement.scrollWidth") == size[0]
    loose = "$$('main table').filter(table => !table.closest('.scroll')).length"
    assert page.js(loose) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_part_of_isolation_has_one_colour_in_bars_and_charts(chromium, make_run, tmp_path, scheme):
    folder = make_run(isolated={"faig": 0.7, "signed_share": 0.8, "random": 0.0})
    write_report(folder)
    chromium.scheme(scheme)
    chromium.open(folder / "report.html", *DESKTOP)
    for part, colour in MISSING.items():
        # A chart of this colour only, in a card like every chart.
        chromium.js(
            f"(canvas => {{ const ink = canvas.getContext('2d'); ink.fillStyle = '{colour}';"
            " ink.fillRect(0, 0, 300, 150);"
            " const card = document.createElement('div'); card.className = 'paper chart'; card.id = 'drawn';"
            " $('#drawn')?.remove(); $('main').prepend(card);"
            " card.innerHTML = `<div class=marked><img src=${canvas.toDataURL()}></div>`;"
            " return card.querySelector('img').decode(); })(document.createElement('canvas'))"
        )
        colours = []
        for selector in (f".bar.m-{part} span", "#drawn img"):
            left, top, width, height = box(chromium, selector)
            colours.append(pixel(chromium, tmp_path / "page.png", left + width / 2, top + height / 2))
        assert colours[0] == pytest.approx(colours[1], abs=1), (part, colours)
        if scheme == "light":
            assert colours[0] == pytest.approx([round(255 * channel) for channel in to_rgb(colour)], abs=1)


@pytest.mark.parametrize(("size", "screens"), [((1440, 900), 1), (PHONE, 2)])
def test_the_first_picture_is_on_the_first_screen_or_two_of_a_phone(chromium, make_run, size, screens):
    folder = make_run(isolated={"faig": 0.7, "signed_share": 0.8, "random": 0.0}, intervals=0.1, drawn=True)
    write_report(folder)
    chromium.scheme("light")
    chromium.open(folder / "report.html", *size)
    left, top, width, height = chromium.js(
        "(b => [b.left, b.top, b.width, b.height])($('.stage').getBoundingClientRect())"
    )
    assert top + height / 2 <= screens * size[1]  # its middle, where the edge of the wipe has its handle
    assert left + width <= size[0]
    if size[0] == 1440:
        assert chromium.js("document.documentElement.scrollHeight") <= 9000


def test_paper_has_everything_unfolded_and_in_colour(page):
    page.js("window.dispatchEvent(new Event('beforeprint'))")
    assert page.js("$$('details').filter(folded => !folded.open).length") == 0
    page.send("Emulation.setEmulatedMedia", media="print")
    kept = "getComputedStyle($({})).printColorAdjust"
    for selector in (".bar span", ".heat td", ".legend i", "tr.chosen > *"):
        assert page.js(kept.format(json.dumps(selector))) == "exact", selector
    page.resize(720, 1000)  # A4 with margins
    assert page.js("document.documentElement.scrollWidth") == 720
    page.send("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("degradations", [("blur", "noise"), ("blur", "noise", "jpeg")])
def test_no_matrix_is_cut_and_no_name_is_broken(chromium, make_run, degradations):
    folder = make_run(degradations)
    write_report(folder)
    chromium.scheme("light")
    chromium.open(folder / "report.html", *DESKTOP)
    boxes = "$$('.matrices .scroll')"
    assert chromium.js(f"{boxes}.length") == 3
    assert chromium.js(f"{boxes}.filter(box => box.scrollWidth > box.clientWidth).length") == 0
    # The longest word of a row's name stands on one line.
    words = "$$('.heat tbody th').map(head => head.scrollWidth - head.clientWidth)"
    assert max(chromium.js(words)) == 0


def test_a_number_keeps_its_unit(page, run):
    parted = r"$$('main p, figcaption').filter(e => /\d (%|dB|kB)(?!\w)/.test(e.textContent)).map(e => e.textContent)"
    assert page.js(parted) == []
    assert "\N{NO-BREAK SPACE}" not in (run / "report.html").read_text(encoding="utf-8")


def test_the_wipe_follows_keys_pointer_and_finger(page):
    edge = "$('figure[data-view=wipe] .stage').style.getPropertyValue('--edge')"
    left, top, width, height = box(page, "figure[data-view=wipe] .stage")
    assert page.js(edge) == "50%"
    page.js("$('figure[data-view=wipe] [name=edge]').focus()")
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert page.js(edge) == "48%"
    page.drag((left + width / 2, top + height / 2), (left + width / 4, top + height / 2))
    assert page.js(edge) == "25%"
    page.swipe((left + width / 4, top + height / 2), (left + 3 * width / 4, top + height / 2))
    assert page.js(edge) == "75%"
    clip = "getComputedStyle($('figure[data-view=wipe] .side.right')).clipPath"
    assert "75%" in page.js(clip)


def test_the_wipe_compares_target_and_masked_first_and_then_what_is_chosen(page):
    chips = "[...$$('figure[data-view=wipe]')[0].querySelectorAll('.chip')].map(c => c.textContent)"
    assert page.js(chips) == ["target, 28.10 dB", "1 % deblurring set masked, 23.70 dB"]
    readout = "$('figure[data-view=wipe] .readout').innerText"
    assert page.js(readout).startswith("−4.40 dB")
    choose(page, "figure[data-view=wipe] [name=left]", "0")
    choose(page, "figure[data-view=wipe] [name=row]", "1")
    assert page.js(chips)[0] == "blurred input, 21.20 dB"
    page.js("$$('figure[data-view=wipe] tbody tr')[0].querySelectorAll('td')[1].click()")
    assert page.js(chips)[1] == "baseline, 22.40 dB"
    assert page.js("$('figure[data-view=wipe] [name=row]').value") == "0"


@pytest.mark.parametrize(
    ("strength", "grey", "said"),
    [
        (1, 200, ["λ = 1", "28.00 dB"]),
        (0.25, 60, ["λ = 0.25", "about 23.00 dB", "between 22.00 dB at 0 and 24.00 dB at 0.5"]),
        (0.85, 164, ["λ = 0.85", "about 26.80 dB", "between 24.00 dB at 0.5 and 28.00 dB at 1"]),
        (1.5, 120, ["λ = 1.5", "25.00 dB"]),
    ],
)
def test_the_dial_blends_the_two_nearest_restorations(page, tmp_path, strength, grey, said):
    choose(page, "figure[data-view=dial] [name=strength]", str(strength), "input")
    readout = page.js("$('figure[data-view=dial] .readout').innerText")
    assert all(part in readout.split("\n") for part in said)
    left, top, width, height = box(page, "figure[data-view=dial] .stage")
    shown = pixel(page, tmp_path / "a.png", left + width / 2, top + height / 2)
    np.testing.assert_allclose(shown, grey, atol=1)


def test_the_dial_turns_by_keys_and_by_a_click_on_a_picture(page):
    chip = "$('figure[data-view=dial] .chip').textContent"
    assert page.js(chip) == "λ = 1, 28.00 dB"
    page.js("$('figure[data-view=dial] [name=strength]').focus()")
    page.press("ArrowRight")
    assert page.js(chip) == "λ = 1.025, about 27.85 dB"
    page.js("$$('figure[data-view=dial] tbody tr')[2].querySelectorAll('td')[0].click()")
    assert page.js(chip) == "λ = 0, 22.00 dB"
    assert page.js("$('figure[data-view=dial] [name=row]').value") == "2"


def test_a_chart_tells_its_values_to_keys_and_pointer(page, run):
    chart = "$('#how-many').parentElement.querySelector('.marked')"
    page.js(f"{chart}.focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    (row,) = [
        r for r in records(read_table(run / "tables" / "masking.csv"))
        if (r["method"], r["masked"], r["degradation"], r["percent"]) == ("faig", "blur", "blur", 1.0)
    ]  # fmt: skip
    value, label = page.js(TIP).split("\n")
    assert value == f"{100 * row['removed']:.4g} % at 1 %"
    assert label.startswith("FAIG · deblurring set masked: deblurring")
    page.press("ArrowDown")
    assert page.js(TIP).split("\n")[1].startswith("signed share · deblurring set masked: deblurring")
    page.press("Escape")
    assert page.js(TIP) == ""
    marks = json.loads((run / "figures" / "masking_curves.json").read_text())
    x, y, label, text = marks["points"][3]
    left, top, width, height = box(page, "[aria-labelledby=how-many] .marked")
    page.mouse("mouseMoved", left + width * x / 10_000 + 2, top + height * y / 10_000 + 2)
    assert page.js(TIP).split("\n") == [text, marks["labels"][label]]
    spot = "(b => [b.left + b.width / 2, b.top + b.height / 2])($('.dot:not([hidden])')"
    place = page.js(f"{spot}.getBoundingClientRect())")
    np.testing.assert_allclose(place, [left + width * x / 10_000, top + height * y / 10_000], atol=0.5)


def test_a_line_names_itself_between_its_points(page, run):
    """Also where a point of another line is nearer than its own points."""
    marks = json.loads((run / "figures" / "masking_curves.json").read_text())
    left, top, width, height = box(page, "[aria-labelledby=how-many] .marked")
    places = np.array([(left + width * x / 10_000, top + height * y / 10_000) for x, y, *_ in marks["points"]])
    pieces = [(k, k + 1) for first, end in marks["lines"] for k in range(first, end - 1)]
    middles = np.array([(places[a] + places[b]) / 2 for a, b in pieces])
    lengths = np.array([np.hypot(*(places[a] - places[b])) for a, b in pieces])
    tried = 0
    for (a, b), middle in zip(pieces, middles, strict=True):
        gaps = np.array([_distance(middle, places[c], places[d]) for c, d in pieces if (c, d) != (a, b)])
        if np.hypot(*(places - middle).T).min() > 8 and gaps.min() > 8:  # nothing else is touched there
            page.mouse("mouseMoved", *middle)
            assert page.js(TIP).split("\n")[1] == marks["labels"][marks["points"][a][2]]
            tried += 1
    assert tried > 3, lengths


def _distance(point, start, end):
    """The distance of a point to a piece of a line."""
    along = np.clip(np.dot(point - start, end - start) / max(np.dot(end - start, end - start), 1e-9), 0, 1)
    return np.hypot(*(start + along * (end - start) - point))


def test_the_matrix_tells_what_a_cell_means(page):
    page.js("$('.heat td').focus()")
    page.press("ArrowRight")
    assert "0.22 of denoising removed" in page.js(TIP)
    assert page.js("$$('.heat')[0].querySelectorAll('td[tabindex=\"0\"]').length") == 1
    page.press("ArrowDown")
    assert page.js(TIP).startswith("0.86")


def test_filters_are_walked_from_layer_to_layer(page):
    hosts = "$$('.layers .marked[tabindex]')"
    assert page.js(f"{hosts}.filter(h => h.tabIndex === 0).length") == 1
    page.js(f"{hosts}[0].focus()")
    page.press("ArrowDown")
    assert page.js(f"{hosts}.indexOf(document.activeElement)") == 1
    value, label = page.js(TIP).split("\n")
    assert re.fullmatch(r"out \d+, in \d+: rank \d+", value)
    assert label in ("deblurring filter", "denoising filter")


def test_tables_sort_by_click_and_enter(page):
    names = "$$('.methods tbody th').map(h => h.innerText.split('\\n')[0].trim())"
    sort = "$$('.methods thead th')[1].getAttribute('aria-sort')"
    before = page.js(names)
    assert page.js(sort) is None
    page.js("$$('.methods thead button')[1].click()")
    assert page.js(names) == ["signed share", "FAIG", "random filters"]
    assert page.js(sort) == "descending"
    page.js("$$('.methods thead button')[1].focus()")
    page.press("Enter")
    assert page.js(names) == ["random filters", "FAIG", "signed share"]
    assert page.js(sort) == "ascending"
    page.press("Enter")
    assert page.js(names) == before
    assert page.js(sort) is None


def test_the_data_of_a_section_is_a_click_away(page, run):
    link = "$('[aria-labelledby=modulation] a[data-csv]')"
    assert page.js(f"{link}.download") == "modulation.csv"
    data = base64.b64decode(page.js(f"{link}.href").split(",")[1])
    assert data == (run / "tables" / "modulation.csv").read_bytes()


def test_without_javascript_everything_is_there(chromium, run):
    chromium.open(run / "report.html", *PHONE, javascript=False)
    for selector in (".tiles img", ".heat td", ".methods td", ".layers img", "#how-many ~ figure img", "a[download]"):
        assert chromium.js(VISIBLE.format(json.dumps(selector))), selector
    for selector in (".viewer", ".hint", "th button", ".tip"):
        assert not chromium.js(VISIBLE.format(json.dumps(selector))), selector
    assert chromium.js("document.documentElement.scrollWidth") == PHONE[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(page, scheme):
    page.scheme(scheme)
    for selector in (
        "body",
        ".note",
        "a",
        ".heat td",
        ".methods tr.chosen td",
        ".heat tr:nth-child(2) td:nth-child(3)",
    ):
        ink, ground = page.js(
            f"(e => {{ const ink = getComputedStyle(e).color; let g = e;"
            " while (getComputedStyle(g).backgroundColor === 'rgba(0, 0, 0, 0)') g = g.parentElement;"
            f" return [ink, getComputedStyle(g).backgroundColor]; }})($({json.dumps(selector)}))"
        )
        assert contrast(ink, ground) >= 4.5, (selector, ink, ground)


def contrast(first, second):
    """WCAG 2: the ratio of relative luminances."""
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]])
    parts = parts if colour.startswith("color(srgb") else parts / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
