"""The forecast of a run: what is trained, how much is attributed and masked, and the time it takes."""

import pytest

from faig_lab.cli import preflight as module
from faig_lab.cli import study
from faig_lab.cli.build import make_degradation, make_network
from faig_lab.cli.preflight import Forecast, forecast, masked_sets, to_train
from faig_lab.cli.trained import train_once
from faig_lab.errors import UserError
from faig_lab.runs.folder import RunFolder
from faig_lab.training import Trained


def test_what_is_given_or_stored_is_not_trained(data, settings_of):
    settings = settings_of()
    degradation = make_degradation(settings)
    given = Trained(make_network(settings).state_dict(), [])
    assert to_train(settings, data, {}) == ["baseline", "target"]
    assert to_train(settings, data, {"baseline": given}) == ["target"]
    assert to_train(settings, data, {"target": given}) == ["baseline"]
    baseline = train_once(settings, "baseline", data, degradation)
    assert to_train(settings, data, {}) == ["target"]
    train_once(settings, "target", data, degradation, start=baseline.state)
    assert to_train(settings, data, {}) == []
    assert to_train(settings_of("seed=1"), data, {}) == ["baseline", "target"]


def test_networks_that_are_masked(data, settings_of):
    settings = settings_of("analysis.percents=[1,5]", "attribution.methods.random.draws=3")
    methods = len(settings.attribution.methods)
    assert masked_sets(settings, data) == (methods - 1 + 3) * 2 * 2


def test_a_long_training_is_estimated_from_a_measured_step(data, monkeypatch, settings_of):
    monkeypatch.setattr(module, "_step", lambda *_: 0.05)
    monkeypatch.setattr(module, "_gradient", lambda *_: 0.5)
    monkeypatch.setattr(module, "_restoration", lambda *_: 2.0)
    settings = settings_of(
        *("training.baseline.iterations=1000", "training.target.iterations=400", "attribution.rule=gauss_legendre"),
        *("attribution.points=8", "analysis.percents=[5]", "analysis.headline_percent=5", "analysis=curves"),
    )
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


def test_a_short_training_is_not_measured(data, monkeypatch, settings_of):
    monkeypatch.setattr(module, "_step", lambda *_: pytest.fail("measured"))
    settings = settings_of()
    found = forecast(settings, data, make_degradation(settings), {})
    assert [part.partition(":")[0] for part in found.parts] == ["attribution", "masking", "report"]
    assert all(seconds > 0 for seconds in found.parts.values())


def test_the_line():
    found = Forecast({"target: 3000 steps of 40 ms": 120.0, "report": 8.0}, ("curves", "sanity"))
    assert str(found) == (
        "target: 3000 steps of 40 ms (2 min 0 s), report (8.0 s): about 2 min 8 s in all, without curves and sanity"
    )


@pytest.mark.parametrize("error", [RuntimeError, UserError])
def test_a_forecast_that_fails_closes_its_stage(error, tmp_path, data, monkeypatch, caplog, settings_of):
    def refuse(*_):
        raise error("not this size")

    caplog.set_level("INFO")
    monkeypatch.setattr(study, "forecast", refuse)
    settings, folder = settings_of(), RunFolder(tmp_path / "run").start()
    study.announce(settings, study.Inputs(data, make_degradation(settings), {}), folder)
    assert folder.current_stage == "start"
    assert folder.status["stages_done"] == ["forecast"]
    assert "seconds/expected" not in folder.metrics
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["run folder"]
