"""The forecast of a run: what is trained, how much is attributed and masked, and the time it takes."""

from dataclasses import replace

import numpy as np
import pytest
from study_case import context_of

from faig_lab.cli import preflight as module
from faig_lab.cli import study
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_degradation, make_network
from faig_lab.cli.preflight import Forecast, forecast, masked_sets, to_train
from faig_lab.cli.trained import train_once
from faig_lab.config import check
from faig_lab.data import Photograph
from faig_lab.runs.folder import RunFolder
from faig_lab.training import Trained

TINY = [
    *("network.features=4", "network.blocks=1", "training.batch_size=2", "training.patch_size=16", "trainer=cpu"),
    *("trainer.precision=32-true", "training.baseline.iterations=3", "training.target.iterations=2"),
]


def settings_of(tmp_path, *settings):
    return check(compose([*TINY, f"store={tmp_path / 'store'}", *settings]))


@pytest.fixture
def data():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return replace(context_of().data, train=(Photograph("a", "a", pixels, "a"),))


def test_what_is_given_or_stored_is_not_trained(tmp_path, data):
    settings = settings_of(tmp_path)
    degradation = make_degradation(settings)
    given = Trained(make_network(settings).state_dict(), [])
    assert to_train(settings, data, {}) == ["baseline", "target"]
    assert to_train(settings, data, {"baseline": given}) == ["target"]
    assert to_train(settings, data, {"target": given}) == ["baseline"]
    baseline = train_once(settings, "baseline", data, degradation)
    assert to_train(settings, data, {}) == ["target"]
    train_once(settings, "target", data, degradation, start=baseline.state)
    assert to_train(settings, data, {}) == []


def test_another_seed_is_trained(tmp_path, data):
    settings = settings_of(tmp_path)
    train_once(settings, "baseline", data, make_degradation(settings))
    assert to_train(settings_of(tmp_path, "seed=1"), data, {}) == ["baseline", "target"]


def test_networks_that_are_masked(tmp_path, data):
    settings = settings_of(tmp_path, "analysis.percents=[1,5]", "attribution.methods.random.draws=3")
    methods = len(settings.attribution.methods)
    assert masked_sets(settings, data) == (methods - 1 + 3) * 2 * 2


def test_a_long_training_is_estimated_from_a_measured_step(tmp_path, data, monkeypatch):
    monkeypatch.setattr(module, "_step", lambda *_: 0.05)
    monkeypatch.setattr(module, "_gradient", lambda *_: 0.5)
    monkeypatch.setattr(module, "_restoration", lambda *_: 2.0)
    settings = settings_of(
        tmp_path, "training.baseline.iterations=1000", "training.target.iterations=400",
        "attribution.rule=gauss_legendre", "attribution.points=8", "analysis.percents=[5]",
        "analysis.headline_percent=5", "analysis=curves",
    )  # fmt: skip
    found = forecast(settings, data, make_degradation(settings), {})
    gradients = len(data.probe) * 2 * 8
    networks = masked_sets(settings, data)
    inputs = len([name for name in data.held_out[0].lr if "+" not in name])
    assert found.parts == {
        "baseline: 1000 steps of 50 ms": pytest.approx(50.0),
        "target: 400 steps of 50 ms": pytest.approx(20.0),
        f"attribution: {gradients} gradients": pytest.approx(gradients * 0.5),
        f"masking: {networks} networks": pytest.approx(networks * inputs * 2.0),
        "report": module.REPORT_SECONDS,
    }
    assert found.unknown == ("curves",)
    assert found.seconds == pytest.approx(sum(found.parts.values()))


def test_a_short_training_is_not_measured(tmp_path, data, monkeypatch):
    monkeypatch.setattr(module, "_step", lambda *_: pytest.fail("measured"))
    found = forecast(settings_of(tmp_path), data, make_degradation(settings_of(tmp_path)), {})
    assert not any("steps" in part for part in found.parts)
    assert all(seconds > 0 for seconds in found.parts.values())


def test_the_line():
    found = Forecast({"target: 3000 steps of 40 ms": 120.0, "report": 8.0}, ("curves", "sanity"))
    assert str(found) == (
        "target: 3000 steps of 40 ms (2 min 0 s), report (8.0 s): about 2 min 8 s in all, without curves and sanity"
    )


def test_a_forecast_that_fails_closes_its_stage_and_the_folder_is_named(tmp_path, data, monkeypatch, caplog):
    def refuse(*_):
        raise RuntimeError("not this size")

    caplog.set_level("INFO")
    monkeypatch.setattr(study, "forecast", refuse)
    settings, folder = settings_of(tmp_path), RunFolder(tmp_path / "run").start()
    study.announce(settings, study.Inputs(data, make_degradation(settings), {}), folder)
    assert folder.current_stage == "start"
    assert folder.status["stages_done"] == ["forecast"]
    assert "seconds/expected" not in folder.metrics
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["run folder"]
