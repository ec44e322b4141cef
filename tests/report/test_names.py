"""Names are shown as they are: no mathematics in figures, no markup in the page, no quoting lost in tables."""

from dataclasses import replace

import matplotlib
import matplotlib.text
import pytest
from markupsafe import escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tiny_case import figures_of

from faig_lab.plotting.pictures import before_after, strips
from faig_lab.plotting.style import drawing, new_figure, write_figure
from faig_lab.report.figures import write_figures
from faig_lab.report.report import write_report
from faig_lab.runs.tables import read_table, records, write_table

NAMES = [r"$\frac{$", "$x$", "a_b^c", "100%", r"\alpha", "a$", "<b>&", "$$", r"\$1"]


def texts(figure):
    FigureCanvasAgg(figure).draw()
    return [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_pictures_show_the_name(make_pictures, tmp_path):
    pictures = make_pictures(size=16, rows=len(NAMES))[0]
    named = replace(pictures, rows=[replace(row, name=name) for row, name in zip(pictures.rows, NAMES, strict=True)])
    for draw in (before_after, strips):
        figure = draw(named)
        with drawing():
            assert {*NAMES} <= {text.get_text() for text in texts(figure)}
            assert not any(text.get_parse_math() for text in texts(figure))
        write_figure(tmp_path / "figure.png", figure)
        assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("name", NAMES)
def test_every_place_of_a_figure(name, tmp_path):
    """Whatever draws a name anywhere goes through `drawing`, which is the one place that decides."""
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
        assert not any(text.get_parse_math() for text in texts(figure))
    write_figure(tmp_path / "figure.png", figure)


def test_without_it_the_name_ends_the_drawing():
    """The guard is what keeps the name from Matplotlib's mathematics."""
    with drawing():
        matplotlib.rcParams["text.parse_math"] = True
        figure = new_figure(1)
        figure.suptitle(NAMES[0])
        with pytest.raises(ValueError, match="frac"):
            FigureCanvasAgg(figure).draw()


def test_axes_have_plain_numbers_without_mathematics(make_run, monkeypatch):
    """Logarithmic axes come with labels in mathematics unless they are given others."""
    from faig_lab.report import figures

    drawn = []

    def watch(path, figure):
        with drawing():
            drawn.extend(text.get_text() for text in texts(figure))

    monkeypatch.setattr(figures, "write_figure", watch)
    figures.write_figures(make_run(), [])
    assert len(drawn) > 20
    assert not [text for text in drawn if "$" in text or "\\" in text]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_keeps_the_name(name, tmp_path):
    write_table(tmp_path / "t.csv", [{"image": name, "psnr": 1.5}])
    assert records(read_table(tmp_path / "t.csv"))[0]["image"] == name


def test_the_page_shows_names_as_text(make_run, make_pictures):
    run = make_run()
    grid, *others = make_pictures(rows=len(NAMES))
    rows = [replace(row, name=name) for row, name in zip(grid.rows, NAMES, strict=True)]
    with figures_of("before_after"):
        write_figures(run, [replace(grid, rows=rows), *others])
    write_report(run)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<b>&" not in page
    for name in NAMES:
        assert str(escape(name)) in page
