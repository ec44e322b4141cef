"""What page and console say about a run: sentences, short facts, and the conditions for words such as "above".

A number may always be shown. A sentence that puts one method above another needs intervals that do not overlap, enough
scenes and trainings, and targets that restore (method.md §9).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faig_lab.files import PACKAGE
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
from faig_lab.runs.tables import over_photographs, unique

FEWEST_SCENES = 10
"""Intervals over fewer scenes are too narrow for their level."""

FEWEST_TRAININGS = 3
"""One or two trainings do not show how much trainings differ."""

SMALL_GAIN_DB = 0.5
"""Below this gain of the target over the baseline a removed share is a ratio of two small numbers."""

Ends = tuple[float | None, float | None]
"""Low and high end of an interval; None without an interval."""


@dataclass(frozen=True)
class Evidence:
    """The facts that decide whether a sentence may compare two numbers.

    Attributes:
        scenes: number of held-out scenes of each run; None if a run does not tell.
        trainings: number of trainings with different seeds.
        gains: PSNR of the target above the baseline in dB, for every run and degradation; None if a run does not tell.
    """

    scenes: Sequence[int | None] = ()
    trainings: int = 0
    gains: Sequence[float | None] = ()


def obstacles(evidence: Evidence) -> list[str]:
    """Return everything that forbids a comparison in words, whatever the numbers are; empty if nothing does."""
    known = [scenes for scenes in evidence.scenes if scenes is not None]
    reasons = []
    if not evidence.scenes or len(known) < len(evidence.scenes):
        reasons.append("the number of scenes is not known")
    elif min(known) < FEWEST_SCENES:
        reasons.append(f"{_counted(min(known), 'scene')} (at least {FEWEST_SCENES} are needed)")
    if evidence.trainings < FEWEST_TRAININGS:
        reasons.append(f"{_counted(evidence.trainings, 'training')} (at least {FEWEST_TRAININGS} are needed)")
    gains = [gain for gain in evidence.gains if gain is not None]
    if not evidence.gains or len(gains) < len(evidence.gains):
        reasons.append("the gain of a run is not known")
    elif min(gains) < SMALL_GAIN_DB:
        reasons.append(f"a run whose target gains {min(gains):.2f} dB (at least {SMALL_GAIN_DB:g} dB are needed)")
    return reasons


def may_claim(evidence: Evidence, first: Ends, second: Ends | None = None) -> bool:
    """Return whether a sentence may put one number above or below another.

    Args:
        evidence: the runs behind the numbers.
        first: interval of the first number, or of a paired difference.
        second: interval of the second number; None for a difference, whose interval must exclude zero.
    """
    return not obstacles(evidence) and apart(first, (0.0, 0.0) if second is None else second)


def apart(first: Ends, second: Ends) -> bool:
    """Return whether two intervals have no point in common; False if an interval is missing."""
    (low, high), (other_low, other_high) = first, second
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return high < other_low or other_high < low


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def question(run: RunFolder) -> str:
    """Return the question that the study asks."""
    functions = listed([removal(name) for name in run.degradations]) or "restoration"
    units = f"separate {run.units} for" if len(run.degradations) > 1 else f"a few of its {run.units} for"
    upscales = run.config.get("network", {}).get("scale") != 1
    network = (
        "A blind super-resolution network upscales a photograph and removes its degradation at the same time."
        if upscales
        else "A blind restoration network removes the degradation of a photograph, whatever the degradation is."
    )
    return (
        f"{network} Does the network use {units} {functions}? An attribution method selects {run.units}. This run sets "
        "them back to their values before the network learned to restore, and measures which function is lost."
    )


def masking(run: RunFolder, masked: str) -> str:
    """Return `Masking 1 % (122 of 12,240) deblurring filters`."""
    size = findings.masked_count(run, run.headline)
    of = f" ({count(size)} of {count(run.filters)})" if size and run.filters else ""
    return f"Masking {as_percent(run.headline)}{of} {removal(masked)} {run.units}"


def removed(run: RunFolder, masked: str) -> str:
    """Return the shares that masking a set removes, its own function first: `85 % of deblurring and 22 % of …`."""
    names = sorted(run.degradations, key=lambda name: name != masked)
    shares = {name: findings.masking(run, run.chosen, run.headline, masked, name).mean for name in names}
    return listed([f"{share(number)} of {removal(name)}" for name, number in shares.items()])


def clean_cost(run: RunFolder) -> str:
    """Return the PSNR of the target above or below the baseline on clean input; empty if it was not measured."""
    change = findings.gain(run, "clean")
    if change is None:
        return ""
    side = "above" if change >= 0 else "below"
    return f"On clean input the target is {decimal(abs(change))} dB {side} the baseline."


def harm(run: RunFolder) -> str:
    """Return the sets whose own removed share is above 1; empty if there is no such set."""
    harmful = [result for result in findings.of_sets(run) if result.harm >= findings.HARM]
    parts = [f"{removal(result.masked)} {decimal(1 + result.harm)} (harm {decimal(result.harm)})" for result in harmful]
    return f"Worse than the baseline itself, clipped to 1 in removed shares: {listed(parts)}." if parts else ""


def reference(run: RunFolder) -> str:
    """Return the distances of the methods to the learned mask at the headline percent; empty without a learned mask."""
    distances = findings.distances(run, run.headline)
    if not distances:
        return ""
    best = findings.of_methods(run, run.headline)[REFERENCE].isolation
    behind = [f"{method_label(method)} {decimal(distance)}" for method, distance in distances.items()]
    return (
        f"{sentence_case(line_label(REFERENCE))} at {as_percent(run.headline)}: isolation {decimal(best)}, mean over "
        f"the masked sets. Distance to the learned mask at equal count: {listed(behind)}."
    )


def intervals(run: RunFolder) -> str:
    """Return what the intervals of specificity show and what they do not show; empty for a run without intervals."""
    photographs = findings.photographs(run)
    if photographs is None:
        return ""
    if photographs == 1:
        return "There are no intervals, since all held-out images show the same photograph."
    interval = over_photographs(run.table("comparison")).removesuffix("photographs")
    few = f" Over fewer than {FEWEST_SCENES} photographs a 95 % interval is too narrow." if "range" in interval else ""
    return (
        f"Below a specificity: the {interval}the {count(photographs)} held-out photographs for this training. It shows "
        f"how much the number depends on the photographs, not how much it depends on the training.{few}"
    )


def cell(run: RunFolder, method: str, masked: str, shown: str) -> str:
    """Return a cell of the specificity matrix as a sentence."""
    result = findings.masking(run, method, run.headline, masked, shown)
    psnr = findings.masked_psnr(run, method, run.headline, masked, shown)
    target = findings.restoration(run).get("target", {}).get(shown)
    draws = f" ± {decimal(result.std)} over {result.draws} draws" if result.draws > 1 else ""
    excess = f", harm {decimal(result.harm)}" if result.harm >= findings.HARM else ""
    return (
        f"{sentence_case(removal(masked))} {run.units} of {method_label(method)} masked: {decimal(result.mean)}{draws}"
        f"{excess} of {removal(shown)} removed; {degraded(shown)} input from {decimal(target)} to {decimal(psnr)} dB"
    )


def meaning(run: RunFolder) -> str:
    """Return the glossary's definition of a unit of this run."""
    others = " All other parameters, such as biases, are ranked too: a unit is an entry of the first axis."
    return MEANINGS[run.granularity] + (others if run.ranks_others and run.granularity != "layer" else "")


def warnings(run: RunFolder) -> list[str]:
    """Return what limits the numbers of a run: faults of the attribution, notes of the data, small gains."""
    failed = f"This run failed: {run.status.get('error') or 'no reason was recorded'}."
    lines = [failed] if run.status.get("state") == "failed" else []
    lines += [str(line) for line in run.status.get("warnings") or []]
    lines += [str(note) for note in run.provenance.get("notes") or []]
    if run.ranks_others:
        lines.append(
            "Biases and all other parameters are ranked and masked as well. In this report the word "
            f"{run.units} includes them."
        )
    gains = {name: findings.gain(run, name) for name in run.degradations}
    lines += [
        f"The target is {above_baseline(gain)} in {removal(name)}. The removed shares divide by this difference, so "
        "they are unreliable."
        for name, gain in gains.items()
        if gain is not None and gain < SMALL_GAIN_DB
    ]
    return lines


def above_baseline(gain: float) -> str:
    """Return a small or negative gain over the baseline in words."""
    return f"only {decimal(gain)} dB above the baseline" if gain > 0 else f"{decimal(-gain)} dB below the baseline"


Facts = dict[str, str]
"""Short lines from the configuration and the provenance of a run: label → line."""

_FORECAST = "seconds/expected"  # of the whole run, and no stage


def study_facts(run: RunFolder) -> Facts:
    """Return the network, the data and the training of a run: label → line. Unknown facts are left out."""
    network, data = run.config.get("network", {}), run.config.get("data", {})
    ranked = run.layout.get("layers", [])
    layers = sum("out" in layer for layer in ranked)  # all others are biases and similar parameters
    place = f"{layers} layers" + (f" and {len(ranked) - layers} other parameters" if len(ranked) > layers else "")
    # Given weights were trained on photographs that this run does not know.
    trained_on = 0 if len(given_weights(run)) == 2 else len(run.provenance.get("training") or [])
    facts = {
        "Network": _described(network),
        run.units.capitalize(): f"{count(run.filters)} in {place}" if run.filters else "",
        "Data": _class_name(data),
        "Training": _images(trained_on, "the networks are trained on"),
        "Probe": _images(len(unique(run.table("completeness"), "image")), "attribution is computed on"),
        "Held-out": _images(findings.held_out_images(run), "everything below is evaluated on"),
        "Baseline": _trained(run.config, "baseline"),
        "Target": _trained(run.config, "target"),
        "Weights attributed": _theta(run.provenance.get("theta")),
    }
    parts = run.config.get("degradation", {}).get("parts") or {}
    facts |= {f"Degradation: {name}": _described(part) for name, part in parts.items()}
    return {label: line for label, line in facts.items() if line}


def given_weights(run: RunFolder) -> Facts:
    """Return the file of the weights of each network that the run did not train: network → file."""
    weights = {name: (run.config.get(name) or {}).get("weights") for name in ("baseline", "target")}
    return {name: _origin(str(file)) for name, file in weights.items() if file}


def attribution_facts(run: RunFolder) -> Facts:
    """Return how the attribution was computed, from the provenance without its versions."""
    shown = {key: value for key, value in run.provenance.items() if key not in ("versions", "notes", "theta")}
    return {key.replace("_", " "): _flat(value) for key, value in shown.items()}


def versions(run: RunFolder) -> Facts:
    """Return the name and the version of each package that computed the run."""
    recorded = run.provenance.get("versions")
    return {str(name): str(version) for name, version in recorded.items()} if isinstance(recorded, Mapping) else {}


def seconds(run: RunFolder) -> dict[str, float]:
    """Return the seconds of each stage and of each part of the attribution, from `seconds/…` in metrics.json."""
    stages = {key.removeprefix("seconds/"): value for key, value in run.metrics.items() if key.startswith("seconds/")}
    part = "attribution/"
    return {
        f"of the attribution: {name.removeprefix(part)}" if name.startswith(part) else name: float(value)
        for name, value in stages.items()
    }


def total_seconds(run: RunFolder) -> float | None:
    """Return the seconds of all stages together, also those of later analyses; None if no stage was timed.

    The stages that a stage contains are timed apart from it. The parts of the attribution are not.
    """
    parts = "seconds/attribution/"
    stages = [key for key in run.metrics if key.startswith("seconds/") and not key.startswith(parts)]
    return sum(run.metrics[key] for key in stages if key != _FORECAST) if stages else None


def command(run: RunFolder) -> str:
    """Return the command line that started the run; empty if the run does not record it."""
    return str(run.status.get("command") or "")


def _class_name(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2]


def _described(node: Any) -> str:
    """Return a config node as `SRResNet (scale 2, features 24)`."""
    if not isinstance(node, Mapping):
        return ""
    details = ", ".join(f"{key} {_flat(value)}" for key, value in node.items() if not str(key).startswith("_"))
    return f"{_class_name(node)} ({details})" if details else _class_name(node)


def _images(number: int, purpose: str) -> str:
    return f"{number} {'image: ' + purpose + ' it' if number == 1 else 'images: ' + purpose + ' them'}" * (number > 0)


def _trained(config: Mapping[str, Any], name: str) -> str:
    weights = (config.get(name) or {}).get("weights")
    if weights:
        return f"weights given: {_origin(str(weights))}"
    schedule = config.get("training", {}).get(name) or {}
    if "iterations" not in schedule:
        return ""
    rate = f", learning rate {schedule['learning_rate']:g}" if "learning_rate" in schedule else ""
    start = " from the baseline's weights" if name == "target" else ""
    return f"{count(schedule['iterations'])} iterations{start}{rate}"


def _origin(weights: str) -> str:
    return f"{weights} (faig_lab ships the file)" if weights.startswith(PACKAGE) else weights


def _theta(recorded: Any) -> str:
    """Return the origin of the attributed weights, for each network or for both together."""
    if isinstance(recorded, Mapping):
        return "; ".join(f"{network}: {origin}" for network, origin in recorded.items())
    return str(recorded or "")


def _flat(value: Any) -> str:
    """Return a JSON value of any type on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(inner) for inner in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
