"""What was trained and how, as short lines read from the config and the provenance of a run."""

from collections.abc import Mapping
from typing import Any

from faig_lab.files import PACKAGE
from faig_lab.plotting import findings
from faig_lab.plotting.words import count
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import unique

Facts = dict[str, str]


def study(run: RunFolder) -> Facts:
    """The network, the data and the training of a run: label -> line, without what the run does not say."""
    network, data = run.config.get("network", {}), run.config.get("data", {})
    ranked = run.layout.get("layers", [])
    layers = sum("out" in layer for layer in ranked)  # the others are biases and the like
    where = f"{layers} layers" + (f" and {len(ranked) - layers} other parameters" if len(ranked) > layers else "")
    # Weights that were given come from elsewhere, and so did the photographs that they were trained on.
    trained_on = 0 if len(given(run)) == 2 else len(run.provenance.get("training") or [])
    facts = {
        "Network": _described(network),
        run.units.capitalize(): f"{count(run.filters)} in {where}" if run.filters else "",
        "Data": _class_name(data),
        "Training": _images(trained_on, "the networks are trained on"),
        "Probe": _images(len(unique(run.table("completeness"), "image")), "attribution is computed on"),
        "Held-out": _images(findings.held_out_images(run), "everything below is judged on"),
        "Baseline": _trained(run.config, "baseline"),
        "Target": _trained(run.config, "target"),
        "Weights attributed": _theta(run.provenance.get("theta")),
    }
    parts = run.config.get("degradation", {}).get("parts") or {}
    facts |= {f"Degradation: {name}": _described(part) for name, part in parts.items()}
    return {label: line for label, line in facts.items() if line}


def given(run: RunFolder) -> Facts:
    """Network → where its weights were read from, for each network that the run did not train."""
    weights = {name: (run.config.get(name) or {}).get("weights") for name in ("baseline", "target")}
    return {name: _origin(str(file)) for name, file in weights.items() if file}


def attribution(run: RunFolder) -> Facts:
    """How the attribution was computed, as far as the provenance tells; versions are not part of it."""
    shown = {key: found for key, found in run.provenance.items() if key not in ("versions", "notes", "theta")}
    return {key.replace("_", " "): _flat(found) for key, found in shown.items()}


def versions(run: RunFolder) -> Facts:
    """Name and version of what computed the run."""
    found = run.provenance.get("versions")
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, Mapping) else {}


def seconds(run: RunFolder) -> dict[str, float]:
    """Seconds of each stage, and of the parts of the attribution, from `seconds/…` in metrics.json."""
    stages = {key.removeprefix("seconds/"): value for key, value in run.metrics.items() if key.startswith("seconds/")}
    part = "attribution/"
    return {
        f"of the attribution: {name.removeprefix(part)}" if name.startswith(part) else name: float(value)
        for name, value in stages.items()
    }


def _class_name(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2]


def _described(node: Any) -> str:
    """A config node as `SRResNet (scale 2, features 24)`."""
    if not isinstance(node, Mapping):
        return ""
    details = ", ".join(f"{key} {_flat(found)}" for key, found in node.items() if not str(key).startswith("_"))
    return f"{_class_name(node)} ({details})" if details else _class_name(node)


def _images(number: int, what_for: str) -> str:
    return f"{number} {'image: ' + what_for + ' it' if number == 1 else 'images: ' + what_for + ' them'}" * (number > 0)


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
    return f"{weights} (it ships with faig_lab)" if weights.startswith(PACKAGE) else weights


def _theta(found: Any) -> str:
    """Which weights were attributed: one line for each network, or one for both."""
    if isinstance(found, Mapping):
        return "; ".join(f"{network}: {origin}" for network, origin in found.items())
    return str(found or "")


def _flat(found: Any) -> str:
    """A value of any JSON kind on one line."""
    if isinstance(found, Mapping):
        return ", ".join(f"{key} {_flat(inner)}" for key, inner in found.items())
    if isinstance(found, list | tuple):
        return ", ".join(_flat(inner) for inner in found)
    return f"{found:.4g}" if isinstance(found, float) else str(found)
