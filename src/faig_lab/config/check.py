"""All checks of a configuration before a run starts.

The order is: the schema, each `_target_` against its signature, rules between settings, files.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from faig_lab.config import rules
from faig_lab.config.detected import with_detected_network
from faig_lab.config.messages import first_error, keys_of
from faig_lab.config.objective import check_objective
from faig_lab.config.settings import Settings
from faig_lab.config.targets import build, check_arguments, check_node
from faig_lab.errors import UserError


def check(cfg: DictConfig, *, multirun: bool = False, computes: bool = True) -> Settings:
    """Validate a composed configuration and return it as typed settings.

    Args:
        cfg: the whole configuration, without the node `hydra`.
        multirun: whether the run is a job of a sweep. A job cannot use several machines.
        computes: whether the task reads images and uses devices. An export of a finished run needs the network only.

    Raises:
        UserError: one line with the key or file, the fault and the nearest valid choice.
    """
    tree = _resolved(cfg)
    settings = _typed(tree)
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
    _check_logger(settings)
    _check_trainer_arguments(settings)
    rules.check_trainer(settings.trainer, multirun)
    return settings


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    try:
        tree = OmegaConf.to_container(cfg, resolve=True)
        missing = sorted(OmegaConf.missing_keys(cfg))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "configuration"
        raise UserError(f"{key}: {str(error).splitlines()[0]}") from error
    if missing:
        raise UserError(f"{missing[0]}: a value is required; give {missing[0]}=...")
    assert isinstance(tree, dict)
    return {str(name): value for name, value in tree.items()}


def _typed(tree: Mapping[str, Any]) -> Settings:
    try:
        # Through JSON, so that types follow the rules of `targets`.
        return Settings.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        known = [key for key in keys_of(tree) if not _is_unknown(key, error)]
        # `experiment` is a choice that leaves no key.
        raise UserError(first_error(error, "", [*known, *Settings.model_fields, "experiment"])) from None


def _is_unknown(key: str, error: ValidationError) -> bool:
    unknown = {".".join(map(str, e["loc"])) for e in error.errors() if e["type"] == "extra_forbidden"}
    return any(key == other or key.startswith(f"{other}.") for other in unknown)


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


def _check_logger(settings: Settings) -> None:
    if settings.logger.tensorboard and find_spec("tensorboard") is None:
        raise UserError('logger: tensorboard is not installed; pip install "faig_lab[tensorboard]"')


def _check_trainer_arguments(settings: Settings) -> None:
    extra = settings.trainer.model_extra or {}
    if extra:  # Lightning takes seconds to import, so it is imported only if there are arguments to check
        from pytorch_lightning import Trainer

        check_arguments(Trainer, extra, "trainer", partial=True)
