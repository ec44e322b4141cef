"""Where results come from, as plain data beside them."""

import platform
from collections.abc import Mapping
from importlib.metadata import version

import torch

import faig_lab
from faig_lab.attribution import Cost, ProbeIntegral
from faig_lab.build import compute_device, make_network, trainer_arguments
from faig_lab.config import Settings
from faig_lab.data import StudyData
from faig_lab.training import Trained


def describe_scores(
    settings: Settings, data: StudyData, integral: ProbeIntegral, costs: Mapping[str, Cost]
) -> dict[str, object]:
    """What attribution/provenance.json holds: method, quadrature, counts of passes, probe, θ, gaps, versions.

    The same run gives the same bytes, so the seconds are among the metrics instead.
    """
    attribution = settings.attribution
    return {
        "method": attribution.name,
        "methods": list(attribution.methods),
        "rule": attribution.rule,
        "points": attribution.points,
        "tolerance": attribution.tolerance if attribution.rule == "adaptive" else None,
        "effort": integral.effort(),
        "cost": {what: cost.counts() for what, cost in costs.items()},
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
    """What the .yaml beside a weights file holds: weights never travel without network and scale."""
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
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("pytorch-lightning", "kornia", "torchmetrics", "numpy")
    return {
        "python": platform.python_version(),
        "faig_lab": faig_lab.__version__,
        "torch": str(torch.__version__),
        **{p: version(p) for p in packages},
    }


def _theta(settings: Settings, name: str) -> str:
    """Which θ it is: Lightning's averaging keeps averaged and raw weights, and we attribute the averaged ones."""
    given = getattr(settings, name).weights
    if given is not None:
        return f"read from {given}"
    return f"EMA weights (decay {settings.training.ema_decay}) after training"
