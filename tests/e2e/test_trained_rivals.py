"""Studies that train networks of their own: two branches, and targets of single degradations."""

import pytest
import yaml
from run_files import read, table
from tiny_case import analyse, figures_of, networks, run, tiny

STUDIES = ("branches", "clusters", "task_vectors", "switches")
SETTINGS = [
    "analysis.studies.branches.rival={features: 4, blocks: 1, predictor_features: 3}",
    *("analysis.studies.branches.timed_steps=1", "analysis.studies.branches.crop=24"),
    *("analysis.studies.clusters.crop=16", "analysis.studies.clusters.components=3"),
    *("analysis.studies.task_vectors.iterations=2", "analysis.studies.switches.iterations=2"),
]
TINY = tiny(
    *("data.test_crop=48", "training.baseline.iterations=5", "training.target.iterations=4"),
    *("training.validate_every=2", "analysis.percents=[3]", "analysis.headline_percent=3"),
)
"""One schedule for all runs here, so that they find each other's networks in the store."""
TABLES = ("branches", "branches_images", "branches_filters", "branches_prediction", "branches_predictor")
INPUTS = ("clean", "blur", "noise", "blur+noise")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rivals") / "run"
    return run(
        folder, "experiment=one_vs_two_branch", f"analysis=[{','.join(STUDIES)}]", *SETTINGS, *TINY, report=figures_of
    )


def test_a_run_has_tables_metrics_figures_and_sections(finished):
    metrics = read(finished / "metrics.json")
    page = (finished / "report.html").read_text(encoding="utf-8")
    for name in STUDIES:
        assert table(finished, name)
        assert (finished / "figures" / f"{name}.png").is_file()
        assert f'id="{name}"' in page
        assert any(key.startswith(f"{name}/") for key in metrics)
    assert metrics["switches/blind/blur"] == 0
    assert 0 <= metrics["task_vectors/conflict"] <= 1
    assert {"branches/prediction/blur", "branches/prediction/noise", "branches/prediction/everything"} <= set(metrics)
    for name in ("one_branch", "two_branch"):
        assert metrics[f"branches/step_seconds/{name}"] > 0
        assert metrics[f"branches/parameters/{name}"] > 1000
        assert all(f"branches/psnr/{shown}/{name}" in metrics for shown in INPUTS)
    assert "Both were trained for 5 and 4 iterations" in page


def test_the_target_of_the_run_has_the_psnr_that_its_restoration_says(finished):
    metrics = read(finished / "metrics.json")
    for name in INPUTS:
        restored = metrics[f"psnr/target/{name}"]
        assert metrics[f"branches/psnr/{name}/one_branch"] == pytest.approx(restored, abs=1e-6)
        if name != "blur+noise":
            gain = pytest.approx(restored - metrics[f"psnr/baseline/{name}"], abs=1e-9)
            assert metrics[f"task_vectors/gain/target/blur+noise/{name}"] == gain
            assert metrics[f"switches/gain/start/{name}"] == gain


def test_the_configuration_names_the_rival_with_the_runs_degradations(finished):
    node = yaml.safe_load((finished / "config.yaml").read_text())["analysis"]["studies"]["branches"]["rival"]
    assert node["_target_"] == "faig_lab.networks.TwoBranchSRResNet"
    assert node["degradations"] == ["blur", "noise"]


def test_each_network_is_in_the_store_once(finished):
    """Baseline and target of both networks, and a target of one branch for each of the two degradations."""
    stored = networks(finished.parent / "store")
    kinds = [name.rsplit("-", 1)[0] for name in stored]
    pairs = [f"{network}-{phase}" for network in ("SRResNet", "TwoBranchSRResNet") for phase in ("baseline", "target")]
    assert sorted(set(kinds)) == pairs
    assert kinds.count("SRResNet-target") == 3
    assert len(kinds) == 6


def test_a_finished_run_gets_the_same_tables_and_nothing_is_trained_twice(finished):
    store = finished.parent / "store"
    plain = run(finished.parent / "plain", "experiment=blur_noise", "training=laptop", *TINY)
    before = networks(store)
    analyse(plain, f"analysis=[{','.join(STUDIES)}]", *SETTINGS, "analysis.studies.task_vectors.strengths=[0.25]")
    assert networks(store) == before
    for name in TABLES:
        assert (plain / "tables" / f"{name}.csv").read_text() == (finished / "tables" / f"{name}.csv").read_text()
    assert {float(row["strength"]) for row in table(plain, "task_vectors")} == {0.25, 1.0}


def test_further_seeds(finished):
    settings = ["experiment=one_vs_two_branch", "analysis.studies.branches.seeds=[1]"]
    folder = run(finished.parent / "seeds", *settings, *SETTINGS[:3], *TINY)
    assert {row["seeds"] for row in table(folder, "branches")} == {"2"}


def test_two_branches_as_the_runs_own_network(finished):
    settings = ["experiment=blur_noise", "network=two_branch_small", "network.predictor_features=3"]
    folder = run(finished.parent / "two", *settings, *TINY)
    layers = read(folder / "attribution" / "layout.json")["layers"]
    assert "predictor.logits.weight" in [layer["name"] for layer in layers]
    for network in ("baseline", "target"):
        description = yaml.safe_load((folder / "weights" / f"{network}.yaml").read_text())
        assert description["network"]["degradations"] == ["blur", "noise"]
    assert read(folder / "metrics.json")["completeness_gap/blur"] < 0.5
