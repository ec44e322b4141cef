"""attribution.path, attribution.loss and attribution.truth through the command line, on the same two networks."""

import itertools

import numpy as np
import pytest
from run_files import arrays, read, table
from tiny_case import analyse, figures_of, refusal, run, tiny, without_report

TINY = tiny(
    *("experiment=blur_noise", "training.patch_size=16", "training.target.iterations=6", "attribution.points=8"),
    "analysis.percents=[1]",
)
SETTINGS = {
    "straight": [],
    "curve": ["attribution.path=curve", "attribution.curve_steps=3"],
    "trajectory": ["attribution.path=trajectory", "attribution.path_states=3"],
    "absolute": ["attribution.loss={_target_: faig_lab.attribution.AbsoluteError}"],
    "own truth": ["attribution.truth=target"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("paths")
    for name, more in SETTINGS.items():
        run(root / name, *TINY, *more, report=figures_of if name == "curve" else without_report)
    return root


@pytest.mark.parametrize("name", ["straight", "curve", "trajectory"])
def test_every_path_leaves_its_profile_and_its_barriers(runs, name):
    metrics, rows = read(runs / name / "metrics.json"), table(runs / name, "path")
    assert all(metrics[f"barrier/{entry}"] >= 0 for entry in ("blur", "noise", "clean"))
    assert all(metrics[f"completeness_gap/{entry}"] < 0.02 for entry in ("blur", "noise"))
    assert {row["input"] for row in rows} == {"blur", "noise", "clean"}
    assert next(row["alpha"] for row in rows if row["input"] == "blur") == "0.0"
    assert (runs / name / "attribution" / "path.pt").is_file() is (name != "straight")


def test_the_profile_is_in_the_report(runs):
    assert (runs / "curve" / "figures" / "path.png").is_file()
    assert 'id="path"' in (runs / "curve" / "report.html").read_text()


def test_each_path_and_loss_has_its_own_scores_of_the_same_networks(runs):
    assert len({(runs / name / "weights" / "target.pt").read_bytes() for name in SETTINGS}) == 1
    for one, other in itertools.combinations(SETTINGS, 2):
        assert not np.allclose(arrays(runs / one)["blur"], arrays(runs / other)["blur"]), (one, other)
    psnr = [[float(row["psnr"]) for row in table(runs / name, "path")] for name in ("straight", "absolute")]
    assert np.allclose(*psnr, atol=1e-4)


@pytest.mark.parametrize("name", ["curve", "trajectory", "absolute"])
def test_a_finished_run_is_analysed_on_its_own_path_with_its_own_loss(runs, name):
    before = arrays(runs / name)["blur"]
    analyse(runs / name, "analysis=sanity", "analysis.studies.sanity.draws=1")
    assert "analysis/sanity" in read(runs / name / "status.json")["stages_done"]
    assert np.array_equal(arrays(runs / name)["blur"], before)


def test_the_logger_of_a_finished_run_can_be_changed(runs, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    analyse(runs / "straight", "analysis=sanity", "analysis.studies.sanity.draws=1", logger=[])
    assert not (runs / "straight" / "wandb").exists()  # the run was made with logger=none
    few = ["analysis=curves", "analysis.studies.curves.percents=[50]"]
    analyse(runs / "straight", *few, logger=["logger.mode=offline"])
    assert [path.name[:12] for path in (runs / "straight" / "wandb").glob("offline-run-*")] == ["offline-run-"]


def test_given_weights_have_no_trajectory(runs, tmp_path, capsys):
    given = [f"{name}.weights={runs}/straight/weights/{name}.pt" for name in ("baseline", "target")]
    line = refusal(capsys, *TINY, *given, "attribution.path=trajectory", f"hydra.run.dir={tmp_path}/run")
    assert line.startswith("attribution.path: trajectory")
    assert "curve" in line
