"""The section on sanity checks gives the verdict that the numbers give."""

from collections.abc import Callable
from pathlib import Path

import pytest

from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import RunFiles, read_run
from faig_lab.reporting.sections.sanity import SECTION
from faig_lab.reporting.tables import write_table

MakeRun = Callable[..., Path]


def write(
    run: Path,
    overlap: float = 0.03,
    after: float = 0.02,
    before: float | None = 0.6,
    kept: float = 1.0,
    swapped: float | None = -0.6,
    spearman: float = 0.1,
) -> RunFiles:
    checks = [("original", 0, 1.0, before), ("randomised", 0, overlap, after), ("randomised", 1, overlap, after)]
    if swapped is not None:
        checks.append(("swapped", 0, kept, swapped))
    rows = [
        {"check": check, "draw": draw, "method": "faig", "degradation": name, "spearman": spearman, "overlap": shared}
        | {"chance": 0.01, "chance_in_layers": 0.02, "own": 0.5, "other": 0.1, "specificity": number}
        for check, draw, shared, number in checks
        for name in ("blur", "noise")
    ]
    write_table(run / "tables" / "sanity.csv", rows)
    return read_run(run)


def test_both_checks_passed(make_run: MakeRun) -> None:
    verdicts, randomised, swapped = SECTION.sentences(write(make_run()))
    assert verdicts == "Target randomised: FAIG passes. Labels exchanged: FAIG passes."
    assert "keep 3 % of their filters (chance: 1 %; with the layers given: 2 %)" in randomised
    assert "specificity of 0.02 instead of 0.60: the check is passed." in randomised
    assert "each label gets 100 % of the filters" in swapped
    assert "from 0.60 to −0.60: the check is passed." in swapped


def test_what_is_left_is_told(make_run: MakeRun) -> None:
    _, randomised, _ = SECTION.sentences(write(make_run(), overlap=0.11, spearman=0.4))
    assert "is passed, although more filters stay than the layers explain and the order of all" in randomised


@pytest.mark.parametrize(("overlap", "after"), [(0.9, 0.02), (0.05, 0.55)])
def test_what_survives_random_weights_fails(make_run: MakeRun, overlap: float, after: float) -> None:
    verdicts, randomised, _ = SECTION.sentences(write(make_run(), overlap=overlap, after=after))
    assert verdicts.startswith("Target randomised: FAIG fails.")
    assert "the check is failed" in randomised


@pytest.mark.parametrize(
    ("changes", "verdict", "expected"),
    [
        ({"kept": 0.4}, " Labels exchanged: FAIG fails.", "the sets do not follow the labels"),
        ({"swapped": 0.2}, " Labels exchanged: FAIG fails.", "it does not turn negative"),
        ({"before": 0.05, "swapped": -0.05}, "", "hardly a specificity to lose"),
    ],
)
def test_labels_that_do_not_matter_fail(
    make_run: MakeRun, changes: dict[str, float], verdict: str, expected: str
) -> None:
    verdicts, _, swapped = SECTION.sentences(write(make_run(), **changes))
    assert verdicts == f"Target randomised: FAIG passes.{verdict}"
    assert expected in swapped


def test_without_labels_to_exchange(make_run: MakeRun) -> None:
    files = write(make_run(), swapped=None)
    assert len(SECTION.sentences(files)) == 2
    figure = SECTION.figure(files)
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["as it is", "target randomised"]


def test_figure_table_and_page(make_run: MakeRun) -> None:
    run = make_run()
    files = write(run)
    figure = SECTION.figure(files)
    assert figure is not None
    assert len(figure.axes) == 2
    table = SECTION.table(files)
    assert table is not None
    assert [row[0] for row in table.rows] == ["FAIG, as it is", "FAIG, target randomised", "FAIG, labels exchanged"]
    assert {len(row) for row in table.rows} == {len(table.head)}
    page = write_report(run).read_text()
    assert 'id="sanity"' in page
    verdicts, folded = page.split("<summary>The rest in words</summary>")
    assert "Target randomised: FAIG passes." in verdicts
    assert "the check is passed." in folded
