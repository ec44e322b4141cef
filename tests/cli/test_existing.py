"""Which logger settings a finished run is analysed with."""

import pytest
from hydra.core.hydra_config import HydraConfig

from faig_lab.cli.arguments import compose
from faig_lab.cli.existing import logger_settings
from faig_lab.config import check
from faig_lab.config.settings import LoggerSettings

RECORDED = LoggerSettings(mode="disabled", project="mine", entity=None, group="old", tags=["first"])


@pytest.fixture
def merged():
    """The settings that a command line leads to, for a run that was recorded with `RECORDED`."""

    def settings(*typed: str) -> LoggerSettings:
        cfg = compose(["experiment=blur_noise", *typed], of_hydra=True)
        HydraConfig.instance().set_config(cfg)
        plain = cfg.copy()
        del plain.hydra
        return logger_settings(check(plain).logger, RECORDED)

    before = HydraConfig.instance().cfg
    yield settings
    HydraConfig.instance().cfg = before


def test_without_a_word_about_the_logger_the_runs_own_settings_count(merged):
    assert merged() == RECORDED
    assert merged("seed=3", "trainer=cpu") == RECORDED


def test_a_choice_of_the_logger_replaces_all_settings(merged):
    assert merged("logger=wandb") == LoggerSettings(mode="auto", project="faig_lab", entity=None, group=None, tags=[])
    assert merged("logger=none").mode == "disabled"


def test_a_single_setting_changes_that_setting_only(merged):
    assert merged("logger.mode=offline") == RECORDED.model_copy(update={"mode": "offline"})
    assert merged("logger.tags=[second]") == RECORDED.model_copy(update={"tags": ["second"]})


def test_the_jobs_of_a_sweep_are_grouped_and_tagged(merged):
    settings = merged("hydra.mode=MULTIRUN", "logger.group=sweep")
    assert settings == RECORDED.model_copy(update={"group": "sweep", "tags": []})


def test_outside_of_hydra_the_runs_own_settings_count(monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert logger_settings(RECORDED.model_copy(update={"mode": "online"}), RECORDED) == RECORDED
