"""The settings and the data of a training that takes a moment."""

from dataclasses import replace

import numpy as np
import pytest
from study_case import context_of

from faig_lab.cli.arguments import compose
from faig_lab.config import check
from faig_lab.data import Photograph

TINY = [
    *("network.features=4", "network.blocks=1", "training.batch_size=2", "training.patch_size=16", "trainer=cpu"),
    *("trainer.precision=32-true", "training.baseline.iterations=3", "training.target.iterations=2"),
]


@pytest.fixture
def settings_of(tmp_path):
    """A function from settings as typed to checked settings. Settings of a tiny network fill in the other keys."""

    def settings(*given):
        keys = tuple(setting.partition("=")[0] for setting in given)
        taken = tuple("network." if key == "network" else key for key in keys)
        common = [setting for setting in (*TINY, f"store={tmp_path / 'store'}") if not setting.startswith(taken)]
        return check(compose([*common, *given]))

    return settings


@pytest.fixture
def data():
    """A study's data with one photograph of 40x40 pixels to train on."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return replace(context_of().data, train=(Photograph("a", "a", pixels, "a"),))
