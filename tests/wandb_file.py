"""What an offline W&B run holds, read from its file: protobuf records in blocks of 32 KiB, as in LevelDB's log."""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as proto

_BLOCK = 32768
_HEADER = 7


@dataclass
class Stored:
    """Everything in the file of a run.

    Attributes:
        run: the record of the run.
        config: setting → value, at the end.
        summary: key → number or media, at the end.
        rows: the history.
        axes: glob or key → the axis that it is drawn against.
        charts: key → custom chart.
        artifacts: name → the files.
    """

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    axes: dict[str, str] = field(default_factory=dict)
    charts: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[str]] = field(default_factory=dict)


def read_wandb(folder: Path) -> Stored:
    """Read the one .wandb file of a folder."""
    (file,) = folder.glob("*.wandb")
    stored, names = Stored(), {}
    for content in _records(file.read_bytes()):
        record = proto.Record.FromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            stored.run = record.run
            _add(stored.config, record.run.config.update)
        elif kind == "config":
            _add(stored.config, record.config.update)
        elif kind == "summary":
            stored.summary |= _items(record.summary.update)
        elif kind == "history":
            row = _items(record.history.item)
            stored.rows.append(row)
            stored.summary |= {key: value for key, value in row.items() if not key.startswith("_")}
        elif kind == "metric":
            metric = record.metric
            names[metric.name or metric.glob_name] = metric.step_metric
        elif kind in ("request", "artifact"):
            artifact = record.request.log_artifact.artifact if kind == "request" else record.artifact
            if artifact.name:
                stored.artifacts[artifact.name] = [entry.local_path for entry in artifact.manifest.contents]
    stored.axes = {name: axis for name, axis in names.items() if axis}
    stored.charts = stored.config.get("_wandb", {}).get("visualize", {})
    return stored


def _items(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _add(found, items)
    return found


def _add(found: dict[str, Any], items: Any) -> None:
    for item in items:
        keys = list(item.nested_key) or [item.key]
        place = found
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = json.loads(item.value_json)


def _records(content: bytes) -> list[bytes]:
    """Return the records: whole (type 1), or in a first (2), middle (3) and last (4) part."""
    found, parts, place = [], b"", _HEADER
    while place + _HEADER <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + _HEADER])
        part = content[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):
            found.append(parts)
    return found
