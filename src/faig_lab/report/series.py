"""The curves and charts of a run, as plain numbers for W&B and other loggers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faig_lab.plotting.words import as_percent, degraded, method_label, removal
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import read_table, records

_ISOLATION = re.compile(r"isolation/([^/]+)/([\d.e+-]+)")
_PSNR = "psnr/"


@dataclass(frozen=True)
class Curves:
    """Several curves in one chart.

    Attributes:
        title: the caption.
        axis: the name of the x-axis.
        xs: the places.
        ys: label → value at each place.
    """

    title: str
    axis: str
    xs: Sequence[float]
    ys: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Bars:
    """A bar for each label.

    Attributes:
        title: the caption.
        bars: label and value.
    """

    title: str
    bars: Sequence[tuple[str, float]]


def training_rows(run: Path, network: str) -> list[dict[str, float | None]]:
    """Return the rows of `tables/training_<network>.csv`; none if the run trained no such network."""
    return _rows(run / "tables" / f"training_{network}.csv")


def isolation_rows(metrics: Mapping[str, float]) -> list[dict[str, float | None]]:
    """Return a row for each percent: `percent`, and `isolation/<method>` for each method.

    Args:
        metrics: the content of metrics.json.
    """
    rows: dict[float, dict[str, float | None]] = {}
    for key, value in metrics.items():
        if match := _ISOLATION.fullmatch(key):
            percent = float(match[2])
            rows.setdefault(percent, {"percent": percent})[f"isolation/{match[1]}"] = value
    return [rows[percent] for percent in sorted(rows)]


def curves_of(run: RunFolder) -> dict[str, Curves]:
    """Return the charts of curves: isolation by percent, and the quality during each training."""
    charts = {}
    rows = isolation_rows(run.metrics)
    keys = list(dict.fromkeys(key for row in rows for key in row if key != "percent"))
    if keys:
        charts["isolation"] = Curves(
            f"Isolation by the percent of the {run.units} that are masked. 1 is the ideal edit, 0 is no masking, "
            "below 0 is harm.",
            f"percent of the {run.units}",
            [row["percent"] or 0.0 for row in rows],
            {method_label(key.partition("/")[2]): [row.get(key) for row in rows] for key in keys},
        )
    for network in ("baseline", "target"):
        trained = training_rows(run.path, network)
        inputs = [key for key in (trained[0] if trained else {}) if key.startswith(_PSNR)]
        if inputs:
            charts[f"training_{network}"] = Curves(
                f"Training of the {network}: PSNR on the probe in dB, for each input.",
                "step",
                [row["step"] or 0.0 for row in trained],
                {degraded(key.removeprefix(_PSNR)): [row[key] for row in trained] for key in inputs},
            )
    return charts


def bars_of(run: RunFolder) -> dict[str, Bars]:
    """Return the charts of bars: for each degradation the share of each layer that is discovered."""
    rows = [
        row
        for row in _rows(run.path / "tables" / "distribution.csv")
        if row["method"] == run.chosen and row["percent"] == run.headline and row["share"]
    ]
    return {
        f"layers_{name}": Bars(
            f"Share of each layer's {run.units} that {method_label(run.chosen)} discovers for {removal(name)}, at "
            f"{as_percent(run.headline)} of all {run.units}.",
            [(row["layer"].removesuffix(".weight"), row["share"]) for row in rows if row["degradation"] == name],
        )
        for name in dict.fromkeys(row["degradation"] for row in rows)
    }


def _rows(file: Path) -> list[dict[str, Any]]:
    """Read the rows of a table; none without the file."""
    return records(read_table(file)) if file.is_file() else []
