"""The section on sanity checks gives the numbers of both checks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from faig_lab.report.report import write_report
from faig_lab.runs.run_files import RunFiles, read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.sanity import SECTION

MakeRun = Callable[..., Path]


def write(
    run: Path,
    overlap: float = 0.03,
    after: float = 0.02,
    before: float | None = 0.6,
    kept: float = 1.0,
    swapped: float | None = -0.6,
    spearman: float = 0.1,
    measure: str = "isolation",
) -> RunFiles:
    checks = [("original", 0, 1.0, before), ("randomised", 0, overlap, after), ("randomised", 1, overlap, after)]
    if swapped is not None:
        checks.append(("swapped", 0, kept, swapped))
    rows = [
        {"check": check, "draw": draw, "method": "faig", "degradation": name, "spearman": spearman, "overlap": shared}
        | {"chance": 0.01, "chance_in_layers": 0.02, "own": 0.5, "other": 0.1, "specificity": 0.4, measure: number}
        for check, draw, shared, number in checks
        for name in ("blur", "noise")
    ]
    write_table(run / "tables" / "sanity.csv", rows)
    return read_run(run)


def test_both_checks_are_told_in_numbers(make_run: MakeRun) -> None:
    assert SECTION.sentence(write(make_run())) == (
        "FAIG with the target randomised: 3 % of the filters in common (by the numbers in each layer alone 2 %), "
        "isolation 0.02 instead of 0.60; with the labels exchanged: 100 % in common, isolation by label −0.60."
    )


@pytest.mark.parametrize("changes", [{"overlap": 0.9}, {"after": 0.55}, {"kept": 0.4}, {"swapped": 0.2}])
def test_no_verdict_is_computed(make_run: MakeRun, changes: dict[str, float]) -> None:
    text = SECTION.sentence(write(make_run(), **changes))
    assert not any(word in text for word in ("pass", "fail", "although"))


def test_an_earlier_run_is_told_by_specificity(make_run: MakeRun) -> None:
    files = write(make_run(), measure="specificity")
    assert "specificity 0.02 instead of 0.60; with the labels exchanged" in SECTION.sentence(files)
    table = SECTION.table(files)
    assert table is not None
    assert table.head[-2:] == ["others", "specificity"]


def test_without_labels_to_exchange(make_run: MakeRun) -> None:
    files = write(make_run(), swapped=None)
    assert "exchanged" not in SECTION.sentence(files)
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
    assert "isolation 0.02 instead of 0.60" in page
