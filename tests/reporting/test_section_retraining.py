"""The section on re-training says what the table says, whoever wins."""

import pytest

from faig_lab.plotting.style import write_figure
from faig_lab.report.report import write_report
from faig_lab.runs.run_files import read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.retraining import SECTION, result

SHARES = {
    "faig": 0.4, "signed_share": 0.5, "weight_change": 0.1, "random": 0.05, "other_degradation": 0.2,
    "other_locations": 0.08, "redrawn_weights": 0.1, "target_values": 0.6, "target_values_moved": -2.0,
    "whole_network": 0.7,
}  # fmt: skip


@pytest.fixture
def make(make_run):
    def write(degradations=("blur", "noise"), percents=(1.0,), without=(), **shares):
        folder = make_run(degradations)
        goals = [*degradations, "mix"] if len(degradations) > 1 else list(degradations)
        rows = [
            {
                "variant": variant, "draw": draw, "percent": 100.0 if variant == "whole_network" else percent,
                "trained": goal, "filters": 230 if goal == "mix" else 115, "degradation": shown, "psnr": 27.0,
                "share": None if share is None else share + 0.01 * (2 * draw - 1) * (variant == "random"),
            }
            for percent in percents
            for goal in goals
            for variant, share in (SHARES | shares).items()
            for draw in range(2 if variant == "random" else 1)
            for shown in degradations
            if variant not in without and (variant, goal) != ("other_degradation", "mix")
        ]  # fmt: skip
        write_table(folder / "tables" / "retraining.csv", rows)
        return folder

    return write


def said(folder):
    return SECTION.sentence(read_run(folder))


def test_the_set_and_the_whole_network_in_numbers(make):
    assert said(make()) == (
        "Trained alone, 1 % of the filters, chosen by FAIG, reach this share of the target's gain (in brackets the "
        "whole network): 40 % (70 %) in deblurring alone, 40 % (70 %) in denoising alone and 40 % (70 %) in the mix."
    )


def test_every_variant_has_its_row(make):
    rows = {row[0]: list(row[1:]) for row in SECTION.table(read_run(make())).rows}
    assert rows["same layers, other locations"] == ["8 %"] * 4
    assert rows["FAIG's, weights re-drawn"] == ["10 %"] * 4
    assert rows["the same at other locations"] == ["−200 %"] * 4
    assert rows["FAIG's for another degradation"] == ["20 %", "20 %", "–", "–"]


def test_what_lies_left_of_a_panel_is_marked(make):
    figure = SECTION.figure(read_run(make()))
    assert [text.get_text() for text in figure.axes[0].texts] == ["◂ −200 %"]


def test_draws_are_averaged(make):
    run = read_run(make())
    assert result(run, "random", "blur", ["blur"], 1.0) == pytest.approx(0.05)
    assert result(run, "random", "mix", ["blur", "noise"], 1.0) == pytest.approx(0.05)
    assert result(run, "other_degradation", "mix", ["blur", "noise"], 1.0) is None


def test_the_figure_is_drawn_and_is_the_same_twice(make, tmp_path):
    pages = []
    for name in ("one.png", "two.png"):
        write_figure(tmp_path / name, SECTION.figure(read_run(make())))
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
@pytest.mark.parametrize("without", [(), ("random", "signed_share", "other_degradation")])
def test_stands_for_every_kind_of_run(make, degradations, without, tmp_path):
    folder = make(degradations, without=without)
    write_figure(tmp_path / "figure.png", SECTION.figure(read_run(folder)))
    page = write_report(folder).read_text(encoding="utf-8")
    assert SECTION.title.format(units="filters") in page
    table = SECTION.table(read_run(folder))
    assert all(len(row) == len(table.head) for row in table.rows)


def test_every_percent_has_its_row_and_the_headline_is_spoken_of(make):
    folder = make(percents=(1.0, 5.0))
    heads = [row[0] for row in SECTION.table(read_run(folder)).rows]
    assert {"FAIG, 1 %", "FAIG, 5 %", "whole network"} <= set(heads)
    assert len(heads) == len(set(heads))
    assert "1 % of the filters, chosen by FAIG" in said(folder)


def test_a_share_that_is_not_defined_is_a_dash(make):
    folder = make(**dict.fromkeys(SHARES, None))
    assert "– (–) in deblurring alone" in said(folder)
    assert SECTION.figure(read_run(folder)) is not None
