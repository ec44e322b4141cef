"""The boundary: severities by hand, the trained severity gives the study's own pixels, and gains add up."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
import torch
from study_case import context_of, grid, rows_of, stored

from faig_lab.data import (
    JPEG,
    AnisotropicGaussianBlur,
    Composed,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    Photograph,
    PoissonNoise,
    Resize,
    Sinc,
)
from faig_lab.data.evaluation import paired_images
from faig_lab.studies.boundary import NETWORKS, SECTION, boundary, degrade_again, gain_and_share, severities

BLUR, NOISE = GaussianBlur(sigma=1.0, kernel_size=7), GaussianNoise(sigma=0.1)


@pytest.fixture(scope="module")
def photograph():
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    return Photograph("texture", "texture", pixels, "")


@pytest.fixture(scope="module")
def context(photograph):
    """A subject whose held-out images are cut from a photograph, with margins of real pixels."""
    context = context_of()
    degradation = Degradation({"blur": BLUR, "noise": NOISE}, Downsample("bicubic", True), 2)
    held_out = paired_images([photograph], degradation, crop=40, crops=2)
    return replace(context, degradation=degradation, data=replace(context.data, held_out=held_out))


@pytest.mark.parametrize(
    ("part", "factors", "expected"),
    [
        (GaussianBlur(sigma=2), [0.25, 1, 2], [0.5, 2, 4]),
        (GaussianNoise(sigma=0.1), [3, 0.5], [0.05, 0.3]),
        (GaussianNoise(sigma=(0.1, 0.3)), [0.5, 1, 2], [0.05, 0.1, 0.2, 0.3, 0.6]),
        (GaussianNoise(sigma=(0.1, 0.3)), [0.5, 2], [0.05, 0.6]),
        (PoissonNoise(peak=50), [0.5, 1], [25, 50]),
        (AnisotropicGaussianBlur(sigma_x=4.0), [0.5], [2]),
        (MotionBlur(length=15), [0.1, 0.25, 1, 2], [3, 5, 15, 31]),  # 1.5, 3.75 and 30 become odd
        (JPEG(quality=40), [0.25, 1, 2, 3], [10, 40, 80]),  # there is no quality 120
    ],
)
def test_severities_are_multiples_of_the_first_parameter(part, factors, expected):
    found = severities(part, factors)
    assert list(found) == pytest.approx(expected)
    assert all(type(changed) is type(part) for changed in found.values())
    whole = isinstance(part, MotionBlur | JPEG)
    assert all(isinstance(value, int if whole else float) for value in found)


def test_a_kernel_grows_beyond_the_trained_severity_and_never_shrinks():
    found = severities(GaussianBlur(sigma=2.0, kernel_size=21), [0.5, 1, 1.5, 2, 3])
    assert [part.kernel_size for part in found.values()] == [21, 21, 31, 41, 61]
    assert found[2.0] == GaussianBlur(sigma=2.0, kernel_size=21)


@dataclass(frozen=True)
class Named:
    name: str = "by name"
    probability: float = 0.5
    domain: Literal["lr"] = "lr"


def test_a_part_without_a_number_first_is_left_out():
    assert severities(Named(), [0.5, 1]) == {}
    assert severities(object(), [1]) == {}
    two = {"a": GaussianBlur(), "b": GaussianBlur()}  # two names are no range
    assert severities(Composed(two), [0.5, 1]) == {}


def test_severities_of_a_sinc_and_of_resizing_stay_within_what_they_take():
    assert list(severities(Sinc(cutoff=1.5), [0.5, 1, 2, 3])) == [0.75, 1.5, 3.0]
    found = severities(Resize(factor=(0.2, 0.6)), [0.5, 1, 2])
    assert list(found) == pytest.approx([0.1, 0.2, 0.4, 0.6, 1.2])
    assert all(part.factor == value for value, part in found.items())


@pytest.mark.parametrize("name", ["blur", "noise"])
def test_the_trained_severity_gives_the_study_s_input_but_for_its_border(context, name):
    part = context.degradation.parts[name]
    alone = replace(context.degradation, parts={name: part})
    border = -(-alone.margin // 2)
    for image, anew in zip(context.data.held_out, degrade_again(context.data.held_out, alone, name), strict=True):
        inside = (slice(None), slice(border, -border), slice(border, -border))
        assert torch.equal(anew.lr[name][inside], image.lr[name][inside])
        assert not torch.equal(anew.lr[name], image.lr[name])
        assert torch.equal(anew.lr["clean"], image.lr["clean"])


def test_an_image_smaller_than_the_margin_can_be_degraded(context):
    (image, *_) = paired_images(
        [Photograph("s", "s", np.zeros((8, 8, 3), np.uint8), "")], context.degradation, crop=8, crops=1
    )
    wide = replace(context.degradation, parts={"blur": GaussianBlur(sigma=5.0, kernel_size=61)})
    (anew,) = degrade_again([image], wide, "blur")
    assert anew.lr["blur"].abs().max() == 0


def test_gain_and_share_by_hand():
    psnrs = np.array([[20.0, 22.0, 25.0, 23.0]])
    assert gain_and_share(psnrs) == pytest.approx(np.array([[3.0, 2 / 3]]))
    flat = np.array([[20.0, 25.0, 25.1, 22.0]])
    gain, share = gain_and_share(flat)[0]
    assert gain == pytest.approx(0.1)
    assert np.isnan(share)


def test_the_tables_agree_with_each_other(context):
    apart = tuple(replace(image, scene=f"scene {n}") for n, image in enumerate(context.data.held_out))
    context = replace(context, data=replace(context.data, held_out=apart))
    findings = boundary(context, factors=[0.5, 1, 2])
    rows, gains = findings.rows("boundary"), findings.rows("boundary_gain")
    assert len(rows) == 2 * 3 * len(NETWORKS)
    assert len(gains) == 2 * 3
    assert [row["severity"] for row in gains] == pytest.approx([0.5, 1, 2, 0.05, 0.1, 0.2])
    assert [row["in_training"] for row in gains] == [0, 1, 0] * 2
    for row in gains:
        place = {column: row[column] for column in ("degradation", "severity")}
        psnr = {one["network"]: one["psnr"] for one in rows_of(findings, "boundary", **place)}
        assert row["gain"] == pytest.approx(psnr["target"] - psnr["baseline"])
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]
        if row["share"] is not None:
            assert row["share"] == pytest.approx((psnr["target"] - psnr["masked"]) / row["gain"])
    assert findings.metrics["boundary/gain/noise/0.05"] == gains[3]["gain"]


def test_crops_of_one_photograph_have_no_interval(context):
    gains = boundary(context, factors=[1]).rows("boundary_gain")
    assert {row["gain_low"] for row in gains} == {row["gain_high"] for row in gains} == {None}


def test_at_the_trained_severity_it_is_the_study_s_psnr_where_the_border_does_not_count(context):
    """Noise is pointwise, so only downsampling sees the border: numbers move by little."""
    rows = boundary(context, factors=[1]).rows("boundary")
    baseline, target = context.evaluator.bounds("noise")
    found = {row["network"]: row["psnr"] for row in rows if row["degradation"] == "noise"}
    assert found["target"] == pytest.approx(target, abs=0.1)
    assert found["baseline"] == pytest.approx(baseline, abs=0.1)


def test_masking_no_filter_carries_nothing(context):
    none = replace(context, percents=(1e-6,), headline=1e-6)
    rows = boundary(none, factors=[1]).rows("boundary")
    psnr = {(row["degradation"], row["network"]): row["psnr"] for row in rows}
    assert psnr["blur", "masked"] == psnr["blur", "target"]


def test_parts_that_the_run_did_not_make_are_left_out(context, caplog):
    without = replace(context, degradation=replace(context.degradation, parts={}))
    assert boundary(without).tables == {}
    assert "no degradation" in caplog.text


GAINS = {0.5: (-1.0, None), 1.0: (0.1, None), 2.0: (3.0, 0.6), 4.0: (0.5, 0.2)}
"""Severity → gain and share of the gain; 2 is the trained severity."""


@pytest.fixture
def make(make_run):
    def write(gains=GAINS, ends=0.3):
        label = {"method": "faig", "percent": 1.0, "degradation": ["blur", "noise"], "parameter": "sigma"}
        label |= {"severity": [*gains], "in_training": lambda row: int(row["severity"] == 2)}
        levels = {"bicubic": lambda gain: 24.0, "baseline": lambda gain: 25.0, "target": lambda gain: 25 + gain}
        levels |= {"masked": lambda gain: 25 + gain * 0.4}
        psnrs = grid(**label, network=[*levels], psnr=lambda row: levels[row["network"]](gains[row["severity"]][0]))
        rows = grid(**label)
        for row in rows:
            for column, value in zip(("gain", "share"), gains[row["severity"]], strict=True):
                known = value is not None and ends is not None
                row |= {column: value, f"{column}_low": value - ends if known else None}
                row |= {f"{column}_high": value + ends if known else None}
        return stored(make_run(), boundary=psnrs, boundary_gain=rows)

    return write


def test_what_carries_the_gain_in_training(make):
    assert SECTION.sentence(make()) == (
        "At the severity in training, the top 1 % of FAIG carry 60 % of the gain of +3.00 dB on blurred input "
        "(sigma = 2) and 60 % of the gain of +3.00 dB on noisy input (sigma = 2)."
    )
    assert "carry \N{EN DASH} of the gain" in SECTION.sentence(make({2.0: (0.1, None)}))


def test_the_table_has_every_severity_with_its_interval(make):
    rows = SECTION.table(make()).rows
    assert len(rows) == 2 * len(GAINS)
    assert rows[2] == ["blurred, sigma = 2 (trained)", "+3.00 (+2.70 to +3.30)", "60 % (30 % to 90 %)"]
    assert rows[0][1:] == ["−1.00 (−1.30 to −0.70)", "\N{EN DASH}"]


def test_a_run_without_intervals_has_no_bands(make):
    bands = [len(SECTION.figure(make(ends=ends)).axes[2].collections[0].get_paths()) for ends in (None, 0.3)]
    assert bands == [0, 1]


def test_the_rest_of_the_gain_is_drawn_below(make):
    above, _, below, _ = SECTION.figure(make()).axes
    gain, left = [line.get_ydata() for line in below.lines if len(line.get_xdata()) == len(GAINS)]
    assert list(gain) == pytest.approx([-1.0, 0.1, 3.0, 0.5])
    assert list(left) == pytest.approx([0.4 * value for value in gain])
    assert len({line.get_color() for line in above.lines[:4]}) == 1  # a degradation's colour, a line style per network
    assert len({line.get_linestyle() for line in above.lines[:4]}) == 4
