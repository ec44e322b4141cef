"""degradation=second_order through the command line: nine degradations, two of them of one class."""

import numpy as np
from run_files import arrays, read, table
from tiny_case import tiny, without_report

from faig_lab.__main__ import main

PARTS = ["blur_1", "resize_1", "noise_1", "jpeg_1", "blur_2", "resize_2", "noise_2", "sinc", "jpeg_2"]
TINY = tiny("training.patch_size=16", "analysis.percents=[1]", "analysis.headline_percent=1", "name=second_order")


def test_a_run_tells_all_parts_apart(tmp_path):
    folder = tmp_path / "run"
    with without_report():
        assert main([*TINY, "degradation=second_order", f"store={tmp_path}/store", f"hydra.run.dir={folder}"]) == 0
    scores = [arrays(folder)[name] for name in PARTS]
    assert all(np.isfinite(score).all() and np.ptp(score) > 0 for score in scores)
    assert len({score.tobytes() for score in scores}) == len(PARTS)
    metrics = read(folder / "metrics.json")
    assert all(metrics[f"completeness_gap/{name}"] < 0.05 for name in PARTS)
    assert {row["degradation"] for row in table(folder, "masking")} >= set(PARTS)
