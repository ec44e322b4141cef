"""Top-k overlap on planted filters and planted overlaps; calibration by hand; nothing that predicts sees HR."""

from dataclasses import replace

import pytest
import torch
from study_case import context_of, grid, rows_of, stored

from faig_lab.attribution import Problem, quadrature
from faig_lab.data import PairedImage
from faig_lab.errors import UserError
from faig_lab.studies.prediction import SECTION, calibrate, decide, overlaps, prediction, top_filters

RULE = quadrature("gauss_legendre", 4)


def run(context, **settings):
    return prediction(context, **({"crop": 16, "points": 2, "percent": 10.0} | settings))


def test_overlap_is_the_share_of_the_discovered_filters_that_are_found_again():
    sets = {"blur": torch.tensor([1, 2, 3, 4]), "noise": torch.tensor([7, 8]), "none": torch.tensor([], dtype=int)}
    assert overlaps(torch.tensor([4, 9, 2, 8]), sets) == {"blur": 0.5, "noise": 0.5, "none": 0.0}
    assert overlaps(torch.tensor([4, 3, 2, 1]), sets) == {"blur": 1.0, "noise": 0.0, "none": 0.0}


def test_the_filters_that_differ_are_the_top_ones_of_any_input():
    problem = context_of().problem
    planted = torch.tensor([30, 60, 70])
    chosen = problem.layout.mask(planted)
    target = {n: torch.where(chosen[n], v + 0.3, v) if n in chosen else v.clone() for n, v in problem.baseline.items()}
    problem = Problem(problem.network, problem.baseline, target, problem.probe, problem.degradations, RULE)
    top = top_filters(problem, torch.rand(3, 8, 8), RULE, 100 * 3 / len(problem.layout))
    assert set(top.tolist()) == set(planted.tolist())


@pytest.mark.parametrize(
    ("suffering", "clean", "threshold"),
    [
        ([0.5, 0.6], [0.1, 0.3], 0.4),  # the middle of the gap
        ([0.2, 0.6, 0.7], [0.1, 0.3], 0.45),  # one is lost: (2/3 + 1) / 2 is the most there is
        ([0.5, 0.9], [0.1, 0.6], 0.3),  # 0.3 and 0.75 are as good; the wider gap is the lower one
        ([0.1], [0.9], 0.9),  # nothing passes
        ([0.4], [0.4], 0.4),
    ],
)
def test_calibration_by_hand(suffering, clean, threshold):
    assert calibrate(suffering, clean) == pytest.approx(threshold)


def test_the_largest_overlap_above_its_threshold_decides():
    thresholds = {"blur": 0.2, "noise": 0.5, "jpeg": 0.3}
    assert decide({"blur": 0.3, "noise": 0.6, "jpeg": 0.1}, thresholds) == "noise"
    assert decide({"blur": 0.3, "noise": 0.4, "jpeg": 0.1}, thresholds) == "blur"
    assert decide({"blur": 0.2, "noise": 0.5, "jpeg": 0.0}, thresholds) == "clean"


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
def test_every_input_is_judged_once_whatever_the_number_of_degradations(degradations):
    findings = run(context_of(degradations))
    for method in ("overlap", "image_estimator", "linear_probe"):
        rows = rows_of(findings, "prediction", method=method)
        assert {row["predicted"] for row in rows} == {"clean", *degradations}
        for truth in ("clean", *degradations):
            assert sum(row["count"] for row in rows if row["truth"] == truth) == 2
    assert len(findings.rows("prediction_overlaps")) == 2 * (1 + len(degradations))
    assert ("prediction/balanced_accuracy" in findings.metrics) == (len(degradations) > 1)
    assert 0 <= findings.metrics["prediction/accuracy"] <= 1


def test_no_ground_truth_is_looked_at():
    context = context_of()

    def blind(images):
        return tuple(PairedImage(i.name, torch.full_like(i.hr, torch.nan), i.lr) for i in images)

    assert len(context.attribution.scores) == 3  # the discovered filters are there before
    data = replace(context.data, probe=blind(context.data.probe), held_out=blind(context.data.held_out))
    problem = replace(context.problem, probe=blind(context.problem.probe))
    assert run(replace(context, data=data, problem=problem)) == run(context)


def test_the_filters_are_those_of_the_runs_method():
    context = context_of()
    assert run(replace(context, method="random")).rows("prediction_overlaps") != run(context).rows(
        "prediction_overlaps"
    )


def test_a_crop_that_is_too_small_is_refused():
    context = context_of()
    context = replace(context, degradation=replace(context.degradation, scale=4))
    with pytest.raises(UserError, match=r"^crop: 16 HR pixels is too small; at least 32"):
        run(context)


def test_the_photographs_are_those_of_the_held_out_images():
    context = context_of()
    images = tuple(replace(image, scene="one") for image in context.data.held_out)
    for held_out, photographs in ((context.data.held_out, 2), (images, 1)):
        found = run(replace(context, data=replace(context.data, held_out=held_out)))
        assert {row["photographs"] for row in found.rows("prediction_accuracy")} == {photographs}
        assert (found.metrics["prediction/accuracy_low"] is None) == (photographs == 1)


RIGHT = {"overlap": (1.0, 0.8), "image_estimator": (0.9, 0.95), "linear_probe": (1.0, 0.95)}


@pytest.fixture
def make(make_run):
    def write(degradations=("blur", "noise"), interval="bootstrap"):
        truths = ["clean", *degradations, *["+".join(degradations)][: len(degradations) - 1]]
        # 4 of 20 answers are wrong: clean input looks blurred, and degraded input clean.
        wrong = {"clean": "blur"} | dict.fromkeys(degradations, "clean") | {truths[-1]: "blur"}
        right = {truth: truth for truth in truths} | {truths[-1]: degradations[-1]}
        counts = grid(
            method=[*RIGHT], truth=truths, predicted=["clean", *degradations],
            count=lambda row: 16 * (row["predicted"] == right[row["truth"]])
            + 4 * (row["predicted"] == wrong[row["truth"]]),
        )  # fmt: skip
        accuracy = grid(
            method=[*RIGHT], measure=["accuracy", "balanced_accuracy"][: len(degradations)], fitted_on="probe",
            fitted_crops=16, images=6, photographs=3, inputs=60,
            value=lambda row: RIGHT[row["method"]][row["measure"] == "accuracy"],
            low=lambda row: row["value"] - 0.1, high=lambda row: min(1, row["value"] + 0.1), interval=interval,
        )  # fmt: skip
        overlaps = grid(image=["a"] * 5, truth=truths, **dict.fromkeys((f"overlap/{n}" for n in degradations), 0.3))
        tables = {"prediction": counts, "prediction_accuracy": accuracy, "prediction_overlaps": overlaps}
        return stored(make_run(degradations), {"prediction/threshold/blur": 0.4}, **tables)

    return write


def test_the_accuracy_and_what_it_is_over(make):
    assert SECTION.sentence(make()) == (
        "Top-k overlap on 60 inputs from 3 held-out photographs: 100 % (90 % to 100 %) of the answers between blurred "
        "or noisy are right (balanced accuracy) and 80 % (70 % to 90 %) with clean as a further answer. The brackets "
        "hold the 95 % interval over photographs."
    )
    assert SECTION.sentence(make(interval="range")).endswith("The brackets hold the range over photographs.")
    assert SECTION.sentence(make(("blur",))).startswith(
        "Top-k overlap on 60 inputs from 3 held-out photographs: 80 % (70 % to 90 %) with clean"
    )


def test_every_predictor_has_its_row(make):
    assert [row[:3] for row in SECTION.table(make()).rows] == [
        ["Top-k overlap", "100 % (90 % to 100 %)", "80 % (70 % to 90 %)"],
        ["Noise level and sharpness", "90 % (80 % to 100 %)", "95 % (85 % to 100 %)"],
        ["Linear probe on features", "100 % (90 % to 100 %)", "95 % (85 % to 100 %)"],
    ]


def test_the_confusion_of_a_mix_is_drawn_with_its_counts(make):
    overlap, _, panel, *_ = SECTION.figure(make()).axes
    assert panel.get_title() == "top-k overlap"
    counts = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in panel.texts}
    assert [counts[3, answer] for answer in range(3)] == ["0", "4", "16"]  # blurred and noisy: clean, blurred, noisy
    assert [line.get_xdata()[0] for line in overlap.lines] == [0.4]  # the threshold
