"""Re-training: equal counts, planted differences between weights, locations and connections, exact shares."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from study_case import context_of, grid, rows_of, stored, trainable_context

from faig_lab.attribution import count_of, discovered
from faig_lab.cli.arguments import compose
from faig_lab.cli.build import make_degradation
from faig_lab.cli.trained import make_retraining
from faig_lab.config import check
from faig_lab.data import sample_rng
from faig_lab.filters import FilterLayout
from faig_lab.networks import SRResNet
from faig_lab.plotting.style import write_figure
from faig_lab.studies.retraining import SECTION, goals, other_locations, result, retraining, transplanted, union_order
from faig_lab.training import Retraining

BIT_FOR_BIT = {"rtol": 0, "atol": 0}


class Recorder:
    """A training that gives every chosen weight the target's value at once, and remembers what it was asked."""

    def __init__(self, target):
        self.target, self.calls, self.rates = target, [], []

    def train(self, start, chosen, parts, iterations, rate):
        self.calls.append((start, chosen, tuple(parts), iterations))
        self.rates.append(rate)
        return {n: torch.where(chosen[n], self.target[n], v) if n in chosen else v for n, v in start.items()}

    def fresh(self, seed):
        torch.manual_seed(seed)
        return SRResNet(features=4, blocks=1).state_dict()


def studied(degradations=("blur", "noise"), **parameters):
    context = context_of(degradations)
    recorder = Recorder(context.target)
    context = replace(context, retraining=Retraining(recorder.train, recorder.fresh))
    return context, recorder, retraining(context, percents=[10], **parameters)


def shares(found, **wanted):
    return [row["share"] for row in rows_of(found, "retraining", **wanted)]


def count(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def test_every_set_of_a_goal_has_the_same_number_of_filters():
    context, recorder, found = studied()
    rows = found.rows("retraining")
    q = count_of(10, len(context.attribution.layout))
    sizes = {(row["trained"], row["filters"]) for row in rows if row["variant"] != "whole_network"}
    assert sizes == {("blur", q), ("noise", q), ("mix", 2 * q)}
    trained = {
        count(chosen) for _, chosen, parts, _ in recorder.calls if len(parts) == 1 and "conv_first.bias" not in chosen
    }
    assert trained == {q}


def test_each_goal_is_trained_on_its_own_degradations_and_judged_on_all():
    _, recorder, found = studied(iterations=7)
    assert {parts for _, _, parts, _ in recorder.calls} == {("blur",), ("noise",), ("blur", "noise")}
    assert {iterations for *_, iterations in recorder.calls} == {7}
    for goal in ("blur", "noise", "mix"):
        seen = {row["degradation"] for row in found.rows("retraining") if row["trained"] == goal}
        assert seen == {"blur", "noise"}


def test_only_the_whole_network_keeps_the_targets_learning_rate():
    _, recorder, _ = studied(rate=4)
    whole = ["conv_first.bias" in chosen for _, chosen, *_ in recorder.calls]
    assert recorder.rates == [1 if everything else 4 for everything in whole]
    assert sum(whole) == 3


def test_training_starts_from_the_baseline_except_for_redrawn_weights():
    context, recorder, _ = studied()
    layout = context.attribution.layout
    other = [
        call for call in recorder.calls if any(not torch.equal(call[0][n], v) for n, v in context.baseline.items())
    ]
    assert len(other) == 3  # one for each goal
    for start, chosen, _, _ in other:
        for name, value in context.baseline.items():
            inside = chosen[name].expand_as(value) if name in chosen else torch.zeros_like(value, dtype=torch.bool)
            assert torch.equal(start[name][~inside], value[~inside])
            assert not torch.isclose(start[name][inside], value[inside]).any()
    assert len(layout.layers) == len(other[0][1])


def test_shares_are_0_for_the_baseline_and_1_for_the_target():
    context, _, found = studied()
    assert shares(found, variant="whole_network") == [1.0] * 6
    for row in found.rows("retraining"):
        baseline, target = context.evaluator.bounds(row["degradation"])
        assert row["share"] == pytest.approx((row["psnr"] - baseline) / (target - baseline))
    idle = replace(context, retraining=Retraining(lambda start, *_: dict(start), context.retraining.fresh))
    assert shares(retraining(idle, percents=[10]), variant="faig") == [0.0] * 6


def test_target_values_at_their_own_locations_are_what_perfect_training_of_them_gives():
    found = studied()[2]
    of_set = shares(found, variant="faig")
    assert shares(found, variant="target_values") == shares(found, variant="redrawn_weights") == of_set
    assert shares(found, variant="target_values_moved") != of_set


def test_the_other_degradations_filters_are_those_of_the_next_one():
    context, recorder, found = studied(rivals=[], draws=0)
    variants = list(dict.fromkeys(row["variant"] for row in rows_of(found, "retraining", trained="blur")))
    call = recorder.calls[variants.index("other_degradation")]
    filters = discovered(context.attribution.scores["faig"][0, 1], 10)
    expected = context.attribution.layout.mask(filters)
    assert all(torch.equal(call[1][name], mask) for name, mask in expected.items())
    assert not shares(found, variant="other_degradation", trained="mix")


def test_one_degradation_is_the_mix():
    _, recorder, found = studied(("blur",))
    assert {row["trained"] for row in found.rows("retraining")} == {"blur"}
    assert {parts for _, _, parts, _ in recorder.calls} == {("blur",)}
    assert not shares(found, variant="other_degradation")


def test_weight_change_is_compared_though_the_run_has_no_scores_of_it():
    context, _, found = studied(rivals=["weight_change", "ig"])
    variants = {row["variant"] for row in found.rows("retraining")}
    assert "weight_change" in variants
    assert variants.isdisjoint({"ig", "signed_share"})
    assert set(goals(context, ["signed_share"])[0].orders) == {"faig", "signed_share"}


def test_random_sets_are_drawn_anew_for_each_draw():
    _, recorder, _ = studied(rivals=[], draws=2)
    first, second = recorder.calls[1:3]
    assert any(not torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_metrics_are_means_over_draws():
    found = studied(draws=3)[2]
    drawn = shares(found, variant="random", trained="blur", degradation="noise")
    assert len(drawn) == 3
    assert found.metrics["retrained/random/10/blur/noise"] == pytest.approx(sum(drawn) / 3)


def test_the_log_says_what_each_training_reaches(caplog):
    with caplog.at_level("INFO"):
        studied()
    assert "retraining for blur, whole_network: of the target's gain 100 % on blur, 100 % on noise" in caplog.text


def test_union_is_that_of_the_top_sets_where_they_are_disjoint():
    scores = torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    orders = torch.argsort(torch.cat([scores, -scores]), dim=-1, descending=True)
    union = union_order(orders)
    assert sorted(union.tolist()) == list(range(50))
    for n in range(1, 25):
        assert set(union[: 2 * n].tolist()) == set(orders[:, :n].flatten().tolist())
    same = torch.arange(5).flip(0)
    assert torch.equal(union_order(torch.stack([same, same])), same)


@pytest.mark.parametrize("seed", range(5))
def test_other_locations_are_as_many_others_of_the_same_layers(seed):
    layout = FilterLayout.of(SRResNet(features=4, blocks=1))
    generator = torch.Generator().manual_seed(seed)
    filters = torch.randperm(len(layout), generator=generator)[:60]
    places = other_locations(layout, filters, sample_rng(seed, "places"))
    layers = layout.layer_of()
    assert torch.equal(layers[places], layers[filters])
    assert len(set(places.tolist())) == len(filters)
    chosen = torch.bincount(layers[filters], minlength=len(layout.layers))
    for position, layer in enumerate(layout.layers):
        here = layers[filters] == position
        shared = set(places[here].tolist()) & set(filters[here].tolist())
        assert len(shared) == max(0, 2 * int(chosen[position]) - layer.units)


def test_other_locations_of_whole_layers_are_a_permutation():
    layout = FilterLayout.of(SRResNet(features=4, blocks=1))
    everything = torch.arange(len(layout))
    assert torch.equal(other_locations(layout, everything, sample_rng(0, "places")).sort().values, everything)


def test_transplanting_moves_slices_and_nothing_else():
    network = SRResNet(features=4, blocks=1)
    layout = FilterLayout.of(network)
    state = {n: v.clone() for n, v in network.state_dict().items()}
    donor = {n: torch.randn_like(v) for n, v in state.items()}
    source = [layout.index("conv_first.weight", 3, 2), layout.index("conv_last.weight", 0, 1)]
    place = [layout.index("conv_first.weight", 1, 0), layout.index("conv_last.weight", 2, 3)]
    found = transplanted(state, donor, layout, filters=torch.tensor(source), places=torch.tensor(place))
    expected = {n: v.clone() for n, v in state.items()}
    expected["conv_first.weight"][1, 0] = donor["conv_first.weight"][3, 2]
    expected["conv_last.weight"][2, 3] = donor["conv_last.weight"][0, 1]
    torch.testing.assert_close(found, expected, **BIT_FOR_BIT)
    torch.testing.assert_close(state, network.state_dict(), **BIT_FOR_BIT)
    everything = torch.arange(len(layout))
    whole = transplanted(state, donor, layout, filters=everything, places=everything)
    assert all(torch.equal(whole[n], donor[n] if n.endswith("weight") else state[n]) for n in state)


def test_as_built_from_settings_frozen_weights_keep_their_bits_and_a_seed_gives_one_table():
    context = trainable_context()
    layout = context.attribution.layout
    chosen = layout.mask(torch.arange(0, len(layout), 7))
    trained = context.retraining.train(context.baseline, chosen, ("blur",), 3)
    for name, value in context.baseline.items():
        mask = chosen[name].expand_as(value) if name in chosen else torch.zeros_like(value, dtype=torch.bool)
        assert trained[name][~mask].numpy().tobytes() == value[~mask].numpy().tobytes()
        assert torch.equal(mask, trained[name] != value)
    one, two = (retraining(trainable_context(), percents=[10], iterations=2, draws=1) for _ in range(2))
    assert one == two
    assert len({row["psnr"] for row in one.rows("retraining")}) > 30


def test_fresh_weights_are_those_of_the_seed():
    fresh = trainable_context().retraining.fresh
    assert torch.equal(fresh(1)["conv_hr.weight"], fresh(1)["conv_hr.weight"])
    assert not torch.equal(fresh(1)["conv_hr.weight"], fresh(2)["conv_hr.weight"])


def test_data_without_photographs_has_no_retraining():
    settings = check(compose())
    assert make_retraining(settings, context_of().data, make_degradation(settings)) is None


SHARES = {
    "faig": 0.4, "signed_share": 0.5, "weight_change": 0.1, "random": 0.05, "other_degradation": 0.2,
    "other_locations": 0.08, "redrawn_weights": 0.1, "target_values": 0.6, "target_values_moved": -2.0,
    "whole_network": 0.7,
}  # fmt: skip


@pytest.fixture
def make(make_run):
    def write(percents=(1.0,), **given):
        values = SHARES | given
        rows = grid(
            percent=list(percents), trained=["blur", "noise", "mix"], variant=[*values], draw=[0, 1],
            filters=lambda row: 230 if row["trained"] == "mix" else 115, degradation=["blur", "noise"], psnr=27.0,
            share=lambda row: values[row["variant"]],
        )  # fmt: skip
        kept = []
        for row in rows:
            if row["variant"] == "random":
                row["share"] = row["share"] and row["share"] + 0.01 * (2 * row["draw"] - 1)
            if row["variant"] == "whole_network":
                row["percent"] = 100.0
            drawn = row["draw"] == 0 or row["variant"] == "random"
            if drawn and (row["variant"], row["trained"]) != ("other_degradation", "mix"):
                kept.append(row)
        return stored(make_run(), retraining=kept)

    return write


def test_the_set_and_the_whole_network_in_numbers(make):
    assert SECTION.sentence(make()) == (
        "Trained alone, 1 % of the filters, chosen by FAIG, reach this share of the target's gain (in brackets the "
        "whole network): 40 % (70 %) in deblurring alone, 40 % (70 %) in denoising alone and 40 % (70 %) in the mix."
    )


def test_every_variant_has_its_row(make):
    rows = {row[0]: list(row[1:]) for row in SECTION.table(make()).rows}
    assert rows["same layers, other locations"] == ["8 %"] * 4
    assert rows["FAIG's, weights re-drawn"] == ["10 %"] * 4
    assert rows["the same at other locations"] == ["−200 %"] * 4
    assert rows["FAIG's for another degradation"] == ["20 %", "20 %", "–", "–"]


def test_a_share_left_of_a_panel_is_marked(make):
    assert [text.get_text() for text in SECTION.figure(make()).axes[0].texts] == ["◂ −200 %"]


def test_draws_are_averaged(make):
    run = make()
    assert result(run, "random", "blur", ["blur"], 1.0) == pytest.approx(0.05)
    assert result(run, "random", "mix", ["blur", "noise"], 1.0) == pytest.approx(0.05)
    assert np.isnan(result(run, "other_degradation", "mix", ["blur", "noise"], 1.0))


def test_the_figure_is_the_same_twice(make, tmp_path):
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in paths:
        write_figure(path, SECTION.figure(make()))
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_every_percent_has_its_row_and_the_headline_is_spoken_of(make):
    run = make(percents=(1.0, 5.0))
    heads = [row[0] for row in SECTION.table(run).rows]
    assert {"FAIG, 1 %", "FAIG, 5 %", "whole network"} <= set(heads)
    assert len(heads) == len(set(heads))
    assert "1 % of the filters, chosen by FAIG" in SECTION.sentence(run)


def test_a_share_that_is_not_defined_is_a_dash(make):
    run = make(**dict.fromkeys(SHARES, None))
    assert "– (–) in deblurring alone" in SECTION.sentence(run)
    assert SECTION.figure(run) is not None
