"""Numbers over several runs: means over seeds with intervals, and differences of methods within each run."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from scipy.special import stdtrit

from faig_lab.plotting import findings
from faig_lab.report.texts import SMALL_GAIN_DB, Evidence, may_claim
from faig_lab.runs.finished_runs import MEAN, MEASURES, PLACE, group, observations
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import numbers, select, unique

__all__ = ["LEARNED", "LEVEL", "MEAN", "MEASURES", "Comparison", "Estimate", "estimate"]

LEVEL = 0.95
LEARNED = "learned_mask"
"""The method whose isolation shows what a number of filters can reach. All other methods are compared with it."""


@dataclass(frozen=True)
class Estimate:
    """A mean over runs with its 95 % t-interval; no interval for a single run.

    Attributes:
        mean: mean over the runs.
        low: mean - t · s / √n. Here t is the 97.5 % quantile of Student's distribution with n - 1 degrees of freedom
            and s is the sample standard deviation.
        high: mean + t · s / √n.
        n: number of runs.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


def estimate(values: Iterable[float | None]) -> Estimate | None:
    """Return mean and interval of the known numbers; None if no number is known."""
    known = pd.Series(list(values), dtype=float).dropna()
    if known.empty:
        return None
    mean, n = float(known.mean()), len(known)
    if n == 1:
        return Estimate(mean, None, None, 1)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * known.sem())
    return Estimate(mean, mean - half, mean + half, n)


class Comparison:
    """Several runs side by side.

    Runs whose settings differ only in the seed are one group. Means and intervals are over the runs of a group. Two
    runs of a group and seed have the same networks (a sweep over `attribution`), so a method of both counts once.

    Args:
        runs: the runs, at least one.
        reference: the method that all other methods are compared with.

    Attributes:
        observations: the columns group, seed, run (its place among the given runs), `PLACE` and `MEASURES`.
    """

    def __init__(self, runs: Sequence[RunFolder], reference: str) -> None:
        self.columns = group(runs)
        self.label = {run: " · ".join(columns.values()) for run, columns in self.columns.items()}
        observed = [
            observations(run).assign(group=self.label[run], seed=run.seed, run=place) for place, run in enumerate(runs)
        ]
        self.observations = pd.concat(observed).drop_duplicates(["group", "seed", *PLACE])
        self.runs = [run for place, run in enumerate(runs) if place in set(self.observations["run"])]
        self.repeated = [run for run in runs if run not in self.runs]
        methods = unique(self.observations, "method")
        self.reference = reference if reference in methods else methods[0]
        self.methods = sorted(methods, key=lambda method: (method == "random", method != self.reference))
        self.groups = list(dict.fromkeys(self.label.values()))
        self.percents = sorted(set(numbers(self.observations, "percent")))

    @cached_property
    def headline(self) -> float:
        """The headline percent of the first run, or the nearest percent that was measured."""
        wanted = float(self.runs[0].config.get("analysis", {}).get("headline_percent", 1))
        return min(self.percents, key=lambda percent: abs(percent - wanted))

    @cached_property
    def measure(self) -> str:
        """The measure that methods are compared by: isolation, or specificity if no run has an isolation."""
        return "isolation" if len(self.without_isolation) < len(self.runs) else "specificity"

    @cached_property
    def without_isolation(self) -> list[RunFolder]:
        """The runs without isolation: runs of an older version, or runs without clean input."""
        given, known = list(self.columns), self.observations.dropna(subset="isolation")
        have = {given[place] for place in known["run"].unique()}
        return [run for run in self.runs if run not in have]

    @cached_property
    def masked(self) -> list[str]:
        """The masked sets; their mean, "mean", is the last entry."""
        return sorted(unique(self.observations, "masked"), key=lambda masked: masked == MEAN)

    def estimate(
        self, group: str, method: str, percent: float, *, measure: str | None = None, masked: str = MEAN
    ) -> Estimate | None:
        """Return a measure of a method, over the runs of a group."""
        return estimate(self.values(group, method, percent, measure=measure, masked=masked).values())

    def values(
        self, group: str, method: str, percent: float, *, measure: str | None = None, masked: str = MEAN
    ) -> dict[int, float]:
        """Return a measure of a method for each seed of a group: seed → value."""
        by_run = self._by_run(method, percent, [group], measure or self.measure, masked)
        return dict(zip(by_run.index.get_level_values("seed"), by_run, strict=True))

    def difference(
        self,
        groups: Sequence[str],
        method: str,
        percent: float,
        *,
        minus: str | None = None,
        measure: str | None = None,
    ) -> Estimate | None:
        """Return the difference of two methods in a measure, within each run, over the runs of one or more groups.

        Args:
            groups: labels of groups.
            method: the first method.
            percent: percent of the filters. Both methods have the same number of filters masked.
            minus: the method that is subtracted; the reference by default.
            measure: one of `MEASURES`; `self.measure` by default.
        """
        wanted = measure or self.measure
        first, second = (self._by_run(name, percent, groups, wanted) for name in (method, minus or self.reference))
        return estimate(first - second)

    def evidence(self, groups: Sequence[str]) -> Evidence:
        """Return the evidence for a sentence about groups. The group with the fewest trainings counts."""
        runs = [run for run in self.runs if self.label[run] in groups]
        return Evidence(
            scenes=[findings.photographs(run) for run in runs],
            trainings=min(len(self.seeds(group)) for group in groups),
            gains=[gain for run in runs for gain in self._gains(run).values()],
        )

    def may_claim(self, groups: Sequence[str], difference: Estimate | None) -> bool:
        """Return whether a sentence may name a paired difference over groups."""
        return difference is not None and may_claim(self.evidence(groups), (difference.low, difference.high))

    @cached_property
    def reliable(self) -> list[str]:
        """The groups in which the target of every run gains enough for the measures to be reliable."""
        return [group for group in self.groups if not self.small_gains(group)]

    def small_gains(self, group: str) -> dict[tuple[int, str], float]:
        """Return the small gains of the runs of a group: (seed, degradation) → gain in dB."""
        return {
            (run.seed, name): gain
            for run in self.runs
            if self.label[run] == group
            for name, gain in self._gains(run).items()
            if gain is not None and gain < SMALL_GAIN_DB
        }

    def gain(self, group: str, degradation: str) -> Estimate | None:
        """Return the PSNR of the target above the baseline in dB."""
        return self._over_trainings(group, lambda run: findings.gain(run, degradation))

    def psnr(self, group: str, network: str, degradation: str) -> Estimate | None:
        """Return the PSNR of `bicubic`, `baseline` or `target` in dB."""
        return self._over_trainings(group, lambda run: findings.restoration(run).get(network, {}).get(degradation))

    def inputs(self, group: str) -> list[str]:
        """Return the degradations of a group's sets, and "clean" if clean input was restored."""
        clean = any(
            "clean" in findings.restoration(run).get("target", {}) for run in self.runs if self.label[run] == group
        )
        return self.degradations(group) + ["clean"] * clean

    def degradations(self, group: str) -> list[str]:
        """Return the degradations of the sets of a group's runs."""
        return [masked for masked in unique(select(self.observations, group=group), "masked") if masked != MEAN]

    def seeds(self, group: str) -> list[int]:
        """Return the seeds of a group's runs."""
        return sorted({run.seed for run in self.runs if self.label[run] == group})

    def metrics(self, group: str) -> dict[int, dict[str, float]]:
        """Return the numbers of metrics.json by seed. Of runs with the same seed the first run with a number counts."""
        by_seed: dict[int, dict[str, float]] = {}
        for run, label in self.label.items():
            if label == group:
                by_seed[run.seed] = run.metrics | by_seed.get(run.seed, {})
        return dict(sorted(by_seed.items()))

    @cached_property
    def _by_place(self) -> dict[Hashable, pd.DataFrame]:
        """Method, percent and masked set → the measures of every run, by group and seed."""
        places = self.observations.set_index(["group", "seed"]).groupby(list(PLACE))
        return {place: rows[list(MEASURES)] for place, rows in places}

    def _by_run(
        self, method: str, percent: float, groups: Sequence[str], measure: str, masked: str = MEAN
    ) -> "pd.Series[float]":
        """A measure of a method, by group and seed."""
        nothing = self.observations[:0].set_index(["group", "seed"])
        values = self._by_place.get((method, percent, masked), nothing)[measure]
        return values[values.index.isin(groups, level="group")].dropna()

    def _gains(self, run: RunFolder) -> dict[str, float | None]:
        return {name: findings.gain(run, name) for name in self.degradations(self.label[run])}

    def _over_trainings(self, group: str, measure: Callable[[RunFolder], float | None]) -> Estimate | None:
        """Return a measure over the trainings of a group. Runs of the same group and seed have the same networks."""
        by_seed = {run.seed: run for run in reversed(self.runs) if self.label[run] == group}
        return estimate(measure(by_seed[seed]) for seed in sorted(by_seed))
