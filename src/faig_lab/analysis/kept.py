"""Findings as plain values and tensors, and back, to the last bit."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from faig_lab.analysis.examples import Example
from faig_lab.analysis.subject import Findings

Keep = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""(name, compute) → the result, from where it is kept or computed."""


def kept(keep: Keep, name: str, compute: Callable[[], Findings]) -> Findings:
    """The findings of an analysis, computed unless they are kept."""
    return _unpacked(keep(name, lambda: _packed(compute())))


def _packed(findings: Findings) -> dict[str, Any]:
    """Dicts, lists, tensors on the CPU and Python's own numbers."""
    return {
        "tables": {name: [_plain(row) for row in rows] for name, rows in findings.tables.items()},
        "metrics": _plain(findings.metrics),
        "examples": [
            {f.name: _value(getattr(example, f.name)) for f in fields(Example)} for example in findings.examples
        ],
    }


def _unpacked(packed: Mapping[str, Any]) -> Findings:
    examples = tuple(Example(**example) for example in packed["examples"])
    return Findings(packed["tables"], packed["metrics"], examples)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    """A number of numpy or torch as Python's (tables write them the same), a tensor of many on the CPU."""
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, Tensor) and value.ndim:
        return value.detach().cpu().contiguous().clone()
    item = getattr(value, "item", None)
    return item() if callable(item) else value
