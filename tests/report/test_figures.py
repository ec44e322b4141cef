"""The figures of every kind of run: their panels and files, long names beside each other, and names as plain text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from markupsafe import escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from tiny_case import figures_of

from faig_lab.plotting.pictures import (
    TRUTH,
    PictureRow,
    Pictures,
    Tile,
    _wrapped,
    before_after,
    detailed_window,
    input_title,
    masked_title,
    strips,
)
from faig_lab.plotting.style import INK, drawing, legend_columns, new_figure, write_figure
from faig_lab.report import figures
from faig_lab.report.figures import isolation, masking_curves, methods, specificity, training, write_figures
from faig_lab.report.report import write_report
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import read_table, records, write_table

MakeRun = Callable[..., Path]
MakePictures = Callable[..., list[Pictures]]
CHARTS = {"specificity", "masking_curves", "layers", "training"}
METHODS = (
    *("faig", "signed_share", "ig", "weight_change", "weight_change_absolute", "taylor", "fisher", "learned_mask"),
    "random",
)
SHARES = dict.fromkeys(METHODS, 0.5)
SHORT, LONG = ("blur", "noise", "jpeg"), ("anisotropic_blur", "poisson_noise", "jpeg")
REFERENCE = "learned mask (reference)"


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    with drawing():
        FigureCanvasAgg(figure).draw()
    return figure


# Files and panels


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), SHORT])
def test_every_figure_is_written_and_again_with_the_same_bytes(make_run: MakeRun, degradations: Sequence[str]) -> None:
    run = make_run(degradations, drawn=True)
    before = {path: path.read_bytes() for path in (run / "figures").glob("*.png")}
    assert {path.stem for path in before} == CHARTS | {f"before_after_{name}" for name in degradations}
    for path in before:
        with Image.open(path) as image:
            assert image.width == 1400
            assert len(image.convert("L").getcolors(65536)) > 50
    written = write_figures(run, [])
    assert {path.stem for path in written} == CHARTS
    assert all(path.read_bytes() == before[path] for path in written)


def test_a_figure_without_data_is_left_out(make_run: MakeRun) -> None:
    assert write_figures(make_run(methods=(), trained=False), []) == []
    for without in ({}, {"intervals": 0.1, "photographs": 1}):  # an earlier version, or a single photograph
        run = RunFolder(make_run(**without))
        assert (isolation(run), methods(run)) == (None, None)


@pytest.mark.parametrize("others", [1, 4, 7])
def test_every_method_has_its_panel(make_run: MakeRun, others: int) -> None:
    names = (*METHODS[:others], "random")
    isolated = {name: 0.1 * k for k, name in enumerate(names)}
    run = RunFolder(make_run(methods=names, own=SHARES, other=SHARES, isolated=isolated, intervals=0.05))
    panels = [panel for panel in drawn(methods(run)).axes if panel.axison]
    assert len(panels) == others
    assert all(len(panel.collections) == 2 for panel in panels)  # the bands of two methods
    panels = [panel for panel in drawn(isolation(run)).axes if panel.axison]
    assert len(panels) == 2 * (others + 1)
    assert panels[1].get_lines()[0].get_ydata()[2] == pytest.approx(0.1)  # the second method, blur, 1 %


def test_every_panel_but_its_own_has_the_reference_line(make_run: MakeRun) -> None:
    names = ("faig", "signed_share", "learned_mask", "random")
    run = RunFolder(make_run(methods=names, own=SHARES, other=SHARES, isolated=SHARES, intervals=0.1))
    figure, compared = isolation(run), methods(run)
    assert figure is not None
    assert compared is not None
    lines = {panel.get_title(): [line.get_label() for line in panel.lines] for panel in figure.axes[:4]}
    assert [name for name, labels in lines.items() if REFERENCE not in labels] == ["learned mask"]
    drawn_lines = [line for panel in (*figure.axes, *compared.axes) for line in panel.lines]
    references = [line for line in drawn_lines if line.get_label() == REFERENCE]
    assert len(references) == 2 * 3 + sum(panel.axison for panel in compared.axes)
    assert {(to_hex(line.get_color()), line.get_linestyle()) for line in references} == {(INK, "-.")}
    assert [text.get_text() for text in compared.legends[0].get_texts()] == ["FAIG", REFERENCE]


def test_the_window_has_the_edges() -> None:
    truth = np.zeros((400, 500, 3))
    truth[200:360:2, 300:460] = 1
    top, left, tall, wide = detailed_window(truth, 160)
    assert (tall * 400, wide * 500) == (160, 160)
    assert abs(top * 400 - 200) <= 16
    assert abs(left * 500 - 300) <= 16


# Long names stay within their figure and beside each other


def test_titles_wrap_without_parting_number_and_percent_sign() -> None:
    assert _wrapped("1 % deblurring filters masked", 6) == "1\N{NO-BREAK SPACE}% deblurring\nfilters masked"
    assert _wrapped("1 % of all", 30) == "1\N{NO-BREAK SPACE}% of all"
    assert _wrapped("target", 6) == "target"


@pytest.mark.parametrize("degradations", [SHORT, (*LONG, "motion_blur", "film_grain")])
def test_names_below_a_matrix_do_not_overlap(make_run: MakeRun, degradations: Sequence[str]) -> None:
    figure = drawn(specificity(RunFolder(make_run(degradations, METHODS, own=SHARES, other=SHARES))))
    panels = [panel for panel in figure.axes if panel.axison]
    assert len(panels) == len(METHODS)
    for panel in panels:
        boxes = [label.get_window_extent() for label in panel.get_xticklabels()]
        assert len(boxes) == len(degradations)
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
        heights = [label.get_window_extent() for label in panel.get_yticklabels()]
        assert all(upper.y0 > lower.y1 for upper, lower in pairwise(heights))
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in [*boxes, *heights])


@pytest.mark.parametrize("degradations", [("blur", "noise"), LONG])
def test_legends_are_within_the_figure(make_run: MakeRun, degradations: Sequence[str]) -> None:
    folder = make_run(degradations, METHODS, own=SHARES, other=SHARES)
    # As in a run with three degradations: each, all together, and clean.
    for name in ("baseline", "target"):
        path = folder / "tables" / f"training_{name}.csv"
        rows = [row for row in records(read_table(path)) if row["psnr/clean"] is not None]
        write_table(path, [row | {"psnr/" + "+".join(degradations): row["psnr/clean"]} for row in rows])
    run = RunFolder(folder)
    curves = drawn(training(run))
    for figure in (curves, drawn(masking_curves(run))):
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
    labels = [text.get_text() for text in curves.legends[0].get_texts()]
    assert len(labels) == len(degradations) + 2
    assert ("all of these together" in labels) == (len(degradations) > 2)


@pytest.mark.parametrize("degradations", [("blur", "noise"), SHORT, LONG])
def test_titles_above_pictures_do_not_overlap(degradations: Sequence[str]) -> None:
    black = Tile(np.zeros((8, 8, 3)), 20.0)
    titles = [input_title(degradations[0]), "baseline", "target", *(masked_title(d, 0.5) for d in degradations), TRUTH]
    figure = drawn(before_after(Pictures(degradations[0], [PictureRow("a", dict.fromkeys(titles, black))])))
    boxes = [panel.title.get_window_extent() for panel in figure.axes]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert all(box.y1 < figure.bbox.height + 1 for box in boxes)


@pytest.mark.parametrize(
    ("names", "columns"),
    [(["FAIG", "signed share", "random"], 3), ([], 1), (["x" * 22] * 5, 3), (["x" * 200, "y"], 1)],
)
def test_the_rows_of_a_legend_have_similar_lengths(names: list[str], columns: int) -> None:
    assert legend_columns(names) == columns


# Names are shown as they are: no mathematics in figures, no markup in the page

NAMES = [r"$\frac{$", "$x$", "a_b^c", "100%", r"\alpha", "a$", "<b>&", "$$", r"\$1"]


def texts(figure: Figure) -> Iterator[Text]:
    for text in drawn(figure).findobj(Text):  # type: ignore[attr-defined]
        if text.get_text():
            assert not text.get_parse_math()
            yield text


def test_pictures_and_page_show_the_name(make_run: MakeRun, make_pictures: MakePictures, tmp_path: Path) -> None:
    grid, *others = make_pictures(size=16, rows=len(NAMES))
    named = replace(grid, rows=[replace(row, name=name) for row, name in zip(grid.rows, NAMES, strict=True)])
    for draw in (before_after, strips):
        assert {*NAMES} <= {text.get_text() for text in texts(draw(named))}
    run = make_run()
    with figures_of("before_after"):
        write_figures(run, [named, *others])
    page = write_report(run).read_text(encoding="utf-8")
    assert "<b>&" not in page
    assert all(str(escape(name)) in page for name in NAMES)


def test_every_place_of_a_figure_shows_the_name(tmp_path: Path) -> None:
    """Every function draws within `drawing`, which is the one place that decides."""
    for name in NAMES:
        with drawing():
            figure = new_figure(2)
            panel = figure.subplots()
            panel.plot([1, 2], [1, 2], label=name)
            panel.set_title(name)
            panel.set_xlabel(name)
            panel.set_xticks([1, 2], [name, name])
            panel.annotate(name, (1, 1))
            panel.legend(title=name)
            figure.suptitle(name)
        assert sum(text.get_text() == name for text in texts(figure)) >= 8
        write_figure(tmp_path / "figure.png", figure)
    with drawing():
        matplotlib.rcParams["text.parse_math"] = True
        figure = new_figure(1)
        figure.suptitle(NAMES[0])
        with pytest.raises(ValueError, match="frac"):
            FigureCanvasAgg(figure).draw()


def test_axes_have_plain_numbers_without_mathematics(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logarithmic axes have labels in mathematics unless they are given others."""
    shown: list[str] = []
    monkeypatch.setattr(
        figures, "write_figure", lambda _, figure: shown.extend(text.get_text() for text in texts(figure))
    )
    write_figures(make_run(), [])
    assert len(shown) > 20
    assert not [text for text in shown if "$" in text or "\\" in text]
