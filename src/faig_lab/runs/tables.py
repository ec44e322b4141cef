"""The tables of a run: pandas frames, kept as CSV files that are written atomically and read back without loss.

A missing cell is NaN. A missing table has no columns; the functions of this module take a missing column as empty.
"""

import csv
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from faig_lab.files import write_text

_FORMULA = re.compile(r"'*[=+\-@\t\r]")

Rows = pd.DataFrame | Iterable[Mapping[str, object]]
"""A table, or its rows one by one: column → cell. None is a missing cell."""

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


def frame(rows: Rows) -> pd.DataFrame:
    """Return rows as a table, numbered from 0. Its columns are the keys in the order of their first appearance."""
    if isinstance(rows, pd.DataFrame):
        return rows.reset_index(drop=True)
    listed = [{column: _own(cell) for column, cell in row.items()} for row in rows]
    return pd.DataFrame(listed, columns=list(dict.fromkeys(column for row in listed for column in row)))


def _own(cell: object) -> object:
    """Return a number of NumPy or torch as Python's own number."""
    item = getattr(cell, "item", None)
    return item() if callable(item) else cell


def write_table(path: Path, rows: Rows) -> None:
    """Write a table as CSV, atomically.

    A missing cell is empty. Floats are written as their repr, so that they are read back exactly.

    Raises:
        ValueError: the table has no column.
    """
    table = frame(rows)
    if table.columns.empty:
        raise ValueError(f"{path.name}: a table needs at least one row")
    safe = table.map(lambda cell: cell_text(cell) if isinstance(cell, str) else cell).rename(columns=cell_text)
    # The csv module writes a carriage return without quotes, and reads it as the end of a line.
    returns = any("\r" in cell for cell in (*safe.columns, *safe.to_numpy().flat) if isinstance(cell, str))
    text = safe.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)
    write_text(path, text)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table. A column of names is text, and so is a column with a cell that is no number."""
    table = pd.read_csv(path, dtype=object, keep_default_na=False, encoding="utf-8").rename(columns=_plain)
    return pd.DataFrame({column: _read(str(column), table[column]) for column in table}, columns=table.columns)


def _read(column: str, cells: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the cells as floats where they are numbers, else as text. An empty cell is missing."""
    plain = cells.map(_plain)
    if column not in TEXT_COLUMNS and bool((plain == cells).all()):
        try:
            return cells.replace("", "nan").astype(float)  # Python's own conversion, which is exact
        except ValueError:  # a name in an unknown column, of a study of the user
            pass
    return plain.where(plain != "", np.nan)


def cell_text(text: str) -> str:
    """Return the text of a cell, with a `'` in front if a spreadsheet would read the text as a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(cell: str) -> str:
    """Return the text from which `cell_text` made the cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def select(table: pd.DataFrame, percent: float | None = None, **wanted: object) -> pd.DataFrame:
    """Return the rows that have the wanted cells and, if `percent` is given, that percent."""
    if not {*wanted} <= {*table.columns} or (percent is not None and "percent" not in table):
        return table[:0]
    chosen = np.full(len(table), True)
    for column, cell in wanted.items():
        chosen &= (table[column] == cell).to_numpy()
    if percent is not None:
        chosen &= np.isclose(table["percent"], percent, rtol=1e-9, atol=0)
    return table[chosen]


def unique(table: pd.DataFrame, column: str) -> list[str]:
    """Return the names in a column, in the order of their first appearance."""
    return [str(name) for name in table[column].dropna().unique()] if column in table else []


def groups(table: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Return the rows of each name in a column, in the order of their first appearance."""
    return {str(name): rows for name, rows in table.groupby(column, sort=False)} if column in table else {}


def numbers(table: pd.DataFrame, column: str) -> list[float]:
    """Return the numbers of a column."""
    return [float(number) for number in table[column].dropna()] if column in table else []


def mean_of(table: pd.DataFrame, column: str) -> float:
    """Return the mean of the numbers of a column; NaN if the column has no number."""
    return float(np.mean(known)) if (known := numbers(table, column)) else np.nan


def points(table: pd.DataFrame, *columns: str) -> NDArray[np.float64]:
    """Return the rows with a number in all columns, shape (columns, n), sorted by the first column."""
    known = table.reindex(columns=list(columns)).dropna().sort_values(list(columns))
    return known.to_numpy(dtype=np.float64).T


def over_photographs(table: pd.DataFrame) -> str:
    """Return the type of `low` and `high` of these rows: a 95 % interval, or the range over few photographs.

    Rows without the column `interval` come from an earlier version, which had bootstrap intervals only.
    """
    return "range over photographs" if "range" in unique(table, "interval") else "95 % interval over photographs"


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Return rows of texts as lines with aligned columns.

    Args:
        rows: the rows, the head among them. All have the same number of cells.
        left: the columns that are aligned to the left; all others are aligned to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dicts of Python's own values; None is a missing cell."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(column): cell for column, cell in row.items()} for row in rows]
