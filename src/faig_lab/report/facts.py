"""Short lines about the networks, the data and the attribution, from the configuration and the provenance of a run."""

from collections.abc import Mapping
from typing import Any

from faig_lab.files import PACKAGE
from faig_lab.plotting import findings
from faig_lab.plotting.words import count
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import unique

Facts = dict[str, str]
_FORECAST = "seconds/expected"  # of the whole run, and no stage


def study(run: RunFolder) -> Facts:
    """Return the network, the data and the training of a run: label → line. Unknown facts are left out."""
    network, data = run.config.get("network", {}), run.config.get("data", {})
    ranked = run.layout.get("layers", [])
    layers = sum("out" in layer for layer in ranked)  # all others are biases and similar parameters
    place = f"{layers} layers" + (f" and {len(ranked) - layers} other parameters" if len(ranked) > layers else "")
    # Given weights were trained on photographs that this run does not know.
    trained_on = 0 if len(given(run)) == 2 else len(run.provenance.get("training") or [])
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


def given(run: RunFolder) -> Facts:
    """Return the file of the weights of each network that the run did not train: network → file."""
    weights = {name: (run.config.get(name) or {}).get("weights") for name in ("baseline", "target")}
    return {name: _origin(str(file)) for name, file in weights.items() if file}


def attribution(run: RunFolder) -> Facts:
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
