"""Names as long as they come stay inside their figure and beside each other."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from faig_lab.plotting.pictures import TRUTH, PictureRow, Pictures, Tile, before_after, input_title, masked_title
from faig_lab.plotting.style import drawing, legend_columns
from faig_lab.report.figures import masking_curves, specificity, training
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import read_table, records, write_table

MakeRun = Callable[..., Path]
METHODS = (
    "faig",
    "signed_share",
    "ig",
    "weight_change",
    "weight_change_absolute",
    "taylor",
    "fisher",
    "learned_mask",
    "random",
)
SHARES = dict.fromkeys(METHODS, 0.5)
SHORT, LONG = ("blur", "noise", "jpeg"), ("anisotropic_blur", "poisson_noise", "jpeg")


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    with drawing():
        FigureCanvasAgg(figure).draw()
    return figure


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
        rows = [{**row, "psnr/" + "+".join(degradations): row.get("psnr/clean")} for row in _validated(folder, name)]
        write_table(folder / "tables" / f"training_{name}.csv", rows)
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


def test_a_legend_of_short_names_is_one_row() -> None:
    assert legend_columns(["FAIG", "signed share", "random"]) == 3
    assert legend_columns([]) == 1
    assert legend_columns(["x" * 22] * 5) == 3  # three and two, not four and one
    assert legend_columns(["x" * 200, "y"]) == 1


def _validated(folder: Path, name: str) -> list[dict[str, str | float | None]]:
    """The training record, from the first validation on: a table's columns are those of its first row."""
    rows = records(read_table(folder / "tables" / f"training_{name}.csv"))
    return [row for row in rows if row.get("psnr/clean") is not None]
