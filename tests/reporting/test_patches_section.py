"""The section on sparse patches says what the tables say, whichever way it comes out."""

import json

import pytest

from faig_lab.files import write_json
from faig_lab.plotting.style import write_figure
from faig_lab.report.report import write_report
from faig_lab.runs.run_files import read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.patches import SECTION


def insertion(degradations, carried):
    sets = [*degradations, "+".join(degradations)] if len(degradations) > 1 else list(degradations)
    return [
        {
            "method": "faig", "percent": percent, "filters": round(122.4 * percent), "patched": name,
            "biases": biases, "kilobytes": 1 + 4.2 * percent, "degradation": shown, "psnr": 30.0,
            "carried": 1.0 if percent == 100 and biases else carried * (percent > 0),
        }
        for biases in (0, 1)
        for percent in (0, 1, 10, 100)
        for name in sets
        for shown in degradations
    ]  # fmt: skip


def pruning(degradations, lost):
    return [
        {"order": order, "percent": percent, "filters": 122 * percent, "degradation": shown, "psnr": 30.0, "lost": lost}
        for order in ("faig", "random")
        for percent in (90, 50, 20)
        for shown in degradations
    ]


LAYERS = [
    {"order": "faig", "percent": 50, "layer": f"body.{n}", "depth": n, "filters": 10, "kept": n, "share": n / 10}
    for n in range(10)
]


@pytest.fixture
def make(make_run):
    def write(carried, lost, degradations=("blur", "noise")):
        folder = make_run(degradations)
        write_table(folder / "tables" / "patches.csv", insertion(degradations, carried))
        write_table(folder / "tables" / "pruning.csv", pruning(degradations, lost))
        if lost < 0.05:
            write_table(folder / "tables" / "pruning_layers.csv", LAYERS)
            metrics = json.loads((folder / "metrics.json").read_text())
            write_json(folder / "metrics.json", metrics | {"filters_needed/faig": 50.0})
        return folder

    return write


def said(folder):
    return SECTION.sentence(read_run(folder))


def test_small_patches_and_nothing_idle(make):
    assert said(make(carried=0.1, lost=0.5)) == (
        "Put onto the baseline, patches of 1 % of the filters bring 10 % of deblurring and 10 % of denoising; from the "
        "target, none by FAIG and none by random sets can be set back before an input loses 5 %."
    )


def test_large_patches_and_half_idle(make):
    text = said(make(carried=0.8, lost=0.01))
    assert "bring 80 % of deblurring and 80 % of denoising; from the target, 50 % by FAIG and none" in text
    panel = SECTION.figure(read_run(make(carried=0.8, lost=0.01))).axes[-1]
    assert panel.get_title() == "50 % kept by FAIG: where"
    assert [label.get_text() for label in panel.get_yticklabels()] == [f"body.{n}" for n in range(10)]


def test_the_worst_input_is_drawn(make):
    folder = make(carried=0.8, lost=0.5)
    files = read_run(folder)
    for row in files.table("pruning"):
        row["lost"] = 0.25 if row["degradation"] == "blur" else 0.5
    pruned = SECTION.figure(files).axes[2].lines[0]
    assert list(pruned.get_xdata()) == [20, 50, 90, 100]
    assert list(pruned.get_ydata()) == [0.5, 0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("degradations", "lost"), [(("blur",), 0.5), (("blur", "noise"), 0.01), (("blur", "noise", "jpeg"), 0.5)]
)
def test_it_is_in_the_report(make, degradations, lost):
    folder = make(0.3, lost, degradations)
    figure = SECTION.figure(read_run(folder))
    assert figure is not None
    write_figure(folder / "figures" / "patches.png", figure)
    page = write_report(folder).read_text(encoding="utf-8")
    assert '<section aria-labelledby="patches">' in page
    assert "deblurring, 100 %" in page
