"""Methods compared on planted PSNR: shares, intervals and paired differences worked out by hand."""

import math

import numpy as np
import pytest

from faig_lab.evaluation import comparison
from faig_lab.evaluation.comparison import MEASURES, SIDES
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
    columns = ["method", "percent", "masked", *SIDES, "specificity_std", "harm", *ENDS, "interval"]
    assert list(tables.sets[0]) == columns
    assert list(tables.methods[0]) == [c for c in columns if c != "masked"] + ["draws", "photographs"]
    assert [(row["method"], row["percent"], row["masked"]) for row in tables.sets] == order
    assert [(row["method"], row["percent"]) for row in tables.methods] == [
        (method, percent) for method in ("faig", "ig") for percent in (0.5, 1)
    ]
    assert {(row["method"], row["against"]) for row in tables.paired} == {("ig", "faig")}
    assert [row["masked"] for row in tables.paired] == ["blur", "blur", "noise", "noise", "all", "all"]


def test_one_photograph_has_no_interval():
    tables = compare(
        planted({"faig": [sets(0.8, 0.1), sets(0.6, 0.2)], "ig": [sets(0.5, 0.1)] * 2}, ["a", "a"]), "faig", HOW
    )
    for row in (*tables.sets, *tables.methods):
        assert {row[end] for end in ENDS} == {None}
    assert all((row["low"], row["high"]) == (None, None) for row in tables.paired)
    assert the_row(tables.paired, masked="all")["difference"] == pytest.approx(0.4 - 0.55)
    assert tables.methods[0]["photographs"] == 1


def plain(masked, images, method, m, q):
    """(draws, 4) own, other, specificity and harm of one set on some images, each draw by itself, in loops."""
    first = {"faig": 0, "random": 1}[method]
    rows = []
    for r in range(first, first + masked.draws[method]):
        removed = []
        for k in range(len(masked.degradations)):
            worst, best = masked.baseline[images, k].mean(), masked.target[images, k].mean()
            removed.append((best - masked.psnr[images, r, m, q, k].mean()) / (best - worst))
        share = [min(max(value, 0), 1) for value in removed]
        rest = [value for k, value in enumerate(share) if k != m]
        other = sum(rest) / len(rest) if rest else math.nan
        rows.append([share[m], other, share[m] - other, max(removed[m] - 1, 0)])
    return np.array(rows)


@pytest.mark.parametrize("kind", ["bootstrap", "range"])
@pytest.mark.parametrize("names", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")], ids=len)
def test_the_tables_agree_with_plain_loops(kind, names, monkeypatch):
    """Unequal gains, shares beyond [0, 1], photographs with different numbers of crops, three draws of one method."""
    rng, scenes, count = np.random.default_rng(0), tuple("abbcdefghijk"), len(names)
    psnr = rng.uniform(18, 34, (12, 1 + 3, count, 2, count))
    baseline, target = rng.uniform(20, 24, (12, count)), rng.uniform(26, 32, (12, count))
    edits = no_edits(psnr, target)
    masked = Masked([], {"faig": 1, "random": 3}, (1.0, 5.0), names, scenes, psnr, baseline, target, edits)
    monkeypatch.setattr("faig_lab.evaluation.intervals.FEWEST_SCENES", 11 if kind == "bootstrap" else 12)
    found = compare(masked, "faig", Resampling(7, 100))
    assert {row["interval"] for table in found for row in table} == {kind}
    chosen = resamples(11, 7, 100) if kind == "bootstrap" else [[place] for place in range(11)]
    drawn = [[i for photograph in each for i in range(12) if scenes[i] == "abcdefghijk"[photograph]] for each in chosen]
    ends = [0.025, 0.975] if kind == "bootstrap" else [0, 1]

    def numbers(row, columns):
        return [math.nan if row[column] is None else row[column] for column in columns]

    for m, name in [*enumerate(names), (slice(None), "all")]:
        sets = range(count)[m] if name == "all" else [m]
        for q, percent in enumerate((1.0, 5.0)):
            by_method = {}
            for method in masked.draws:
                values, *samples = (
                    np.mean([plain(masked, images, method, one, q) for one in sets], 0)
                    for images in (list(range(12)), *drawn)
                )
                by_method[method] = np.array([values.mean(0), *(sample.mean(0) for sample in samples)])
                rows = found.methods if name == "all" else [row for row in found.sets if row["masked"] == name]
                row = the_row(rows, method=method, percent=percent)
                assert name != "all" or (row["draws"], row["photographs"]) == (masked.draws[method], 11)
                assert numbers(row, MEASURES) == pytest.approx(values.mean(0), nan_ok=True)
                std = values[:, 2].std(ddof=1) if len(values) > 1 else 0 * values[0, 2]
                assert numbers(row, ["specificity_std"]) == pytest.approx([std], nan_ok=True, abs=1e-12)
                expected = np.quantile(by_method[method][1:, :3], ends, axis=0).T.ravel()
                assert numbers(row, ENDS) == pytest.approx(expected, nan_ok=True)
            difference = by_method["random"][:, 2] - by_method["faig"][:, 2]
            row = the_row(found.paired, masked=name, percent=percent)
            expected = [difference[0], *np.quantile(difference[1:], ends)]
            assert numbers(row, ("difference", "low", "high")) == pytest.approx(expected, nan_ok=True)


def test_headline_numbers_are_of_one_percent():
    shares = np.zeros((2, 1, 2, 2, 2))
    tables = compare(planted({"faig": shares}, "ab", percents=(0.5, 1.0)), "faig", HOW)
    assert comparison_metrics(frame(tables.methods), 1.0) == {
        "specificity/faig/1": 0.0,
        "specificity_low/faig/1": 0.0,
        "specificity_high/faig/1": 0.0,
    }
