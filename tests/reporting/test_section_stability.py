"""The section on stability says what its table says."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from faig_lab.report.report import write_report
from faig_lab.runs.run_files import RunFiles, read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.stability import SECTION

MakeRun = Callable[..., Path]
PAIRS = (
    ("probe", "first half", "second half"),
    ("probe", "images 1, 3, …", "images 2, 4, …"),
    ("points", "Gauss–Legendre 4", "Gauss–Legendre 32"),
    ("precision", "bfloat16", "float32"),
)
JACCARD = {"probe": 0.4, "points": 0.95, "precision": 0.7}


def write(run: Path, jaccard: Mapping[str, float | None] = JACCARD, methods: tuple[str, ...] = ("faig",)) -> RunFiles:
    rows = [
        {"kind": kind, "a": a, "b": b, "method": method, "degradation": name}
        | {"spearman": 0.8, "jaccard": jaccard[kind], "chance": 0.005}
        for kind, a, b in PAIRS
        for method in methods
        for name in ("blur", "noise")
    ]
    write_table(run / "tables" / "stability.csv", rows)
    return read_run(run)


def test_the_lowest_of_each_kind_is_told(make_run: MakeRun) -> None:
    files = write(make_run())
    files.table("stability")[0]["jaccard"] = 0.9  # not the lowest of its kind
    assert SECTION.sentence(files) == (
        "Lowest Jaccard index of the top sets of FAIG: 0.40 with other probe images, 0.95 with other points on the "
        "path and 0.70 in lower precision; of two random sets 0.005."
    )


@pytest.mark.parametrize("missing", ["points", "probe"])
def test_a_comparison_without_sets_is_left_out(make_run: MakeRun, missing: str) -> None:
    said = SECTION.sentence(write(make_run(), jaccard=JACCARD | {missing: None}))
    assert f"{JACCARD[missing]:.2f}" not in said


def test_figure_table_and_page(make_run: MakeRun) -> None:
    run = make_run()
    files = write(run, methods=("faig", "signed_share"))
    figure = SECTION.figure(files)
    assert figure is not None
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "Jaccard index of the top sets", "rank correlation of all filters",
    ]  # fmt: skip
    assert len(figure.axes[0].get_legend_handles_labels()[1]) == 4
    table = SECTION.table(files)
    assert table is not None
    assert [row[0] for row in table.rows] == [f"{a} | {b}" for _, a, b in PAIRS]
    assert table.rows[0][1] == "0.40 (0.80)"
    assert {len(row) for row in table.rows} == {len(table.head)} == {5}
    assert 'id="stability"' in write_report(run).read_text()
