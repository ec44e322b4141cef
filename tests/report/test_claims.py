"""When words of judgement are allowed: each condition of method.md §9 alone forbids them."""

from dataclasses import replace

import pytest

from faig_lab.evaluation import intervals
from faig_lab.report import texts
from faig_lab.report.texts import Evidence, apart, may_claim, obstacles

ENOUGH = Evidence(scenes=(10, 24, 10), trainings=3, gains=(0.5, 3.0, 2.0, 4.0, 1.0, 0.7))


def test_enough_evidence_and_separate_intervals_allow_words():
    assert obstacles(ENOUGH) == []
    assert may_claim(ENOUGH, (0.1, 0.2), (0.3, 0.4))
    assert may_claim(ENOUGH, (0.3, 0.4), (0.1, 0.2))
    assert may_claim(ENOUGH, (0.01, 0.4))
    assert may_claim(ENOUGH, (-0.4, -0.01))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scenes": (24, 9, 24)}, "9 scenes (at least 10 are needed)"),
        ({"scenes": (1,)}, "1 scene (at least 10 are needed)"),
        ({"scenes": (24, None, 24)}, "the number of scenes is not known"),
        ({"scenes": ()}, "the number of scenes is not known"),
        ({"trainings": 2}, "2 trainings (at least 3 are needed)"),
        ({"trainings": 1}, "1 training (at least 3 are needed)"),
        ({"gains": (3.0, 0.49, 3.0)}, "a run whose target gains 0.49 dB (at least 0.5 dB are needed)"),
        ({"gains": (9.0, 9.0, -0.2)}, "a run whose target gains -0.20 dB (at least 0.5 dB are needed)"),
        ({"gains": (3.0, None)}, "the gain of a run is not known"),
        ({"gains": ()}, "the gain of a run is not known"),
    ],
)
def test_one_obstacle_is_enough(change, reason):
    evidence = replace(ENOUGH, **change)
    assert obstacles(evidence) == [reason]
    assert not may_claim(evidence, (0.1, 0.2), (0.3, 0.4))
    assert not may_claim(evidence, (0.1, 0.2))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0.1, 0.3), (0.3, 0.4)),
        ((0.1, 0.5), (0.2, 0.3)),
        ((0.2, 0.3), (0.1, 0.5)),
        ((None, None), (0.1, 0.2)),
        ((0.1, 0.2), (None, None)),
        ((-0.1, 0.1), None),
        ((0.0, 0.3), None),
        ((None, None), None),
    ],
)
def test_overlapping_or_missing_intervals_say_nothing(first, second):
    assert not may_claim(ENOUGH, first, second)
    assert second is None or not apart(first, second)


def test_a_single_run_never_claims():
    """One training, whatever the number of scenes: a run's own report has numbers only."""
    assert not may_claim(Evidence(scenes=(1000,), trainings=1, gains=(9.0,)), (1, 2), (3, 4))


def test_the_limit_is_that_of_the_bootstrap():
    assert texts.FEWEST_SCENES == intervals.FEWEST_SCENES
