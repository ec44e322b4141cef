"""The sentences of page and console: what intervals are over, and the run's own word for what was ranked."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from tiny_case import figures_of

from faig_lab.files import write_json
from faig_lab.granularity import UNITS
from faig_lab.plotting.style import write_figure
from faig_lab.plotting.words import MEANINGS
from faig_lab.report import figures, texts
from faig_lab.report.figures import write_figures
from faig_lab.report.report import write_report
from faig_lab.report.texts import summary
from faig_lab.runs.folder import RunFolder
from faig_lab.studies.section import sections

MakeRun = Callable[..., Path]
METHODS = ("faig", "signed_share", "ig", "weight_change", "random")
OWN = {"faig": 0.6, "signed_share": 0.9, "ig": 0.55, "weight_change": 0.1, "random": 0.05}
OTHER = dict.fromkeys(METHODS, 0.1)


@pytest.mark.parametrize(
    ("photographs", "kind", "expected"),
    [
        (2, "range", "Below a specificity: the range over the 2 held-out photographs for this"),
        (9, "range", "Below a specificity: the range over the 9 held-out photographs for this"),
        (10, "bootstrap", "Below a specificity: the 95 % interval over the 10 held-out photographs for this"),
    ],
)
def test_what_intervals_are_and_do_not_say(make_run: MakeRun, photographs: int, kind: str, expected: str) -> None:
    text = texts.intervals(RunFolder(make_run(intervals=0.1, photographs=photographs)))
    assert text.startswith(expected)
    assert "not how much it depends on the training." in text
    assert ("is too narrow" in text) == (kind == "range")


def test_one_photograph_has_no_interval(make_run: MakeRun) -> None:
    run = RunFolder(make_run(methods=METHODS, own=OWN, other=OTHER, intervals=0.1, photographs=1))
    assert texts.intervals(run).startswith("There are no intervals")
    assert figures.methods(run) is None


def test_a_run_from_before_there_were_intervals(make_run: MakeRun) -> None:
    run = RunFolder(make_run())
    assert texts.intervals(run) == ""
    assert figures.methods(run) is None


@pytest.mark.parametrize("others", [1, 4, 7])
def test_the_figure_has_a_panel_for_each_other_method(make_run: MakeRun, others: int) -> None:
    methods = ("faig", "signed_share", "ig", "weight_change", "taylor", "fisher", "weight_change_absolute", "random")
    names = methods[: others + 1]
    own = {name: 0.9 - 0.1 * place for place, name in enumerate(names)}
    run = make_run(methods=names, own=own, other=dict.fromkeys(names, 0.1), intervals=0.05)
    figure = figures.methods(RunFolder(run))
    assert figure is not None
    shown = [panel for panel in figure.axes if panel.axison]
    assert len(shown) == others
    assert all(len(panel.collections) == 2 for panel in shown)  # the bands of two methods
    with figures_of("methods"):
        (path,) = write_figures(run, [])
    with Image.open(path) as image:
        assert image.width == 1400


def test_the_page_has_intervals_and_figure(make_run: MakeRun) -> None:
    run = make_run(methods=METHODS, own=OWN, other=OTHER, intervals=0.1)
    with figures_of("methods"):
        write_figures(run, [])
    html = write_report(run).read_text(encoding="utf-8")
    assert "Below a specificity: the range over the 3 held-out photographs" in html
    assert "<small>0.70 to 0.90</small>" in html
    assert "minus FAIG" in html
    assert "a panel per method beside FAIG" in html


def layout_of(run: Path, **changes: object) -> RunFolder:
    path = run / "attribution" / "layout.json"
    write_json(path, json.loads(path.read_text()) | changes)
    return RunFolder(run)


@pytest.mark.parametrize("granularity", ["layer", "input_channel"])
def test_page_figures_and_console_have_the_run_s_own_word(
    make_run: MakeRun, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = layout_of(make_run(intervals=0.1, isolated={"faig": 0.5, "random": 0.0}), granularity=granularity)
    drawn: list[Figure] = []
    monkeypatch.setattr(
        figures, "write_figure", lambda path, figure: drawn.append(figure) or write_figure(path, figure)
    )
    write_figures(run.path, [])
    page = write_report(run.path).read_text(encoding="utf-8")
    read = re.sub(r"<(script|style|pre)\b.*?</\1>|(?<=data:)[^\"]*|data-marks='[^']*'", "", page, flags=re.DOTALL)
    paper = ("Filter attribution by", "Finding Discriminative Filters", "of the filters)", "denoising filters")
    for kept in (*paper, "random filters", "Random filters"):  # the last two name a method
        read = read.replace(kept, "")
    assert not re.findall(r"[^<>]*\bfilters?\b[^<>]*", read, flags=re.IGNORECASE)
    assert f"deblurring {UNITS[granularity]}" in read
    assert f"1 % of the {UNITS[granularity]} (122 of" in summary(run.path, None)
    assert "filter" not in summary(run.path, None).replace("random filters", "")
    assert len(drawn) == 6
    for figure in drawn:
        shown = {text.get_text() for text in figure.findobj(Text)}  # type: ignore[attr-defined]
        assert not [text for text in shown - {"random filters"} if "filter" in text.lower()]


def test_every_text_of_a_section_takes_the_word(make_run: MakeRun) -> None:
    run = layout_of(make_run(), granularity="layer")
    for section in sections():
        told = [section.title, section.method, section.alt, section.caption, section.note]
        told += [section.strips.alt, section.strips.caption] if section.strips else []
        for text in told:
            assert "filter" not in run.worded(text, input="blurred").lower()


def test_a_run_from_before_there_was_a_choice_ranks_filters(make_run: MakeRun) -> None:
    run = RunFolder(make_run())
    assert (run.units, run.unit, run.worded("{Units}: one {unit}")) == ("filters", "filter", "Filters: one filter")


def test_a_reader_is_told_when_other_parameters_are_ranked_too(make_run: MakeRun) -> None:
    run = make_run()
    assert texts.warnings(RunFolder(run)) == []
    (note,) = texts.warnings(layout_of(run, layers=[{"out": 3}, {"shape": [4]}]))
    assert note.startswith("Biases and all other parameters are ranked")


@pytest.mark.parametrize("granularity", UNITS)
def test_the_glossary_says_what_a_unit_is(make_run: MakeRun, granularity: str) -> None:
    run = make_run()
    assert texts.meaning(layout_of(run, granularity=granularity)) == MEANINGS[granularity]
    others = texts.meaning(layout_of(run, layers=[{"out": 3}, {"shape": [4]}]))
    assert (others != MEANINGS[granularity]) == (granularity != "layer")
