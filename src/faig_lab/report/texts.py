"""What page and console say about a run: sentences, short facts, and the text that a run prints at its end."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faig_lab.files import PACKAGE
from faig_lab.plotting import findings
from faig_lab.plotting.words import (
    MEANINGS,
    REFERENCE,
    as_percent,
    between,
    count,
    decimal,
    degraded,
    line_label,
    listed,
    method_label,
    removal,
    sentence_case,
    share,
    signed,
    small_share,
    with_std,
)
from faig_lab.report.records import Records
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import aligned, over_photographs, unique
from faig_lab.studies.section import sections_of

FEWEST_SCENES = 10
"""Intervals over fewer scenes are too narrow for their level."""

SMALL_GAIN_DB = 0.5
"""Below this gain of the target over the baseline a removed share is a ratio of two small numbers."""


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


def study_facts(run: RunFolder) -> Facts:
    """Return the network, the data and the training of a run: label → line. Unknown facts are left out."""

    def images(number: int, purpose: str) -> str:
        return f"{number} {'image: ' + purpose + ' it' if number == 1 else 'images: ' + purpose + ' them'}" * (
            number > 0
        )

    given, theta, ranked = given_weights(run), run.provenance.get("theta"), run.layout.get("layers", [])
    layers = sum("out" in layer for layer in ranked)  # all others are biases and similar parameters
    place = f"{layers} layers" + (f" and {len(ranked) - layers} other parameters" if len(ranked) > layers else "")
    # Given weights were trained on photographs that this run does not know.
    trained_on = 0 if len(given) == 2 else len(run.provenance.get("training") or [])
    facts = {
        "Network": _described(run.config.get("network")),
        run.units.capitalize(): f"{count(run.filters)} in {place}" if run.filters else "",
        "Data": _class_name(run.config.get("data", {})),
        "Training": images(trained_on, "the networks are trained on"),
        "Probe": images(len(unique(run.table("completeness"), "image")), "attribution is computed on"),
        "Held-out": images(findings.held_out_images(run), "everything below is evaluated on"),
    }
    for name in ("baseline", "target"):
        schedule = run.config.get("training", {}).get(name) or {}
        rate = f", learning rate {schedule['learning_rate']:g}" if "learning_rate" in schedule else ""
        start = " from the baseline's weights" if name == "target" else ""
        trained = f"{count(schedule['iterations'])} iterations{start}{rate}" if "iterations" in schedule else ""
        facts[name.capitalize()] = f"weights given: {given[name]}" if name in given else trained
    facts["Weights attributed"] = (
        "; ".join(f"{network}: {origin}" for network, origin in theta.items())
        if isinstance(theta, Mapping)
        else str(theta or "")
    )
    parts = run.config.get("degradation", {}).get("parts") or {}
    facts |= {f"Degradation: {name}": _described(part) for name, part in parts.items()}
    return {label: line for label, line in facts.items() if line}


def given_weights(run: RunFolder) -> Facts:
    """Return the file of the weights of each network that the run did not train: network → file."""
    files = {name: str((run.config.get(name) or {}).get("weights") or "") for name in ("baseline", "target")}
    shipped = " (faig_lab ships the file)"
    return {name: file + shipped * file.startswith(PACKAGE) for name, file in files.items() if file}


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
    return {
        f"of the attribution: {part}" if (part := name.removeprefix("attribution/")) != name else name: float(value)
        for name, value in stages.items()
    }


def total_seconds(run: RunFolder) -> float | None:
    """Return the seconds of all stages together, also those of later analyses; None if no stage was timed.

    The stages that a stage contains are timed apart from it. The parts of the attribution are not. The forecast
    `expected` is of the whole run.
    """
    times = {key: value for key, value in run.metrics.items() if key.startswith("seconds/")}
    stages = {key: value for key, value in times.items() if not key.startswith("seconds/attribution/")}
    return sum(value for key, value in stages.items() if key != "seconds/expected") if stages else None


def _class_name(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2]


def _described(node: Any) -> str:
    """Return a config node as `SRResNet (scale 2, features 24)`."""
    if not isinstance(node, Mapping):
        return ""
    details = ", ".join(f"{key} {_flat(value)}" for key, value in node.items() if not str(key).startswith("_"))
    return f"{_class_name(node)} ({details})" if details else _class_name(node)


def _flat(value: Any) -> str:
    """Return a JSON value of any type on one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def summary(path: Path, records: Records | None) -> str:
    """Return the closing lines of a run: an empty line, numbers from the run's files, then paths and commands."""
    run = RunFolder(path)
    notes = [f"note: {warning}" for warning in warnings(run)]
    blocks = [_isolation(run), _removed(run), _methods(run), _restored(run), notes, _paths(path, records)]
    return "\n" + "\n\n".join("\n".join(block) for block in blocks if block)


def added(path: Path, studies: Sequence[str]) -> str:
    """Return a line for each analysis that was added to a run: its question, its main numbers and its files."""
    run = RunFolder(path)
    shown = {section.name: section for section in sections_of(run)}
    lines = []
    for name in studies:
        section = shown.get(name)
        words = [section.title, section.sentence(run)] if section else []
        files = [file for file in (f"tables/{name}.csv", f"figures/{name}.png") if (path / file).is_file()]
        about = " ".join([*words, f"({listed(files)})" * bool(files)]).strip()
        lines.append(f"added         {name}{': ' * bool(about)}{run.worded(about)}")
    return "\n".join(lines)


def _masked(run: RunFolder) -> str:
    """Return `1 % of the filters (122 of 12,240)`."""
    size = findings.masked_count(run, run.headline)
    return f"{as_percent(run.headline)} of the {run.units} ({count(size)} of {count(run.filters)})"


def _isolation(run: RunFolder) -> list[str]:
    """Return the isolation of every method with its parts, then that of each set of the run's method."""
    results = findings.of_methods(run, run.headline)
    if not results:
        return []
    several, ends = len(run.degradations) > 1, findings.ends_are(run)
    lines = [
        f"Isolation after masking {_masked(run)}, {findings.held_out_images(run)} images:",
        "1 = the ideal edit, 0 = as without masking, below 0 = harm; then the parts that are missing to 1, by input:",
    ]
    head = ["method or set", "isolation", ends, "own input", "others" * several, "clean", "clean, dB"]
    rows = [(method_label(method), result) for method, result in results.items()]
    rows += [(f"{removal(result.masked)} ({method_label(run.chosen)})", result) for result in findings.of_sets(run)]
    cells = [
        [
            name, with_std(result.isolation, result.std), result.ends, decimal(result.own_left), decimal(result.side),
            decimal(result.side_clean), signed(result.clean_change),
        ]
        for name, result in rows
    ]  # fmt: skip
    return lines + _aligned(head, cells)


def _removed(run: RunFolder) -> list[str]:
    """Return the removed shares, the paper's measure: a line for each discovered set of the run's method."""
    if not run.degradations or not run.methods:
        return []
    held_out = findings.held_out_images(run)
    lines = [f"Masking {_masked(run)} found by {method_label(run.chosen)}, evaluated on {held_out} images:"]
    width = max(len(removal(name)) for name in run.degradations)
    for masked in run.degradations:
        removed = {d: findings.masking(run, run.chosen, run.headline, masked, d).mean for d in run.degradations}
        cells = [f"{share(number):>6} of {removal(shown)}" for shown, number in removed.items()]
        lines.append(f"  {removal(masked):<{width}} {run.units} remove {'  '.join(cells)}")
    return [*lines, f"  {harmful}"] if (harmful := harm(run)) else lines


def _methods(run: RunFolder) -> list[str]:
    """Return the comparison of the methods: means over the masked sets, with intervals if the run has them."""
    results = findings.method_results(run, run.headline)
    known = any(result.estimate for result in results)
    rows = [
        [
            method_label(result.method), share(result.own), share(result.other),
            with_std(result.specificity, result.std),
            between(result.estimate.low, result.estimate.high) if result.estimate else "",
        ]
        for result in results
    ]  # fmt: skip
    ends = over_photographs(run.table("comparison")) if known else ""
    return _aligned(["method", "own removed", "others removed", "specificity", ends], rows)


def _restored(run: RunFolder) -> list[str]:
    """Return the gain of the target over the baseline on every input, and the completeness gaps."""
    means = findings.restoration(run)
    clean = ["clean"] if "clean" in means.get("target", {}) else []
    rows = [
        [
            name,
            *(decimal(means.get(network, {}).get(name)) for network in ("baseline", "target")),
            signed(findings.gain(run, name)),
            small_share(findings.gaps(run, name)[0]) if name in run.degradations else "",
        ]
        for name in [*run.degradations, *clean]
        if run.degradations
    ]
    return _aligned(["input", "baseline, dB", "target, dB", "gain over baseline, dB", "completeness gap"], rows)


def _aligned(head: list[str], rows: list[list[str]]) -> list[str]:
    """Align columns: the first column to the left, all others to the right. A column without a name is left out."""
    if not rows:
        return []
    columns = [column for column in zip(head, *rows, strict=True) if column[0]]
    return [f"  {line}" for line in aligned(list(zip(*columns, strict=True)))]


def _paths(run: Path, records: Records | None) -> list[str]:
    report = run / "report.html"
    lines = [f"report        {report}" if report.is_file() else f"run folder    {run}"]
    if records is not None and records.folder is not None:
        folder = shlex.quote(str(records.folder))
        lines.append(f"look at it    wandb leet {folder}")
        # An online run is on the server already.
        lines.append(f"W&B page      {records.url}" if records.url else f"sync to W&B   wandb sync {folder}")
    if records is not None and "csv" in records.folders:
        lines.append(f"csv           {records.folders['csv'] / 'metrics.csv'}")
    if records is not None and "tensorboard" in records.folders:
        lines.append(f"tensorboard   tensorboard --logdir {shlex.quote(str(records.folders['tensorboard']))}")
    return lines
