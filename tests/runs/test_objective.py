"""A sweep over an objective, with a stand-in for what the jobs compute: Optuna's choices, the best, the way on."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from faig_lab.__main__ import main
from faig_lab.cli.arguments import compose
from faig_lab.config import check
from faig_lab.errors import UserError

pytest.importorskip("optuna")
SWEEP = ["-m", "+experiment=blur_noise", "hydra/sweeper=optuna", "hydra.sweep.dir=sweep"]


def settings_of(job, folder="sweep"):
    recorded = yaml.safe_load(Path(f"{folder}/{job}/.hydra/overrides.yaml").read_text())
    return dict(item.split("=", 1) for item in recorded)


def test_listed_settings_are_each_run_once_and_the_better_one_is_named(pipeline, capsys):
    assert main([*SWEEP, "seed=2,1", "attribution=faig,ig"]) == 0
    assert pipeline.ran == list(range(4))
    assert len({tuple(settings_of(n).items()) for n in range(4)}) == 4
    said = capsys.readouterr().out
    assert "isolation" in said.splitlines()[1]
    best = next(line for line in said.splitlines() if line.startswith("best"))
    assert "isolation 0.2000, the highest of 4" in best
    assert "  python -m faig_lab task=compare runs=sweep" in said
    assert main([*SWEEP, "seed=3,1", "hydra.sweeper.direction=minimize", "hydra.sweep.dir=low"]) == 0
    assert "isolation 0.1000, the lowest of 2\n              seed=1" in capsys.readouterr().out


def test_the_sampler_chooses_by_the_objectives_of_the_jobs_before(pipeline):
    asked = [*SWEEP, "attribution.points=interval(1,64)", "hydra.sweeper.n_trials=4"]
    asked += ["+hydra.sweeper.sampler.n_startup_trials=2"]
    chosen = []
    for sign, folder in ((1, "high"), (-1, "low")):
        pipeline.isolation = lambda cfg, sign=sign: float(sign * cfg.attribution.points)
        assert main([*asked, f"hydra.sweep.dir={folder}"]) == 0
        chosen.append([int(settings_of(n, folder)["attribution.points"]) for n in range(4)])
    high, low = chosen
    assert high[:2] == low[:2]  # the start is random, with the seed
    assert high[2:] != low[2:]
    assert len(set(high)) == len(set(low)) == 4  # no setting is run twice


def test_a_failed_job_stops_no_other_and_is_run_again_in_its_folder(pipeline, capsys):
    pipeline.acts = {"1": RuntimeError("broken")}
    assert main([*SWEEP, "seed=0,1,2"]) == 1
    assert pipeline.ran == [0, 1, 2]
    assert "the highest of 2\n              seed=2" in capsys.readouterr().out
    failed = settings_of(1)
    pipeline.acts = {}
    pipeline.isolation = lambda cfg: 5.0 - cfg.seed
    assert main(["sweep=sweep"]) == 0
    assert pipeline.ran[3:] == [1]
    assert settings_of(1) == failed
    assert "job 1: isolation 4.0000, the highest of 3" in capsys.readouterr().out
    assert main(["sweep=sweep"]) == 0
    assert pipeline.ran[4:] == []


def test_a_longer_sweep_goes_on_from_the_jobs_that_are_done(pipeline):
    interval = "attribution.points=interval(1,64)"
    assert main([*SWEEP, interval, "hydra.sweeper.n_trials=3"]) == 0
    before = [settings_of(n) for n in range(3)]
    assert main(["sweep=sweep", "hydra.sweeper.n_trials=5"]) == 0
    assert pipeline.ran == [0, 1, 2, 3, 4]
    assert [settings_of(n) for n in range(3)] == before


def test_a_folder_with_jobs_of_another_sweep_is_refused(pipeline, capsys):
    assert main([*SWEEP, "seed=0,1"]) == 0
    Path("sweep/1/.hydra/overrides.yaml").write_text("[experiment=blur_noise, seed=7]")
    assert main(["sweep=sweep"]) == 2
    assert "sweep/1/.hydra/overrides.yaml is not of a job of this sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "hydra/sweeper: optuna needs settings to choose"),
        (["seed=0,1", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials: must be at least 1"),
        (["seed=0,1", "hydra.sweeper.direction=up"], "hydra.sweeper.direction: up is not a choice"),
        (["seed=0,1", "hydra.sweeper.sampler.sed=1", "--config-dir=."], "sed"),
        (["seed=0,1", "hydra.sweeper.sampler._target_=optuna.samplers.TPE"], "optuna.samplers.TPE"),
    ],
)
def test_wrong_settings_of_the_sweeper_are_one_line(pipeline, capsys, settings, message):
    assert main([*SWEEP, *settings]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in line
    assert pipeline.ran == []


def test_without_optuna_the_line_has_the_command_that_installs_it(pipeline, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main([*SWEEP, "seed=0,1"]) == 2
    assert 'error: hydra/sweeper: optuna is not installed; pip install "faig_lab[optuna]"' in capsys.readouterr().err
    assert not Path("sweep").exists()


# The objective


@pytest.mark.parametrize(
    ("objective", "nearest"),
    [
        ("isolaton", "isolation"),
        ("isolation/fig/1", "isolation/faig/1"),
        ("psnr/target/blurr", "psnr/target/blur"),
        ("removed/faig/1/blur/nois", "removed/faig/1/blur/noise"),
    ],
)
def test_an_objective_that_no_run_can_have_names_the_nearest(objective, nearest):
    with pytest.raises(UserError, match=f"did you mean {nearest}"):
        check(compose([f"objective={objective}"]))


@pytest.mark.parametrize("many", [["-m"], []], ids=["sweep", "run"])
def test_such_an_objective_is_refused_before_the_work(pipeline, capsys, many):
    objective = "isolation/fig/1"
    assert main([*many, "experiment=blur_noise", f"objective={objective}"]) == 2
    assert pipeline.ran == []
    assert f"objective: {objective} is not a key of metrics.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "objective",
    ["isolation", "isolation/ig/0.5", "isolation/ig/0.5/noise", "psnr/target/blur+noise", "specificity/faig/1",
     "side/faig/1/blur/blur+noise", "seconds/attribution", "barrier/clean"],
)  # fmt: skip
def test_keys_that_a_run_has_pass(objective):
    assert check(compose([f"objective={objective}"])).objective == objective


def test_a_key_of_a_study_that_is_not_run_names_the_study():
    key = "sanity/original/faig/isolation"
    with pytest.raises(UserError, match="comes from the study sanity; add analysis=sanity"):
        check(compose([f"objective={key}"]))
    assert check(compose([f"objective={key}", "analysis=sanity"])).objective == key


def test_a_key_that_turns_out_to_be_missing_costs_no_run(pipeline, capsys):
    assert main(["experiment=blur_noise", "objective=seconds/reports", "hydra.run.dir=run"]) == 2
    assert json.loads(Path("run/status.json").read_text())["state"] == "done"
    assert "objective: seconds/reports is not a key of metrics.json of this run" in capsys.readouterr().err
    assert main(["-m", "experiment=blur_noise", "seed=0,1", "objective=seconds/reports", "sweep=sweep"]) == 2
    said = capsys.readouterr()
    assert said.out.count(" done") == 2
    assert said.err.splitlines()[-1].startswith("error: objective: no job has seconds/reports")


def test_a_grid_of_the_basic_sweeper_ends_with_its_best_too(pipeline, capsys):
    assert main(["-m", "experiment=blur_noise", "seed=0,1,2", "objective=isolation", "sweep=sweep"]) == 0
    said = capsys.readouterr().out
    assert "best          job 2: isolation 0.2000, the highest of 3\n              seed=2" in said
    assert main(["sweep=sweep"]) == 0
    assert capsys.readouterr().out == said
    first = Path("sweep/sweep.csv").read_text().splitlines()[:2]
    assert first == ["number,overrides,state,seconds,error,report,objective", "0,seed=0,done,,,,0.0"]
