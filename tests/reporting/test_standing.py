"""What the intervals say about the methods, in words and in the figure: planted tables, expected sentences."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from faig_lab.reporting import findings, methods_figure
from faig_lab.reporting.figures import write_figures
from faig_lab.reporting.findings import Estimate
from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import read_run
from faig_lab.reporting.sentences import winner
from faig_lab.reporting.standing import by_construction, caution, standing
from faig_lab.reporting.tables import write_table

MakeRun = Callable[..., Path]
METHODS = ("faig", "signed_share", "ig", "weight_change", "random")
OWN = {"faig": 0.6, "signed_share": 0.9, "ig": 0.55, "weight_change": 0.1, "random": 0.05}
OTHER = dict.fromkeys(METHODS, 0.1)


def said(folder: Path) -> list[str]:
    run = read_run(folder)
    return standing(run, findings.method_results(run, run.headline))


def test_intervals_overlap_where_they_share_a_point() -> None:
    one = Estimate(0.5, 0.4, 0.6)
    assert one.overlaps(Estimate(0.7, 0.6, 0.8))
    assert one.overlaps(Estimate(0.5, 0.0, 1.0))
    assert not one.overlaps(Estimate(0.7, 0.601, 0.8))
    assert not one.overlaps(Estimate(0.3, 0.2, 0.399))


def test_the_duel_and_the_others(make_run: MakeRun) -> None:
    duel, others = said(make_run(methods=METHODS, own=OWN, other=OTHER, intervals=0.1))
    assert duel == (
        "Signed share against FAIG at 1 %: specificity 0.80 (0.70 to 0.90) against 0.50 (0.40 to 0.60). Signed share "
        "is ahead: the intervals do not overlap; paired by photograph, the difference is +0.30 (0.20 to 0.40)."
    )
    assert others == (
        "FAIG at 1 %, 0.50 (0.40 to 0.60), beats weight change 0.00 (\u22120.10 to 0.10) and random filters \u22120.05 "
        "(\u22120.15 to 0.05): the intervals do not overlap. It does not beat input gradients 0.45 (0.35 to 0.55; "
        "paired difference \u22120.05, \u22120.15 to 0.05): the intervals overlap."
    )


def test_losing_is_said(make_run: MakeRun) -> None:
    own = OWN | {"signed_share": 0.3, "ig": 0.99}
    duel, others = said(make_run(methods=METHODS, own=own, other=OTHER, intervals=0.02))
    assert "FAIG is ahead: the intervals do not overlap" in duel
    assert "is beaten by input gradients 0.89 (0.87 to 0.91): the intervals do not overlap." in others
    duel, _ = said(make_run(methods=METHODS, own=own, other=OTHER, intervals=0.4))
    assert "FAIG is ahead, but the intervals overlap; paired by photograph, the difference is" in duel
    assert "which includes 0." in duel


def test_a_tie_is_no_lead(make_run: MakeRun) -> None:
    own = OWN | {"signed_share": OWN["faig"] + 0.001}
    (duel,) = said(make_run(methods=METHODS[:2], own=own, other=OTHER, intervals=0.1))
    assert "Neither is ahead: the intervals overlap; paired by photograph, the difference is 0.00" in duel.replace(
        "+", ""
    )


def test_nothing_is_judged_where_the_target_restores_too_little(make_run: MakeRun) -> None:
    folder = make_run(methods=METHODS, own=OWN, other=OTHER, intervals=0.1)
    rows = [
        {"network": network, "degradation": "blur", "image": "a", "psnr": psnr, "psnr_y": psnr, "ssim": 0.9}
        for network, psnr in (("baseline", 27.0), ("target", 27.2))
    ]
    write_table(folder / "tables" / "restoration.csv", rows)
    assert said(folder) == []
    assert "minus FAIG" in write_report(folder).read_text(encoding="utf-8")


def test_the_run_s_own_method_is_the_one_that_is_compared(make_run: MakeRun) -> None:
    methods = ("signed_share", "faig", "random")
    (others,) = said(make_run(methods=methods, own=OWN, other=OTHER, intervals=0.1))
    assert others.startswith("Signed share at 1 %, 0.80 (0.70 to 0.90), beats FAIG 0.50 (0.40 to 0.60) and random")


@pytest.mark.parametrize(
    ("photographs", "expected"),
    [
        (2, "from the lowest single"),
        (3, "from the lowest single"),
        (4, "a rough guide."),
        (10, "another training would."),
    ],
)
def test_what_intervals_do_not_say(make_run: MakeRun, photographs: int, expected: str) -> None:
    text = caution(read_run(make_run(intervals=0.1, photographs=photographs))) or ""
    assert f"over the {photographs} held-out photographs" in text
    assert "not how far another training would." in text
    assert expected in text
    assert text.endswith("another training would.") == (photographs == 10)


def test_methods_that_know_no_degradation_are_zero_by_construction(make_run: MakeRun) -> None:
    own = OWN | {"weight_change": OTHER["weight_change"]}
    run = read_run(make_run(methods=METHODS, own=own, other=OTHER, intervals=0.0))
    results = findings.method_results(run, 1)
    text = by_construction(run, results) or ""
    assert text.startswith("At 1 % weight change picks the same filters for every degradation, so the mean")
    assert "weight change (0 by construction)" in standing(run, results)[1]
    assert by_construction(run, [result for result in results if result.method != "weight_change"]) is None


def test_one_photograph_has_no_interval_and_no_verdict(make_run: MakeRun) -> None:
    folder = make_run(methods=METHODS, own=OWN, other=OTHER, intervals=0.1, photographs=1)
    assert said(folder) == []
    assert "There are no intervals" in (caution(read_run(folder)) or "")
    assert methods_figure.methods(read_run(folder)) is None


def test_a_run_from_before_there_were_intervals(make_run: MakeRun) -> None:
    run = read_run(make_run())
    assert standing(run, findings.method_results(run, 1)) == []
    assert caution(run) is None
    assert methods_figure.methods(run) is None


@pytest.mark.parametrize(
    ("half", "expected"), [(0.1, "the most specific on this run."), (0.2, "overlaps with that of FAIG")]
)
def test_the_winner_is_told_apart_by_intervals(make_run: MakeRun, half: float, expected: str) -> None:
    run = read_run(make_run(methods=METHODS[:2], own=OWN, other=OTHER, intervals=half))
    assert expected in (winner(run, findings.method_results(run, 1)) or "")


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


def test_the_page_has_verdict_caution_and_figure(make_run: MakeRun) -> None:
    run = make_run(methods=METHODS, own=OWN, other=OTHER, intervals=0.1)
    write_figures(run, [])
    html = write_report(run).read_text(encoding="utf-8")
    top = html[: html.index('id="contents"')]
    assert "Signed share against FAIG at 1 %" in top
    assert "In brackets: 95 % bootstrap intervals over the 3 held-out photographs" in top
    assert "<small>0.70 to 0.90</small>" in html
    assert "minus FAIG" in html
    assert "a panel per method beside FAIG" in html
