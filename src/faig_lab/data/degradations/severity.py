"""Severities: a number, or a range of which every sample draws its own value."""

import numpy as np

Severity = float | tuple[float, float]
"""A number, or [low, high]: drawn uniformly for each sample."""

WholeSeverity = int | tuple[int, int]
"""A whole number, or [low, high]: each whole number from low to high is as likely, both included."""


def ends(name: str, severity: Severity) -> tuple[float, float]:
    """The lowest and the highest value that `severity` can take.

    Args:
        name: the parameter's name, for the message.
        severity: as the user gave it; a list counts as a tuple.

    Raises:
        ValueError: it is not a range of two numbers that increase.
    """
    pair = (severity, severity) if isinstance(severity, int | float) else tuple(severity)
    if len(pair) != 2 or not pair[0] <= pair[1]:
        raise ValueError(f"{name} must be a number or a range [low, high], not {severity}")
    return pair


def draw(severity: Severity, rng: np.random.Generator) -> float:
    """The value for one sample; a plain number takes no random number from `rng`."""
    return float(severity) if isinstance(severity, int | float) else rng.uniform(*severity)


def draw_whole(severity: WholeSeverity, rng: np.random.Generator) -> int:
    """The whole value for one sample; a plain number takes no random number from `rng`."""
    return severity if isinstance(severity, int) else int(rng.integers(*severity, endpoint=True))


def check_probability(probability: float) -> None:
    """Raise ValueError unless `probability` lies in 0..1."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in 0..1, not {probability}")
