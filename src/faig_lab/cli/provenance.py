"""The origin of results, as plain data beside them."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

import faig_lab
from faig_lab.attribution import Cost, ProbeIntegral, ResultCache
from faig_lab.cli.build import compute_device, make_network, trainer_arguments
from faig_lab.config import Settings
from faig_lab.data import PairedImage, StudyData
from faig_lab.filters import State, fingerprint, state_fingerprint
from faig_lab.runs.versions import versions
from faig_lab.training import Trained


def describe_scores(
    settings: Settings, data: StudyData, integral: ProbeIntegral, costs: Mapping[str, Cost]
) -> dict[str, object]:
    """Return the content of attribution/provenance.json: method, quadrature, passes, probe, θ, gaps, versions.

    The same run gives the same bytes. So the seconds are not here but among the metrics.
    """
    attribution = settings.attribution
    return {
        "method": attribution.name,
        "methods": list(attribution.methods),
        "rule": attribution.rule,
        "points": attribution.points,
        "tolerance": attribution.tolerance if attribution.rule == "adaptive" else None,
        "effort": integral.effort(),
        "cost": {name: cost.counts() for name, cost in costs.items()},
        "precision": attribution.precision,
        "granularity": attribution.granularity,
        "rank_other_parameters": attribution.rank_other_parameters,
        "theta": {name: _theta(settings, name) for name in ("baseline", "target")},
        "degradations": list(data.degradations),
        "training": [photograph.name for photograph in data.train],
        "probe": [image.name for image in data.probe],
        "held_out": [image.name for image in data.held_out],
        "notes": list(data.notes),
        "completeness_gap": {name: integral.gap(name) for name in integral.degradations},
        "training_precision": trainer_arguments(settings)["precision"],
        "device": str(compute_device(settings)),
        "versions": versions(),
    }


def describe_weights(settings: Settings, name: str, trained: Trained) -> dict[str, object]:
    """Return the content of the .yaml beside a weights file, with the network and its scale."""
    planted = settings.target.model_dump()["planted"] if name == "target" else None
    parameters = sum(parameter.numel() for parameter in make_network(settings).parameters())
    return {
        "what": name,
        "network": settings.network,
        "parameters": parameters,
        "theta": _theta(settings, name),
        "iterations": int(trained.history[-1]["step"]) if trained.history else None,
        "seed": settings.seed,
        **({} if planted is None else {"planted": planted}),
        **({} if trained.channels_last is None else {"channels_last": trained.channels_last}),
        "versions": versions(),
    }


def _theta(settings: Settings, name: str) -> str:
    """Return the origin of θ. Lightning keeps averaged and raw weights; the averaged weights are attributed."""
    given = getattr(settings, name).weights
    if given is not None:
        return f"read from {given}"
    return f"EMA weights (decay {settings.training.ema_decay}) after training"


_PACKAGES = ("networks", "filters", "data", "metrics", "attribution", "training", "evaluation", "studies")
_NO_MATTER = {
    "": (
        "name",
        "objective",
        "task",
        "run",
        "file",
        "other",
        "resume",
        "export",
        "store",
        "traceback",
        "trust",
        "logger",
        "baseline",
        "target",
        "data",
    ),
    "training": ("workers", "validate_every", "checkpoint_every"),
}
"""Settings that change no number, and settings of weights and images, whose contents count instead."""


def kept_results(settings: Settings, data: StudyData, baseline: State, target: State) -> ResultCache:
    """Return the cache of a run for sums over probe images and results of studies. The same run has the same cache."""
    plain = {name: value for name, value in settings.model_dump().items() if name not in _NO_MATTER[""]}
    plain["training"] = {n: value for n, value in plain["training"].items() if n not in _NO_MATTER["training"]}
    determinants = {
        "settings": plain,
        "code": code_hash(),
        "trainer": trainer_arguments(settings) | {"device": compute_device(settings).type},
        "weights": [state_fingerprint(baseline), state_fingerprint(target)],
        "photographs": [[photograph.name, photograph.sha256] for photograph in data.train],
        "probe": [_identity(image) for image in data.probe],
        "held_out": [_identity(image) for image in data.held_out],
        "degradations": data.degradations,
    }
    return ResultCache(Path(settings.store).expanduser() / f".study-{fingerprint(determinants)}.partial")


@cache
def code_hash() -> str:
    """Return a hash of the version of torch and of the code of attribution and studies.

    Any edit changes the hash. An interrupted run then computes its sums again but trains nothing again. So a run never
    mixes sums of two versions.
    """
    root = Path(faig_lab.__file__).parent
    files = [path for package in _PACKAGES for path in sorted((root / package).rglob("*.py"))]
    content = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return fingerprint({"torch": torch.__version__, **content})


def _identity(image: PairedImage) -> list[Any]:
    return [image.name, image.scene, state_fingerprint({"hr": image.hr, **image.lr})]
