"""When words of judgement such as "above" are allowed: one rule for everything that is printed or shown.

A number may always be shown. A sentence that puts one thing above another needs intervals that do not overlap, enough
scenes and trainings, and targets that restore (method.md §9).
"""

from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_SCENES = 10
"""Intervals over fewer scenes do not hold their level."""

FEWEST_TRAININGS = 3
"""One or two trainings do not say how far trainings are apart."""

SMALL_GAIN_DB = 0.5
"""Below this gain of the target over the baseline a removed share is a small number divided by a small number."""

Ends = tuple[float | None, float | None]
"""Low and high end of an interval; None where there is no interval."""


@dataclass(frozen=True)
class Evidence:
    """What a sentence of judgement rests on.

    Attributes:
        scenes: number of held-out scenes of each run; None where a run does not tell.
        trainings: number of trainings with a seed of their own.
        gains: dB by which each run's target is above its baseline, of every run and degradation; None where a run does
            not tell.
    """

    scenes: Sequence[int | None] = ()
    trainings: int = 0
    gains: Sequence[float | None] = ()


def obstacles(evidence: Evidence) -> list[str]:
    """Name everything that forbids words of judgement, whatever the numbers are; empty if nothing does."""
    known = [scenes for scenes in evidence.scenes if scenes is not None]
    found = []
    if not evidence.scenes or len(known) < len(evidence.scenes):
        found.append("the number of scenes is not known")
    elif min(known) < FEWEST_SCENES:
        found.append(f"{_counted(min(known), 'scene')} (at least {FEWEST_SCENES} are needed)")
    if evidence.trainings < FEWEST_TRAININGS:
        found.append(f"{_counted(evidence.trainings, 'training')} (at least {FEWEST_TRAININGS} are needed)")
    gains = [gain for gain in evidence.gains if gain is not None]
    if not evidence.gains or len(gains) < len(evidence.gains):
        found.append("the gain of a run is not known")
    elif min(gains) < SMALL_GAIN_DB:
        found.append(f"a run whose target gains {min(gains):.2f} dB (at least {SMALL_GAIN_DB:g} dB are needed)")
    return found


def may_claim(evidence: Evidence, first: Ends, second: Ends | None = None) -> bool:
    """Say whether a sentence may put one number above or below another.

    Args:
        evidence: the runs behind the numbers.
        first: interval of the one number, or of a paired difference.
        second: interval of the other number; None for a difference, whose interval must leave zero out.
    """
    return not obstacles(evidence) and apart(first, (0.0, 0.0) if second is None else second)


def apart(first: Ends, second: Ends) -> bool:
    """Say whether two intervals have no point in common; False where one of them is missing."""
    (low, high), (other_low, other_high) = first, second
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return high < other_low or other_high < low


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
