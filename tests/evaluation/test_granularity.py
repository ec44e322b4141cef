"""Every analysis of channels, layers and single weights, and of a network with tied weights."""

from dataclasses import replace

import pytest
import torch
from odd_networks import Tied
from study_case import METHODS, context_of

from faig_lab.attribution import attribute, count_of
from faig_lab.filters import under_every_name
from faig_lab.granularity import UNITS
from faig_lab.studies.curves import curves
from faig_lab.studies.masking import masking_study
from faig_lab.studies.modulation import modulation
from faig_lab.studies.patches import patches
from faig_lab.studies.prediction import prediction
from faig_lab.studies.retraining import retraining
from faig_lab.studies.sanity import sanity
from faig_lab.studies.stability import stability
from faig_lab.training import Retraining

PERCENT = 50.0


def fresh(network):
    """Other weights of the same network, under every name."""
    generator = torch.Generator().manual_seed(5)
    return under_every_name(network, {n: torch.rand(v.shape, generator=generator) for n, v in weights(network).items()})


def weights(network):
    return dict(network.named_parameters())


def cut(context, granularity, rank_others=False):
    problem = replace(context.problem, granularity=granularity, rank_others=rank_others)
    context = replace(context, problem=problem, attribution=attribute(problem, METHODS), percents=(PERCENT, 80.0))

    def train(start, chosen, parts, iterations, rate):
        chosen = under_every_name(context.network, chosen)
        return {n: torch.where(chosen[n], context.target[n], v) if n in chosen else v for n, v in start.items()}

    return replace(context, headline=PERCENT, retraining=Retraining(train, lambda seed: fresh(context.network)))


def tied_subject():
    torch.manual_seed(0)
    context, network = context_of(), Tied()
    baseline = {n: v.detach().clone() for n, v in network.state_dict().items()}
    moved = {n: baseline[n] + 0.1 * torch.randn_like(baseline[n]) for n in weights(network)}
    target = {n: under_every_name(network, moved)[n] for n in baseline}
    return replace(context, problem=replace(context.problem, network=network, baseline=baseline, target=target))


SUBJECTS = {"SRResNet": context_of, "tied": tied_subject}


@pytest.fixture(params=[(n, g) for n in SUBJECTS for g in UNITS], ids="-".join)
def context(request):
    name, granularity = request.param
    return cut(SUBJECTS[name](), granularity)


def test_masking_and_modulation_select_as_many_units_as_they_say(context):
    units = len(context.attribution.layout)
    found = masking_study(context, resamples=10)
    masked = {name: found.rows(name) for name in found.tables}
    assert {row["filters"] for row in masked["masking"]} == {count_of(q, units) for q in context.percents}
    own = [row for row in masked["distribution"] if row["percent"] == PERCENT and row["method"] == "faig"]
    for degradation in ("blur", "noise"):
        rows = [row for row in own if row["degradation"] == degradation]
        assert sum(row["filters"] for row in rows) == units
        assert sum(row["discovered"] for row in rows) == count_of(PERCENT, units) > 0
    modulated = modulation(context, strengths=[0, 1], pictured=[]).rows("modulation")
    gone = {row["modulated"]: row for row in modulated if row["strength"] == 0 and row["degradation"] == "blur"}
    by_masking = [
        row["psnr"] for row in masked["masking"]
        if (row["method"], row["percent"], row["degradation"]) == ("faig", PERCENT, "blur")
    ]  # fmt: skip
    assert [gone["blur"]["psnr"], gone["noise"]["psnr"]] == by_masking


def test_curves_run_between_the_two_ends(context):
    rows = curves(context, percents=[PERCENT], draws=2, resamples=10).rows("curves")
    methods = {row["method"] for row in rows}
    assert ("layer_matched" in methods) == (context.attribution.layout.granularity != "layer")
    for row in rows:
        assert row["filters"] == count_of(row["percent"], len(context.attribution.layout))
        if (row["curve"], row["percent"]) in (("deletion", 0.0), ("insertion", 100.0)):
            assert row["restored"] == pytest.approx(1)


def test_patches_of_everything_are_the_target(context):
    found = patches(context, percents=[PERCENT, 100], kept=[50, 100])
    tables = {name: found.rows(name) for name in found.tables}
    whole = [row for row in tables["patches"] if row["biases"] and row["percent"] == 100]
    lost = [row["lost"] for row in tables["pruning"] if row["percent"] == 100]
    assert whole
    assert [row["carried"] for row in whole] == pytest.approx([1] * len(whole))
    assert lost
    assert lost == pytest.approx([0] * len(lost))


def test_retraining_trains_the_chosen_units_only(context):
    rows = retraining(context, percents=[PERCENT], iterations=1, rivals=["signed_share"], draws=1).rows("retraining")
    variants = {row["variant"] for row in rows}
    one = context.attribution.layout.granularity == "layer"
    assert ("other_locations" in variants) == ("target_values_moved" in variants) == (not one)
    for row in rows:
        same = [
            other["share"] for other in rows
            if (other["variant"], other["trained"], other["degradation"])
            == ("target_values", row["trained"], row["degradation"])
        ]  # fmt: skip
        if row["variant"] == "faig":
            assert row["share"] == same[0]
        if row["variant"] == "whole_network":
            assert row["share"] == pytest.approx(1)


def test_sanity_stability_and_prediction_run(context):
    checked = sanity(context, draws=1).rows("sanity")
    assert {row["check"] for row in checked} == {"original", "randomised", "swapped"}
    assert all(0 <= row["chance"] <= 1 and 0 <= row["overlap"] <= 1 for row in checked)
    varied = stability(context, points=[1, 2], authors_points=0).rows("stability")
    assert all(0 <= row["jaccard"] <= 1 for row in varied)
    guessed = prediction(context, percent=PERCENT, points=1, crop=16).rows("prediction_overlaps")
    assert all(0 <= row["overlap/blur"] <= 1 for row in guessed)


def test_other_parameters_are_masked_when_they_are_ranked():
    context = cut(context_of(), "filter", rank_others=True)
    layout = context.attribution.layout
    assert len(layout) > len(context_of().attribution.layout)
    rows = curves(context, percents=[PERCENT], draws=1, resamples=10).rows("curves")
    ends = [row["restored"] for row in rows if (row["curve"], row["percent"]) == ("deletion", 100.0)]
    assert ends == pytest.approx([0] * len(ends), abs=1e-12)  # the baseline itself, not one with the target's biases
    found = masking_study(replace(context, percents=(100.0,), headline=100.0), resamples=10).rows("masking")
    assert {row["removed"] for row in found} == {1.0}
