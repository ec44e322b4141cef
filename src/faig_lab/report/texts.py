"""What page and console say of a run, and when words of judgement such as "above" are allowed.

A number may always be shown. A sentence that puts one thing above another needs intervals that do not overlap, enough
scenes and trainings, and targets that restore (method.md §9).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from faig_lab.plotting import findings
from faig_lab.plotting.words import (
    MEANINGS,
    REFERENCE,
    as_percent,
    count,
    decimal,
    degraded,
    line_label,
    listed,
    method_label,
    removal,
    sentence_case,
    share,
)
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import over_photographs

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


def question(run: RunFolder) -> str:
    """What the study asks."""
    kinds = listed([removal(name) for name in run.degradations]) or "restoration"
    where = f"separate {run.units} for" if len(run.degradations) > 1 else f"a few of its {run.units} for"
    upscales = run.config.get("network", {}).get("scale") != 1
    network = (
        "A blind super-resolution network upscales a photograph and repairs it in one go."
        if upscales
        else "A blind restoration network repairs a photograph, whatever its degradation is."
    )
    return (
        f"{network} Does it use {where} {kinds}"
        f"? To test it, the {run.units} that an attribution method points at are set back to their values from before "
        "the network learnt to restore, and what is lost is measured."
    )


def masking(run: RunFolder, masked: str) -> str:
    """`Masking 1 % (122 of 12,240) deblurring filters`."""
    size = findings.masked_count(run, run.headline)
    of = f" ({count(size)} of {count(run.filters)})" if size and run.filters else ""
    return f"Masking {as_percent(run.headline)}{of} {removal(masked)} {run.units}"


def removed(run: RunFolder, masked: str) -> str:
    """What masking a set of the run's method removes, its own function first: `85 % of deblurring and 22 % of …`."""
    names = sorted(run.degradations, key=lambda name: name != masked)
    found = {name: findings.masking(run, run.chosen, run.headline, masked, name).mean for name in names}
    return listed([f"{share(number)} of {removal(name)}" for name, number in found.items()])


def clean_cost(run: RunFolder) -> str:
    """What the target itself costs, or gains, on clean input against the baseline; empty where it is not measured."""
    change = findings.gain(run, "clean")
    if change is None:
        return ""
    where = "above" if change >= 0 else "below"
    return f"On clean input the target is {decimal(abs(change))} dB {where} the baseline."


def harm(run: RunFolder) -> str:
    """The sets whose own removed share is above 1; empty where there is none."""
    found = [one for one in findings.of_sets(run) if one.harm >= findings.HARM]
    parts = [f"{removal(one.masked)} {decimal(1 + one.harm)} (harm {decimal(one.harm)})" for one in found]
    return f"Worse than the baseline itself, clipped to 1 in removed shares: {listed(parts)}." if parts else ""


def reference(run: RunFolder) -> str:
    """How far the methods are from the learned mask at the headline percent; empty for a run without one."""
    found = findings.distances(run, run.headline)
    if not found:
        return ""
    best = findings.of_methods(run, run.headline)[REFERENCE].isolation
    behind = [f"{method_label(method)} {decimal(distance)}" for method, distance in found.items()]
    return (
        f"{sentence_case(line_label(REFERENCE))} at {as_percent(run.headline)}: isolation {decimal(best)}, mean over "
        "the "
        f"masked sets. Distance to it at equal count: {listed(behind)}."
    )


def intervals(run: RunFolder) -> str:
    """What the intervals of specificity are over, and what they do not say; empty for a run from before them."""
    photographs = findings.photographs(run)
    if photographs is None:
        return ""
    if photographs == 1:
        return "There are no intervals: all held-out images are of one photograph, and one says nothing about others."
    kind = over_photographs(run.table("comparison")).removesuffix("photographs")
    few = f" Of fewer than {FEWEST_SCENES} photographs a 95 % interval would be too narrow." if "range" in kind else ""
    return (
        f"Below a specificity: the {kind}the {count(photographs)} held-out photographs for this one training. It tells "
        f"how far other photographs would move a number, not how far another training would.{few}"
    )


def cell(run: RunFolder, method: str, masked: str, shown: str) -> str:
    """A cell of the specificity matrix in a sentence."""
    found = findings.masking(run, method, run.headline, masked, shown)
    psnr = findings.masked_psnr(run, method, run.headline, masked, shown)
    target = findings.restoration(run).get("target", {}).get(shown)
    draws = f" ± {decimal(found.std)} over {found.draws} draws" if found.draws > 1 else ""
    excess = f", harm {decimal(found.harm)}" if found.harm >= findings.HARM else ""
    return (
        f"{sentence_case(removal(masked))} {run.units} of {method_label(method)} masked: {decimal(found.mean)}{draws}"
        f"{excess} of {removal(shown)} removed; {degraded(shown)} input from {decimal(target)} to {decimal(psnr)} dB"
    )


def meaning(run: RunFolder) -> str:
    """What the glossary says of a unit of this run."""
    others = " All other parameters, biases say, are ranked among them: each one entry of its first axis."
    return MEANINGS[run.granularity] + (others if run.ranks_others and run.granularity != "layer" else "")


def warnings(run: RunFolder) -> list[str]:
    """What a reader must know before believing a number: faults of the attribution, notes of the data, small gains."""
    failed = f"This run failed: {run.status.get('error') or 'no reason was recorded'}."
    found = [failed] if run.status.get("state") == "failed" else []
    found += [str(line) for line in run.status.get("warnings") or []]
    found += [str(note) for note in run.provenance.get("notes") or []]
    if run.ranks_others:
        found.append(
            "Biases and all other parameters are ranked and masked as well; where this report speaks of "
            f"{run.units}, they are meant, too."
        )
    gains = {name: findings.gain(run, name) for name in run.degradations}
    found += [
        f"The target is {above_baseline(gain)} in {removal(name)}: its removed shares divide by that difference and "
        "mean little."
        for name, gain in gains.items()
        if gain is not None and gain < SMALL_GAIN_DB
    ]
    return found


def above_baseline(gain: float) -> str:
    """A small or negative gain against the baseline in words."""
    return f"only {decimal(gain)} dB above the baseline" if gain > 0 else f"{decimal(-gain)} dB below the baseline"
