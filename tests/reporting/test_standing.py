"""What the intervals are over, in words and in the figure: planted tables, expected sentences."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from faig_lab.reporting import findings, methods_figure
from faig_lab.reporting.figures import write_figures
from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import read_run
from faig_lab.reporting.standing import by_construction, caution

MakeRun = Callable[..., Path]
METHODS = ("faig", "signed_share", "ig", "weight_change", "random")
OWN = {"faig": 0.6, "signed_share": 0.9, "ig": 0.55, "weight_change": 0.1, "random": 0.05}
OTHER = dict.fromkeys(METHODS, 0.1)


@pytest.mark.parametrize(
    ("photographs", "kind", "expected"),
    [
        (2, "range", "In brackets: the range over the 2 held-out photographs, for"),
        (9, "range", "In brackets: the range over the 9 held-out photographs, for"),
        (10, "bootstrap", "In brackets: the 95 % interval over the 10 held-out photographs, for"),
    ],
)
def test_what_intervals_are_and_do_not_say(make_run: MakeRun, photographs: int, kind: str, expected: str) -> None:
    text = caution(read_run(make_run(intervals=0.1, photographs=photographs))) or ""
    assert text.startswith(expected)
    assert "not how far another training would." in text
    assert ("would be too narrow" in text) == (kind == "range")


def test_methods_that_know_no_degradation_are_zero_by_construction(make_run: MakeRun) -> None:
    own = OWN | {"weight_change": OTHER["weight_change"]}
    run = read_run(make_run(methods=METHODS, own=own, other=OTHER, intervals=0.0))
    results = findings.method_results(run, 1)
    text = by_construction(run, results) or ""
    assert text.startswith("At 1 % weight change picks the same filters for every degradation, so the mean")
    assert by_construction(run, [result for result in results if result.method != "weight_change"]) is None


def test_one_photograph_has_no_interval(make_run: MakeRun) -> None:
    folder = make_run(methods=METHODS, own=OWN, other=OTHER, intervals=0.1, photographs=1)
    assert "There are no intervals" in (caution(read_run(folder)) or "")
    assert methods_figure.methods(read_run(folder)) is None


def test_a_run_from_before_there_were_intervals(make_run: MakeRun) -> None:
    run = read_run(make_run())
    assert caution(run) is None
    assert methods_figure.methods(run) is None


@pytest.mark.parametrize("rivals", [1, 4, 7])
def test_the_figure_has_a_panel_for_each_rival(make_run: MakeRun, rivals: int) -> None:
    methods = ("faig", "signed_share", "ig", "weight_change", "taylor", "fisher", "weight_change_absolute", "random")
    names = methods[: rivals + 1]
    own = {name: 0.9 - 0.1 * place for place, name in enumerate(names)}
    run = make_run(methods=names, own=own, other=dict.fromkeys(names, 0.1), intervals=0.05)
    figure = methods_figure.methods(read_run(run))
    assert figure is not None
    shown = [panel for panel in figure.axes if panel.axison]
    assert len(shown) == rivals
    assert all(len(panel.collections) == 2 for panel in shown)  # the bands of two methods
    assert all(panel.get_legend_handles_labels()[1] for panel in shown)
    (path,) = [path for path in write_figures(run, []) if path.stem == "methods"]
    with Image.open(path) as image:
        assert image.width == 1400


def test_the_page_has_caution_and_figure(make_run: MakeRun) -> None:
    run = make_run(methods=METHODS, own=OWN, other=OTHER, intervals=0.1)
    write_figures(run, [])
    html = write_report(run).read_text(encoding="utf-8")
    top = html[: html.index('id="contents"')]
    assert "In brackets: the range over the 3 held-out photographs" in top
    assert "Below a number: its range over photographs." in html
    assert "<small>0.70 to 0.90</small>" in html
    assert "minus FAIG" in html
    assert "a panel per method beside FAIG" in html
