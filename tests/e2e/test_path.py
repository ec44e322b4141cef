"""attribution.path through the command line: what a run on a bent path leaves, and how it is refused."""

import numpy as np
import pytest
from run_files import arrays, read, table
from tiny_case import figures_of, tiny, without_report

from faig_lab.__main__ import main

TINY = tiny(
    *("+experiment=blur_noise", "training.patch_size=16", "training.target.iterations=6", "attribution.points=8"),
    "analysis.percents=[1]",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("paths")
    settings = {
        "straight": [],
        "curve": ["attribution.path=curve", "attribution.curve_steps=3"],
        "trajectory": ["attribution.path=trajectory", "attribution.path_states=3"],
    }
    for name, more in settings.items():
        with figures_of() if name == "curve" else without_report():
            assert main([*TINY, f"store={root}/store", f"hydra.run.dir={root}/{name}", *more]) == 0
    return root


@pytest.mark.parametrize("name", ["straight", "curve", "trajectory"])
def test_every_path_leaves_its_profile_and_its_barriers(runs, name):
    folder = runs / name
    metrics = read(folder / "metrics.json")
    assert all(metrics[f"barrier/{entry}"] >= 0 for entry in ("blur", "noise", "clean"))
    assert all(metrics[f"completeness_gap/{entry}"] < 0.02 for entry in ("blur", "noise"))
    rows = table(folder, "path")
    assert {row["input"] for row in rows} == {"blur", "noise", "clean"}
    assert next(row["alpha"] for row in rows if row["input"] == "blur") == "0.0"
    assert (folder / "attribution" / "path.pt").is_file() is (name != "straight")


def test_the_profile_is_in_the_report(runs):
    assert (runs / "curve" / "figures" / "path.png").is_file()
    assert 'id="path"' in (runs / "curve" / "report.html").read_text()


def test_the_same_networks_are_attributed_on_every_path(runs):
    targets = {(runs / name / "weights" / "target.pt").read_bytes() for name in ("straight", "curve", "trajectory")}
    assert len(targets) == 1
    straight, curve, trajectory = (arrays(runs / name)["blur"] for name in ("straight", "curve", "trajectory"))
    assert not np.array_equal(straight, curve)
    assert not np.array_equal(straight, trajectory)


@pytest.mark.parametrize("name", ["curve", "trajectory"])
def test_a_finished_run_is_analysed_on_its_own_path(runs, name, capsys):
    before = arrays(runs / name)["blur"]
    more = ["analysis=sanity", "analysis.studies.sanity.draws=1"]
    with without_report():
        assert main(["task=analyse", f"run={runs / name}", *more]) == 0
    assert np.array_equal(arrays(runs / name)["blur"], before)
    assert not (runs / name / "wandb").exists()  # the run was made with logger=none


def test_the_logger_settings_of_a_finished_run_can_be_changed(runs, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    more = ["analysis=curves", "analysis.studies.curves.percents=[50]", "logger.mode=offline"]
    with without_report():
        assert main(["task=analyse", f"run={runs / 'straight'}", *more]) == 0
    assert [path.name[:12] for path in (runs / "straight" / "wandb").glob("offline-run-*")] == ["offline-run-"]


def test_given_weights_have_no_trajectory(runs, tmp_path, capsys):
    given = [f"{name}.weights={runs}/straight/weights/{name}.pt" for name in ("baseline", "target")]
    folder = f"hydra.run.dir={tmp_path}/run"
    assert main([*TINY, *given, folder, "attribution.path=trajectory"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1
    assert error[0].startswith("error: attribution.path: trajectory")
    assert "curve" in error[0]


@pytest.mark.parametrize(
    ("rule", "points", "near"),
    [("gauss_legendre", 3, 4), ("simpson", 8, 12), ("trapezoid", 7, 8), ("adaptive", 16, 20)],
)
def test_points_must_suffice_for_every_piece(tmp_path, capsys, rule, points, near):
    settings = ["attribution.path=trajectory", "attribution.path_states=3", f"attribution.rule={rule}"]
    assert main([*TINY, *settings, f"attribution.points={points}", f"hydra.run.dir={tmp_path}/run"]) == 2
    assert f"nearest: {near}" in capsys.readouterr().err
