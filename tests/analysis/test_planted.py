"""The analysis of a planted pair: the true sets against the scores, exact where the scores are the answer."""

from dataclasses import replace

import pytest
import torch
from analysis_case import subject_of

from faig_lab.attribution import Attribution
from faig_lab.filters import mask
from faig_lab.metrics import edit_sums
from faig_lab.studies.planted import planted

TRUE = {"blur": torch.tensor([2, 3, 50]), "noise": torch.tensor([7, 60, 61])}


def planted_subject(scores=None, planted=TRUE):
    """A pair of which only the filters of TRUE differ."""
    subject = subject_of()
    layout = subject.attribution.layout
    everything = torch.arange(len(layout))
    rest = everything[~torch.isin(everything, torch.cat(list(TRUE.values())))]
    biases = {n: v for n, v in subject.problem.baseline.items() if n.endswith("bias")}
    target = mask(subject.problem.target, subject.problem.baseline, layout, rest) | biases
    problem = replace(subject.problem, target=target)
    attribution = subject.attribution
    if scores is not None:
        attribution = Attribution(scores, attribution.degradations, layout)
    return replace(subject, problem=problem, attribution=attribution, planted=planted)


def truth(total, sign=1.0):
    scores = torch.zeros(1, 2, total, dtype=torch.float64)
    for k, filters in enumerate(TRUE.values()):
        scores[0, k, filters] = sign
    return scores


def test_the_answer_itself_has_precision_one_and_its_opposite_none():
    total = len(subject_of().attribution.layout)
    rest = torch.cat([truth(total), truth(total, -1.0)])  # two draws: the answer and its opposite
    found = planted(planted_subject({"answer": truth(total), "none": torch.zeros(1, 2, total), "both": rest}))
    chance, last = 3 / total, 3 / total  # of the opposite all true filters come last, and together
    for name in TRUE:
        assert found.metrics[f"planted/chance/{name}"] == chance
        assert found.metrics[f"planted/answer/average_precision/{name}"] == 1
        assert found.metrics[f"planted/answer/recall/{name}"] == 1
        assert found.metrics[f"planted/none/average_precision/{name}"] == pytest.approx(chance, rel=1e-12)
        assert found.metrics[f"planted/none/recall/{name}"] == pytest.approx(chance, rel=1e-12)
        assert found.metrics[f"planted/both/average_precision/{name}"] == pytest.approx((1 + last) / 2, rel=1e-12)
        assert found.metrics[f"planted/both/recall/{name}"] == 0.5
    assert len(found.tables["planted"]) == (1 + 1 + 2) * 2


def test_degradations_are_not_mixed_up():
    total = len(subject_of().attribution.layout)
    found = planted(planted_subject({"swapped": truth(total).flip(1)}))
    for name in TRUE:
        assert found.metrics[f"planted/swapped/recall/{name}"] == pytest.approx(0, abs=1e-12)


def test_the_change_of_each_group_is_that_of_its_filters():
    rows = {row["group"]: row for row in planted(planted_subject()).tables["planted_change"]}
    assert list(rows) == ["blur", "noise", "rest"]
    assert (rows["rest"]["mean"], rows["rest"]["std"]) == (0, 0)
    assert rows["rest"]["unchanged"] == rows["rest"]["filters"] == len(subject_of().attribution.layout) - 6
    for name in TRUE:
        assert rows[name]["filters"] == 3
        assert rows[name]["unchanged"] == 0
        assert rows[name]["mean"] > 0


def test_isolation_is_that_of_the_formula_by_hand():
    subject = planted_subject()
    found = planted(subject)
    state = mask(subject.target, subject.baseline, subject.attribution.layout, TRUE["noise"])
    restore = subject.judge.restore
    moved, left = {}, {}
    for name in ("blur", "noise", "clean"):
        outputs = [restore(s, name) for s in (state, subject.baseline, subject.target)]
        m, b, t = (torch.stack(images).clamp(0, 1).double() for images in outputs)
        moved[name], left[name] = float((m - t).square().sum()), float((m - b).square().sum())
        if name == "noise":
            energy = float(edit_sums(m, b, t).energy.sum())
    expected = 1 - (left["noise"] + moved["blur"] + moved["clean"]) / energy
    assert found.metrics["planted/isolation/noise"] == pytest.approx(expected, rel=1e-5)
    rows = {row["degradation"]: row for row in found.tables["planted_isolation"] if row["masked"] == "noise"}
    assert rows["noise"]["side"] is None
    assert rows["clean"]["side"] == pytest.approx(moved["clean"] / energy, rel=1e-5)


def test_a_set_that_holds_all_that_changed_goes_all_the_way_back():
    both = torch.cat(list(TRUE.values()))
    found = planted(planted_subject(planted={"blur": both, "noise": torch.tensor([30])}))
    own = next(row for row in found.tables["planted_isolation"] if row["degradation"] == "blur")
    assert own["back"] == pytest.approx(1, abs=1e-9)
    assert own["off"] == pytest.approx(0, abs=1e-9)


def test_without_true_sets_there_is_nothing_to_say(caplog):
    found = planted(subject_of())
    assert (found.tables, found.metrics) == ({}, {})
    assert "planted: left out" in caplog.text
