"""What a run folder holds, read once: everything that figures, report and summary are made from."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from faig_lab.reporting.tables import Row, read_table


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
    def all_ranked(self) -> bool:
        """Whether biases and all other parameters are ranked too, or there are none."""
        return self.layout.get("not_ranked") == []


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


def unique(rows: list[dict[str, str | float | None]], column: str) -> list[str]:
    """The names in a column in order of first appearance."""
    return list(dict.fromkeys(str(row[column]) for row in rows if row.get(column) is not None))


def value(row: Row, column: str) -> float | None:
    """A finite number of a row, None when it is absent, NaN or infinite."""
    cell = row.get(column)
    return cell if isinstance(cell, float) and math.isfinite(cell) else None


def mean(values: list[float | None]) -> float | None:
    """Mean of the numbers that are there, None when there are none."""
    there = [number for number in values if number is not None]
    return math.fsum(there) / len(there) if there else None


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
