"""Methods compared on planted PSNR: shares, intervals and paired differences worked out by hand."""

import math

import numpy as np
import pytest

from faig_lab.evaluation import comparison
from faig_lab.evaluation.intervals import Resampling, resamples
from faig_lab.evaluation.masking import Edits, Masked, comparison_metrics, other_inputs, own_input
from faig_lab.metrics import EditSums
from faig_lab.runs.tables import frame, records

HOW = Resampling(0, 1000)
ENDS = ("own_low", "own_high", "other_low", "other_high", "specificity_low", "specificity_high")


def planted(removed, scenes, degradations=("blur", "noise"), gain=10.0, percents=(1.0,)):
    """Networks whose removed shares are given: method → (images, draws, masked, percents, inputs)."""
    arrays = {method: np.asarray(shares, dtype=float) for method, shares in removed.items()}
    psnr = 30 - gain * np.concatenate(list(arrays.values()), 1)
    ends = np.full((len(scenes), len(degradations)), 30.0)
    draws = {method: shares.shape[1] for method, shares in arrays.items()}
    return Masked([], draws, percents, degradations, tuple(scenes), psnr, ends - gain, ends, no_edits(psnr, ends))


def no_edits(psnr, target):
    """Masked networks whose outputs did not move."""
    zero = np.zeros_like(psnr)
    return Edits(("blur", "noise"), EditSums(zero + 1, zero, zero), psnr, target)


def compare(masked, against, how):
    """The tables as rows."""
    return comparison.Comparison(*map(records, comparison.compare(masked, against, how)))


def sets(own, other):
    """One draw of one percent, two degradations: the own and the other share are the same for both masked sets."""
    return [[[[own, other]], [[other, own]]]]


def the_row(rows, **wanted):
    (found,) = [row for row in rows if wanted.items() <= row.items()]
    return found


# Points


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3), (2, 3, 4, 3), (1, 1)])
def test_own_and_other_inputs_by_hand(shape):
    """The masked sets are the second axis from the end, or the third where percents follow."""
    values = np.random.default_rng(0).random(shape)
    masked = -3 if len(shape) == 4 else -2
    by_set = np.moveaxis(values, masked, 0)  # masked, …, inputs
    own, other = (np.moveaxis(of(values, masked), masked + 1, 0) for of in (own_input, other_inputs))
    for k in range(shape[-1]):
        assert np.array_equal(own[k], by_set[k][..., k])
        rest = np.delete(by_set[k], k, -1)
        expected = rest.mean(-1) if shape[-1] > 1 else np.full(rest.shape[:-1], np.nan)
        np.testing.assert_allclose(other[k], expected, rtol=1e-14)


def test_an_own_input_without_a_value_leaves_the_others_defined():
    assert other_inputs(np.array([[math.nan, 0.25], [0.5, math.nan]]), -2).tolist() == [0.25, 0.5]


def test_own_other_and_specificity_of_one_set():
    masked = planted({"faig": [[[[[0.8, 0.3]], [[0.1, 0.6]]]]]}, ["a"])
    blur, noise = compare(masked, "faig", HOW).sets
    columns = ["method", "percent", "masked", "own", "other", "specificity", "specificity_std", "harm"]
    assert list(blur) == [*columns, *ENDS, "interval"]
    assert (blur["method"], blur["percent"], blur["masked"], noise["masked"]) == ("faig", 1, "blur", "noise")
    assert [blur[side] for side in ("own", "other", "specificity")] == pytest.approx([0.8, 0.3, 0.5])
    assert [noise[side] for side in ("own", "other", "specificity")] == pytest.approx([0.6, 0.1, 0.5])
    assert blur["specificity_std"] == 0


def test_specificity_is_the_mean_and_the_spread_over_draws():
    draws = [sets(own, other)[0] for own, other in ((0.5, 0.4), (0.7, 0.2), (0.9, 0.0))]
    tables = compare(planted({"random": [draws]}, ["a"]), "random", HOW)
    for found in (tables.sets[0], tables.methods[0]):
        assert (found["own"], found["other"], found["specificity"]) == pytest.approx((0.7, 0.2, 0.5))
        assert found["specificity_std"] == pytest.approx(math.sqrt((0.4**2 + 0 + 0.4**2) / 2))
    assert tables.methods[0]["draws"] == 3


def test_the_spread_of_the_mean_over_sets_is_that_of_each_draw_s_mean():
    """Two draws whose sets are specific by turns: each set varies, the mean does not."""
    first, second = [[[0.9, 0.1]], [[0.1, 0.3]]], [[[0.3, 0.1]], [[0.1, 0.9]]]
    tables = compare(planted({"random": [[first, second]]}, ["a"]), "random", HOW)
    assert [row["specificity_std"] for row in tables.sets] == pytest.approx([0.6 / math.sqrt(2)] * 2)
    assert tables.methods[0]["specificity_std"] == pytest.approx(0)


def test_among_three_degradations_the_others_are_averaged():
    shares = [[[[[0.9, 0.1, 0.5]], [[0.0, 0.6, 0.2]], [[0.2, 0.4, 0.3]]]]]
    tables = compare(planted({"faig": shares}, ["a"], ("blur", "noise", "jpeg")), "faig", HOW)
    assert [row["other"] for row in tables.sets] == pytest.approx([0.3, 0.1, 0.3])
    assert [row["specificity"] for row in tables.sets] == pytest.approx([0.6, 0.5, 0.0])
    (mean,) = tables.methods
    assert [mean[side] for side in ("own", "other", "specificity")] == pytest.approx([0.6, 0.7 / 3, 1.1 / 3])


def test_one_degradation_has_no_other():
    tables = compare(planted({"faig": [[[[[0.8]]]], [[[[0.6]]]]]}, ["a", "b"], ("blur",)), "faig", HOW)
    (row,) = tables.sets
    assert (row["own"], row["own_low"], row["own_high"]) == pytest.approx((0.7, 0.6, 0.8))
    assert {row[key] for key in ("other", "specificity", "specificity_std", "other_low", "specificity_high")} == {None}


def test_a_share_that_is_not_defined_makes_no_specificity():
    """The target is no better than the baseline on noise: what masking removes of it is not defined."""
    masked = planted({"faig": [sets(0.8, 0.3)] * 2}, ["a", "b"])
    masked.baseline[:, 1] = masked.target[:, 1]
    blur, noise = (row for row in compare(masked, "faig", HOW).sets)
    assert (blur["own"], noise["other"]) == pytest.approx((0.8, 0.3))
    assert {blur["other"], blur["specificity"], noise["own"], noise["specificity"], noise["own_low"]} == {None}
    assert compare(masked, "faig", HOW).methods[0]["specificity"] is None


def test_the_order_of_the_tables():
    shares = np.zeros((1, 1, 2, 2, 2))
    tables = compare(planted({"faig": shares, "ig": shares}, ["a"], percents=(0.5, 1.0)), "faig", HOW)
    order = [
        (method, percent, masked) for method in ("faig", "ig") for masked in ("blur", "noise") for percent in (0.5, 1)
    ]
    assert [(row["method"], row["percent"], row["masked"]) for row in tables.sets] == order
    assert [(row["method"], row["percent"]) for row in tables.methods] == [
        (method, percent) for method in ("faig", "ig") for percent in (0.5, 1)
    ]
    assert {(row["method"], row["against"]) for row in tables.paired} == {("ig", "faig")}
    assert [row["masked"] for row in tables.paired] == ["blur", "blur", "noise", "noise", "all", "all"]


def test_shares_are_clipped_before_every_mean_and_the_excess_is_harm():
    """Draws with own shares of 3 and 0.5: 1 and 0.5 count. The other's −0.4 and 1.5 count as 0 and 1."""
    draws = [sets(3.0, -0.4)[0], sets(0.5, 1.5)[0]]
    tables = compare(planted({"random": [draws]}, ["a"]), "random", HOW)
    for row in (*tables.sets, *tables.methods):
        assert (row["own"], row["other"], row["specificity"]) == pytest.approx((0.75, 0.5, 0.25))
        assert row["harm"] == pytest.approx((2 + 0) / 2)


# Intervals


def test_of_two_photographs_the_interval_runs_from_the_one_to_the_other():
    tables = compare(planted({"faig": [sets(0.8, 0.1), sets(0.6, 0.2)]}, ["a", "b"]), "faig", HOW)
    for row in (*tables.sets, *tables.methods):
        assert (row["own"], row["other"], row["specificity"]) == pytest.approx((0.7, 0.15, 0.55))
        assert [row[end] for end in ENDS] == pytest.approx([0.6, 0.8, 0.1, 0.2, 0.4, 0.7])
    assert tables.methods[0]["photographs"] == 2


def test_one_photograph_has_no_interval():
    tables = compare(
        planted({"faig": [sets(0.8, 0.1), sets(0.6, 0.2)], "ig": [sets(0.5, 0.1)] * 2}, ["a", "a"]), "faig", HOW
    )
    for row in (*tables.sets, *tables.methods):
        assert {row[end] for end in ENDS} == {None}
    assert all((row["low"], row["high"]) == (None, None) for row in tables.paired)
    assert the_row(tables.paired, masked="all")["difference"] == pytest.approx(0.4 - 0.55)
    assert tables.methods[0]["photographs"] == 1


@pytest.mark.parametrize("kind", ["bootstrap", "range"])
def test_it_agrees_with_a_plain_one(kind, monkeypatch):
    """Three degradations, unequal gains, photographs with different numbers of crops: everything by hand, in loops."""
    rng = np.random.default_rng(0)
    scenes, names = tuple("abbcdefghijk"), ("blur", "noise", "jpeg")
    psnr = rng.uniform(18, 34, (12, 1 + 2, 3, 2, 3))
    baseline, target = rng.uniform(20, 24, (12, 3)), rng.uniform(26, 32, (12, 3))
    edits = no_edits(psnr, target)
    masked = Masked([], {"faig": 1, "random": 2}, (1.0, 5.0), names, scenes, psnr, baseline, target, edits)
    monkeypatch.setattr("faig_lab.evaluation.intervals.FEWEST_SCENES", 11 if kind == "bootstrap" else 12)
    found = compare(masked, "faig", Resampling(7, 300))
    assert {row["interval"] for table in found for row in table} == {kind}

    def specific(images, rankings, m, q):
        def removed(k):
            worst, best = baseline[images, k].mean(), target[images, k].mean()
            shares = [(best - psnr[images, r, m, q, k].mean()) / (best - worst) for r in rankings]
            return np.mean([min(max(share, 0), 1) for share in shares])

        return removed(m) - np.mean([removed(k) for k in range(3) if k != m])

    drawn = [
        [i for photograph in chosen for i in range(12) if scenes[i] == "abcdefghijk"[photograph]]
        for chosen in (resamples(11, 7, 300) if kind == "bootstrap" else [[place] for place in range(11)])
    ]
    ends = [0.025, 0.975] if kind == "bootstrap" else [0, 1]
    for q, percent in enumerate((1.0, 5.0)):
        means = [[np.mean([specific(images, rankings, m, q) for m in range(3)]) for images in drawn]
                 for rankings in ([0], [1, 2])]  # fmt: skip
        for method, expected in zip(("faig", "random"), means, strict=True):
            row = the_row(found.methods, method=method, percent=percent)
            assert (row["specificity_low"], row["specificity_high"]) == pytest.approx(np.quantile(expected, ends))
        row = the_row(found.paired, masked="all", percent=percent)
        expected = np.quantile(np.subtract(means[1], means[0]), ends)
        assert (row["low"], row["high"]) == pytest.approx(expected)
        one = [specific(images, [0], 2, q) for images in drawn]
        row = the_row(found.sets, method="faig", masked="jpeg", percent=percent)
        assert (row["specificity_low"], row["specificity_high"]) == pytest.approx(np.quantile(one, ends))


def test_headline_numbers_are_of_one_percent():
    shares = np.zeros((2, 1, 2, 2, 2))
    tables = compare(planted({"faig": shares}, "ab", percents=(0.5, 1.0)), "faig", HOW)
    assert comparison_metrics(frame(tables.methods), 1.0) == {
        "specificity/faig/1": 0.0,
        "specificity_low/faig/1": 0.0,
        "specificity_high/faig/1": 0.0,
    }
