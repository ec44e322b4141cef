"""Rules between settings, and the requirements of settings to machine and disk."""

import logging
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from faig_lab.config.messages import missing_path, show, suggest
from faig_lab.config.settings import AnalysisSettings, AttributionSettings, ExportSettings, Settings, TrainerSettings
from faig_lab.errors import UserError
from faig_lab.files import weights_file

SCALES = (1, 2, 3, 4)

log = logging.getLogger(__name__)

_EXPORTS = {
    ".pt": "our format",
    ".pth": "the authors'",
    ".safetensors": "safetensors",
    ".npz": "a patch of the modulated filters",
}

# The pipeline sets these arguments from other settings, so a second source is refused.
_PIPELINE_SETS = {
    "max_steps": "training.*.iterations",
    "min_steps": "training.*.iterations",
    "max_epochs": "training.*.iterations",
    "min_epochs": "training.*.iterations",
    "max_time": "training.*.iterations",
    "val_check_interval": "training.validate_every",
    "check_val_every_n_epoch": "training.validate_every",
    "logger": "the group logger",
    "callbacks": "the pipeline",
    "default_root_dir": "hydra.run.dir",
}

_TAKEN = {
    "clean": "the input without a degradation",
    "all": "the mean over the degradations",
    "mean": "the mean over the degradations",
}
"""Names that no degradation can have."""


def check_values(settings: Settings) -> None:
    """Check values that are valid alone but not together."""
    _check_scale(settings)
    for key, names in (
        ("degradation.parts", settings.degradation.parts),
        ("data.lr_dirs", settings.data.get("lr_dirs")),
    ):
        for name in names or ():
            if name in _TAKEN and (name, key) != ("clean", "data.lr_dirs"):  # the clean images of pairs
                raise UserError(f"{key}.{name}: in tables {name} is {_TAKEN[name]}; choose another name")
    for name, part in settings.degradation.parts.items():
        value = part.get("probability")
        if isinstance(value, int | float) and not 0 <= value <= 1:
            raise UserError(f"degradation.parts.{name}.probability: must be from 0 to 1, not {show(value)}")
    own = settings.degradation
    if own.choose == "one" and not any(part.get("probability", 1) for part in own.parts.values()):
        raise UserError("degradation.choose: one needs a part with a probability above 0; degradation.parts has none")
    training = settings.training
    for key, phase in (("training.baseline", training.baseline), ("training.target", training.target)):
        if phase.minimum_learning_rate > phase.learning_rate:
            raise UserError(
                f"{key}.minimum_learning_rate: {phase.minimum_learning_rate:g} is above "
                f"{key}.learning_rate = {phase.learning_rate:g}"
            )
    if "lr" in settings.training.optimizer:
        raise UserError("training.optimizer.lr: set training.*.learning_rate, one for each network")
    _check_attribution(settings.attribution)
    _check_percents(settings.analysis)
    methods = settings.attribution.methods
    for name, node in settings.analysis.studies.items():
        method = node.get("method")
        if method is not None and method not in methods:
            raise UserError(
                f"analysis.studies.{name}.method: {show(method)} is not in attribution.methods; "
                f"{suggest(str(method), methods)}"
            )
    _check_planted(settings)


def _check_scale(settings: Settings) -> None:
    scale, patch = settings.network.get("scale"), settings.training.patch_size
    if scale not in SCALES:
        near = min(SCALES, key=lambda s: abs(s - scale)) if isinstance(scale, int | float) else SCALES[0]
        raise UserError(f"network.scale: {show(scale)} is not supported; 1, 2, 3 or 4 (nearest: {near})")
    if patch % scale:
        near = max(scale, round(patch / scale) * scale)
        raise UserError(f"training.patch_size: {patch} is not a multiple of network.scale = {scale}; nearest: {near}")


def _check_attribution(attribution: AttributionSettings) -> None:
    if attribution.name not in attribution.methods:
        known = suggest(attribution.name, attribution.methods)
        raise UserError(f"attribution.name: {attribution.name} is not in attribution.methods; {known}")
    if attribution.path == "trajectory":
        _check_trajectory(attribution)
        return
    points, rule = attribution.points, attribution.rule
    if rule == "simpson" and (points < 3 or points % 2 == 0):
        raise UserError(
            f"attribution.points: simpson needs an odd number of at least 3, not {points}; nearest: "
            f"{max(3, points + 1)}"
        )
    if rule == "trapezoid" and points < 2:
        raise UserError(f"attribution.points: trapezoid needs at least 2, not {points}")
    if rule == "adaptive" and points < 5:
        raise UserError(f"attribution.points: adaptive needs at least 5 as its budget, not {points}")


def _check_trajectory(attribution: AttributionSettings) -> None:
    """Check that every piece of the trajectory gets a number of points that suits the rule."""
    pieces = attribution.path_states + 1
    least = {"simpson": 3, "trapezoid": 2, "adaptive": 5}.get(attribution.rule, 1)
    each = attribution.points // pieces
    if each < least or (attribution.rule == "simpson" and each % 2 == 0):
        near = pieces * max(least, each + 1)
        raise UserError(
            f"attribution.points: {attribution.points} are {each} for each of the {pieces} pieces of "
            f"attribution.path=trajectory; {attribution.rule} needs {least} for each"
            f"{', an odd number' if attribution.rule == 'simpson' else ''}; nearest: {near}"
        )


def _check_percents(analysis: AnalysisSettings) -> None:
    for place, (before, after) in enumerate(pairwise(analysis.percents), start=1):
        if after <= before:
            raise UserError(f"analysis.percents.{place}: {after:g} after {before:g}; percents must increase")
    wanted = analysis.headline_percent
    if wanted not in analysis.percents:
        near = min(analysis.percents, key=lambda percent: abs(percent - wanted))
        raise UserError(f"analysis.headline_percent: {wanted:g} is not one of percents; nearest: {near:g}")


def check_path(settings: Settings) -> None:
    """Refuse the path of a trajectory for given weights, since only a training saves a trajectory.

    Raises:
        UserError: the settings combine both.
    """
    if settings.attribution.path == "trajectory" and settings.target.weights is not None:
        raise UserError(
            "attribution.path: trajectory needs a target that is trained here, and target.weights is given; "
            "nearest: curve"
        )


def _check_planted(settings: Settings) -> None:
    """Check that a planted target has whole filters and enough steps, and that its study has such a target."""
    planted, attribution = settings.target.planted, settings.attribution
    if planted is None:
        for name, node in settings.analysis.studies.items():
            # With task=analyse the target of the finished run counts.
            if settings.task == "study" and node.get("_target_") == "faig_lab.studies.planted.planted":
                raise UserError(f"analysis.studies.{name}: the target is not planted; use experiment=planted")
        return
    if attribution.granularity != "filter":
        raise UserError(f"attribution.granularity: {attribution.granularity}, but target.planted plants filters")
    if attribution.rank_other_parameters:
        raise UserError("attribution.rank_other_parameters: must be false, since target.planted plants filters")
    if settings.training.patches == "device":
        raise UserError("training.patches: must be host or auto, since the degradations of target.planted take turns")
    steps, groups = settings.training.target.iterations, len(settings.degradation.parts) + (planted.drift_steps == 0)
    if planted.drift_steps >= steps:
        raise UserError(
            f"target.planted.drift_steps: {planted.drift_steps} must be less than training.target.iterations = {steps}"
        )
    left = steps - planted.drift_steps
    if planted.turn * groups > left:
        at_most = f"; at most {left // groups}" if left >= groups else ""
        raise UserError(
            f"target.planted.turn: {groups} turns of {planted.turn} steps do not fit into the {left} of "
            f"training.target.iterations{at_most}"
        )


def check_trainer(trainer: TrainerSettings, multirun: bool) -> None:
    """Check that this machine has the devices of `trainer`, and that a job of a sweep may use them."""
    for name in trainer.model_extra or {}:
        if name in _PIPELINE_SETS:
            raise UserError(f"trainer.{name}: comes from {_PIPELINE_SETS[name]}; set it there")
    devices = trainer.devices
    whole = devices if isinstance(devices, list) else [devices]
    numbers = bool(whole) and all(isinstance(d, int) and not isinstance(d, bool) for d in whole)
    if devices != "auto" and not (
        numbers and (min(whole) >= 0 if isinstance(devices, list) else devices == -1 or devices >= 1)
    ):
        raise UserError(
            f"trainer.devices: {show(devices)} is not a choice; give a number of at least 1, "
            "-1 or auto for all, or indices such as [0, 1]"
        )
    if trainer.accelerator not in ("auto", "cpu"):
        _check_accelerator(trainer)
    if multirun and trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes: {trainer.num_nodes} in a multirun, whose jobs run on one machine each; "
            "use trainer.num_nodes=1, or start each run by torchrun on every machine"
        )


def _check_accelerator(trainer: TrainerSettings) -> None:
    import torch

    gpus = torch.cuda.device_count()
    apple = torch.backends.mps.is_available()
    present = {"cuda": gpus > 0, "mps": apple, "gpu": gpus > 0 or apple}
    if not present[trainer.accelerator]:
        raise UserError(f"trainer.accelerator: this machine has no {trainer.accelerator}; use auto or cpu")
    wanted = trainer.devices
    highest = max(wanted) + 1 if isinstance(wanted, list) else wanted if isinstance(wanted, int) else 1
    if highest > max(gpus, 1):
        raise UserError(f"trainer.devices: {show(wanted)}, but this machine has {max(gpus, 1)}")


def check_files(settings: Settings) -> None:
    """Check that the needed weights files and data folders are named, and that the named ones exist."""
    if settings.task == "inspect" and settings.file is None:
        raise UserError("file: a weights file is required by task=inspect; give file=weights.pth")
    if settings.task != "inspect" and (settings.file or settings.other) is not None:
        raise UserError("file: only task=inspect reads it; add task=inspect, or give baseline.weights=FILE")
    if settings.task in ("store", "inspect"):
        return
    if settings.task == "compare":
        if not settings.runs:
            raise UserError("runs: folders are required by task=compare; give runs=outputs/<name>/multirun/<time>")
        return
    if settings.task != "study":
        if settings.run is None:
            raise UserError(f"run: a folder is required by task={settings.task}; give run=outputs/<name>/<time>")
        if settings.task == "export":
            _check_export(settings.export)
        return
    if settings.run is not None:
        raise UserError("run: only task=analyse works on a finished run; add task=analyse, or leave run out")
    given = {"baseline": settings.baseline.weights, "target": settings.target.weights}
    for network, weights in given.items():
        path = None if weights is None else weights_file(weights, f"{network}.weights")
        if path is not None and not path.is_file():
            raise UserError(missing_path(f"{network}.weights", path, "file"))
    untrained = [network for network, weights in given.items() if weights is None]
    data = settings.data
    # `train_dir` is required only for a training.
    needed = (*(["train_dir"] if untrained else []), "probe_dir", "test_dir") if "train_dir" in data else ("hr_dir",)
    for name in needed:
        if name in data and data[name] is None:
            raise UserError(f"data.{name}: a folder is required; give data.{name}=FOLDER")
    folders: dict[str, Path] = {}
    for name, value in data.items():
        given = {f"data.{name}": value} if name.endswith("_dir") else {}
        if name.endswith("_dirs"):
            given = {f"data.{name}.{part}": folder for part, folder in (value or {}).items()}
        folders |= {key: Path(folder).expanduser() for key, folder in given.items() if folder is not None}
    if "lr_dirs" in data and not any(key.startswith("data.lr_dirs.") for key in set(folders) - {"data.lr_dirs.clean"}):
        raise UserError("data.lr_dirs: a folder per degradation is required; give data.lr_dirs.blur=FOLDER ...")
    if "lr_dirs" in data and untrained:
        raise UserError(f"{untrained[0]}.weights: a file is required; paired data has nothing to train on")
    for key, folder in folders.items():
        if not folder.is_dir():
            raise UserError(missing_path(key, folder, "folder"))


def _check_export(export: ExportSettings) -> None:
    """Check that the file is new and of a known format, and that there is something to write."""
    if export.file is None:
        raise UserError("export.file: a file is required by task=export; give export.file=masked.pth")
    path = Path(export.file).expanduser()
    if path.suffix not in _EXPORTS:
        formats = ", ".join(f"{suffix} {name}" for suffix, name in _EXPORTS.items())
        raise UserError(f"export.file: {path}: the suffix must name a format; choices: {formats}")
    if path.exists():
        raise UserError(f"export.file: {path} exists; choose another name")
    if not export.strengths:
        raise UserError("export.strengths: at least one is required, e.g. export.strengths.blur=0 (0 masked, 1 target)")


def check_percents(settings: Settings, units: int, word: str, count_of: Callable[[float, int], int]) -> None:
    """Refuse settings that select no unit, and warn of single percents that select no unit.

    Args:
        settings: checked settings.
        units: number of units of the network.
        word: name of the units, in the plural.
        count_of: (percent, units) → number of chosen units.

    Raises:
        UserError: the headline percent, or all percents of a study, select no unit.
    """
    analysis, smallest = settings.analysis, smallest_percent(units)
    chosen = {"analysis.headline_percent": [analysis.headline_percent], "analysis.percents": analysis.percents}
    for name, node in analysis.studies.items():
        for argument, value in node.items():
            if argument == "percent" and value is not None:
                chosen[f"analysis.studies.{name}.{argument}"] = [value]
            elif argument in ("percents", "kept"):
                chosen[f"analysis.studies.{name}.{argument}"] = [percent for percent in value if percent]
    several = dict.fromkeys((smallest, *(min(smallest * n, 100.0) for n in (2, 5))))
    series = f"[{','.join(f'{percent:g}' for percent in several)}]"
    for key, percents in chosen.items():
        empty = [percent for percent in percents if not count_of(percent, units)]
        named = f"{', '.join(f'{percent:g}' for percent in empty)} % of {units:,} {word}"
        if empty and len(empty) == len(percents):
            example = f"analysis.percents={series} analysis.headline_percent={smallest:g}"
            if key.startswith("analysis.studies."):
                example = f"{key}={smallest:g}" if key.endswith(".percent") else f"{key}={series}"
            raise UserError(
                f"{key}: {named} is none; the smallest percent that selects one is {smallest:g}, e.g. {example}"
            )
        if empty:
            log.warning("%s: %s are none; the smallest percent that selects one is %g", key, named, smallest)


def smallest_percent(units: int) -> float:
    """Return the smallest percent that selects a unit, rounded up to three digits."""
    step = 10.0 ** (math.floor(math.log10(100 / units)) - 2)
    return min(100.0, float(f"{math.ceil(100 / units / step - 1e-9) * step:.3g}"))
