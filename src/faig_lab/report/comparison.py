"""Several runs side by side: means over seeds with intervals, differences of methods within a run, and the page.

A number may always be shown. A sentence that puts one method above another needs an interval that excludes zero, enough
scenes and trainings, and targets that restore (method.md §9).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import stdtrit

from faig_lab.files import write_text
from faig_lab.plotting import findings, words
from faig_lab.plotting.charts import Dots, dot_rows, guides, limit, mark_cut, percent_axis
from faig_lab.plotting.style import INK, MUTED, drawing, method_look, new_figure, write_figure
from faig_lab.plotting.words import REFERENCE, as_percent, method_label
from faig_lab.report.report import embed_all, environment
from faig_lab.report.texts import FEWEST_SCENES, SMALL_GAIN_DB, above_baseline
from faig_lab.runs.finished_runs import MEAN, MEASURES, PLACE, LeftOut, group, observations
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import numbers, select, unique

LEVEL = 0.95

FEWEST_TRAININGS = 3
"""One or two trainings do not show how much trainings differ."""


def obstacles(scenes: Sequence[int | None], trainings: int, gains: Sequence[float | None]) -> list[str]:
    """Return everything that forbids a comparison in words, whatever the numbers are; empty if nothing does.

    Args:
        scenes: number of held-out scenes of each run; None if a run does not tell.
        trainings: number of trainings with different seeds.
        gains: PSNR of the target above the baseline in dB, for every run and degradation; None if a run does not tell.
    """
    reasons = []
    known = [count for count in scenes if count is not None]
    if not scenes or len(known) < len(scenes):
        reasons.append("the number of scenes is not known")
    elif min(known) < FEWEST_SCENES:
        reasons.append(f"{_counted(min(known), 'scene')} (at least {FEWEST_SCENES} are needed)")
    if trainings < FEWEST_TRAININGS:
        reasons.append(f"{_counted(trainings, 'training')} (at least {FEWEST_TRAININGS} are needed)")
    gained = [gain for gain in gains if gain is not None]
    if not gains or len(gained) < len(gains):
        reasons.append("the gain of a run is not known")
    elif min(gained) < SMALL_GAIN_DB:
        reasons.append(f"a run whose target gains {min(gained):.2f} dB (at least {SMALL_GAIN_DB:g} dB are needed)")
    return reasons


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
        by_place = self.observations.set_index(["group", "seed"]).groupby(list(PLACE))
        self._by_place = {place: rows[list(MEASURES)] for place, rows in by_place}

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
        return estimate(self.values([group], method, percent, measure=measure, masked=masked))

    def values(
        self, groups: Sequence[str], method: str, percent: float, *, measure: str | None = None, masked: str = MEAN
    ) -> "pd.Series[float]":
        """Return a measure of a method for each run of the groups, by group and seed."""
        nothing = self.observations[:0].set_index(["group", "seed"])
        values = self._by_place.get((method, percent, masked), nothing)[measure or self.measure]
        return values[values.index.isin(groups, level="group")].dropna()

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
        first, second = (
            self.values(groups, name, percent, measure=measure) for name in (method, minus or self.reference)
        )
        return estimate(first - second)

    def obstacles(self, groups: Sequence[str]) -> list[str]:
        """Return what forbids a sentence that orders methods. The group with the fewest trainings counts."""
        runs = [run for run in self.runs if self.label[run] in groups]
        gains = [findings.gain(run, name) for run in runs for name in self.degradations(self.label[run])]
        fewest = min(len(self.seeds(group)) for group in groups)
        return obstacles([findings.photographs(run) for run in runs], fewest, gains)

    def may_claim(self, groups: Sequence[str], difference: Estimate | None) -> bool:
        """Return whether a sentence may name a paired difference over groups: its interval excludes zero."""
        if difference is None or difference.low is None or difference.high is None:
            return False
        return (difference.low > 0 or difference.high < 0) and not self.obstacles(groups)

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
            for name in self.degradations(group)
            if (gain := findings.gain(run, name)) is not None and gain < SMALL_GAIN_DB
        }

    def gain(self, group: str, degradation: str) -> Estimate | None:
        """Return the PSNR of the target above the baseline in dB."""
        return self._over_trainings(group, lambda run: findings.gain(run, degradation))

    def psnr(self, group: str, network: str, degradation: str) -> Estimate | None:
        """Return the PSNR of `bicubic`, `baseline` or `target` in dB."""
        return self._over_trainings(group, lambda run: findings.restoration(run).get(network, {}).get(degradation))

    def _over_trainings(self, group: str, measure: Callable[[RunFolder], float | None]) -> Estimate | None:
        """Return a measure over the trainings of a group. Runs of the same group and seed have the same networks."""
        by_seed = {run.seed: run for run in reversed(self.runs) if self.label[run] == group}
        return estimate(measure(by_seed[seed]) for seed in sorted(by_seed))

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


_LOWEST, _HIGHEST = -1.0, 1.05  # limits of the axes; marks at the edge show values beyond them


def comparison_figure(comparison: Comparison) -> Figure | None:
    """Draw the methods: a row for each group. On the left are means against the percent masked, on the right all runs.

    The figure is None if no method has the measure (specificity with a single degradation).
    """
    if comparison.observations[comparison.measure].isna().all():
        return None
    rows = len(comparison.groups)
    with drawing():
        figure = new_figure(0.3 + rows * max(2.4, 0.7 + 0.19 * len(comparison.methods)))
        axes = figure.subplots(rows, 2, squeeze=False, width_ratios=(3, 2))
        for (left, right), group in zip(axes, comparison.groups, strict=True):
            _lines(left, comparison, group)
            _dots(right, comparison, group)
            left.set_title(f"{group} ({_counted(len(comparison.seeds(group)), 'run')})", loc="left")
            right.set_title(f"at {as_percent(comparison.headline)}")
        axes[-1][0].set_xlabel("filters masked")
        axes[-1][1].set_xlabel(comparison.measure)
    return figure


def _lines(panel: Axes, comparison: Comparison, group: str) -> None:
    """Draw means without intervals, since the intervals of many methods would overlap."""
    for method in comparison.methods:
        points = [(p, e.mean) for p in comparison.percents if (e := comparison.estimate(group, method, p)) is not None]
        panel.plot(
            *zip(*points, strict=True), **method_look(comparison.methods, method), marker="o", markersize=2.5,
            linewidth=2.0 if method == REFERENCE else 1.3, label=method_label(method),
        )  # fmt: skip
    guides(panel, 0, 1, x=comparison.headline)
    percent_axis(panel, comparison.percents)
    panel.tick_params(axis="x", labelsize=6.5)
    panel.set_ylabel(comparison.measure)
    low, high = panel.get_ylim()
    panel.set_ylim(min(low, -0.05), max(high, _HIGHEST))
    limit(panel, _LOWEST - 0.05, float("inf"))


def _dots(panel: Axes, comparison: Comparison, group: str) -> None:
    """Draw a row for each method: the runs as dots, their mean and its interval."""
    names, colours, dots = [method_label(method) for method in comparison.methods], [], []
    for place, (method, name) in enumerate(zip(comparison.methods, names, strict=True)):
        colours.append(method_look(comparison.methods, method)["color"])
        estimate = comparison.estimate(group, method, comparison.headline)
        if estimate is None:
            continue
        if estimate.low is not None and estimate.high is not None:
            panel.plot([estimate.low, estimate.high], [place] * 2, color=colours[-1], linewidth=2.2, alpha=0.45)
        panel.plot([estimate.mean], [place], "|", color=INK, markersize=9, markeredgewidth=1.6, zorder=4)
        values = list(comparison.values([group], method, comparison.headline))
        dots.append(Dots(name, colours[-1], {name: values}, lane="all"))
    dot_rows(panel, names, dots)
    for level in (0, 1):
        panel.axvline(level, color=MUTED, linewidth=0.8, zorder=1)
    for colour, label in zip(colours, panel.get_yticklabels(), strict=True):
        label.set_color(colour)
    low, high = panel.get_xlim()
    panel.set_xlim(max(min(low, -0.05), _LOWEST - 0.05), max(high, _HIGHEST))
    mark_cut(panel)


_SHARES = {
    "own": "own function removed",
    "other": "others removed",
    "specificity": "specificity",
    "harm": "harm: the excess of the own removed share over 1",
}


def write_comparison(folder: Path, comparison: Comparison, left_out: Sequence[LeftOut]) -> Path:
    """Write `compare.html` and its figure `<measure>.png` to a folder, and return the page's path.

    Links to the reports of runs are relative to the folder, so that page and reports can be moved together.
    """
    figure = comparison_figure(comparison)
    picture = folder / f"{comparison.measure}.png"
    if figure is not None:
        write_figure(picture, figure)
    reports = {run: run.path / "report.html" for run in comparison.runs}
    links = {
        run: quote(Path(os.path.relpath(report, folder)).as_posix()) if report.is_file() else None
        for run, report in reports.items()
    }
    page = environment().get_template("comparison.html.j2").render(
        figure=embed_all([picture])[0] if figure is not None else None, made=date.today().isoformat(),
        sentences=sentences(comparison), warnings=warnings(comparison), repeats=repeats(comparison), links=links,
        c=comparison, left_out=left_out, networks=("bicubic", "baseline", "target"), shares=_SHARES, learned=REFERENCE,
    )  # fmt: skip
    path = folder / "compare.html"
    write_text(path, page)
    return path


def sentences(comparison: Comparison) -> list[str]:
    """Return the means of every group at the headline percent, and the differences that the evidence supports.

    If the evidence supports no order of the methods, whatever the differences are, a sentence says why.
    """
    headline, reference = comparison.headline, comparison.reference
    lines = []
    for label in comparison.reliable:
        means = {name: mean for name in comparison.methods if (mean := comparison.estimate(label, name, headline))}
        if not means:
            continue
        shown = [f"{method_label(name)} {_with_interval(mean)}" for name, mean in means.items()]
        runs = {mean.n for mean in means.values()}
        over = f"{min(runs)} to {max(runs)} runs" if len(runs) > 1 else _counted(runs.pop(), "run")
        lines.append(
            f"{label}, {as_percent(headline)} of the filters, {comparison.measure} over {over}: {words.listed(shown)}."
        )
        others = [name for name in comparison.methods if name != reference]
        differences = {name: comparison.difference([label], name, headline) for name in others}
        parts = []
        for side, sign in (("above", 1), ("below", -1)):
            named = [
                f"{method_label(name)} by {_with_interval(difference, sign)}"
                for name, difference in differences.items()
                if difference and sign * difference.mean > 0 and comparison.may_claim([label], difference)
            ]
            if named:
                parts.append(f"{side} {method_label(reference)}: {words.listed(named)}")
        if parts:
            lines.append(words.sentence_case(f"{'; '.join(parts)} (in the same run)."))
        reasons = comparison.obstacles([label])
        if others and reasons:
            lines.append(f"No order of the methods follows from these runs: {words.listed(reasons)}.")
    return lines


def warnings(comparison: Comparison) -> list[str]:
    """Return notes about runs without isolation, and about runs with unreliable measures."""
    notes = []
    missing = [run.path.as_posix() for run in comparison.without_isolation]
    if comparison.measure != "isolation":
        notes.append(
            "These runs have no isolation (tables/isolation.csv), like all runs of an earlier version. The methods are "
            "compared by specificity, which counts every loss as removed function."
        )
    elif missing:
        named = words.listed(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        verb = "has" if len(missing) == 1 else "have"
        notes.append(f"{named} {verb} no isolation (tables/isolation.csv), only removed shares.")
    notes += [
        f"{group}, seed {seed}: the target is {above_baseline(gain)} in {words.removal(name)}. The measures divide by "
        "this difference, so they are unreliable, and the page has no sentence about this experiment."
        for group in comparison.groups
        for (seed, name), gain in comparison.small_gains(group).items()
    ]
    return notes


def repeats(comparison: Comparison) -> list[str]:
    """Return a line for each run that other runs repeat: same settings, same seed. Such runs are not counted twice."""
    lines = []
    for first in comparison.runs:
        others = [
            run.path.as_posix()
            for run in comparison.repeated
            if (comparison.label[run], run.seed) == (comparison.label[first], first.seed)
        ]
        if others:
            verb = "repeats" if len(others) == 1 else "repeat"
            named = words.listed(others)
            lines.append(f"{named} {verb} {first.path.as_posix()}: same settings, same seed; not counted twice.")
    return lines


def _with_interval(estimate: Estimate, sign: int = 1) -> str:
    """Return `0.72 (0.61 to 0.83)`. With sign −1 the number and its ends change their sign."""
    ends = [None if end is None else sign * end for end in (estimate.low, estimate.high)[::sign]]
    return words.with_ends([sign * estimate.mean, *ends])
