"""The analysis of a planted pair: the true sets against the scores, exact where the scores are the answer."""

from dataclasses import replace

import pytest
import torch
from study_case import context_of, grid, rows_of, stored

from faig_lab.attribution import Attribution
from faig_lab.filters import mask
from faig_lab.metrics import edit_sums
from faig_lab.studies.planted import SECTION, planted

TRUE = {"blur": torch.tensor([2, 3, 50]), "noise": torch.tensor([7, 60, 61])}


def planted_subject(scores=None, planted=TRUE):
    """A pair of which only the filters of TRUE differ."""
    context = context_of()
    layout = context.attribution.layout
    everything = torch.arange(len(layout))
    rest = everything[~torch.isin(everything, torch.cat(list(TRUE.values())))]
    biases = {n: v for n, v in context.problem.baseline.items() if n.endswith("bias")}
    target = mask(context.problem.target, context.problem.baseline, layout, rest) | biases
    problem = replace(context.problem, target=target)
    attribution = context.attribution
    if scores is not None:
        attribution = Attribution(scores, attribution.degradations, layout)
    return replace(context, problem=problem, attribution=attribution, planted=planted)


def truth(total, sign=1.0):
    scores = torch.zeros(1, 2, total, dtype=torch.float64)
    for k, filters in enumerate(TRUE.values()):
        scores[0, k, filters] = sign
    return scores


def test_the_answer_itself_has_precision_one_and_its_opposite_none():
    total = len(context_of().attribution.layout)
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
    assert len(found.rows("planted")) == (1 + 1 + 2) * 2


def test_degradations_are_not_mixed_up():
    total = len(context_of().attribution.layout)
    found = planted(planted_subject({"swapped": truth(total).flip(1)}))
    for name in TRUE:
        assert found.metrics[f"planted/swapped/recall/{name}"] == pytest.approx(0, abs=1e-12)


def test_the_change_of_each_group_is_that_of_its_filters():
    rows = {row["group"]: row for row in planted(planted_subject()).rows("planted_change")}
    assert list(rows) == ["blur", "noise", "rest"]
    assert (rows["rest"]["mean"], rows["rest"]["std"]) == (0, 0)
    assert rows["rest"]["unchanged"] == rows["rest"]["filters"] == len(context_of().attribution.layout) - 6
    for name in TRUE:
        assert rows[name]["filters"] == 3
        assert rows[name]["unchanged"] == 0
        assert rows[name]["mean"] > 0


def test_isolation_is_that_of_the_formula_by_hand():
    context = planted_subject()
    found = planted(context)
    state = mask(context.target, context.baseline, context.attribution.layout, TRUE["noise"])
    restore = context.evaluator.restore
    moved, left = {}, {}
    for name in ("blur", "noise", "clean"):
        outputs = [restore(s, name) for s in (state, context.baseline, context.target)]
        m, b, t = (torch.stack(images).clamp(0, 1).double() for images in outputs)
        moved[name], left[name] = float((m - t).square().sum()), float((m - b).square().sum())
        if name == "noise":
            energy = float(edit_sums(m, b, t).energy.sum())
    expected = 1 - (left["noise"] + moved["blur"] + moved["clean"]) / energy
    assert found.metrics["planted/isolation/noise"] == pytest.approx(expected, rel=1e-5)
    rows = {row["degradation"]: row for row in rows_of(found, "planted_isolation", masked="noise")}
    assert rows["noise"]["side"] is None
    assert rows["clean"]["side"] == pytest.approx(moved["clean"] / energy, rel=1e-5)


def test_a_set_that_holds_all_that_changed_goes_all_the_way_back():
    both = torch.cat(list(TRUE.values()))
    found = planted(planted_subject(planted={"blur": both, "noise": torch.tensor([30])}))
    own = next(row for row in found.rows("planted_isolation") if row["degradation"] == "blur")
    assert own["back"] == pytest.approx(1, abs=1e-9)
    assert own["off"] == pytest.approx(0, abs=1e-9)


PRECISION = {"random": (0.01, 0.03), "faig": (0.4,), "signed_share": (0.7,)}


@pytest.fixture
def run(make_run):
    rows = [
        {"method": method, "draw": draw, "degradation": name, "filters": 122, "average_precision": precision + 0.1 * k}
        | {"recall": precision / 2, "chance": 0.01}
        for method, precisions in PRECISION.items()
        for draw, precision in enumerate(precisions)
        for k, name in enumerate(("blur", "noise"))
    ]
    isolation = {"blur": 0.75, "noise": 0.5}
    edits = grid(
        masked=["blur", "noise"], degradation=["blur", "noise", "clean"], back=0.8, off=0.1, side=0.1,
        isolation=lambda row: isolation[row["masked"]],
    )  # fmt: skip
    return stored(make_run(), planted=rows, planted_isolation=edits)


def test_the_sentence_has_the_isolation_of_the_true_sets(run):
    assert SECTION.sentence(run) == (
        "Each true set has 122 filters (1 % of all). Masking the true sets gives an isolation of 0.75 for "
        "deblurring and 0.50 for denoising."
    )


def test_table_and_figure_have_means_over_draws_and_chance(run):
    rows = SECTION.table(run).rows
    assert [row[0] for row in rows] == ["Signed share", "FAIG", "Random filters", "Chance"]
    assert rows[2][1:] == ["0.020", "1 %", "0.120", "1 %"]
    assert rows[3][1:] == ["0.010", "1 %", "0.010", "1 %"]
    precision, recall = SECTION.figure(run).axes
    dots = [float(line.get_xdata()[0]) for line in precision.lines]
    assert dots == pytest.approx([0.7, 0.4, 0.02, 0.8, 0.5, 0.12, 0.01])
    assert [panel.get_xlabel() for panel in (precision, recall)] == ["average precision", "recall at the set's size"]
