"""degradation=second_order through the command line: nine degradations, two of them of one class."""

import csv
import json

import numpy as np
from tiny_case import tiny, without_report

from faig_lab.__main__ import main

PARTS = ["blur_1", "resize_1", "noise_1", "jpeg_1", "blur_2", "resize_2", "noise_2", "sinc", "jpeg_2"]
TINY = tiny("training.patch_size=16", "analysis.percents=[1]", "analysis.headline_percent=1", "name=second_order")


def test_a_run_tells_all_parts_apart(tmp_path):
    folder = tmp_path / "run"
    with without_report():
        assert main([*TINY, "degradation=second_order", f"store={tmp_path}/store", f"hydra.run.dir={folder}"]) == 0
    with np.load(folder / "attribution" / "scores.npz", allow_pickle=False) as stored:
        scores = [stored[name] for name in PARTS]
    assert all(np.isfinite(score).all() and np.ptp(score) > 0 for score in scores)
    assert len({score.tobytes() for score in scores}) == len(PARTS)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert all(metrics[f"completeness_gap/{name}"] < 0.05 for name in PARTS)
    with (folder / "tables" / "masking.csv").open(newline="") as file:
        assert {row["degradation"] for row in csv.DictReader(file)} >= set(PARTS)
