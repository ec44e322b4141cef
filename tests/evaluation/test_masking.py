"""The masking study on problems whose answers are known."""

from dataclasses import replace

import pytest
import reference
import torch
from study_case import image as an_image
from torch.func import functional_call

from faig_lab.attribution import count_of, discovered
from faig_lab.evaluation.masking import masked_networks, masking, restoration
from faig_lab.filters import FilterLayout, mask
from faig_lab.metrics import METRICS, as_image, bicubic, gradient_map, map_difference, quality

COLUMNS = ["method", "draw", "percent", "filters", "masked", "degradation", "psnr", "removed", "output_difference"]


def psnr_by_hand(network, state, images, degradation):
    values = []
    for image in images:
        with torch.no_grad():
            output = functional_call(network, dict(state), (image.lr[degradation][None],))[0]
        rounded = (output.clamp(0, 1) * 255).round() / 255
        values.append(reference.psnr(rounded.numpy(), image.hr.numpy(), 2))
    return sum(values) / len(values)


# The judge


def test_the_judge_is_the_definition(network, make_evaluator):
    evaluator = make_evaluator(network)
    layout = FilterLayout.of(network)
    state = mask(evaluator.target, evaluator.baseline, layout, torch.arange(0, len(layout), 3))
    for degradation in ("blur", "noise"):
        baseline, target, masked = (
            psnr_by_hand(network, s, evaluator.images, degradation)
            for s in (evaluator.baseline, evaluator.target, state)
        )
        found = evaluator.evaluate(state, degradation)
        assert found.row()["psnr"] == pytest.approx(masked, abs=1e-4)
        assert found.psnrs.mean().item() == pytest.approx(masked, abs=1e-4)
        assert found.removed == pytest.approx((target - masked) / (target - baseline), abs=1e-3)
        pairs = zip(
            evaluator.outputs(state, degradation), evaluator.outputs(evaluator.target, degradation), strict=True
        )
        expected = [float(map_difference(gradient_map(m[None]), gradient_map(t[None]))) for m, t in pairs]
        assert found.output_difference == pytest.approx(sum(expected) / 3, rel=1e-5)
        assert evaluator.bounds(degradation)[:2] == pytest.approx((baseline, target), abs=1e-4)


def test_both_ends_are_exact(network, make_evaluator):
    evaluator = make_evaluator(network)
    untouched, gone = evaluator.evaluate(evaluator.target, "blur"), evaluator.evaluate(evaluator.baseline, "blur")
    assert (untouched.removed, untouched.output_difference) == (0, 0)
    assert gone.removed == 1


def test_equal_networks_leave_nothing_to_remove(network, make_evaluator):
    state = dict(network.state_dict())
    evaluator = make_evaluator(network, baseline=state, target=state)
    assert evaluator.evaluate(state, "noise").removed is None


def test_the_bounds_are_computed_once(network, make_evaluator):
    evaluator = make_evaluator(network)
    calls = []
    network.register_forward_pre_hook(lambda *arguments: calls.append(1))
    for _ in range(3):
        evaluator.evaluate(dict(evaluator.target), "blur")
    one_pass = 2  # images of two sizes
    assert len(calls) == one_pass * (2 + 3)
    assert evaluator.evaluate(evaluator.target, "blur").output_difference == 0
    outputs = [as_image(output) for output in evaluator.ends("blur").target_outputs]
    assert all(map(torch.equal, evaluator.outputs(evaluator.target, "blur"), outputs))
    assert len(calls) == one_pass * (2 + 3)


# The table


def test_rows_of_every_method_draw_percent_and_pair(network, make_evaluator, make_attribution):
    evaluator, attribution = make_evaluator(network), make_attribution(network)
    told = []
    percents = [0.1, 1, 50]
    rows = masking(evaluator, attribution, percents, told.append).rows
    assert len(rows) == (1 + 3) * 3 * 2 * 2
    assert all(list(row) == COLUMNS for row in rows)
    keys = [tuple(row[column] for column in ("method", "draw", "percent", "masked", "degradation")) for row in rows]
    assert len(set(keys)) == len(rows)
    assert {key[:2] for key in keys} == {("faig", 0), ("random", 0), ("random", 1), ("random", 2)}
    assert all(row["filters"] == count_of(row["percent"], 136) for row in rows)
    assert {row["percent"]: row["filters"] for row in rows} == {0.1: 0, 1: 1, 50: 68}
    assert len(told) == masked_networks(attribution, percents) == (1 + 3) * 2 * 3


def test_the_psnr_of_every_image_is_kept_in_the_order_of_the_rows(network, make_evaluator, make_attribution):
    evaluator, attribution = make_evaluator(network), make_attribution(network)
    masked = masking(evaluator, attribution, [1, 50])
    assert (masked.draws, masked.percents, masked.degradations) == (
        {"faig": 1, "random": 3},
        (1, 50),
        ("blur", "noise"),
    )
    assert masked.psnr.shape == (3, 1 + 3, 2, 2, 2)
    means = masked.psnr.mean(0).ravel()
    # Rows: rankings are (method, draw, masked), then percents, then inputs; the array has the same order.
    assert [row["psnr"] for row in masked.rows] == pytest.approx(list(means), abs=1e-12)
    for k, degradation in enumerate(masked.degradations):
        baseline, target = evaluator.bounds(degradation)
        assert masked.baseline[:, k].mean() == pytest.approx(baseline, abs=1e-12)
        assert masked.target[:, k].mean() == pytest.approx(target, abs=1e-12)


def test_images_of_one_scene_belong_together(network, make_evaluator):
    first, second, third = (an_image(seed, ("blur", "noise")) for seed in (1, 2, 3))
    images = (replace(first, scene="a"), replace(second, scene="a"), third)
    assert make_evaluator(network, images).scenes == ("a", "a", third.name)


def test_all_filters_of_a_network_without_biases_remove_all(plain, make_evaluator, make_attribution):
    rows = masking(make_evaluator(plain), make_attribution(plain), [100]).rows
    assert {(row["filters"], row["removed"]) for row in rows} == {(len(FilterLayout.of(plain)), 1)}


def test_a_row_is_the_judgement_of_its_own_top_set(network, make_evaluator, make_attribution):
    evaluator, attribution = make_evaluator(network), make_attribution(network)
    rows = masking(evaluator, attribution, [10]).rows
    assert len(rows) == (1 + 3) * 2 * 2
    for row in rows:
        scores = attribution.scores[row["method"]][row["draw"], attribution.degradations.index(row["masked"])]
        filters = discovered(scores, 10)
        assert filters.tolist() == scores.argsort(descending=True)[:13].tolist()
        state = mask(evaluator.target, evaluator.baseline, attribution.layout, filters)
        assert {key: row[key] for key in COLUMNS[6:]} == evaluator.evaluate(state, row["degradation"]).row()


def test_methods_that_agree_on_a_set_agree_on_its_effect(network, make_evaluator, make_attribution):
    attribution = make_attribution(network, methods=(("faig", 1), ("same", 1)))
    attribution.scores["same"] = attribution.scores["faig"] ** 3
    rows = masking(make_evaluator(network), attribution, [5, 20]).rows
    assert len(rows) == 2 * 2 * 2 * 2
    halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    for one, other in zip(*halves, strict=True):
        assert one | {"method": "same"} == other


# Restoration


def test_restoration_has_every_network_input_and_image(network, make_evaluator):
    evaluator = make_evaluator(network)
    rows = restoration(evaluator)
    assert all(list(row) == ["network", "degradation", "image", *METRICS] for row in rows)
    keys = [(row["network"], row["degradation"], row["image"]) for row in rows]
    expected = {
        (name, kind, image)
        for name in ("bicubic", "baseline", "target")
        for kind in ("clean", "blur", "noise")
        for image in "abc"
    }
    assert len(keys) == len(expected)
    assert set(keys) == expected
    for row in rows:
        image = next(image for image in evaluator.images if image.name == row["image"])
        lr = image.lr[row["degradation"]][None]
        if row["network"] == "bicubic":
            output = bicubic(lr, 2)
        else:
            state = evaluator.baseline if row["network"] == "baseline" else evaluator.target
            output = functional_call(network, dict(state), (lr,)).detach()
        values = quality(output, image.hr[None], 2)
        for metric in METRICS:
            assert row[metric] == pytest.approx(float(values[metric]), abs=1e-3)


def test_outputs_are_those_of_an_image_file(network, make_evaluator):
    evaluator = make_evaluator(network)
    outputs = evaluator.outputs(evaluator.target, "noise")
    assert len(outputs) == 3
    for output in outputs:
        assert torch.equal(output, as_image(output))
