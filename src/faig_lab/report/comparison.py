"""Numbers over several runs: means over seeds with intervals, differences between methods run by run. No words here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scipy.special import stdtrit

from faig_lab.plotting import findings
from faig_lab.report.texts import SMALL_GAIN_DB, Evidence, may_claim
from faig_lab.runs.finished_runs import MEAN, MEASURES, Observation, group, observations
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import mean_of_known

__all__ = ["LEARNED", "LEVEL", "MEAN", "MEASURES", "Comparison", "Estimate", "estimate"]

LEVEL = 0.95
LEARNED = "learned_mask"
"""The method that all others are held against where it is there: what so many filters can do."""


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


def estimate(numbers: Iterable[float | None]) -> Estimate | None:
    """Mean and interval of the numbers that are there; None when there are none."""
    there = [number for number in numbers if number is not None]
    average = mean_of_known(list(there))
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

    def __init__(self, runs: Sequence[RunFolder], reference: str) -> None:
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
        wanted = float(self.runs[0].config.get("analysis", {}).get("headline_percent", 1))
        return min(self.percents, key=lambda percent: abs(percent - wanted))

    @cached_property
    def measure(self) -> str:
        """The measure that methods are compared by: isolation, or specificity where no run has an isolation."""
        return "isolation" if any(one.isolation is not None for one in self.observations) else "specificity"

    @cached_property
    def without_isolation(self) -> list[RunFolder]:
        """The runs that hold no isolation: runs of an older version, or without clean input."""
        have = {one.run for one in self.observations if one.isolation is not None}
        return [run for run in self.runs if run not in have]

    @cached_property
    def masked(self) -> list[str]:
        """The masked sets, and "mean" over them last."""
        return sorted(dict.fromkeys(one.masked for one in self.observations), key=lambda masked: masked == MEAN)

    def estimate(
        self, group: str, method: str, percent: float, measure: str | None = None, masked: str = MEAN
    ) -> Estimate | None:
        """A measure of a method in a group, over its runs."""
        return estimate(self.values(group, method, percent, measure, masked).values())

    def values(
        self, group: str, method: str, percent: float, measure: str | None = None, masked: str = MEAN
    ) -> dict[int, float]:
        """Seed → a measure of a method in a group."""
        by_run = self._by_run(method, percent, [group], measure or self.measure, masked)
        return {seed: value for (_, seed), value in by_run.items()}

    def difference(
        self,
        groups: Sequence[str],
        method: str,
        percent: float,
        *,
        minus: str | None = None,
        measure: str | None = None,
    ) -> Estimate | None:
        """A measure of a method minus that of another, run by run, over the runs of one or more groups.

        Args:
            groups: labels of groups.
            method: the one method.
            percent: of the filters; both methods have the same number of filters masked.
            minus: the other method; the reference by default.
            measure: of `MEASURES`; the one that methods are compared by by default.
        """
        wanted = measure or self.measure
        other, one = (self._by_run(name, percent, groups, wanted) for name in (minus or self.reference, method))
        return estimate(one[key] - other[key] for key in one if key in other)

    def evidence(self, groups: Sequence[str]) -> Evidence:
        """What words about groups may rest on; the trainings are those of the group that has fewest."""
        runs = [run for run in self.runs if self.label[run] in groups]
        return Evidence(
            scenes=[findings.photographs(run) for run in runs],
            trainings=min(len(self.seeds(group)) for group in groups),
            gains=[gain for run in runs for gain in self._gains(run).values()],
        )

    def may_claim(self, groups: Sequence[str], difference: Estimate | None) -> bool:
        """Whether words may say that a paired difference over groups is one."""
        return difference is not None and may_claim(self.evidence(groups), (difference.low, difference.high))

    @cached_property
    def judged(self) -> list[str]:
        """The groups of which every single run's target restores enough for measures to mean something."""
        return [group for group in self.groups if not self.small_gains(group)]

    def small_gains(self, group: str) -> dict[tuple[int, str], float]:
        """(seed, degradation) → gain in dB, where the target of a single run hardly beats its baseline."""
        return {
            (run.seed, name): gain
            for run in self.runs
            if self.label[run] == group
            for name, gain in self._gains(run).items()
            if gain is not None and gain < SMALL_GAIN_DB
        }

    def gain(self, group: str, degradation: str) -> Estimate | None:
        """PSNR of the target above the baseline in dB."""
        return self._over_trainings(group, lambda run: findings.gain(run, degradation))

    def psnr(self, group: str, network: str, degradation: str) -> Estimate | None:
        """PSNR of `bicubic`, `baseline` or `target` in dB."""
        return self._over_trainings(group, lambda run: findings.restoration(run).get(network, {}).get(degradation))

    def inputs(self, group: str) -> list[str]:
        """The degradations that a group's sets are of, and clean input where it was restored."""
        clean = any(
            "clean" in findings.restoration(run).get("target", {}) for run in self.runs if self.label[run] == group
        )
        return self.degradations(group) + ["clean"] * clean

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
                found[run.seed] = run.metrics | found.get(run.seed, {})
        return dict(sorted(found.items()))

    def _observed(self, runs: Sequence[RunFolder]) -> list[Observation]:
        found: dict[tuple[object, ...], Observation] = {}
        for run in runs:
            for one in observations(run, self.label[run]):
                found.setdefault((one.group, run.seed, one.method, one.percent, one.masked), one)
        return list(found.values())

    @cached_property
    def _of(self) -> Mapping[tuple[str, float, str], list[Observation]]:
        found: dict[tuple[str, float, str], list[Observation]] = {}
        for one in self.observations:
            found.setdefault((one.method, one.percent, one.masked), []).append(one)
        return found

    def _by_run(
        self, method: str, percent: float, groups: Sequence[str], measure: str, masked: str = MEAN
    ) -> dict[tuple[str, int], float]:
        return {
            (one.group, one.run.seed): value
            for one in self._of.get((method, percent, masked), ())
            if one.group in groups and (value := getattr(one, measure)) is not None
        }

    def _gains(self, run: RunFolder) -> dict[str, float | None]:
        return {name: findings.gain(run, name) for name in self.degradations(self.label[run])}

    def _over_trainings(self, group: str, measure: Callable[[RunFolder], float | None]) -> Estimate | None:
        """One run for each seed: runs of one group and seed have the same networks."""
        by_seed = {run.seed: run for run in reversed(self.runs) if self.label[run] == group}
        return estimate(measure(by_seed[seed]) for seed in sorted(by_seed))
