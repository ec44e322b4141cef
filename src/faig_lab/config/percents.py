"""Percents that select nothing: 1 % of seventeen layers is no layer."""

import logging
import math
from collections.abc import Callable, Iterator

from faig_lab.config.settings import Settings
from faig_lab.errors import UserError

log = logging.getLogger(__name__)


def check_percents(settings: Settings, units: int, word: str, count_of: Callable[[float, int], int]) -> None:
    """Refuse settings by which nothing would be masked, and warn of percents that only repeat it.

    Args:
        settings: checked settings.
        units: how many there are to choose from.
        word: what they are called, in the plural.
        count_of: (percent, units) → how many are chosen.

    Raises:
        UserError: the headline's percent, an analysis's only one or all that it has select nothing.
    """
    smallest = smallest_percent(units)
    for key, percents, examples in _percents(settings):
        empty = [percent for percent in percents if not count_of(percent, units)]
        said = f"{', '.join(f'{percent:g}' for percent in empty)} % of {units:,} {word}"
        if empty and len(empty) == len(percents):
            raise UserError(
                f"{key}: {said} is none; the smallest percent that selects one is {smallest:g}, e.g. "
                f"{examples(smallest)}"
            )
        if empty:
            log.warning("%s: %s are none; the smallest percent that selects one is %g", key, said, smallest)


def smallest_percent(units: int) -> float:
    """The smallest percent that selects one unit, rounded up to three digits."""
    step = 10.0 ** (math.floor(math.log10(100 / units)) - 2)
    return min(100.0, float(f"{math.ceil(100 / units / step - 1e-9) * step:.3g}"))


def _percents(settings: Settings) -> Iterator[tuple[str, list[float], Callable[[float], str]]]:
    """Key, percents and an example of what to write instead, given the smallest percent."""
    analysis = settings.analysis
    yield "analysis.headline_percent", [analysis.headline_percent], _headline
    yield "analysis.percents", list(analysis.percents), _headline
    for name, node in analysis.studies.items():
        for argument, value in node.items():
            key = f"analysis.studies.{name}.{argument}"
            if argument == "percent" and value is not None:
                yield key, [value], lambda percent, key=key: f"{key}={percent:g}"  # type: ignore[misc]
            elif argument in ("percents", "kept"):
                there = [percent for percent in value if percent]
                yield key, there, lambda percent, key=key: f"{key}={_series(percent)}"  # type: ignore[misc]


def _headline(percent: float) -> str:
    return f"analysis.percents={_series(percent)} analysis.headline_percent={percent:g}"


def _series(percent: float) -> str:
    """A few growing percents."""
    return "[" + ",".join(f"{p:g}" for p in dict.fromkeys((percent, *(min(percent * n, 100.0) for n in (2, 5))))) + "]"
