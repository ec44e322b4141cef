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

# Columns of names. Names that look like numbers stay text, such as the images 0801, 0802, ... of DIV2K.
TEXT_COLUMNS = frozenset(
    {"truth", "predicted", "measure", "fitted_on", "parameter"}  # of prediction and boundary
    | {"input", "interval"}  # of isolation
    | {"variant", "trained"}  # of retraining
    | {"curve", "against", "check", "kind", "a", "b"}  # of curves, sanity and stability
    | {"group"}  # of planted
    | {"edit", "vector", "judged"}  # of task vectors
    | {"modulated", "patched", "order", "method", "network", "masked", "degradation", "image", "layer"}
)


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV, atomically.

    Columns are the keys in the order of their first appearance. A missing key and None become an empty cell. Floats are
    written as their repr, so that they are read back exactly.

    Raises:
        ValueError: there is no row, so the columns are unknown.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        raise ValueError(f"{path.name}: a table needs at least one row")
    lines = [[cell_text(column) for column in columns]]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    # The csv module writes a carriage return without quotes, and reads it as the end of a line.
    returns = any("\r" in cell for line in lines for cell in line)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(lines)
    write_text(path, text.getvalue())


def read_table(path: Path) -> list[dict[str, str | float | None]]:
    """Read the rows of a table. A cell is text in a column of names, otherwise a float; an empty cell is None."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{_plain(key): _value(_plain(key), cell) for key, cell in row.items()} for row in rows]


def cell_text(text: str) -> str:
    """Return the text of a cell, with a `'` in front if a spreadsheet would read the text as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(cell: str) -> str:
    """Return the text from which `cell_text` made the cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _cell(value: object) -> str:
    """Return the text of a cell. A numpy scalar is converted to a Python number."""
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
    except ValueError:  # a name in an unknown column, of a study of the user
        return cell


def unique(rows: Rows, column: str) -> list[str]:
    """Return the names in a column, in the order of their first appearance."""
    return list(dict.fromkeys(str(row[column]) for row in rows if row.get(column) is not None))


def select(rows: Rows, percent: float | None = None, **wanted: object) -> Rows:
    """Return the rows that have the wanted cells and, if `percent` is given, that percent."""
    return [row for row in rows if wanted.items() <= row.items() and (percent is None or at(percent, row))]


def number_at(row: Row, column: str) -> float | None:
    """Return a number of a row; None if the number is absent, NaN or infinite."""
    cell = row.get(column)
    return cell if isinstance(cell, float) and math.isfinite(cell) else None


def numbers_at(row: Row, *columns: str) -> list[float | None]:
    """Return several numbers of a row, each as in `number_at`."""
    return [number_at(row, column) for column in columns]


def numbers(rows: Sequence[Row], column: str) -> list[float]:
    """Return the finite numbers of a column."""
    return [number for row in rows if (number := number_at(row, column)) is not None]


def points(rows: Sequence[Row], *columns: str) -> NDArray[np.float64]:
    """Return the rows with a number in all columns, shape (columns, n), sorted by the first column."""
    known = sorted(cells for row in rows if None not in (cells := numbers_at(row, *columns)))
    return np.array(known, dtype=np.float64).reshape(-1, len(columns)).T


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of the known numbers; None if no number is known."""
    known = [number for number in values if number is not None]
    return math.fsum(known) / len(known) if known else None


def mean_of(rows: Sequence[Row], column: str) -> float | None:
    """Return the mean of the numbers of a column; None if the column has no number."""
    return mean_of_known(numbers(rows, column))


def at(percent: float, row: Row) -> bool:
    """Return whether a row belongs to a percent."""
    cell = row.get("percent")
    return isinstance(cell, float) and math.isclose(cell, percent, rel_tol=1e-9)


def over_photographs(rows: Sequence[Row]) -> str:
    """Return the type of `low` and `high` of these rows: a 95 % interval, or the range over few photographs.

    Rows without the column `interval` come from an earlier version, which had bootstrap intervals only.
    """
    intervals = {str(row["interval"]) for row in rows if row.get("interval") is not None}
    return "range over photographs" if "range" in intervals else "95 % interval over photographs"
