"""Tables keep every bit, every name and every gap."""

import math
from pathlib import Path

import numpy as np
import pytest

from faig_lab.runs.tables import read_table, write_table


def test_round_trip_is_exact(tmp_path: Path) -> None:
    numbers = [0.1 + 0.2, 1 / 3, 1e-300, -2.5e17, float(np.float32(0.1))]
    path = tmp_path / "tables" / "t.csv"
    write_table(path, [{"method": "faig", "removed": number, "filters": 122} for number in numbers])
    assert read_table(path) == [{"method": "faig", "removed": number, "filters": 122.0} for number in numbers]


def test_numpy_numbers_are_written_as_python_numbers(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"a": np.float64(0.5), "b": np.int64(3), "c": np.float32(0.25)}])
    assert (tmp_path / "t.csv").read_text() == "a,b,c\n0.5,3,0.25\n"


def test_none_and_absent_keys_are_empty_cells(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"step": 1, "loss": None}, {"step": 2, "loss": 0.5, "psnr/blur": 30.0}])
    assert (tmp_path / "t.csv").read_text() == "step,loss,psnr/blur\n1,,\n2,0.5,30.0\n"
    assert read_table(tmp_path / "t.csv")[0] == {"step": 1.0, "loss": None, "psnr/blur": None}


def test_names_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [{"image": "0801", "degradation": "nan", "gap": math.nan}])
    row = read_table(tmp_path / "t.csv")[0]
    assert (row["image"], row["degradation"]) == ("0801", "nan")
    assert isinstance(row["gap"], float)
    assert math.isnan(row["gap"])


def test_names_with_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    name = 'a, "b"\nc ü'
    write_table(tmp_path / "t.csv", [{"image": name, "psnr": 1.0}])
    assert read_table(tmp_path / "t.csv") == [{"image": name, "psnr": 1.0}]


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t\.csv"):
        write_table(tmp_path / "t.csv", [])
    assert list(tmp_path.iterdir()) == []
