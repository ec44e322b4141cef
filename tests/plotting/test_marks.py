"""Marks lie where matplotlib drew, and say what the axes say."""

import json

import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from faig_lab.plotting.style import SCALE, marks_of, new_figure, write_figure


def panel_of(figure):
    """Axes from 10 % to 90 % across and from 20 % to 70 % up, 0..10 by 0..100."""
    panel = figure.add_axes((0.1, 0.2, 0.8, 0.5))
    panel.set_xlim(0, 10)
    panel.set_ylim(0, 100)
    return panel


@pytest.fixture
def figure():
    return Figure(figsize=(7, 3))


def test_a_point_lies_where_it_is_drawn(figure):
    panel = panel_of(figure)
    panel.set_title("panel")
    panel.plot([0, 5, 10], [0, 25, 100], label="series")
    marks = marks_of(figure)
    assert marks.labels == ["series · panel"]
    assert marks.points == [
        (1000, 8000, 0, "0 at 0"),
        (5000, round(SCALE * (1 - 0.2 - 0.5 / 4)), 0, "25 at 5"),
        (9000, 3000, 0, "100 at 10"),
    ]


def test_the_saved_picture_has_its_marks_where_the_ink_is(tmp_path):
    from PIL import Image

    figure = new_figure(3)
    panel = figure.subplots()
    panel.grid(visible=False)
    panel.plot([1, 2, 3], [1, 4, 2], linestyle="", marker="o", markersize=6, color="#ff0000")
    write_figure(tmp_path / "a.png", figure)
    points = json.loads((tmp_path / "a.json").read_text())["points"]
    assert [text for *_, text in points] == ["1 at 1", "4 at 2", "2 at 3"]
    with Image.open(tmp_path / "a.png") as image:
        for x, y, *_ in points:
            place = (round(x / SCALE * image.width), round(y / SCALE * image.height))
            assert image.convert("RGB").getpixel(place) == (255, 0, 0)


def test_guide_lines_and_missing_values_are_no_values(figure):
    panel = panel_of(figure)
    panel.axhline(50)
    panel.axvline(5)
    panel.plot([1, 2], [float("nan"), 7], label="a")
    assert [text for *_, text in marks_of(figure).points] == ["7 at 2"]


def test_what_is_beyond_the_edge_is_told_at_the_edge(figure):
    panel_of(figure).plot([5], [163], label="a")
    assert marks_of(figure).points == [(5000, 3000, 0, "163 at 5")]


def test_numbers_are_written_as_their_axis_writes_them(figure):
    panel = panel_of(figure)
    panel.set_xscale("log")
    panel.set_xlim(0.1, 10)
    panel.set_xticks([0.1, 1, 10], ["0.1 %", "1 %", "10 %"])
    panel.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    panel.set_ylim(-1, 1)
    panel.plot([0.1, 1, 2], [0.4755, -0.25, 0], label="a")
    marks = marks_of(figure)
    assert [text for *_, text in marks.points] == ["47.55 % at 0.1 %", "−25 % at 1 %", "0 % at 2 %"]
    assert [x for x, *_ in marks.points][:2] == [1000, 5000]


def test_horizontal_bars_name_their_row_in_every_panel(figure):
    left, right = figure.subplots(1, 2, sharey=True)
    for panel, title in ((left, "a"), (right, "b")):
        panel.barh([0, 1], [0.5, 0.25])
        panel.set_title(title)
    left.set_yticks([0, 1], ["conv_first", "conv_last"])
    marks = marks_of(figure)
    assert marks.labels == ["a", "b"]
    assert [text for *_, text in marks.points] == ["conv_first: 0.5", "conv_last: 0.25"] * 2


def test_points_around_a_category_belong_to_it(figure):
    panel = panel_of(figure)
    panel.set_xticks([1, 2], ["a\nset", "b"])
    panel.scatter([0.8, 1.2, 2], [3, 4, 5])
    assert [text for *_, text in marks_of(figure).points] == ["a set: 3", "a set: 4", "b: 5"]


def test_a_series_without_a_name_has_that_of_its_colour(figure):
    first, second = figure.subplots(2, 1)
    first.plot([0], [1], color="red", label="named")
    second.plot([0], [2], color="red")
    second.scatter([3], [4], color="red")
    second.set_ylabel("below")
    assert marks_of(figure).labels == ["named", "named · below"]
    assert [text for *_, text in marks_of(figure).points] == ["1 at 0", "2 at 0", "4 at 3"]


def test_long_records_are_thinned(figure):
    panel_of(figure).plot(range(5000), range(5000), label="a")
    assert len(marks_of(figure).points) == 200


def test_a_picture_without_values_has_no_file(figure, tmp_path):
    (tmp_path / "a.json").write_text("of an earlier figure")
    figure.subplots().imshow([[0, 1]])
    write_figure(tmp_path / "a.png", figure)
    assert not (tmp_path / "a.json").exists()


def test_a_line_joins_its_own_points_alone(figure):
    panel = panel_of(figure)
    panel.plot([1, 2, 3], [1, 2, float("nan")], label="a")
    panel.plot([1, 2], [5, 6], label="a")  # another line of the same name, a seed say
    panel.plot([4, 5], [1, 2], "o", label="dots")
    panel.scatter([6, 7], [1, 2], label="scatter")
    panel.plot([8, 9], [3, 4], color="#d9dde2", label="grey")
    marks = marks_of(figure)
    assert [marks.labels[points[2]] for points in marks.points] == ["a"] * 4 + ["dots"] * 2 + ["grey"] * 2 + [
        "scatter"
    ] * 2
    assert marks.lines == [(0, 2), (2, 4), (6, 8)]
