"""Curves of deletion and insertion: areas, sides and shares by hand."""

import numpy as np
import pytest

from faig_lab.evaluation.curves import (
    CURVES,
    Measured,
    areas,
    curve_rows,
    linear_weights,
    log_weights,
    normalised_curve,
)
from faig_lab.evaluation.intervals import Resampling
from faig_lab.runs.tables import records, select

PERCENTS = np.array([0.0, 1.0, 10.0, 100.0])


def one_ranking(deletion, insertion):
    """(curves, 1 ranking, 1 masked, percents, 1 input) PSNR."""
    return np.array([deletion, insertion]).reshape(2, 1, 1, 4, 1)


def test_areas_by_hand():
    psnr = one_ranking([30.0, 25.0, 22.5, 20.0], [20.0, 21.0, 29.0, 30.0])
    assert normalised_curve(psnr).reshape(2, 4).tolist() == [[1, 0.5, 0.25, 0], [0, 0.1, 0.9, 1]]
    own = areas(psnr, log_weights(PERCENTS))[:, 0, :, 0]
    np.testing.assert_allclose(own, [[0.25] * 2, [(0.5 + 0.95) / 2] * 2])
    own = areas(psnr, linear_weights(PERCENTS))[:, 0, 0, 0]
    np.testing.assert_allclose(own, [(0.75 + 9 * 0.375 + 90 * 0.125) / 100, (0.05 + 9 * 0.5 + 90 * 0.95) / 100])


def test_weights_of_an_axis_sum_to_one():
    for weights in (linear_weights(PERCENTS), log_weights(PERCENTS)):
        assert weights.shape == PERCENTS.shape
        assert weights.sum() == pytest.approx(1)
    assert log_weights(PERCENTS)[0] == 0


def test_a_curve_is_measured_between_its_own_ends_and_never_beyond_them():
    psnr = one_ranking([30.0, 31.0, 10.0, 26.0], [26.0, 10.0, 28.0, 30.0])
    assert normalised_curve(psnr).reshape(2, 4).tolist() == [[1, 1, 0, 0], [0, 0, 0.5, 1]]


def test_a_curve_that_goes_nowhere_has_no_area():
    found = areas(one_ranking([30.0] * 4, [30.0] * 4), log_weights(PERCENTS))
    np.testing.assert_array_equal(found, np.full((2, 1, 2, 3), np.nan), strict=True)


def test_sides_and_the_mean_over_three_degradations():
    """Deletion of the first set removes half of its own function at once and nothing of the others."""
    psnr = np.full((2, 1, 3, 4, 3), 30.0)
    psnr[0, ..., -1, :] = psnr[1, ..., 0, :] = 20.0
    psnr[0, 0, 0, 1:3, 0] = 25.0
    found = areas(psnr, log_weights(PERCENTS))[0, 0]
    whole, half = 0.75, 0.375
    np.testing.assert_allclose(found[0], [half, whole, whole - half])
    np.testing.assert_allclose(found[1], [whole, whole, 0], atol=1e-12)
    np.testing.assert_allclose(found[3], [(half + 2 * whole) / 3, whole, (whole - half) / 3])


def test_shares_are_clipped_in_the_mean_over_draws_and_what_is_below_the_baseline_is_harm():
    """Restored shares of two draws at 1 %: −2 and 0.5 by deletion, 1.5 and 0.5 by insertion."""
    shares = np.zeros((2, 2, 2, 1, 3, 1))  # images, curves, rankings, masked, percents, inputs
    shares[:, 0, :, 0, :, 0] = [[1, -2, 0], [1, 0.5, 0]]
    shares[:, 1, :, 0, :, 0] = [[0, 1.5, 1], [0, 0.5, 1]]
    ends = np.full((2, 1), 20.0)
    measured = Measured(
        percents=(0, 1, 100), counts=(0, 1, 100), draws={"random": 2}, degradations=("blur",), scenes=("a", "b"),
        psnr=20 + 10 * shares, baseline=ends, target=ends + 10,
    )  # fmt: skip
    at_one = select(curve_rows(measured, Resampling(0, 10)), 1)
    deleted, inserted = (records(select(at_one, curve=curve))[0] for curve in CURVES)
    assert (deleted["restored"], deleted["harm"], deleted["low"], deleted["high"]) == pytest.approx(
        (0.25, 1, 0.25, 0.25)
    )
    assert (inserted["restored"], inserted["harm"]) == (0.75, 0)
    assert deleted["psnr"] == pytest.approx(20 + 10 * (-2 + 0.5) / 2)
