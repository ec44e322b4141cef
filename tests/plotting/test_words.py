"""Number formats, and what is shown where there is no number."""

import math

import pytest

from faig_lab.plotting import words


@pytest.mark.parametrize("absent", [None, math.nan, math.inf])
def test_absent_numbers_are_a_dash(absent: float | None) -> None:
    formats = (words.decimal, words.signed, words.share, words.small_share, words.count, words.duration)
    assert {show(absent) for show in formats} == {words.ABSENT}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (words.decimal(-0.001), "0.00"),
        (words.decimal(-1.5), "\u22121.50"),
        (words.signed(4.5), "+4.50"),
        (words.signed(-0.25), "\u22120.25"),
        (words.share(0.853), "85 %"),
        (words.share(-0.004), "0 %"),
        (words.small_share(0.00123), "0.12 %"),
        (words.as_percent(1.0), "1 %"),
        (words.as_percent(0.5), "0.5 %"),
        (words.count(12240), "12,240"),
        (words.duration(8.26), "8.3 s"),
        (words.duration(212.4), "3 min 32 s"),
        (words.duration(7322), "2 h 2 min"),
        (words.degraded("blur+noise"), "blurred and noisy"),
        (words.degraded("blur+noise+jpeg"), "blurred, noisy and JPEG"),
        (words.degraded("film_grain"), "film grain"),
        (words.removal("rain"), "rain removal"),
        (words.removal("film_grain"), "film grain removal"),
        (words.removal("jpeg"), "JPEG artefact removal"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.listed(["a"]), "a"),
        (words.listed([]), ""),
        (words.sentence_case("JPEG"), "JPEG"),
    ],
)
def test_formats(shown: str, expected: str) -> None:
    assert shown == expected
