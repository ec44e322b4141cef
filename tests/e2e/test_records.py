"""A sweep of methods and seeds as a user of W&B sees it, from its offline files; Optuna; one W&B run for a run."""

import csv
import json
from pathlib import Path

import pytest
import wandb
from omegaconf import OmegaConf
from tiny_case import figures_of, tiny, without_figures
from wandb_file import read_wandb

from faig_lab.__main__ import main

pytest.importorskip("optuna")
STUDY = tiny(
    *("+experiment=blur_noise", "store=store", "analysis.percents=[1,10]", "training.validate_every=1"),
    *("logger=[wandb,csv]", "logger.mode=offline"),
)


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    """No login, no settings, no caches of the user's."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))


def recorded(job):
    """What W&B has of a job. There is one folder."""
    (folder,) = (job / "wandb").glob("offline-run-*")
    return read_wandb(folder)


@pytest.mark.timeout(900)
def test_a_sweep_is_ranked_on_one_column_with_curves_and_pictures_and_optuna_finds_the_better_setting(tmp_path, capsys):
    asked = ["-m", *STUDY, "hydra/sweeper=optuna", "attribution=random,faig", "seed=0,1", "hydra.sweep.dir=sweep"]
    with figures_of("isolation", "layers", "before_after"):
        assert main(asked) == 0
    wandb.teardown()
    jobs = [tmp_path / "sweep" / str(n) for n in range(4)]
    isolation = {json.loads((job / "metrics.json").read_text())["isolation"]: job for job in jobs}
    best = isolation[max(isolation)]
    assert len(isolation) == 4
    said = capsys.readouterr().out
    config = OmegaConf.load(best / "config.yaml")
    assert f"best          job {best.name}: isolation {max(isolation):.4f}, the highest of 4" in said
    assert f"              attribution={config.attribution.name} seed={config.seed}\n" in said
    runs = {job: recorded(job) for job in jobs}
    # One column ranks the runs.
    assert max(jobs, key=lambda job: runs[job].summary["isolation"]) == best
    assert {stored.run.run_group for stored in runs.values()} == {"blur_noise: attribution × seed (sweep)"}
    settings = [(method, seed) for method in ("random", "faig") for seed in (0, 1)]
    assert {frozenset(stored.run.tags) for stored in runs.values()} == {
        frozenset({f"attribution={method}", f"seed={seed}"}) for method, seed in settings
    }
    assert {stored.run.display_name for stored in runs.values()} == {
        f"blur_noise {method} SRResNet-4x1 seed {seed}" for method, seed in settings
    }
    for job, stored in runs.items():
        # Curves and pictures are there without an arrangement: history against an axis, charts, media.
        percents = [row["curves/percent"] for row in stored.rows if "curves/percent" in row]
        assert percents == [1, 10]
        steps = [row["training/target/step"] for row in stored.rows if "training/target/step" in row]
        assert steps == [1, 2, 3]
        assert stored.axes["curves/*"] == "curves/percent"
        assert set(stored.charts) >= {"views/isolation", "views/training_target", "views/layers_blur"}
        pictures = {key for row in stored.rows for key in row if key.startswith("figures/")}
        assert {"figures/isolation", "figures/layers", "figures/before_after_blur"} <= pictures
        assert stored.config["command"].startswith("python -m faig_lab experiment=blur_noise")
        assert stored.config["command"] in stored.run.notes
        assert stored.config["provenance"]["held_out"]
        assert all(job in Path(file).parents for files in stored.artifacts.values() for file in files)
        with (job / "csv" / "metrics.csv").open(newline="") as file:
            assert sum(1 for row in csv.DictReader(file) if row["isolation"]) == 1
    # Further analyses go into the same W&B run.
    few = "analysis.studies.modulation.strengths=[0,1]"
    with without_figures():
        assert main(["task=analyse", f"run={best}", "analysis=modulation", few, "trainer=cpu"]) == 0
    wandb.teardown()
    again = recorded(best)
    assert again.run.run_id == runs[best].run.run_id
    assert again.run.job_type == "analyse"
    assert again.config["command"] == runs[best].config["command"]
    assert again.summary.keys() > runs[best].summary.keys()
    steps = [row["training/target/step"] for row in again.rows if "training/target/step" in row]
    assert steps == [1, 2, 3]
