"""The origin of results, as plain data beside them: provenance, descriptions for records, command line and commit."""

import hashlib
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

import faig_lab
from faig_lab.attribution import Cost, ProbeIntegral, ResultCache
from faig_lab.cli.build import compute_device, make_network, trainer_arguments
from faig_lab.config import Settings
from faig_lab.data import PairedImage, StudyData
from faig_lab.filters import State, fingerprint, state_fingerprint
from faig_lab.report.wandb_run import Description
from faig_lab.runs.folder import RunFolder, versions
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
        **({"patches": "device"} if trained.on_device else {}),
        "versions": versions(),
    }


def _theta(settings: Settings, name: str) -> str:
    """Return the origin of θ. Lightning keeps averaged and raw weights; the averaged weights are attributed."""
    given = getattr(settings, name).weights
    if given is not None:
        return f"read from {given}"
    return f"EMA weights (decay {settings.training.ema_decay}) after training"


def describe(settings: Settings, run: RunFolder, *, job: str = "study") -> Description:
    """Return how the records name and describe a run.

    Args:
        settings: the settings of the run.
        run: the run folder, whose status has the origin of the run.
        job: the task.
    """
    told = {name: run.status[name] for name in ("command", "commit") if run.status.get(name)}
    data = str(settings.data.get("_target_", "")).rpartition(".")[2]
    notes = [
        f"`{told['command']}`" if "command" in told else "",
        f"commit {told['commit']}" if "commit" in told else "",
    ]
    notes += [f"data: {data}", f"faig_lab {faig_lab.__version__}"]
    return Description(
        experiment=settings.name,
        method=settings.attribution.name,
        network=network_label(settings.network),
        seed=settings.seed,
        job=job,
        config={**settings.model_dump(), **told, "version": faig_lab.__version__},
        notes="  \n".join(note for note in notes if note),
    )


def network_label(network: Mapping[str, Any]) -> str:
    """Return the class of a network with its sizes: `SRResNet-24x8` for 24 features and 8 blocks."""
    name = str(network.get("_target_", "network")).rpartition(".")[2]
    sizes = [str(v) for k, v in network.items() if isinstance(v, int) and not isinstance(v, bool) and k != "scale"]
    return f"{name}-{'x'.join(sizes)}" if sizes else name


def origin() -> dict[str, str]:
    """Return the command line of this process and the commit of faig_lab, for status.json."""
    commit = commit_of(Path(faig_lab.__file__).parent)
    return {"command": command(), **({"commit": commit} if commit else {})}


def command() -> str:
    """Return the command line that starts this run. For a job of a sweep it is the command of this job alone."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else sys.argv[1:]
    return f"python -m faig_lab {shlex.join(typed)}".strip()


@cache
def commit_of(package: Path) -> str | None:
    """Return the git commit of a folder of source, with a + for changed files; None if git does not track it."""
    commit = _git(package, "rev-parse", "HEAD") if _git(package, "ls-files", "--error-unmatch", "__init__.py") else None
    changed = commit and _git(package, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{commit}+" if changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() or None


_PACKAGES = ("networks", "filters", "data", "metrics", "attribution", "training", "evaluation", "studies")
_RECORDS = ("name", "objective", "task", "run", "file", "other", "resume", "export", "traceback", "trust", "logger")
_PLACES = ("store", "baseline", "target", "data")
_NOT_COUNTED: Mapping[str, bool | set[str]] = {
    **dict.fromkeys((*_RECORDS, *_PLACES), True),
    "training": {"workers", "validate_every", "checkpoint_every"},
}
"""Settings that change no number, and settings of weights and images, whose contents count instead."""


def kept_results(settings: Settings, data: StudyData, baseline: State, target: State) -> ResultCache:
    """Return the cache of a run for sums over probe images and results of studies. The same run has the same cache."""
    determinants = {
        "settings": settings.model_dump(exclude=_NOT_COUNTED),
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
