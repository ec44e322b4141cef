"""Numbers over several runs: means over seeds with intervals, differences between methods run by run. No words here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scipy.special import stdtrit

from faig_lab.reporting import findings
from faig_lab.reporting.finished_runs import FinishedRun, group
from faig_lab.reporting.run_files import mean, unique, value
from faig_lab.reporting.sentences import SMALL_GAIN_DB

LEVEL = 0.95
MEAN = "mean"
MEASURES = ("specificity", "own", "other")
"""Of the removed shares: own minus others', own, the others'; in the order of the tables."""


@dataclass(frozen=True)
class Estimate:
    """A mean over runs with its 95 % t-interval; no interval for a single run.

    Attributes:
        mean: over the runs.
        low: mean - t · s / √n, with t the 97.5 % quantile of Student's distribution of n - 1 degrees of freedom and
            s the sample standard deviation.
        high: mean + t · s / √n.
        n: runs.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Observation:
    """One row of comparison.csv: a method's masked set in one run; `masked` = "mean" is the mean over the sets."""

    run: FinishedRun
    group: str
    method: str
    percent: float
    masked: str
    own: float | None
    other: float | None
    specificity: float | None


def estimate(numbers: Iterable[float | None]) -> Estimate | None:
    """Mean and interval of the numbers that are there; None when there are none."""
    there = [number for number in numbers if number is not None]
    average = mean(list(there))
    if average is None:
        return None
    if len(there) == 1:
        return Estimate(average, None, None, 1)
    spread = math.sqrt(math.fsum((number - average) ** 2 for number in there) / (len(there) - 1))
    half = float(stdtrit(len(there) - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(len(there))
    return Estimate(average, average - half, average + half, len(there))


class Comparison:
    """Several runs side by side.

    Runs whose settings agree but for the seed are one group; its runs are what means and intervals are over. A method
    that two runs of a group and seed both have (a sweep over `attribution` trains and masks the same) counts once.

    Args:
        runs: at least one.
        reference: the method that the others are compared with.
    """

    def __init__(self, runs: Sequence[FinishedRun], reference: str) -> None:
        self.columns = group(runs)
        self.label = {run: " · ".join(columns.values()) for run, columns in self.columns.items()}
        self.observations = self._observed(runs)
        self.runs = [run for run in runs if any(one.run is run for one in self.observations)]
        self.repeated = [run for run in runs if run not in self.runs]
        found = list(dict.fromkeys(one.method for one in self.observations))
        self.reference = reference if reference in found else found[0]
        self.methods = sorted(found, key=lambda method: (method == "random", method != self.reference))
        self.groups = sorted(set(self.label.values()), key=list(self.label.values()).index)
        self.percents = sorted({one.percent for one in self.observations})

    @cached_property
    def headline(self) -> float:
        """The percent that the runs speak of; of several the first."""
        wanted = float(self.runs[0].files.config.get("analysis", {}).get("headline_percent", 1))
        return min(self.percents, key=lambda percent: abs(percent - wanted))

    @cached_property
    def masked(self) -> list[str]:
        """The masked sets, and "mean" over them last."""
        return sorted(dict.fromkeys(one.masked for one in self.observations), key=lambda masked: masked == MEAN)

    def estimate(
        self, group: str, method: str, percent: float, measure: str = "specificity", masked: str = MEAN
    ) -> Estimate | None:
        """A measure of a method in a group, over its runs."""
        return estimate(
            getattr(one, measure)
            for one in self._of.get((method, percent, masked), ())
            if one.group == group
        )  # fmt: skip

    def best(self, group: str, percent: float) -> str | None:
        """The method with the highest mean specificity in a group; None where fewer than two have one."""
        means = {m: found.mean for m in self.methods if (found := self.estimate(group, m, percent)) is not None}
        return max(means, key=lambda method: means[method]) if len(means) > 1 else None

    @cached_property
    def judged(self) -> list[str]:
        """The groups whose targets restore enough for removed shares to mean something."""
        return [group for group in self.groups if not self.small_gains(group)]

    def small_gains(self, group: str) -> dict[str, Estimate]:
        """Degradations in which a group's targets hardly beat their baselines, with the gain in dB."""
        gains = {name: self.gain(group, name) for name in self.degradations(group)}
        return {name: gain for name, gain in gains.items() if gain is not None and gain.mean < SMALL_GAIN_DB}

    def difference(self, groups: Sequence[str], method: str, percent: float) -> Estimate | None:
        """Specificity of a method minus that of the reference, run by run, over the runs of one or more groups."""
        reference = self._by_run(self.reference, percent, groups)
        other = self._by_run(method, percent, groups)
        return estimate(other[key] - reference[key] for key in other if key in reference)

    def gain(self, group: str, degradation: str) -> Estimate | None:
        """PSNR of the target above the baseline in dB."""
        return self._over_trainings(group, lambda run: findings.gain(run.files, degradation))

    def psnr(self, group: str, network: str, degradation: str) -> Estimate | None:
        """PSNR of `bicubic`, `baseline` or `target` in dB."""
        return self._over_trainings(
            group, lambda run: findings.restoration(run.files).get(network, {}).get(degradation)
        )

    def degradations(self, group: str) -> list[str]:
        """What the sets of a group's runs are of."""
        return list(dict.fromkeys(one.masked for one in self.observations if one.group == group and one.masked != MEAN))

    def seeds(self, group: str) -> list[int]:
        """The seeds of a group's runs."""
        return sorted({run.seed for run in self.runs if self.label[run] == group})

    def metrics(self, group: str) -> dict[int, dict[str, float]]:
        """Seed → the numbers of metrics.json of a group's runs; of runs with the same seed the first that has one."""
        found: dict[int, dict[str, float]] = {}
        for run, label in self.label.items():
            if label == group:
                found[run.seed] = run.files.metrics | found.get(run.seed, {})
        return dict(sorted(found.items()))

    def _observed(self, runs: Sequence[FinishedRun]) -> list[Observation]:
        found: dict[tuple[object, ...], Observation] = {}
        for run in runs:
            for one in _observations(run, self.label[run]):
                found.setdefault((one.group, run.seed, one.method, one.percent, one.masked), one)
        return list(found.values())

    @cached_property
    def _of(self) -> Mapping[tuple[str, float, str], list[Observation]]:
        found: dict[tuple[str, float, str], list[Observation]] = {}
        for one in self.observations:
            found.setdefault((one.method, one.percent, one.masked), []).append(one)
        return found

    def _by_run(self, method: str, percent: float, groups: Sequence[str]) -> dict[tuple[str, int], float]:
        return {
            (one.group, one.run.seed): one.specificity
            for one in self._of.get((method, percent, MEAN), ())
            if one.group in groups and one.specificity is not None
        }

    def _over_trainings(self, group: str, measure: Callable[[FinishedRun], float | None]) -> Estimate | None:
        """One run for each seed: runs of one group and seed have the same networks."""
        by_seed = {run.seed: run for run in reversed(self.runs) if self.label[run] == group}
        return estimate(measure(by_seed[seed]) for seed in sorted(by_seed))


def _observations(run: FinishedRun, group: str) -> list[Observation]:
    """The rows of a run's specificity table, and their means over the masked sets."""
    rows = run.files.table("specificity")
    found = []
    for method in unique(rows, "method"):
        of_method = [row for row in rows if row["method"] == method]
        for percent in sorted({number for row in of_method if (number := value(row, "percent")) is not None}):
            here = [row for row in of_method if row["percent"] == percent]
            found += [
                Observation(run, group, method, percent, str(row["masked"]), *(value(row, name) for name in _ORDER))
                for row in here
            ]
            means = (mean([value(row, name) for row in here]) for name in _ORDER)
            found.append(Observation(run, group, method, percent, MEAN, *means))
    return found


_ORDER = ("own", "other", "specificity")
