"""Figures are drawn for every kind of run, and a picture file holds a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faig_lab.plotting.pictures import _wrapped, detailed_window
from faig_lab.report.figures import write_figures

CHARTS = {"specificity", "masking_curves", "layers", "training"}


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
def test_writes_every_figure(make_run: Callable[..., Path], degradations: Sequence[str]) -> None:
    written = list((make_run(degradations, drawn=True) / "figures").glob("*.png"))
    assert {path.stem for path in written} == CHARTS | {f"before_after_{name}" for name in degradations}
    for path in written:
        with Image.open(path) as image:
            assert image.width == 1400
            assert len(image.convert("L").getcolors(65536)) > 50


def test_leaves_out_what_the_tables_do_not_hold(make_run: Callable[..., Path]) -> None:
    written = write_figures(make_run(methods=(), trained=False), [])
    assert written == []


def test_the_same_tables_give_the_same_bytes(make_run: Callable[..., Path]) -> None:
    run = make_run(("blur", "noise"), drawn=True)
    before = {path: path.read_bytes() for path in (run / "figures").glob("*.png")}
    written = write_figures(run, [])
    assert {path.stem for path in written} == CHARTS
    assert all(path.read_bytes() == before[path] for path in written)


def test_the_window_holds_the_edges() -> None:
    truth = np.zeros((400, 500, 3))
    truth[200:360:2, 300:460] = 1
    top, left, tall, wide = detailed_window(truth, 160)
    assert (tall * 400, wide * 500) == (160, 160)
    assert abs(top * 400 - 200) <= 16
    assert abs(left * 500 - 300) <= 16


def test_titles_wrap_without_parting_number_and_percent_sign() -> None:
    assert _wrapped("1 % deblurring filters masked", 6) == "1\N{NO-BREAK SPACE}% deblurring\nfilters masked"
    assert _wrapped("1 % of all", 30) == "1\N{NO-BREAK SPACE}% of all"
    assert _wrapped("target", 6) == "target"
