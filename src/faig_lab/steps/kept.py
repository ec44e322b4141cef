"""What a run keeps in the store until it is done, found again by whoever runs the same study: see docs/resume.md."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import torch

import faig_lab
from faig_lab.attribution import ResultCache
from faig_lab.build import compute_device, trainer_arguments
from faig_lab.config import Settings
from faig_lab.data import PairedImage, StudyData
from faig_lab.networks import State
from faig_lab.training import fingerprint, state_fingerprint

_PACKAGES = ("data", "networks", "training", "attribution", "analysis")
_NO_MATTER = {
    "": (
        "name",
        "task",
        "run",
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
"""Settings that change no number: where things go, and what counts by its weights or images instead."""


def kept_results(settings: Settings, data: StudyData, baseline: State, target: State) -> ResultCache:
    """Where a study keeps sums of probe images and findings of analyses; the same place for the same study."""
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
    """A hash of the code that attribution and analysis run through, and the version of torch.

    Any edit changes it. That costs an interrupted run the minutes of its sums, never a training, and no run ever mixes
    sums of two versions.
    """
    root = Path(faig_lab.__file__).parent
    files = [path for package in _PACKAGES for path in sorted((root / package).rglob("*.py"))]
    content = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return fingerprint({"torch": torch.__version__, **content})


def _identity(image: PairedImage) -> list[Any]:
    return [image.name, image.scene, state_fingerprint({"hr": image.hr, **image.lr})]
