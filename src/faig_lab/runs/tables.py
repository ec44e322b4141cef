"""The tables of a run folder: CSV files, written atomically and read back without loss."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faig_lab.files import write_text

_FORMULA = re.compile(r"'*[=+\-@\t\r]")

Row = Mapping[str, str | float | None]
Rows = Sequence[dict[str, str | float | None]]

# Names stay text even when they look like a number: DIV2K calls its images 0801, 0802, ...
TEXT_COLUMNS = frozenset(
    {"truth", "predicted", "measure", "fitted_on", "parameter"}  # of prediction and boundary
    | {"input", "interval"}  # of isolation
    | {"variant", "trained"}  # of retraining
    | {"curve", "against", "check", "kind", "a", "b"}  # of curves, sanity and stability
    | {"group"}  # of planted
    | {"modulated", "patched", "order", "method", "network", "masked", "degradation", "image", "layer"}
)


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV, atomically.

    Columns are the keys in order of first appearance; a key that a row lacks, like None, is an empty cell.
    Floats are written as their repr, so that they are read back to the last bit.

    Raises:
        ValueError: there are no rows, so the columns are not known.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        raise ValueError(f"{path.name}: a table needs at least one row")
    lines = [[cell_text(column) for column in columns]]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    # Alone, csv leaves a carriage return without quotes and then takes it for the end of a line.
    returns = any("\r" in cell for line in lines for cell in line)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(lines)
    write_text(path, text.getvalue())


def read_table(path: Path) -> list[dict[str, str | float | None]]:
    """Rows of a table: text in the columns of names, else floats where they are, None where a cell is empty."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{_plain(key): _value(_plain(key), cell) for key, cell in row.items()} for row in rows]


def cell_text(text: str) -> str:
    """Text for a cell that no spreadsheet takes for a formula: it gets a `'` in front where it looks like one."""
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(cell: str) -> str:
    """What `cell_text` was made from."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _cell(value: object) -> str:
    """One cell; numpy scalars are taken as the Python numbers that they hold."""
    item = getattr(value, "item", None)
    plain = item() if callable(item) else value
    if plain is None:
        return ""
    if isinstance(plain, str):
        return cell_text(plain)
    return repr(plain) if isinstance(plain, float) else str(plain)


def _value(column: str, cell: str | None) -> str | float | None:
    if cell is None or cell == "":
        return None
    if column in TEXT_COLUMNS or _plain(cell) != cell:
        return _plain(cell)
    try:
        return float(cell)
    except ValueError:  # a name in a column that we do not know, of an analysis of the user's own
        return cell


def unique(rows: Rows, column: str) -> list[str]:
    """The names in a column in order of first appearance."""
    return list(dict.fromkeys(str(row[column]) for row in rows if row.get(column) is not None))


def select(rows: Rows, percent: float | None = None, **wanted: object) -> Rows:
    """The rows that have the wanted cells and belong to the percent, if one is given."""
    return [row for row in rows if wanted.items() <= row.items() and (percent is None or at(percent, row))]


def number_at(row: Row, column: str) -> float | None:
    """A finite number of a row, None when it is absent, NaN or infinite."""
    cell = row.get(column)
    return cell if isinstance(cell, float) and math.isfinite(cell) else None


def numbers_at(row: Row, *columns: str) -> list[float | None]:
    """Several numbers of a row, as `value` reads each."""
    return [number_at(row, column) for column in columns]


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """The finite numbers of a column."""
    return [number for row in rows if (number := number_at(row, column)) is not None]


def points(rows: Sequence[Row], *columns: str) -> NDArray[np.float64]:
    """(columns, n): the rows that have a number in all columns, the first column ascending."""
    found = [numbers_at(row, *columns) for row in rows]
    known = sorted(numbers for numbers in found if None not in numbers)
    return np.array(known, dtype=np.float64).reshape(-1, len(columns)).T


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Mean of the numbers that are there, None when there are none."""
    there = [number for number in values if number is not None]
    return math.fsum(there) / len(there) if there else None


def mean_of(rows: Sequence[Row], column: str) -> float | None:
    """Mean of the numbers of a column, None when there are none."""
    return mean_of_known(numbers(rows, column))


def at(percent: float, row: Row) -> bool:
    """Whether a row belongs to a percent."""
    found = row.get("percent")
    return isinstance(found, float) and math.isclose(found, percent, rel_tol=1e-9)


def over_photographs(rows: Sequence[Row]) -> str:
    """What `low` and `high` of these rows are: a 95 % interval, or the range over few photographs.

    Rows without the column `interval` are of an earlier version, which had bootstrap intervals only.
    """
    kinds = {str(row["interval"]) for row in rows if row.get("interval") is not None}
    return "range over photographs" if "range" in kinds else "95 % interval over photographs"
