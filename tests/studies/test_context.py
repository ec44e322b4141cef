"""Findings that a killed run left are used again, to the last bit."""

import numpy as np
import pytest
import torch

from faig_lab.attribution import ResultCache
from faig_lab.evaluation.evaluator import Example
from faig_lab.runs.tables import frame, write_table
from faig_lab.studies.context import StudyResult, kept


@pytest.fixture
def findings():
    image = torch.rand(3, 4, 4)
    rows = [
        {"method": "faig", "psnr": np.float64(0.1) + 0.2, "draw": np.int64(3), "share": None},
        {"method": "ig", "psnr": torch.tensor(1 / 3, dtype=torch.float64), "draw": 4, "own": True},
    ]
    example = Example("a", "blur", image, image * 2, {"target": image.double() / 3}, {"target": 31.123456789012345})
    return StudyResult({"masking": rows, "other": [{"x": 1e-300}]}, {"a": np.float64(1 / 3), "b": None}, (example,))


def test_findings_come_back_to_the_last_bit(findings, tmp_path):
    keep = ResultCache(tmp_path / "kept")
    first = kept(keep, "masking", lambda: findings)
    second = kept(keep, "masking", lambda: pytest.fail("it was kept"))
    for name, rows in findings.tables.items():
        for folder, found in (("a", findings), ("b", first), ("c", second)):
            write_table(tmp_path / folder / f"{name}.csv", found.tables[name])
        assert len({(tmp_path / folder / f"{name}.csv").read_bytes() for folder in "abc"}) == 1, rows
    assert findings.metrics == first.metrics == second.metrics
    (example,), (before,) = second.examples, findings.examples
    assert (example.image, example.degradation, example.psnr) == (before.image, before.degradation, before.psnr)
    assert torch.equal(example.input, before.input)
    assert torch.equal(example.restored["target"], before.restored["target"])
    assert example.restored["target"].dtype == torch.float64


def test_nothing_kept_nothing_changed(findings):
    assert kept(ResultCache(), "masking", lambda: findings).metrics == findings.metrics


def test_findings_are_the_same_by_tables_and_metrics():
    rows = [{"x": 1.0, "y": None}, {"x": 2.0, "y": 0.5}]
    result = StudyResult({"a": rows}, {"m": 1.0})
    assert result == StudyResult({"a": frame(rows)}, {"m": 1.0})
    assert result != StudyResult({"a": rows[:1]}, {"m": 1.0})
    assert result != StudyResult({"b": rows}, {"m": 1.0})
    assert result != StudyResult({"a": rows}, {"m": 2.0})
    assert result.rows("a") == rows
