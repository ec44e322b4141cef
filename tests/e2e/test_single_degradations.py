"""Clusters, task vectors and switches through the command line: in a new run, and on a finished one."""

import json

import pytest
from tiny_case import figures_of, tiny, without_report

from faig_lab.__main__ import main
from faig_lab.runs.tables import numbers, read_table

STUDIES = ("clusters", "task_vectors", "switches")
SETTINGS = [
    *("analysis.studies.clusters.crop=16", "analysis.studies.clusters.components=3"),
    *("analysis.studies.task_vectors.iterations=2", "analysis.studies.switches.iterations=2"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("single")
    analysis = f"analysis=[{','.join(STUDIES)}]"
    place = [f"store={root / 'store'}", f"hydra.run.dir={root / 'run'}"]
    percents = ["analysis.percents=[3]", "analysis.headline_percent=3"]
    with figures_of():
        assert main(["experiment=blur_noise", analysis, *percents, *SETTINGS, *tiny(), *place]) == 0
    return root / "run"


def test_a_run_has_tables_metrics_figures_and_sections(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    page = (finished / "report.html").read_text(encoding="utf-8")
    for name in STUDIES:
        assert len(read_table(finished / "tables" / f"{name}.csv"))
        assert (finished / "figures" / f"{name}.png").is_file()
        assert f'id="{name}"' in page
        assert any(key.startswith(f"{name}/") for key in metrics)
    assert metrics["switches/blind/blur"] == 0
    assert 0 <= metrics["task_vectors/conflict"] <= 1


def test_the_target_of_the_run_gains_what_its_restoration_says(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    for name in ("blur", "noise", "clean"):
        expected = metrics[f"psnr/target/{name}"] - metrics[f"psnr/baseline/{name}"]
        assert metrics[f"task_vectors/gain/target/blur+noise/{name}"] == pytest.approx(expected, abs=1e-9)
        assert metrics[f"switches/gain/start/{name}"] == pytest.approx(expected, abs=1e-9)


def test_single_degradations_are_in_the_store_once(finished):
    """Baseline, target, and a target for each of the two degradations; a second analysis trains nothing again."""
    stored = [path for path in (finished.parent / "store").iterdir() if not path.name.startswith(".")]
    assert len(stored) == 4
    again = ["analysis=task_vectors", "analysis.studies.task_vectors.strengths=[0.25]", *SETTINGS[2:3], "logger=none"]
    with without_report():
        assert main(["task=analyse", f"run={finished}", *again]) == 0
    assert set(numbers(read_table(finished / "tables" / "task_vectors.csv"), "strength")) == {0.25, 1.0}
    assert len([path for path in (finished.parent / "store").iterdir() if not path.name.startswith(".")]) == 4
