"""Deletion and insertion: exact ends, a planted set, matched layers, and their section."""

from dataclasses import replace

import pytest
import torch
from study_case import context_of, grid, image, rows_of, stored

from faig_lab.attribution import Attribution
from faig_lab.data import sample_rng
from faig_lab.errors import UserError
from faig_lab.evaluation.curves import CURVES, DELETION, INSERTION
from faig_lab.filters import FilterLayout, mask
from faig_lab.networks import SRResNet
from faig_lab.studies.curves import LAYER_MATCHED, SECTION, curve_state, curves, layer_matched


def same(one, other):
    return all(torch.equal(one[n], other[n]) for n in other)


@pytest.fixture(scope="module")
def context():
    return context_of()


@pytest.fixture(scope="module")
def found(context):
    return curves(context, percents=[10, 1], draws=2)


def filters_and_rest(context):
    filters = {layer.name for layer in context.attribution.layout.layers}
    return filters, set(context.target) - filters


def test_the_ends_of_both_curves_are_exact_networks(context):
    every, none = torch.arange(len(context.attribution.layout)), torch.arange(0)
    filters, rest = filters_and_rest(context)
    hollow = {n: (context.baseline if n in filters else context.target)[n] for n in context.target}
    assert rest
    assert same(curve_state(context, DELETION, none), context.target)
    assert same(curve_state(context, DELETION, every), hollow)
    assert same(curve_state(context, INSERTION, none), hollow)
    assert same(curve_state(context, INSERTION, every), context.target)


def test_the_ends_of_insertion_with_the_baselines_biases(context):
    every, none = torch.arange(len(context.attribution.layout)), torch.arange(0)
    filters, _ = filters_and_rest(context)
    end = {n: (context.target if n in filters else context.baseline)[n] for n in context.target}
    assert same(curve_state(context, INSERTION, none, target_biases=False), context.baseline)
    assert same(curve_state(context, INSERTION, every, target_biases=False), end)
    assert same(curve_state(context, DELETION, none, target_biases=False), context.target)


def test_inserting_a_set_is_deleting_all_others(context):
    chosen = torch.tensor([7, 0, 30])
    others = torch.tensor([i for i in range(len(context.attribution.layout)) if i not in (0, 7, 30)])
    expected = mask(context.target, context.baseline, context.attribution.layout, others)
    assert same(curve_state(context, INSERTION, chosen), expected)


def test_the_table_begins_and_ends_where_the_curves_do(context, found):
    starts = rows_of(found, "curves", curve=DELETION, percent=0.0)
    for row in starts + rows_of(found, "curves", curve=INSERTION, percent=100.0):
        assert (row["restored"], row["low"], row["high"], row["spread"]) == (1, 1, 1, 0)
        assert row["psnr"] == pytest.approx(context.evaluator.bounds(row["degradation"])[1], abs=1e-5)
    ends = [
        {(r["masked"], r["degradation"]): r["psnr"] for r in rows_of(found, "curves", curve=curve, percent=percent)}
        for curve, percent in ((DELETION, 100.0), (INSERTION, 0.0))
    ]
    assert ends[0] == ends[1]


def test_the_table_has_every_point_of_every_method(context, found):
    rows = found.rows("curves")
    methods = ["faig", "signed_share", "random", LAYER_MATCHED]
    assert list(dict.fromkeys(row["method"] for row in rows)) == methods
    point = rows_of(found, "curves", curve=DELETION, masked="blur", degradation="blur", percent=1.0)
    assert [row["draws"] for row in point] == [1, 1, 2, 2]
    assert sorted({row["percent"] for row in rows}) == [0, 1, 10, 100]
    assert len(rows) == 2 * len(methods) * 2 * 4 * 2
    assert {row["filters"] for row in rows_of(found, "curves", percent=100.0)} == {len(context.attribution.layout)}
    assert all(row["spread"] == 0 for row in rows_of(found, "curves", method="faig"))
    assert any(row["spread"] > 0 for row in rows_of(found, "curves", method="random"))


def test_without_other_weights_deletion_ends_at_the_baseline_exactly():
    context = context_of()
    context.problem.target.update({n: v for n, v in context.problem.baseline.items() if n.endswith("bias")})
    found = curves(context, percents=[1], draws=1)
    assert {row["restored"] for row in rows_of(found, "curves", curve=DELETION, percent=100.0)} == {0}
    assert {row["restored"] for row in rows_of(found, "curves", curve=INSERTION, percent=0.0)} == {0}
    assert found.metrics["restored_without_target_biases/blur"] == 1


def test_a_planted_set_is_all_that_matters():
    """Only ten filters differ: with them gone or back, the curve is at its other end, to the last bit."""
    context = context_of(("blur",))
    layout = context.attribution.layout
    planted = torch.randperm(len(layout), generator=torch.Generator().manual_seed(0))[:10]
    chosen = layout.mask(planted)
    baseline = context.problem.baseline
    for name, value in context.problem.target.items():
        value.copy_(torch.where(chosen[name], value, baseline[name]) if name in chosen else baseline[name])
    scores = torch.zeros(1, 1, len(layout), dtype=torch.float64)
    scores[0, 0, planted] = 1
    percent = 100 * 10 / len(layout)
    context = replace(context, attribution=Attribution({"faig": scores, "backwards": -scores}, ("blur",), layout))
    found = curves(context, [percent, 100 - percent], draws=1)
    for method, expected in (("faig", [[1, 0, 0, 0], [0, 1, 1, 1]]), ("backwards", [[1, 1, 1, 0], [0, 0, 0, 1]])):
        of_method = [rows_of(found, "curves", curve=curve, method=method) for curve in CURVES]
        assert [[row["restored"] for row in rows] for rows in of_method] == expected
    area = rows_of(found, "curves_areas", method="faig", masked="all")
    own = {row["curve"]: row["area_linear"] for row in area if row["side"] == "own"}
    assert own[DELETION] == pytest.approx(percent / 200)
    assert own[INSERTION] == pytest.approx(1 - percent / 200)
    assert {row["area_log"] for row in area if row["side"] != "own"} == {None}


def test_equal_rankings_do_not_differ_and_their_interval_is_a_point(context):
    scores = dict(context.attribution.scores) | {"copy": context.attribution.scores["faig"]}
    twice = replace(context, attribution=replace(context.attribution, scores=scores))
    rows = rows_of(curves(twice, percents=[10], draws=1), "curves_compared", method="copy")
    assert [row["curve"] for row in rows] == list(CURVES)
    for row in rows:
        assert (row["against"], row["difference"], row["low"], row["high"]) == ("faig", 0, 0, 0)


def compared_on(context, images):
    """(curve, method) → the row of the comparison with FAIG, on these held-out images."""
    on_images = replace(context, data=replace(context.data, held_out=tuple(images)))
    rows = curves(on_images, percents=[10], draws=1, resamples=200).rows("curves_compared")
    return {(row["curve"], row["method"]): row for row in rows}


def test_the_ends_below_ten_scenes_are_the_differences_of_single_scenes(context):
    """Ways are clipped, so the difference of all scenes may lie outside of the range of single ones."""
    images = [image(seed, ("blur", "noise")) for seed in (3, 4, 5)]
    whole, single = compared_on(context, images), [compared_on(context, [one]) for one in images]
    assert {method for _, method in whole} == {"signed_share", "random", LAYER_MATCHED}
    for key, row in whole.items():
        differences = [one[key]["difference"] for one in single]
        assert row["interval"] == "range"
        assert (row["low"], row["high"]) == pytest.approx((min(differences), max(differences)), abs=1e-9)
        assert row["low"] < row["high"]
        assert {one[key]["low"] for one in single} == {None}


def test_from_ten_scenes_on_the_difference_lies_in_its_bootstrap_interval(context):
    rows = compared_on(context, [image(seed, ("blur", "noise")) for seed in range(3, 13)])
    assert len(rows) == 2 * 3
    for row in rows.values():
        assert row["interval"] == "bootstrap"
        assert row["low"] < row["difference"] < row["high"]


@pytest.mark.parametrize(("percents", "message"), [([-1], "-1 is not"), ([101, 5], "101 is not"), ([0, 100], "one")])
def test_percents_that_cannot_be_are_refused(context, percents, message):
    with pytest.raises(UserError, match=message):
        curves(context, percents=percents)


def test_matched_filters_have_the_same_number_in_each_layer():
    layout = FilterLayout.of(SRResNet(features=4, blocks=2))
    filters = torch.tensor([0, 3, 11, 12, 40, len(layout) - 1])
    matched = layer_matched(filters, layout, sample_rng(0, "test"))
    layers = layout.layer_of()
    count = len(layout.layers)
    assert torch.equal(layers[matched].bincount(minlength=count), layers[filters].bincount(minlength=count))
    assert len(matched.unique()) == len(filters)
    assert matched.sort().values.tolist() != filters.tolist()
    assert torch.equal(matched, layer_matched(filters, layout, sample_rng(0, "test")))
    more = layer_matched(torch.cat([filters, torch.tensor([1, 13, 50])]), layout, sample_rng(0, "test"))
    assert set(matched.tolist()) < set(more.tolist())


def test_all_filters_are_matched_by_all_filters_and_none_by_none():
    layout = FilterLayout.of(SRResNet(features=4, blocks=1))
    every = torch.arange(len(layout))
    assert torch.equal(layer_matched(every, layout, sample_rng(0, "test")).sort().values, every)
    assert len(layer_matched(every[:0], layout, sample_rng(0, "test"))) == 0


METHODS = ("faig", "signed_share", "random", "layer_matched")
AREAS = {"faig": 0.33, "signed_share": 0.09, "random": 0.73, "layer_matched": 0.68}
APART = {"signed_share": (0.25, 0.22, 0.28), "random": (-0.3, -0.4, -0.2), "layer_matched": (0.01, -0.1, 0.1)}
DELETED = {0: 1.0, 1: 0.1, 10: 0.05, 100: 0.0}
"""Percent → the share that deletion leaves; insertion restores the rest."""


@pytest.fixture
def make(make_run):
    def write(degradations=("blur", "noise"), dip=None):
        names, several = list(degradations), len(degradations) > 1

        def restored(row):
            if (row["curve"], row["method"], row["percent"]) == (INSERTION, "signed_share", 10) and dip is not None:
                return dip
            return DELETED[row["percent"]] if row["curve"] == DELETION else 1 - DELETED[row["percent"]]

        def area(row, linear, shift):
            own = row["side"] == "own" or several
            return abs(linear - AREAS[row["method"]]) + shift if own else None

        rows = grid(
            curve=CURVES, method=METHODS, percent=[*DELETED], masked=names, degradation=names, restored=restored,
            low=0.0, high=1.0,
        )  # fmt: skip
        ends = (("", 0.0), ("_low", -0.05), ("_high", 0.05))
        columns = {
            f"area_{axis}{end}": lambda row, linear=linear, shift=shift: area(row, linear, shift)
            for linear, axis in enumerate(("log", "linear"))
            for end, shift in ends
        }
        sides = ["own", "other", "difference"]
        areas = grid(curve=CURVES, method=METHODS, masked=[*names, "all"], side=sides, **columns)
        compared = grid(curve=CURVES, method=[*APART], against="faig")
        for row in compared:
            row |= dict(
                zip(("difference", "low", "high"), APART[row["method"]] if several else [None] * 3, strict=True)
            )
        return stored(make_run(degradations), curves=rows, curves_areas=areas, curves_compared=compared)

    return write


def test_the_shares_at_the_headline(make):
    assert SECTION.sentence(make()) == (
        "FAIG at 1 %: deleting its sets leaves 10 % of deblurring and 10 % of denoising; inserting its sets alone "
        "restores 90 % of deblurring and 90 % of denoising."
    )


def test_areas_and_paired_differences_are_columns_of_the_table(make):
    table = SECTION.table(make())
    assert table.head[-2:] == [f"{curve}, own against others, minus FAIG" for curve in ("deletion", "insertion")]
    assert len(table.rows) == 2 * len(METHODS)
    assert table.rows[0][:2] == ["FAIG, log q", "0.33 (0.28 to 0.38)"]
    rows = {row[0]: row[-2:] for row in table.rows}
    assert rows["signed share, log q"] == ["+0.25 (+0.22 to +0.28)"] * 2
    assert rows["random, layer-matched, log q"][0] == "+0.01 (−0.10 to +0.10)"
    assert rows["FAIG, log q"] == rows["signed share, linear q"] == ["", ""]


def test_a_curve_below_the_panel_is_marked(make):
    figure = SECTION.figure(make(dip=-1.5))
    assert {text.get_text() for axes in figure.axes for text in axes.texts} == {"▾ −150 %"}
    labels = [line.get_label() for line in figure.axes[0].lines[:4]]
    assert labels == ["FAIG", "signed share", "random filters", "random, layer-matched"]


@pytest.mark.parametrize(("degradations", "panels"), [(("blur",), 2), (("blur", "noise", "jpeg"), 12)])
def test_one_degradation_has_no_others_and_others_are_averaged(make, degradations, panels):
    run = make(degradations)
    figure, others = SECTION.figure(run), panels > 2
    assert len(figure.axes) == panels
    titles = {axes.get_title() for axes in figure.axes}
    assert ("deblurring set deleted: the others, mean left" in titles) == others
    assert (SECTION.table(run).head == ["Area under the curve", "deleted: own ↓", "inserted: own ↑"]) != others
