"""Randomised weights and exchanged labels: what is permuted, what is compared with what, and exact swaps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from study_case import METHODS, context_of, grid, image, rows_of, stored

from faig_lab.attribution import attribute, discovered
from faig_lab.data import sample_rng
from faig_lab.evaluation.comparison import isolations
from faig_lab.evaluation.intervals import Resampling
from faig_lab.evaluation.masking import masking
from faig_lab.runs.tables import records
from faig_lab.studies.curves import layer_matched
from faig_lab.studies.sanity import SECTION, chance_in_layers, overlap, randomised, sanity, swapped


def test_randomised_changes_are_the_same_changes_elsewhere():
    target = {"a": torch.arange(200.0).view(4, 2, 5, 5), "b": torch.ones(3)}
    zero = {n: torch.zeros_like(v) for n, v in target.items()}
    found = randomised(zero, target, seed=0)
    for name, value in found.items():
        assert value.shape == target[name].shape
        assert torch.equal(value.flatten().sort().values, target[name].flatten().sort().values)
    assert not torch.equal(found["a"], target["a"])
    assert torch.equal(found["a"], randomised(zero, target, seed=0)["a"])
    assert not torch.equal(found["a"], randomised(zero, target, seed=0, draw=1)["a"])


def test_randomised_starts_at_the_baseline_and_leaves_the_target_alone():
    context = context_of()
    baseline, target = context.problem.baseline, context.problem.target
    before = {n: v.clone() for n, v in target.items()}
    found = randomised(baseline, target, seed=0)
    assert list(found) == list(target)
    for name, value in found.items():
        change, wanted = (x[name].sub(baseline[name]).flatten().sort().values for x in (found, target))
        torch.testing.assert_close(change, wanted, atol=1e-6, rtol=0)
        assert torch.equal(target[name], before[name])
        assert value.dtype == target[name].dtype


def test_labels_move_by_one_and_all_else_stays():
    names = ("blur", "noise", "jpeg")
    before = image(1, names)
    (after,) = swapped([before], names)
    assert torch.equal(after.lr["blur"], before.lr["noise"])
    assert torch.equal(after.lr["noise"], before.lr["jpeg"])
    assert torch.equal(after.lr["jpeg"], before.lr["blur"])
    assert torch.equal(after.lr["clean"], before.lr["clean"])
    assert torch.equal(after.hr, before.hr)


def test_overlap_by_hand():
    a, b = torch.tensor([9.0, 8, 7, 0, 0, 0, 0, 0, 0, 0]), torch.tensor([0.0, 0, 7, 9, 8, 0, 0, 0, 0, 0])
    assert overlap(a, b, 30) == pytest.approx(1 / 3)
    assert overlap(a, a, 30) == 1
    assert overlap(a, b, 1) is None


def test_chance_in_layers_is_what_matched_filters_have():
    layout = context_of().attribution.layout
    generator = torch.Generator().manual_seed(0)
    scores, other = (torch.rand(len(layout), generator=generator) for _ in range(2))
    scores[:24] += 1
    other[:36] += 1
    expected = chance_in_layers(scores, other, 10, layout)
    fixed = set(discovered(other, 10).tolist())
    drawn = [layer_matched(discovered(scores, 10), layout, sample_rng(0, "test", draw)) for draw in range(400)]
    assert expected == pytest.approx(np.mean([len(fixed & set(d.tolist())) / len(d) for d in drawn]), abs=0.02)
    assert expected > 0.15
    assert chance_in_layers(scores, other, 100, layout) == pytest.approx(1)


@pytest.fixture(scope="module")
def found():
    return sanity(context_of(), draws=2)


def test_every_check_of_every_method_is_there(found):
    rows = found.rows("sanity")
    assert len(rows) == (1 + 2 + 1) * 2 * 2
    assert {row["method"] for row in rows} == {"faig", "signed_share"}
    assert {row["draw"] for row in rows_of(found, "sanity", check="randomised")} == {0, 1}
    for row in rows_of(found, "sanity", check="original"):
        assert (row["spearman"], row["overlap"]) == (pytest.approx(1), 1)
    for row in rows:
        assert row["specificity"] == row["own"] - row["other"]
        assert row["chance"] == pytest.approx(0.1, abs=0.01)
    drawn = [row["overlap"] for row in rows_of(found, "sanity", check="randomised", method="faig")]
    assert found.metrics["sanity/randomised/faig/overlap"] == pytest.approx(np.mean(drawn))


def test_isolation_is_that_of_the_masking_study(found):
    context = context_of()
    masked = masking(context.evaluator, context.attribution, (context.headline,))
    known = records(isolations(masked, len(context.attribution.layout), Resampling(0, 2)).sets)
    isolation = {(row["method"], row["masked"]): row["isolation"] for row in known}
    rows = rows_of(found, "sanity", check="original")
    assert len(rows) == 2 * 2
    for row in rows:
        assert row["isolation"] == pytest.approx(isolation[row["method"], row["degradation"]], abs=1e-9)


def test_exchanged_labels_exchange_the_sets_and_turn_the_specificity_around(found):
    rows = rows_of(found, "sanity", check="swapped")
    assert len(rows) == 2 * 2
    for row in rows:
        other = {"blur": "noise", "noise": "blur"}[row["degradation"]]
        (before,) = rows_of(found, "sanity", check="original", method=row["method"], degradation=other)
        assert (row["spearman"], row["overlap"]) == (pytest.approx(1), 1)
        assert (row["own"], row["other"]) == (before["other"], before["own"])
        assert row["specificity"] == -before["specificity"]


def test_three_labels_move_in_a_circle():
    rows = rows_of(sanity(context_of(("blur", "noise", "jpeg")), draws=1), "sanity", check="swapped")
    assert {row["overlap"] for row in rows} == {1}
    assert [row["spearman"] for row in rows] == pytest.approx([1] * len(rows))


def test_a_randomised_target_has_other_filters():
    """One filter per degradation was changed by much; with the changes elsewhere, it is not found again."""
    context = context_of()
    baseline, target = context.problem.baseline, context.problem.target
    for name, value in target.items():
        target[name] = baseline[name] + 0.01 * (value - baseline[name])
    name = context.attribution.layout.layers[1].name
    target[name][0, 0] += 1
    context = replace(context, attribution=attribute(context.problem, METHODS), headline=1.0)
    rows = rows_of(sanity(context, draws=3), "sanity", check="randomised", method="faig")
    assert np.mean([row["overlap"] for row in rows]) < 0.5
    assert np.mean([row["spearman"] for row in rows]) < 0.6


def test_one_degradation_has_no_labels_to_exchange():
    rows = sanity(context_of(("blur",)), draws=1).rows("sanity")
    assert {row["check"] for row in rows} == {"original", "randomised"}
    assert {row["specificity"] for row in rows} == {None}


def test_methods_that_draw_are_left_out():
    context = context_of()
    scores = {"random": context.attribution.scores["random"]}
    context = replace(context, attribution=replace(context.attribution, scores=scores))
    assert sanity(context, draws=1).tables == {}


@pytest.fixture
def make(make_run):
    def write(labels=True, measure="isolation", **changes):
        shared = {"original": 1.0, "randomised": 0.03, "swapped": 1.0} | changes
        after = {"original": 0.6, "randomised": 0.02, "swapped": -0.6}
        rows = grid(
            check=["original", "randomised", *(["swapped"] if labels else [])], draw=0, method="faig",
            degradation=["blur", "noise"], spearman=0.1, overlap=lambda row: shared[row["check"]], chance=0.01,
            chance_in_layers=0.02, own=0.5, other=0.1, specificity=0.4,
        )  # fmt: skip
        return stored(make_run(), sanity=[row | {measure: after[row["check"]]} for row in rows])

    return write


def test_both_checks_are_told_in_numbers(make):
    run = make()
    assert SECTION.sentence(run) == (
        "FAIG with the target randomised: 3 % of the filters in common (by the numbers in each layer alone 2 %), "
        "isolation 0.02 instead of 0.60; with the labels exchanged: 100 % in common, isolation by label −0.60."
    )
    table = SECTION.table(run)
    assert [row[0] for row in table.rows] == ["FAIG, as it is", "FAIG, target randomised", "FAIG, labels exchanged"]
    assert table.head[-2:] == ["isolation", "specificity"]
    assert table.rows[1][1:] == ["0.10", "3 %", "2 %", "50 %", "10 %", "0.02", "0.40"]


@pytest.mark.parametrize("changes", [{"randomised": 0.9}, {"swapped": 0.4}])
def test_no_verdict_is_computed(make, changes):
    text = SECTION.sentence(make(**changes))
    assert not any(word in text for word in ("pass", "fail", "although"))


def test_an_earlier_run_is_told_by_specificity(make):
    run = make(measure="specificity")
    assert "specificity 0.02 instead of 0.60; with the labels exchanged" in SECTION.sentence(run)
    assert SECTION.table(run).head[-2:] == ["others", "specificity"]
    assert SECTION.figure(run).axes[1].get_xlabel() == "specificity of masking, by label"


def test_without_labels_to_exchange(make):
    run = make(labels=False)
    assert "exchanged" not in SECTION.sentence(run)
    panels = SECTION.figure(run).axes
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["as it is", "target randomised"]
