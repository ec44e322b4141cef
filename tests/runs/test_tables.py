"""Tables keep every bit, every name and every gap."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import (
    aligned,
    frame,
    groups,
    mean_of,
    numbers,
    points,
    read_table,
    records,
    select,
    unique,
    write_table,
)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ([{"method": "faig", "filters": 122}], [{"method": "faig", "filters": 122.0}]),
        ([{"image": "0801", "degradation": "nan", "gap": math.nan}],
         [{"image": "0801", "degradation": "nan", "gap": None}]),
        ([{"image": 'a, "b"\nc ü', "psnr": 1.0}], [{"image": 'a, "b"\nc ü', "psnr": 1.0}]),
        # A column with one name is text throughout.
        ([{"own": "1", "x": 1}, {"own": "second"}, {"own": None, "x": None}],
         [{"own": "1", "x": 1.0}, {"own": "second", "x": None}, {"own": None, "x": None}]),
    ],
    ids=["numbers", "names that look like numbers", "commas, quotes and line ends", "a name among numbers"],
)  # fmt: skip
def test_round_trip(tmp_path: Path, written: list[dict[str, object]], read: list[dict[str, object]]) -> None:
    path = tmp_path / "tables" / "t.csv"
    write_table(path, written)
    assert records(read_table(path)) == read


def test_none_and_absent_keys_are_empty_cells(tmp_path: Path) -> None:
    rows = [{"step": np.int64(1), "loss": None}, {"step": 2, "loss": np.float64(0.5), "psnr/blur": np.float32(30)}]
    write_table(tmp_path / "t.csv", rows)  # numbers of NumPy are written as Python's
    assert (tmp_path / "t.csv").read_text() == "step,loss,psnr/blur\n1,,\n2,0.5,30.0\n"
    assert records(read_table(tmp_path / "t.csv"))[0] == {"step": 1.0, "loss": None, "psnr/blur": None}


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t\.csv"):
        write_table(tmp_path / "t.csv", [])
    assert list(tmp_path.iterdir()) == []


def test_every_float_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    drawn = [float(x) for x in rng.normal(size=500) * 10.0 ** rng.integers(-300, 300, 500)]
    write_table(tmp_path / "t.csv", [{"x": number} for number in [*drawn, 5e-324, math.inf, -math.inf]])
    assert read_table(tmp_path / "t.csv")["x"].tolist() == [*drawn, 5e-324, math.inf, -math.inf]


def test_a_frame_and_its_rows_are_the_same_file(tmp_path: Path) -> None:
    write_table(tmp_path / "rows.csv", ROWS)
    write_table(tmp_path / "frame.csv", frame(ROWS))
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "frame.csv").read_bytes()


ROWS = [
    {"method": "faig", "percent": 1.0, "own": 0.5},
    {"method": "ig", "percent": 1.0, "own": None},
    {"method": "faig", "percent": 0.1 + 0.2, "own": 0.25, "harm": 2},
]


def test_rows_are_selected_by_cells_and_by_a_percent_that_need_not_be_exact() -> None:
    table = frame(ROWS)
    assert select(table, 0.3, method="faig")["own"].tolist() == [0.25]
    assert select(table, method="faig")["own"].tolist() == [0.5, 0.25]
    assert len(select(table, 1.0)) == 2


def test_a_table_that_lacks_a_column_has_no_row_name_or_number() -> None:
    for table in (frame(ROWS), frame([])):
        assert select(table, absent="x").empty
        assert groups(table, "absent") == {}
        assert unique(table, "absent") == numbers(table, "absent") == []
        assert math.isnan(mean_of(table, "absent"))
        assert points(table, "absent", "own").shape == (2, 0)
    assert select(frame([]), 1.0).empty


def test_a_missing_cell_is_in_no_mean_and_no_curve() -> None:
    table = frame(ROWS)
    assert numbers(table, "own") == [0.5, 0.25]
    assert mean_of(table, "own") == 0.375
    assert points(table, "percent", "own").tolist() == [[0.1 + 0.2, 1.0], [0.25, 0.5]]


def test_groups_stand_in_the_order_of_their_first_row() -> None:
    table = frame([{"method": name, "x": place} for place, name in enumerate("bacab")])
    assert {name: rows["x"].tolist() for name, rows in groups(table, "method").items()} == {
        "b": [0, 4], "a": [1, 3], "c": [2]
    }  # fmt: skip
    assert list(groups(table, "method")) == unique(table, "method") == ["b", "a", "c"]


def test_records_are_python_s_own_values() -> None:
    (row, *_) = records(frame([{"n": np.int64(3), "x": torch.tensor(0.5), "name": "a", "none": None}]))
    assert row == {"n": 3, "x": 0.5, "name": "a", "none": None}
    assert [type(cell) for cell in row.values()] == [int, float, str, type(None)]


def test_a_run_s_table_has_no_infinite_number(tmp_path: Path) -> None:
    write_table(tmp_path / "tables" / "t.csv", [{"psnr": math.inf, "image": "a"}, {"psnr": 30.0, "image": "b"}])
    assert numbers(RunFolder(tmp_path).table("t"), "psnr") == [30.0]
    assert RunFolder(tmp_path).table("absent").empty


def test_columns_are_aligned_and_no_line_ends_with_a_space() -> None:
    rows = [["name", "kB", "state"], ["a", "1,200", ""], ["longer", "5", "sound"]]
    assert aligned(rows, left=(0, 2)) == ["name       kB  state", "a       1,200", "longer      5  sound"]
    assert aligned(rows[:1]) == ["name  kB  state"]
