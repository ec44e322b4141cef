"""The section on a planted pair says what the tables say, the highest average precision first."""

import pytest

from faig_lab.plotting.style import write_figure
from faig_lab.report.report import write_report
from faig_lab.runs.run_files import read_run
from faig_lab.runs.tables import write_table
from faig_lab.studies.planted import SECTION

PRECISION = {"random": (0.01, 0.03), "faig": (0.4, 0.4), "signed_share": (0.7, 0.7)}


@pytest.fixture
def make(make_run):
    def write(degradations=("blur", "noise")):
        folder = make_run(degradations)
        rows = [
            {
                "method": method, "draw": draw, "degradation": name, "filters": 122,
                "average_precision": precision + 0.1 * k, "recall": precision / 2, "chance": 0.01,
            }
            for method, precisions in PRECISION.items()
            for draw, precision in enumerate(precisions if method == "random" else precisions[:1])
            for k, name in enumerate(degradations)
        ]  # fmt: skip
        edits = [
            {"masked": a, "degradation": b, "back": 0.8, "off": 0.1, "side": 0.1, "isolation": 0.75 - k / 4}
            for k, a in enumerate(degradations)
            for b in (*degradations, "clean")
        ]
        groups = (*degradations, "rest")
        changes = [{"group": g, "filters": 9, "mean": 0.2, "std": 0.1, "unchanged": 0} for g in groups]
        for name, table in (("planted", rows), ("planted_isolation", edits), ("planted_change", changes)):
            write_table(folder / "tables" / f"{name}.csv", table)
        return folder

    return write


def test_the_sentence_says_what_the_true_sets_are_worth(make):
    assert SECTION.sentence(read_run(make())) == (
        "Each true set has 122 filters (1 % of all); masked, the true sets themselves have an isolation of 0.75 for "
        "deblurring and 0.50 for denoising."
    )


def test_the_table_has_means_over_draws_and_chance(make):
    table = SECTION.table(read_run(make()))
    assert [row[0] for row in table.rows] == ["Signed share", "FAIG", "Random sets", "Chance"]
    assert table.rows[2][1:] == ["0.020", "1 %", "0.120", "1 %"]
    assert table.rows[3][1:] == ["0.010", "1 %", "0.010", "1 %"]
    assert all(len(row) == len(table.head) for row in table.rows)


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
def test_figure_and_report(make, degradations, tmp_path):
    folder = make(degradations)
    write_figure(tmp_path / "planted.png", SECTION.figure(read_run(folder)))
    assert 'id="planted"' in write_report(folder).read_text(encoding="utf-8")
