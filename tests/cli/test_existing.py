"""Which logger settings a finished run is analysed with."""

import pytest
from hydra.core.hydra_config import HydraConfig

from faig_lab.cli.arguments import compose
from faig_lab.cli.existing import logger_settings
from faig_lab.config import check
from faig_lab.config.settings import LoggerSettings

RECORDED = LoggerSettings(mode="disabled", project="mine", entity=None, group="old", tags=["first"])


WANDB = LoggerSettings(mode="auto", project="faig_lab", entity=None, group=None, tags=[])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], RECORDED),
        (["seed=3", "trainer=cpu"], RECORDED),
        (["logger=wandb"], WANDB),  # a choice replaces all settings
        (["logger=none"], WANDB.model_copy(update={"mode": "disabled"})),
        (["logger.mode=offline"], RECORDED.model_copy(update={"mode": "offline"})),
        (["logger.tags=[second]"], RECORDED.model_copy(update={"tags": ["second"]})),
        # The jobs of a sweep are grouped and tagged.
        (["hydra.mode=MULTIRUN", "logger.group=sweep"], RECORDED.model_copy(update={"group": "sweep", "tags": []})),
    ],
)
def test_the_settings_of_the_run_with_those_that_are_typed(typed, expected):
    cfg = compose(["experiment=blur_noise", *typed], of_hydra=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    plain = cfg.copy()
    del plain.hydra
    try:
        assert logger_settings(check(plain).logger, RECORDED) == expected
    finally:
        HydraConfig.instance().cfg = before


def test_outside_of_hydra_the_runs_own_settings_count(monkeypatch):
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    assert logger_settings(RECORDED.model_copy(update={"mode": "online"}), RECORDED) == RECORDED
