"""The report's table of how deep the discovered filters sit."""

from collections.abc import Callable
from pathlib import Path

from faig_lab.analysis.depth import PARTS
from faig_lab.reporting.depth import COLUMNS, where
from faig_lab.reporting.report import write_report
from faig_lab.reporting.run_files import read_run

MakeRun = Callable[..., Path]


def test_the_columns_are_the_parts_of_the_analysis() -> None:
    assert COLUMNS == PARTS


def test_the_runs_method_stands_beside_random_filters(make_run: MakeRun) -> None:
    assert where(read_run(make_run())) == {
        "deblurring filters": ["5 %", "35 %", "60 %", "10 %", "0.80"],
        "denoising filters": ["5 %", "35 %", "60 %", "10 %", "0.80"],
        "random filters": ["33 %", "34 %", "33 %", "2 %", "0.91"],
    }


def test_a_run_without_random_filters_has_its_method_alone(make_run: MakeRun) -> None:
    assert list(where(read_run(make_run(methods=("faig",))))) == ["deblurring filters", "denoising filters"]


def test_the_page_shows_the_table_and_an_older_run_the_figure_alone(make_run: MakeRun) -> None:
    run = make_run()
    page = write_report(run).read_text(encoding="utf-8")
    assert "<td>60 %</td>" in page
    assert "mean relative depth" not in page
    (run / "tables" / "depth.csv").unlink()
    older = write_report(run).read_text(encoding="utf-8")
    assert "<td>60 %</td>" not in older
    assert 'id="layers"' in older
