"""All checks of a configuration before a run starts, what only a weights file tells of its network, and its objective.

The order is: the schema, the network of a weights file, each `_target_` against its signature, rules between settings,
the objective, files.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import product
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from faig_lab.config import rules
from faig_lab.config.messages import first_error, keys_of, missing_path, nearest
from faig_lab.config.settings import Settings
from faig_lab.config.targets import build, check_arguments, check_node
from faig_lab.errors import UserError
from faig_lab.files import weights_file

SPANDREL = "faig_lab.filters.spandrel_network"
"""The `_target_` of `network=spandrel`."""

DEFAULT_OBJECTIVE = "isolation"
"""The objective of settings without an objective."""

_MASKING = "faig_lab.studies.masking.masking_study"
_NETWORKS = ("bicubic", "baseline", "target")
_STUDIES = {
    "boundary": ("boundary",),
    "branches": ("branches",),
    "clusters": ("clusters",),
    "curves": ("area_log", "area_linear", "restored_without_target_biases"),
    "modulation": ("best_strength",),
    "patches": ("carried", "filters_needed"),
    "planted": ("planted",),
    "prediction": ("prediction",),
    "retraining": ("retrained",),
    "sanity": ("sanity",),
    "stability": ("stability",),
    "switches": ("switches",),
    "task_vectors": ("task_vectors",),
}
"""First part of the keys of each study whose keys are not listed before the study has run."""


def check(cfg: DictConfig, *, multirun: bool = False, computes: bool = True) -> Settings:
    """Validate a composed configuration and return it as typed settings.

    Args:
        cfg: the whole configuration, without the node `hydra`.
        multirun: whether the run is a job of a sweep. A job cannot use several machines.
        computes: whether the task reads images and uses devices. An export of a finished run needs the network only.

    Raises:
        UserError: one line with the key or file, the fault and the nearest valid choice.
    """
    settings = _typed(cfg)
    if settings.task in ("compare", "store", "inspect"):  # these tasks compute nothing
        rules.check_files(settings)
        return settings
    settings = with_detected_network(settings)
    if not computes:
        check_node(settings.network, "network")
        rules.check_values(settings)
        _build_network(settings)
        return settings
    for key, node in _nodes(settings).items():
        check_node(node, key)
    rules.check_values(settings)
    check_objective(settings)
    _check_built(settings)
    rules.check_files(settings)
    if settings.logger.tensorboard and find_spec("tensorboard") is None:
        raise UserError('logger: tensorboard is not installed; pip install "faig_lab[tensorboard]"')
    extra = settings.trainer.model_extra or {}
    if extra:  # Lightning takes seconds to import, so it is imported only if there are arguments to check
        from pytorch_lightning import Trainer

        check_arguments(Trainer, extra, "trainer", partial=True)
    rules.check_trainer(settings.trainer, multirun)
    return settings


def _typed(cfg: DictConfig) -> Settings:
    try:
        tree = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))
        missing = sorted(OmegaConf.missing_keys(cfg))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "configuration"
        raise UserError(f"{key}: {str(error).splitlines()[0]}") from error
    if missing:
        raise UserError(f"{missing[0]}: a value is required; give {missing[0]}=...")
    try:
        # Through JSON, so that types follow the rules of `targets`.
        return Settings.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        unknown = [".".join(map(str, e["loc"])) for e in error.errors() if e["type"] == "extra_forbidden"]
        known = [key for key in keys_of(tree) if not any(f"{key}.".startswith(f"{other}.") for other in unknown)]
        # `experiment` is a choice that leaves no key.
        raise UserError(first_error(error, "", [*known, *Settings.model_fields, "experiment"])) from None


def _nodes(settings: Settings) -> dict[str, Mapping[str, Any]]:
    """Return every node with a `_target_`, by dotted key."""
    return {
        "data": settings.data,
        "degradation.downsample": settings.degradation.downsample,
        **{f"degradation.parts.{name}": part for name, part in settings.degradation.parts.items()},
        "network": settings.network,
        "training.loss": settings.training.loss,
        **({} if settings.attribution.loss is None else {"attribution.loss": settings.attribution.loss}),
        "training.optimizer": settings.training.optimizer,
        **{f"attribution.methods.{name}": node for name, node in settings.attribution.methods.items()},
        **{f"analysis.studies.{name}": node for name, node in settings.analysis.studies.items()},
    }


def _check_built(settings: Settings) -> None:
    """Instantiate everything that is cheap, so that invalid values are reported now."""
    import torch

    for key, node in _nodes(settings).items():
        if key.startswith("degradation.") or key in ("data", "training.loss", "attribution.loss"):
            build(node, key)
    _build_network(settings)
    with torch.random.fork_rng(devices=[]):
        for name, study in settings.analysis.studies.items():  # a study may train another network
            for key, node in study.items():
                if isinstance(node, Mapping) and "_target_" in node:
                    build(node, f"analysis.studies.{name}.{key}")


def _build_network(settings: Settings) -> None:
    import torch

    # On the CPU. The device "meta" would take no memory, but a second to import torch's compiler.
    with torch.random.fork_rng(devices=[]):
        build(settings.network, "network")


def with_detected_network(settings: Settings) -> Settings:
    """Fill in scale, architecture and file of `network=spandrel`; other networks stay as they are.

    Raises:
        UserError: one line: no file, spandrel is not installed, or the files are not one architecture and size.
    """
    if settings.network.get("_target_") != SPANDREL:
        return settings
    check_node(settings.network, "network")
    named = {
        "network.file": settings.network.get("file"),
        "baseline.weights": settings.baseline.weights,
        "target.weights": settings.target.weights,
    }
    if named["network.file"] is None and named["baseline.weights"] is None:
        raise UserError(
            "network: spandrel reads the architecture from a weights file; give baseline.weights=FILE (and "
            "target.weights=FILE, or the target is trained from the baseline)"
        )
    files = {key: weights_file(name, key) for key, name in named.items() if name is not None}
    for key, path in files.items():
        if not path.is_file():
            raise UserError(missing_path(key, path, "file"))
    from faig_lab.filters.foreign import detect, difference

    (first, path), *others = files.items()
    found = detect(path, first)
    for key, other in others:
        differs = difference(detect(other, key), found)
        if differs is not None:
            raise UserError(
                f"{key}: {other} {differs.format(other=f'{path} ({first})')}; both must be one architecture and size"
            )
    detected = {"scale": found.scale, "architecture": found.architecture}
    for name, own in detected.items():
        given = settings.network.get(name)
        if given not in (None, own):
            raise UserError(f"network.{name}: {given}, but {path} ({first}) holds a {found.title}; nearest: {own}")
    return settings.model_copy(update={"network": {**settings.network, **detected, "file": str(path)}})


def check_objective(settings: Settings) -> None:
    """Refuse an objective that the run cannot have. Keys that only the run itself knows pass.

    Raises:
        UserError: names the nearest key.
    """
    key = settings.objective
    if key is None or settings.task != "study":
        return
    known = list(_known_objectives(settings))
    parts = list(settings.degradation.parts)
    front, _, last = key.rpartition("/")
    if "+" in last and set(last.split("+")) <= set(parts):  # a mixed input, which has the keys of every degradation
        last = parts[0]
    family = key.partition("/")[0]
    if key in known or f"{front}/{last}" in known:
        return
    if family not in {name.partition("/")[0] for name in known}:
        targets = [str(node.get("_target_")) for node in settings.analysis.studies.values()]
        if family in ("seconds", "depth") or not all(target.startswith("faig_lab.studies.") for target in targets):
            return
        study = next((name for name, families in _STUDIES.items() if family in families), None)
        if study and any(target.startswith(f"faig_lab.studies.{study}.") for target in targets):
            return
        if study:
            raise UserError(f"objective: {key} comes from the study {study}; add analysis={study}")
    raise UserError(_unknown_objective(key, known))


def objective_of(metrics: Mapping[str, float], wanted: str | None) -> float | None:
    """Return the objective of a finished run; None if no objective is set and the run has no isolation.

    Args:
        metrics: the content of metrics.json.
        wanted: a key of metrics.json; None for `DEFAULT_OBJECTIVE`.

    Raises:
        UserError: the run does not have the objective that is set. The message names the nearest key.
    """
    if wanted is None:
        return metrics.get(DEFAULT_OBJECTIVE)
    if wanted not in metrics:
        raise UserError(_unknown_objective(wanted, metrics))
    return float(metrics[wanted])


def _unknown_objective(key: str, known: Iterable[str]) -> str:
    close = nearest(key, known)
    hint = f"did you mean {close}?" if close else "docs/run_folder.md has all keys"
    return f"objective: {key} is not a key of metrics.json of this run; {hint}"


def _known_objectives(settings: Settings) -> Iterator[str]:
    """Yield the keys that every run and the masking study give."""
    parts = list(settings.degradation.parts)
    inputs = [*parts, "clean"]
    families: list[tuple[Iterable[str], ...]] = [
        (("psnr", "psnr_y", "ssim"), _NETWORKS, inputs),
        (("completeness_gap",), parts),
        (("barrier",), inputs),
        (("share",), ("kernel", "other"), parts),
    ]
    if any(node.get("_target_") == _MASKING for node in settings.analysis.studies.values()):
        methods = list(settings.attribution.methods)
        percents = [f"{percent:g}" for percent in settings.analysis.percents]
        headline = [f"{settings.analysis.headline_percent:g}"]
        families += [
            ((DEFAULT_OBJECTIVE, "specificity"),),
            ((DEFAULT_OBJECTIVE,), methods, percents),
            ((DEFAULT_OBJECTIVE, "clean_change"), methods, percents, parts),
            (("back", "off", "side"), methods, percents, parts, inputs),
            (("removed", "harm", "output_difference"), methods, percents, parts, parts),
            (("specificity", "specificity_low", "specificity_high"), methods, headline),
        ]
    for family in families:
        yield from map("/".join, product(*family))
