"""Headline numbers have exactly the keys that users script against."""

import pytest

from faig_lab.evaluation.masking import masking_metrics, restoration_metrics


def masked(removed, draw=0, percent=1, method="faig", difference=2.0, own="blur", other="noise"):
    return {
        "method": method,
        "draw": draw,
        "percent": percent,
        "masked": own,
        "degradation": other,
        "removed": removed,
        "output_difference": difference,
    }


@pytest.mark.parametrize(
    ("percent", "shown"), [(0.1, "0.1"), (0.5, "0.5"), (1, "1"), (1.0, "1"), (10.0, "10"), (100, "100"), (0.25, "0.25")]
)
def test_keys_of_the_masking_study(percent, shown):
    found = masking_metrics([masked(0.25, percent=percent)])
    expected = {"removed": 0.25, "harm": 0.0, "output_difference": 2.0}
    assert found == {f"{name}/faig/{shown}/blur/noise": value for name, value in expected.items()}


def test_draws_are_averaged():
    rows = [
        masked(removed, draw, method="random", difference=removed * 10) for draw, removed in enumerate((0.1, 0.2, 0.6))
    ]
    found = masking_metrics(rows)
    assert found["removed/random/1/blur/noise"] == pytest.approx(0.3)
    assert found["output_difference/random/1/blur/noise"] == pytest.approx(3)


def test_a_share_that_is_not_defined_stays_so():
    found = masking_metrics([masked(0.1), masked(None, draw=1)])
    expected = {"removed": None, "harm": None, "output_difference": 2.0}
    assert found == {f"{name}/faig/1/blur/noise": value for name, value in expected.items()}


def test_shares_are_clipped_in_the_mean_and_the_excess_is_harm():
    rows = [masked(removed, draw, method="random") for draw, removed in enumerate((3.0, 0.5, -0.4, 1.2))]
    found = masking_metrics(rows)
    assert found["removed/random/1/blur/noise"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert found["harm/random/1/blur/noise"] == pytest.approx((2 + 0 + 0 + 0.2) / 4)


def test_keys_of_the_restoration():
    rows = [
        {"network": network, "degradation": "blur+noise", "image": image, "psnr": psnr, "psnr_y": psnr + 2, "ssim": 0.5}
        for network, image, psnr in (("bicubic", "a", 20.0), ("bicubic", "b", 30.0), ("target", "a", 31.0))
    ]
    assert restoration_metrics(rows) == {
        "psnr/bicubic/blur+noise": 25.0,
        "psnr/target/blur+noise": 31.0,
        "psnr_y/bicubic/blur+noise": 27.0,
        "psnr_y/target/blur+noise": 33.0,
        "ssim/bicubic/blur+noise": 0.5,
        "ssim/target/blur+noise": 0.5,
    }
