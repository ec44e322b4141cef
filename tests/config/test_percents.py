"""Percents that select nothing are refused before anything starts, with one that does."""

import logging

import pytest

from faig_lab.attribution import count_of
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import check_selection
from faig_lab.config import check
from faig_lab.config.rules import smallest_percent
from faig_lab.errors import UserError


@pytest.mark.parametrize("units", [1, 2, 3, 7, 16, 17, 100, 531, 12_240, 151_936, 1_400_000])
def test_the_smallest_percent_selects_one_unit_and_hardly_more_than_is_needed(units):
    percent = smallest_percent(units)
    assert percent <= 100
    assert count_of(percent, units) == 1
    assert percent <= 100 / units * 1.01


def selected(*overrides):
    check_selection(check(compose(["experiment=blur_noise", *overrides])))


LAYERS = "attribution.granularity=layer"
SMALL = ("network.features=4", "network.blocks=1")  # 6 layers


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], r"^analysis\.headline_percent: 1 % of 6 layers is none; the smallest percent .* is 16\.7, e\.g\. "
             r"analysis\.percents=\[16\.7,33\.4,83\.5\] analysis\.headline_percent=16\.7$"),
        (["analysis=modulation", "analysis.percents=[20]", "analysis.headline_percent=20",
          "analysis.studies.modulation.percent=3"],
         r"^analysis\.studies\.modulation\.percent: 3 % of 6 layers is none; .* is 16\.7, e\.g\. "
         r"analysis\.studies\.modulation\.percent=16\.7$"),
        (["analysis=retraining", "analysis.percents=[20]", "analysis.headline_percent=20"],
         r"^analysis\.studies\.retraining\.percents: 1 % of 6 layers is none; .*"
         r"analysis\.studies\.retraining\.percents=\[16\.7,33\.4,83\.5\]$"),
    ],
)  # fmt: skip
def test_percents_that_select_nothing_are_refused(overrides, words):
    with pytest.raises(UserError, match=words):
        selected(*SMALL, LAYERS, *overrides)


def test_some_percents_that_select_nothing_are_pointed_out(caplog):
    with caplog.at_level(logging.WARNING):
        selected(*SMALL, LAYERS, "analysis.percents=[1,10,20,50]", "analysis.headline_percent=20")
    assert caplog.messages == [
        "analysis.percents: 1, 10 % of 6 layers are none; the smallest percent that selects one is 16.7"
    ]


@pytest.mark.parametrize("granularity", ["weight", "filter", "output_channel", "input_channel"])
def test_the_default_headline_selects_units_of_the_default_network(granularity, caplog):
    with caplog.at_level(logging.WARNING):
        selected(f"attribution.granularity={granularity}")
    assert bool(caplog.messages) == granularity.endswith("channel")  # 0.1 % of some hundred channels


def test_a_network_that_cannot_be_attributed_is_refused():
    settings = check(compose(["experiment=blur_noise"]))
    with pytest.raises(UserError, match="network: the network has no convolution and no linear layer, so it has"):
        check_selection(settings.model_copy(update={"network": {"_target_": "torch.nn.Identity"}}))
