"""One colour means one thing, every axis has a name, and what lies beyond an axis has a mark with its number."""

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from faig_lab.config.messages import FOLDER
from faig_lab.plotting.charts import (
    Dots,
    dot_rows,
    layer_bars,
    limit,
    line,
    mark_cut,
    matrix,
    own_and_others,
    side_by_side,
)
from faig_lab.plotting.style import (
    CLEAN,
    DEGRADATIONS,
    INK,
    METHODS,
    MISSING,
    MIX,
    MUTED,
    degradation_colour,
    input_colour,
    method_look,
)
from faig_lab.plotting.words import share
from faig_lab.report import figures
from faig_lab.runs.folder import RunFolder

MakeRun = Callable[..., Path]


def lab(colour: str) -> np.ndarray:
    """CIELAB, D65."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(matrix @ linear / matrix.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_no_two_meanings_have_nearly_one_colour() -> None:
    meanings = (*DEGRADATIONS, *METHODS, CLEAN, MIX, *MISSING.values(), INK, MUTED)
    near = {(a, b): float(np.linalg.norm(lab(a) - lab(b))) for a, b in combinations(meanings, 2)}
    assert min(near.values()) >= 20, min(near, key=lambda pair: near[pair])


def test_inputs_and_methods_have_their_colours() -> None:
    names = ["blur", "noise"]
    assert [input_colour(names, name) for name in ("blur", "noise")] == [degradation_colour(0), degradation_colour(1)]
    assert (input_colour(names, "clean"), input_colour(names, "blur+noise")) == (CLEAN, MIX)
    methods = ["faig", "learned_mask", "random"]
    assert method_look(methods, "faig") == {"color": METHODS[0], "linestyle": "-"}
    assert method_look(methods, "learned_mask") == {"color": INK, "linestyle": "-."}
    assert method_look(methods, "random") == {"color": MUTED, "linestyle": "--"}
    many = [f"m{k}" for k in range(12)]
    looks = [tuple(method_look(many, name).values()) for name in many]
    assert len(set(looks)) == len(many)


def test_the_methods_of_attribution_all_look_different() -> None:
    settings = yaml.safe_load((FOLDER / "attribution" / "all.yaml").read_text(encoding="utf-8"))
    others = [name for name in settings["defaults"] if name != "_self_"]
    methods = ["faig", "signed_share", "ig", "weight_change", *others, "random"]
    looks = {tuple(method_look(methods, method).items()) for method in methods}
    assert len(looks) == len(methods) == 12


def unnamed(figure: Figure) -> Iterator[str]:
    """Axes that neither have a name, nor share one with the panels of their column or row, nor name things."""
    FigureCanvasAgg(figure).draw()
    whole = str(figure.get_supxlabel())
    for panel in figure.axes:
        if not panel.axison:
            continue
        x = [p.get_xlabel() for p in (panel, *panel.get_shared_x_axes().get_siblings(panel))] + [whole]
        y = [p.get_ylabel() for p in (panel, *panel.get_shared_y_axes().get_siblings(panel))]
        words = [label.get_text() for label in panel.get_yticklabels()]
        things = bool(words) and not any(word[:1] in "0123456789\N{MINUS SIGN}" for word in words if word)
        if not any(x):
            yield f"x of {panel.get_title()!r}"
        if not any(y) and not things:
            yield f"y of {panel.get_title()!r}"


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise", "jpeg")])
def test_every_axis_has_a_name(make_run: MakeRun, degradations: tuple[str, ...]) -> None:
    isolated = {"faig": 0.5, "signed_share": 0.7, "random": 0.0}
    run = RunFolder(make_run(degradations, intervals=0.1, isolated=isolated))
    for name in ("isolation", "methods", "masking_curves", "layers", "training"):
        figure = getattr(figures, name)(run)
        assert figure is not None
        assert any(panel.axison for panel in figure.axes), name
        assert list(unnamed(figure)) == [], name


def marks(panel) -> list[str]:
    return [text.get_text() for text in panel.texts]


def test_a_line_that_leaves_the_panel_is_marked_with_its_number() -> None:
    panel = Figure().subplots()
    panel.plot([0, 1, 2], [0.2, -3.0, 0.4], color="red")
    panel.plot([0, 1, 2], [0.2, 0.3, 7.5])
    panel.axhline(-9)  # a guide line is no data
    panel.set_ylim(-9, 9)
    limit(panel, -0.5, 1.5)
    assert panel.get_ylim() == (-0.5, 1.5)
    assert marks(panel) == ["▾ \N{MINUS SIGN}3.00", "▴ 7.50"]
    assert panel.texts[0].xy == (1, -0.5)
    assert panel.texts[0].get_color() == "red"
    fits = Figure().subplots()
    fits.plot([0, 1], [0, 1])
    fits.set_ylim(-0.05, 1.05)
    limit(fits, -0.5, 1.5)
    assert (fits.get_ylim(), marks(fits)) == ((-0.05, 1.05), [])


def test_dots_lie_in_their_lanes_and_those_beyond_are_marked() -> None:
    panel = Figure().subplots()
    own = Dots("own", "blue", {"a": [0.5], "b": [-2.0]}, lane="one")
    other = Dots("", "blue", {"a": [0.1, 0.2]}, lane="one", hollow=["a"])
    dot_rows(panel, ["a", "b"], [own, other, Dots("second", "green", {"b": [1.0]})], width=0.4)
    panel.set_xlim(-0.5, 1.5)
    mark_cut(panel, share)
    assert [list(line.get_ydata()) for line in panel.lines] == [[-0.1], [0.9], [-0.1, -0.1], [1.1]]
    assert panel.lines[2].get_markerfacecolor() == "white"
    assert marks(panel) == ["◂ \N{MINUS SIGN}200 %"]
    assert panel.get_legend_handles_labels()[1] == ["own", "second"]


@pytest.mark.parametrize(
    ("isolation", "mark"),
    [(-3.0, "▾ \N{MINUS SIGN}3.12"), (-0.45, "▾"), (0.5, "")],  # the line leaves the panel, only its range does, none
)
def test_a_cut_curve_or_range_of_a_run_is_marked(make_run: MakeRun, isolation: float, mark: str) -> None:
    figure = figures.isolation(RunFolder(make_run(isolated={"faig": 0.5, "signed_share": isolation, "random": 0.0})))
    assert figure is not None
    found = [marks(panel) for panel in figure.axes]
    assert [bool(texts) for texts in found] == [False, bool(mark), False] * 2  # the second method, both sets
    assert not mark or (mark in found[1] and mark in found[4])


def test_a_line_runs_along_x_through_the_known_points_and_its_band_as_well() -> None:
    table = pd.DataFrame(
        {"q": [3.0, 1.0, 2.0], "own": [0.3, 0.1, np.nan], "low": [0.2, 0.0, 0.1], "high": [0.4, 0.2, 0.3]}
    )
    panel = Figure().subplots()
    line(panel, table, "q", "own", band=("low", "high"), color="red", marker="s")
    (drawn,), (band,) = panel.lines, panel.collections
    assert np.array_equal(drawn.get_xydata(), [[1, 0.1], [3, 0.3]])
    assert (drawn.get_color(), drawn.get_marker()) == ("red", "s")
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert {(1, 0), (2, 0.1), (3, 0.4)} <= corners


def test_panels_side_by_side_share_an_axis() -> None:
    _, panels = side_by_side(2.0, 3)
    panels[0].set_ylim(0, 7)
    panels[0].set_xlim(0, 5)
    assert [(panel.get_xlim(), panel.get_ylim()) for panel in panels] == [((0, 5), (0, 7))] * 3
    _, apart = side_by_side(2.0, 2, share_x=False)
    apart[0].set_xlim(0, 5)
    assert apart[1].get_xlim() != (0, 5)


def test_each_set_has_its_own_input_beside_all_others() -> None:
    names = ["blur", "noise", "jpeg"]
    _, rows = own_and_others(names, names, 0.5)
    assert [[inputs for _, inputs in row] for row in rows] == [
        [["blur"], ["noise", "jpeg"]], [["noise"], ["blur", "jpeg"]], [["jpeg"], ["blur", "noise"]]
    ]  # fmt: skip
    _, alone = own_and_others(["blur"], ["blur"], 0.5)
    assert [[inputs for _, inputs in row] for row in alone] == [[["blur"]]]


def test_bars_of_layers_start_at_the_top() -> None:
    panel = Figure().subplots()
    layer_bars(panel, pd.DataFrame({"layer": ["first.weight", "last"], "share": [0.5, np.nan]}), "red", 6)
    assert [bar.get_width() for bar in panel.patches] == [0.5, 0]  # type: ignore[attr-defined]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["first", "last"]
    assert panel.get_ylim()[0] > panel.get_ylim()[1]


def test_a_matrix_is_readable_on_dark_and_on_light_cells() -> None:
    panel = Figure().subplots()
    matrix(panel, np.array([[0.9, 0.1], [np.nan, 2.0]]), [["a", "b"], ["c", "d"]], np.eye(2, dtype=bool), fontsize=9)
    cells = {text.get_text(): (text.get_position(), text.get_color(), text.get_fontweight()) for text in panel.texts}
    assert cells == {
        "a": ((0, 0), "white", "bold"), "b": ((1, 0), INK, "normal"),
        "c": ((0, 1), INK, "normal"), "d": ((1, 1), "white", "bold"),
    }  # fmt: skip
