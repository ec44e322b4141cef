"""The masking study on problems whose answers are known."""

import math

import pytest
import reference
import torch
from torch import nn
from torch.func import functional_call

from faig_lab.analysis import (
    Judge,
    distribution,
    mask,
    masked_networks,
    masking,
    output_difference,
    restoration,
    specificity,
)
from faig_lab.attribution import count_of, discovered
from faig_lab.data import PairedImage
from faig_lab.networks import FilterLayout
from faig_lab.training import METRICS, as_image, bicubic, quality

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


def test_the_judge_is_the_definition(network, make_judge):
    judge = make_judge(network)
    layout = FilterLayout.of(network)
    state = mask(judge.target, judge.baseline, layout, torch.arange(0, len(layout), 3))
    for degradation in ("blur", "noise"):
        baseline, target, masked = (
            psnr_by_hand(network, s, judge.images, degradation) for s in (judge.baseline, judge.target, state)
        )
        found = judge.judge(state, degradation)
        assert found["psnr"] == pytest.approx(masked, abs=1e-4)
        assert found["removed"] == pytest.approx((target - masked) / (target - baseline), abs=1e-3)
        pairs = zip(judge.outputs(state, degradation), judge.outputs(judge.target, degradation), strict=True)
        expected = [float(output_difference(m[None], t[None])) for m, t in pairs]
        assert found["output_difference"] == pytest.approx(sum(expected) / 3, rel=1e-5)
        assert judge.bounds(degradation)[:2] == pytest.approx((baseline, target), abs=1e-4)


def test_both_ends_are_exact(network, make_judge):
    judge = make_judge(network)
    untouched, gone = judge.judge(judge.target, "blur"), judge.judge(judge.baseline, "blur")
    assert (untouched["removed"], untouched["output_difference"]) == (0, 0)
    assert gone["removed"] == 1


def test_equal_networks_leave_nothing_to_remove(network, make_judge):
    state = dict(network.state_dict())
    judge = make_judge(network, baseline=state, target=state)
    assert judge.judge(state, "noise")["removed"] is None


def test_the_bounds_are_computed_once(network, make_judge):
    judge = make_judge(network)
    calls = []
    network.register_forward_pre_hook(lambda *arguments: calls.append(1))
    for _ in range(3):
        judge.judge(judge.target, "blur")
    one_pass = 2  # images of two sizes
    assert len(calls) == one_pass * (2 + 3)


# The table


def test_rows_of_every_method_draw_percent_and_pair(network, make_judge, make_attribution):
    judge, attribution = make_judge(network), make_attribution(network)
    told = []
    percents = [0.1, 1, 50]
    rows = masking(judge, attribution, percents, told.append)
    assert len(rows) == (1 + 3) * 3 * 2 * 2
    assert all(list(row) == COLUMNS for row in rows)
    keys = [tuple(row[column] for column in ("method", "draw", "percent", "masked", "degradation")) for row in rows]
    assert len(set(keys)) == len(rows)
    assert {key[:2] for key in keys} == {("faig", 0), ("random", 0), ("random", 1), ("random", 2)}
    assert all(row["filters"] == count_of(row["percent"], 136) for row in rows)
    assert {row["percent"]: row["filters"] for row in rows} == {0.1: 0, 1: 1, 50: 68}
    assert len(told) == masked_networks(attribution, percents) == (1 + 3) * 2 * 3


def test_no_filters_remove_nothing(network, make_judge, make_attribution):
    for row in masking(make_judge(network), make_attribution(network), [0.1]):
        assert (row["filters"], row["removed"], row["output_difference"]) == (0, 0, 0)


def test_all_filters_of_a_network_without_biases_remove_all(plain, make_judge, make_attribution):
    for row in masking(make_judge(plain), make_attribution(plain), [100]):
        assert row["filters"] == len(FilterLayout.of(plain))
        assert row["removed"] == 1


def test_a_row_is_the_judgement_of_its_own_top_set(network, make_judge, make_attribution):
    judge, attribution = make_judge(network), make_attribution(network)
    for row in masking(judge, attribution, [10]):
        scores = attribution.scores[row["method"]][row["draw"], attribution.degradations.index(row["masked"])]
        filters = discovered(scores, 10)
        assert filters.tolist() == scores.argsort(descending=True)[:13].tolist()
        state = mask(judge.target, judge.baseline, attribution.layout, filters)
        assert {key: row[key] for key in COLUMNS[6:]} == judge.judge(state, row["degradation"])


def test_methods_that_agree_on_a_set_agree_on_its_effect(network, make_judge, make_attribution):
    attribution = make_attribution(network, methods=(("faig", 1), ("same", 1)))
    attribution.scores["same"] = attribution.scores["faig"] ** 3
    rows = masking(make_judge(network), attribution, [5, 20])
    halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    for one, other in zip(*halves, strict=True):
        assert one | {"method": "same"} == other


class Denoiser(nn.Module):
    """Filter (1, 1) passes what an image has beyond its local mean, filter (0, 0) the local mean."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)

    def forward(self, lr):
        grey = lr.mean(1, keepdim=True)
        smooth = nn.functional.avg_pool2d(nn.functional.pad(grey, (2, 2, 2, 2), mode="replicate"), 5, 1)
        x = self.conv(torch.cat([smooth, grey - smooth], 1)).sum(1, keepdim=True)
        return nn.functional.interpolate(x.expand(-1, 3, -1, -1), scale_factor=2)


def test_a_planted_denoising_filter_is_found_by_its_removed_share():
    """The target differs from the baseline in two filters; one of them stops noise, the other does nothing."""
    baseline = {"conv.weight": torch.eye(2)[..., None, None].clone()}
    target = {"conv.weight": torch.tensor([[1.0, 0.0], [1e-4, 0.0]])[..., None, None]}
    clean = torch.full((3, 16, 16), 0.5)
    noise = clean + 0.2 * torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    images = (PairedImage("a", torch.full((3, 32, 32), 0.5), {"clean": clean, "noise": noise}),)
    judge = Judge(Denoiser(), baseline, target, images, scale=2)
    layout = FilterLayout.of(Denoiser())
    removed = [
        judge.judge(mask(target, baseline, layout, torch.tensor([filter_])), "noise")["removed"] for filter_ in range(4)
    ]
    assert removed[0] == removed[1] == 0
    assert abs(removed[2]) < 0.01
    assert removed[3] == pytest.approx(1, abs=0.01)


# Restoration


def test_restoration_has_every_network_input_and_image(network, make_judge):
    judge = make_judge(network)
    rows = restoration(judge)
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
        image = next(image for image in judge.images if image.name == row["image"])
        lr = image.lr[row["degradation"]][None]
        if row["network"] == "bicubic":
            output = bicubic(lr, 2)
        else:
            state = judge.baseline if row["network"] == "baseline" else judge.target
            output = functional_call(network, dict(state), (lr,)).detach()
        values = quality(output, image.hr[None], 2)
        for metric in METRICS:
            assert row[metric] == pytest.approx(float(values[metric]), abs=1e-3)


def test_outputs_are_those_of_an_image_file(network, make_judge):
    judge = make_judge(network)
    for output in judge.outputs(judge.target, "noise"):
        assert torch.equal(output, as_image(output))


# Specificity


def row(removed, masked="blur", degradation="blur", draw=0, method="faig", percent=1):
    return {
        "method": method,
        "draw": draw,
        "percent": percent,
        "masked": masked,
        "degradation": degradation,
        "removed": removed,
    }


def test_specificity_of_one_draw():
    (found,) = specificity([row(0.8), row(0.3, degradation="noise")])
    assert list(found) == ["method", "percent", "masked", "own", "other", "specificity", "specificity_std"]
    assert (found["method"], found["percent"], found["masked"]) == ("faig", 1, "blur")
    assert (found["own"], found["other"], found["specificity_std"]) == (0.8, 0.3, 0.0)
    assert found["specificity"] == pytest.approx(0.5)


def test_specificity_is_the_mean_and_the_spread_over_draws():
    rows = [row(own, draw=draw) for draw, own in enumerate((0.5, 0.7, 0.9))]
    rows += [row(other, degradation="noise", draw=draw) for draw, other in enumerate((0.4, 0.2, 0.0))]
    (found,) = specificity(rows)
    assert found["own"] == pytest.approx(0.7)
    assert found["other"] == pytest.approx(0.2)
    assert found["specificity"] == pytest.approx(0.5)
    assert found["specificity_std"] == pytest.approx(math.sqrt((0.4**2 + 0 + 0.4**2) / 2))


def test_among_three_degradations_the_others_are_averaged():
    rows = [row(0.9), row(0.1, degradation="noise"), row(0.5, degradation="jpeg")]
    (found,) = specificity(rows)
    assert found["other"] == pytest.approx(0.3)
    assert found["specificity"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("rows", "own", "other"),
    [
        ([row(None), row(0.3, degradation="noise")], None, 0.3),
        ([row(0.8), row(None, degradation="noise")], 0.8, None),
        ([row(0.8), row(0.1, degradation="noise"), row(None, degradation="jpeg")], 0.8, None),
        ([row(0.8)], 0.8, None),
        (
            [row(0.8), row(0.1, draw=1), row(0.2, degradation="noise"), row(None, degradation="noise", draw=1)],
            0.45,
            None,
        ),
    ],
)
def test_a_share_that_is_not_defined_makes_no_specificity(rows, own, other):
    (found,) = specificity(rows)
    assert found["own"] == (None if own is None else pytest.approx(own))
    assert found["other"] == other
    assert found["specificity"] is None
    assert found["specificity_std"] is None


def test_every_set_has_its_own_row():
    rows = [
        row(0.1, masked, degradation, 0, method, percent)
        for method in ("faig", "random")
        for percent in (1, 3)
        for masked in ("blur", "noise")
        for degradation in ("blur", "noise")
    ]
    found = specificity(rows)
    assert [(f["method"], f["percent"], f["masked"]) for f in found] == [
        (method, percent, masked) for method in ("faig", "random") for percent in (1, 3) for masked in ("blur", "noise")
    ]


# Distribution


def test_the_distribution_counts_every_discovered_filter_once(network, make_attribution):
    attribution = make_attribution(network)
    percents = [0.1, 1, 10, 100]
    rows = distribution(attribution, percents)
    layout = attribution.layout
    assert {r["method"] for r in rows} == {"faig"}
    assert len(rows) == 2 * len(percents) * len(layout.layers)
    for k, degradation in enumerate(attribution.degradations):
        for percent in percents:
            chosen = [r for r in rows if (r["degradation"], r["percent"]) == (degradation, percent)]
            filters = discovered(attribution.scores["faig"][0, k], percent)
            assert [r["depth"] for r in chosen] == list(range(len(layout.layers)))
            assert sum(r["discovered"] for r in chosen) == len(filters)
            assert sum(r["filters"] for r in chosen) == len(layout)
            addresses = [layout.address(i).layer for i in filters.tolist()]
            for layer, found in zip(layout.layers, chosen, strict=True):
                assert f"{found['layer']}.weight" == layer.name
                assert found["discovered"] == addresses.count(layer.name)
                assert found["share"] == found["discovered"] / found["filters"]
    assert all(r["share"] == 1 for r in rows if r["percent"] == 100)
