"""One branch against two through the command line: in a new run, on a finished one, and as a network of its own."""

import pytest
import yaml
from run_files import read, table
from tiny_case import figures_of, tiny, without_figures, without_report

from faig_lab.__main__ import main

TINY = tiny(
    *("data.test_crop=48", "training.baseline.iterations=5", "training.target.iterations=4"),
    *("training.validate_every=2", "analysis.percents=[1]"),
)
RIVAL = [
    f"analysis.studies.branches.{setting}"
    for setting in ("rival.features=4", "rival.blocks=1", "rival.predictor_features=3", "timed_steps=1", "crop=24")
]
TABLES = ("branches", "branches_images", "branches_filters", "branches_prediction", "branches_predictor")


def run(root, name, *settings):
    folder = root / name
    assert main([*settings, *TINY, f"store={root / 'store'}", f"hydra.run.dir={folder}"]) == 0
    return folder


def tables(folder):
    return {name: (folder / "tables" / f"{name}.csv").read_text() for name in TABLES}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("branches")


@pytest.fixture(scope="module")
def compared(root):
    with figures_of():
        return run(root, "compared", "+experiment=one_vs_two_branch", *RIVAL)


def test_the_experiment_leaves_tables_metrics_figure_and_section(compared):
    metrics = read(compared / "metrics.json")
    for name in ("one_branch", "two_branch"):
        assert metrics[f"branches/step_seconds/{name}"] > 0
        assert metrics[f"branches/parameters/{name}"] > 1000
        for degradation in ("clean", "blur", "noise", "blur+noise"):
            assert f"branches/psnr/{degradation}/{name}" in metrics
    for degradation in ("clean", "blur", "noise", "blur+noise"):
        assert metrics[f"branches/psnr/{degradation}/one_branch"] == pytest.approx(
            metrics[f"psnr/target/{degradation}"], abs=1e-6
        )
    assert {"branches/prediction/blur", "branches/prediction/noise", "branches/prediction/everything"} <= set(metrics)
    assert (compared / "figures" / "branches.png").is_file()
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert 'id="branches"' in page
    assert "Both were trained for 5 and 4 iterations" in page


def test_the_configuration_names_the_rival_with_the_runs_degradations(compared):
    node = yaml.safe_load((compared / "config.yaml").read_text())["analysis"]["studies"]["branches"]["rival"]
    assert node["_target_"] == "faig_lab.networks.TwoBranchSRResNet"
    assert node["degradations"] == ["blur", "noise"]


def test_the_rival_is_in_the_store_beside_the_runs_own(compared, root):
    names = {path.name.rsplit("-", 1)[0] for path in (root / "store").iterdir() if not path.name.startswith(".")}
    assert {f"{n}-{p}" for n in ("SRResNet", "TwoBranchSRResNet") for p in ("baseline", "target")} <= names


def test_a_finished_run_gets_the_same_tables_and_nothing_is_trained_twice(compared, root):
    with without_report():
        plain = run(root, "plain", "experiment=blur_noise", "training=laptop")  # the schedule of one_vs_two_branch
    before = sorted((root / "store").iterdir())
    with without_figures():
        assert main(["task=analyse", f"run={plain}", "analysis=branches", *RIVAL, "logger=none"]) == 0
    assert sorted((root / "store").iterdir()) == before
    assert tables(plain) == tables(compared)
    assert 'id="branches"' in (plain / "report.html").read_text(encoding="utf-8")


def test_further_seeds(root):
    with without_report():
        folder = run(root, "seeds", "+experiment=one_vs_two_branch", *RIVAL, "analysis.studies.branches.seeds=[1]")
    assert {row["seeds"] for row in table(folder, "branches")} == {"2"}


def test_two_branches_as_the_runs_own_network(root):
    settings = ["+experiment=blur_noise", "network=two_branch_small", "network.predictor_features=3"]
    with without_report():
        folder = run(root, "two", *settings)
    layers = read(folder / "attribution" / "layout.json")["layers"]
    assert "predictor.logits.weight" in [layer["name"] for layer in layers]
    for network in ("baseline", "target"):
        description = yaml.safe_load((folder / "weights" / f"{network}.yaml").read_text())
        assert description["network"]["degradations"] == ["blur", "noise"]
    gaps = read(folder / "metrics.json")
    assert gaps["completeness_gap/blur"] < 0.5


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rival.feature=3", "analysis.studies.branches.rival.feature: unknown key"),
        ("rival.features=0", "analysis.studies.branches.rival.features: must be > 0, not 0"),
        ("seeds=[-1]", "analysis.studies.branches.seeds.0: "),
        ("rival=5", "analysis.studies.branches.rival: "),
    ],
)
def test_a_wrong_rival_is_one_line_before_anything_starts(root, setting, message, capsys):
    folder = root / "refused"
    code = main(
        ["+experiment=one_vs_two_branch", *TINY, f"++analysis.studies.branches.{setting}", f"hydra.run.dir={folder}"]
    )
    assert code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {message}")
    assert not (folder / "status.json").exists()
