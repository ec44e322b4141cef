"""What a run folder holds, read once: everything that figures, report and summary are made from."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from faig_lab.granularity import UNITS
from faig_lab.runs.tables import Row, read_table

Rows = Sequence[dict[str, str | float | None]]


@dataclass(frozen=True)
class RunFiles:
    """The files of one run; what is not there is empty, so that a partial run can be shown too."""

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, float]
    status: dict[str, Any]
    layout: dict[str, Any]
    provenance: dict[str, Any]
    tables: dict[str, list[dict[str, str | float | None]]]

    def table(self, name: str) -> list[dict[str, str | float | None]]:
        """Rows of `tables/<name>.csv`, empty when there is no such table."""
        return self.tables.get(name, [])

    @cached_property
    def degradations(self) -> list[str]:
        """The discriminated degradations, in the order of the masking table."""
        return unique(self.table("masking"), "masked") or sorted(
            str(row["degradation"]) for row in self.table("completeness") if row["degradation"]
        )

    @cached_property
    def methods(self) -> list[str]:
        """The methods that were compared: the run's own first, `random` last."""
        found = unique(self.table("masking"), "method")
        return sorted(found, key=lambda method: (method == "random", method != self.chosen, found.index(method)))

    @cached_property
    def chosen(self) -> str:
        """The run's attribution method; the first of the masking table when the config does not say."""
        found = unique(self.table("masking"), "method")
        name = str(self.config.get("attribution", {}).get("name", ""))
        return name if name in found or not found else found[0]

    @cached_property
    def headline(self) -> float:
        """The percent that the report speaks of: the config's, or the nearest that was measured."""
        wanted = float(self.config.get("analysis", {}).get("headline_percent", 1))
        measured = [float(row["percent"]) for row in self.table("masking") if row["percent"] is not None]
        return min(measured, key=lambda value: abs(value - wanted), default=wanted)

    @cached_property
    def filters(self) -> int | None:
        """All filters of the network, None when the layout is not there."""
        return self.layout.get("filters")

    @property
    def granularity(self) -> str:
        """What the run ranked; filters, if it is from before there was a choice."""
        return str(self.layout.get("granularity", "filter"))

    @property
    def units(self) -> str:
        """The word for what was ranked: `filters`, `output channels` and so on."""
        return UNITS[self.granularity]

    @property
    def unit(self) -> str:
        """The word for one of them."""
        return self.units.removesuffix("s")

    @property
    def ranks_others(self) -> bool:
        """Whether biases and other parameters without an output channel are ranked too."""
        return any("out" not in layer for layer in self.layout.get("layers", []))

    def worded(self, text: str, **more: str) -> str:
        """The text with the run's own word in place of `{unit}`, `{units}` and `{Units}`, and more such words."""
        return text.format(unit=self.unit, units=self.units, Units=self.units.capitalize(), **more)


def read_run(folder: Path) -> RunFiles:
    """Read the files of a run folder; missing files are empty, malformed ones raise."""
    config = folder / "config.yaml"
    return RunFiles(
        folder=folder,
        config=(yaml.safe_load(config.read_text(encoding="utf-8")) or {}) if config.is_file() else {},
        metrics=_json(folder / "metrics.json"),
        status=_json(folder / "status.json"),
        layout=_json(folder / "attribution" / "layout.json"),
        provenance=_json(folder / "attribution" / "provenance.json"),
        tables={path.stem: read_table(path) for path in sorted((folder / "tables").glob("*.csv"))},
    )


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


def clipped(share: float | None) -> float | None:
    """A removed share as it enters a mean: clipped to [0, 1] (as in the analyses, whose packages need torch)."""
    return None if share is None else min(max(share, 0.0), 1.0)


def harm(share: float | None) -> float | None:
    """By how much a removed share is above 1, ≥ 0: there the masked network is worse than the baseline."""
    return None if share is None else max(share - 1.0, 0.0)


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


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
