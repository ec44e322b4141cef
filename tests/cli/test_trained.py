"""Rivals as built from settings: trained like the run's network, once, with its scale and degradations."""

import shutil
from pathlib import Path

import pytest
import torch
from study_case import context_of

from faig_lab.cli import trained
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_degradation, make_network
from faig_lab.cli.trained import make_network_trainer, settings_of_other, settings_of_target, train_once
from faig_lab.config import check
from faig_lab.filters import load_weights
from faig_lab.networks import SRResNet, TwoBranchSRResNet

RIVAL = {
    "_target_": "faig_lab.networks.TwoBranchSRResNet", "scale": 4, "features": 3, "blocks": 1,
    "predictor_features": 2, "degradations": ["jpeg"],
}  # fmt: skip


@pytest.fixture
def settings(settings_of):
    return settings_of()


def stored(settings):
    return sorted(path.name for path in Path(settings.store).iterdir() if not path.name.startswith("."))


def test_scale_and_degradations_of_a_rival_are_those_of_the_run(settings):
    other = settings_of_other(settings, RIVAL, 5)
    assert other.network == RIVAL | {"scale": 2, "degradations": ["blur", "noise"]}
    assert other.seed == 5
    plain = {"_target_": "faig_lab.networks.SRResNet", "features": 3}
    assert settings_of_other(settings, plain, 0).network == plain | {"scale": 2}
    assert settings_of_other(settings, None, settings.seed) == settings
    given = settings.model_copy(update={"target": settings.target.model_copy(update={"weights": "given.pt"})})
    assert settings_of_other(given, RIVAL, 0).target.weights is None


def test_a_pair_is_trained_once_and_found_again(settings, data, caplog):
    caplog.set_level("INFO")
    rivals = make_network_trainer(settings, data, make_degradation(settings))
    first = rivals.train(RIVAL, 1)
    assert isinstance(first.network, TwoBranchSRResNet)
    names = stored(settings)
    assert [name.rsplit("-", 1)[0] for name in names] == ["TwoBranchSRResNet-baseline", "TwoBranchSRResNet-target"]
    assert "already trained" not in caplog.text
    again = rivals.train(RIVAL, 1)
    assert caplog.text.count("already trained") == 2
    for some, other in ((first.baseline, again.baseline), (first.target, again.target)):
        assert all(torch.equal(some[name], other[name]) for name in some)
    assert any(not torch.equal(first.baseline[name], first.target[name]) for name in first.target)
    rivals.train(RIVAL, 2)
    assert len(stored(settings)) == 4


def test_the_runs_own_network_at_its_own_seed_is_the_runs(settings, data):
    degradation = make_degradation(settings)
    baseline = train_once(settings, "baseline", data, degradation)
    target = train_once(settings, "target", data, degradation, start=baseline.state)
    names = stored(settings)
    pair = make_network_trainer(settings, data, degradation).train(None, settings.seed)
    assert isinstance(pair.network, SRResNet)
    assert stored(settings) == names
    assert all(torch.equal(pair.target[name], value) for name, value in target.state.items())


def test_every_row_of_the_record_is_told_also_of_a_network_that_is_found(settings, data):
    seen: list[dict[str, float]] = []
    told: list[dict[str, float]] = []
    train_once(settings, "baseline", data, make_degradation(settings), on_row=seen.append)
    train_once(settings, "baseline", data, make_degradation(settings), on_row=told.append)
    assert told == seen
    assert seen[-1]["step"] == 3


def test_the_time_of_a_step_leaves_nothing_in_the_store(settings, data):
    seconds = make_network_trainer(settings, data, make_degradation(settings)).step_seconds([None, RIVAL], 1)
    assert len(seconds) == 2
    assert all(second > 0 for second in seconds)
    assert not Path(settings.store).exists()


def test_data_without_photographs_has_no_rivals(settings):
    assert make_network_trainer(settings, context_of().data, make_degradation(settings)) is None


def test_a_network_of_another_version_is_offered(settings, data, caplog, monkeypatch):
    def notes(**given):
        caplog.clear()
        trained_now = train_once(settings, "baseline", data, make_degradation(settings), **given)
        return trained_now, [r.getMessage() for r in caplog.records if "another version" in r.getMessage()]

    monkeypatch.setattr("faig_lab.cli.build.NUMERICS_VERSION", 0)
    older, none = notes()
    (folder,) = stored(settings)
    assert none == []
    monkeypatch.undo()
    again, (note,) = notes()
    use = note.rpartition(" ")[2]
    assert use == f"baseline.weights={Path(settings.store) / folder / 'weights.pt'}"
    # What the note says works.
    state = load_weights(Path(use.partition("=")[2]), make_network(settings))
    for network in (older, again):
        assert all(torch.equal(value, network.state[name]) for name, value in state.items())
    assert notes()[1] == []
    assert len(stored(settings)) == 2
    # A rival's network cannot be given by a setting.
    shutil.rmtree(Path(settings.store) / next(name for name in stored(settings) if name != folder))
    (note,) = notes(label="SRResNet, seed 1, baseline")[1]
    assert "baseline.weights=" not in note
    assert note.endswith("see The store in docs/run_folder.md")


@pytest.mark.parametrize("place", ["~/nets", "~/a b/(ü)"])
def test_a_store_in_the_users_own_folder(place, settings, data, monkeypatch, tmp_path):
    """Shells leave the ~ of `store=~/nets` alone."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    own = settings.model_copy(update={"store": place})
    train_once(own, "baseline", data, make_degradation(settings))
    (found,) = (path.parent for path in (tmp_path / "home").rglob("weights.pt"))
    assert found.parent == tmp_path / "home" / place[2:]
    assert not list(tmp_path.rglob("~"))
    assert not Path("~").exists()


def test_a_target_of_one_degradation_is_trained_once_on_it_alone(settings, data, monkeypatch):
    degradation = make_degradation(settings)
    baseline = train_once(settings, "baseline", data, degradation).state
    seen = []
    made = trained.make_module
    monkeypatch.setattr(trained, "make_module", lambda *given: seen.append(made(*given)) or seen[-1])
    trainer = make_network_trainer(settings, data, degradation)
    blur = trainer.target(baseline, settings.seed, ["blur"])
    assert list(seen[0].degradation.parts) == ["blur"]
    assert seen[0].schedule.iterations == settings.training.target.iterations
    noise = trainer.target(baseline, settings.seed, ["noise"], iterations=5)
    assert (seen[1].schedule.iterations, seen[1].schedule.restart_every) == (5, 5)
    assert any(not torch.equal(blur[name], noise[name]) for name in blur)
    again = trainer.target(baseline, settings.seed, ["blur"])
    assert len(seen) == 2
    assert all(torch.equal(blur[name], again[name]) for name in blur)
    # Its entry in the store is that of a run with this degradation alone from the same weights.
    names = stored(settings)
    assert len(names) == 3
    parts = {"blur": settings.degradation.parts["blur"]}
    alone = settings.model_copy(update={"degradation": settings.degradation.model_copy(update={"parts": parts})})
    train_once(alone, "target", data, make_degradation(alone), start=baseline)
    assert stored(settings) == names


def test_a_target_of_one_degradation_is_not_planted_and_saves_no_states(settings):
    planted = check(compose(["trainer=cpu", "experiment=planted", "attribution.path=trajectory"]))
    other = settings_of_target(planted, ["blur"], None)
    assert (other.target.planted, other.attribution.path) == (None, "straight")
    assert settings_of_target(planted, None, None) == planted
    assert other.training == planted.training


def test_another_number_of_iterations_shortens_the_rise_too():
    short = check(compose(["trainer=cpu", "training=short"]))
    own = settings_of_target(short, None, 40).training.target
    assert (own.iterations, own.restart_every, own.warmup) == (40, 40, 4)
    assert settings_of_target(short, None, 5000).training.target.warmup == short.training.target.warmup == 100
