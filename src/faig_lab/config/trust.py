"""The functions that a stored configuration may call, and the files that it may name: see docs/trust.md.

A configuration names functions (`_target_`) and their arguments, so a configuration is code. Settings that the user
types, and the configuration folders that the user names, are the user's code. A run folder or the folder of a sweep is
data: it may name the functions that faig_lab ships in `conf/`, the losses of torch.nn and the optimizers of
torch.optim, and nothing else. The checks import nothing.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from faig_lab.config.messages import FOLDER, show
from faig_lab.errors import UserError

_LARGEST = 100_000
"""Maximum number of values of a configuration. References in YAML can make a small file arbitrarily large."""

_LOSSES = {f"faig_lab.attribution.{name}" for name in ("SquaredError", "AbsoluteError", "Charbonnier")}
_SHIPPED = re.compile(r"^\s*(?:- )?_target_: *(faig_lab\.[\w.]+) *(?:#.*)?$", re.MULTILINE)
_SERVER = re.compile(r"^base_url: *(\S+)", re.MULTILINE)
_TORCH = re.compile(r"torch\.(nn|nn\.modules\.loss|optim)\.([A-Z]\w*)")
_METHODS = (
    "faig|faig_reference|faig_shares|fisher|input_gradients|isolation_integral|isolation_share|iterated_isolation"
    "|learned_mask|OneUnit|random_filters|share_given_clean|share_per_change|signed_share|signed_sum|taylor"
    "|weight_change|weight_change_absolute"
)
_STUDIES = "boundary|branches|curves|modulation|patches|planted|prediction|retraining|sanity|stability"
_FORMER = (
    (
        rf"faig_lab\.attribution\.(?:methods|ingredients|ideas|learned_mask|one_unit)\.({_METHODS})",
        r"faig_lab.attribution.\1",
    ),
    (rf"faig_lab\.analysis\.({_STUDIES})", r"faig_lab.studies.\1.\1"),
    (r"faig_lab\.analysis\.masking_study", "faig_lab.studies.masking.masking_study"),
)
"""Names of functions in run folders of earlier versions, and their present names."""

_HARMLESS = re.compile(
    r"hydra/launcher=(faig_lab_\w+|basic|joblib|submitit_local|submitit_slurm)|hydra\.(launcher|sweeper)\.[a-z_]+=\d+"
    r"|hydra/sweeper=(faig_lab|optuna)|hydra\.sweeper\.direction=(maximize|minimize)"
)
_NOT_LOOKED_INTO = (".hydra", "wandb")


def read_stored(file: Path, key: str) -> dict[str, Any]:
    """Read a configuration from a run folder as plain data. Functions that have moved get their present names.

    Raises:
        UserError: the file cannot be read, is not a configuration or is too large. The message begins with `key`.
    """
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{key}: {file} cannot be read ({type(error).__name__}: {_line(error)})") from error
    if not isinstance(config, dict):
        raise UserError(f"{key}: {file} is no configuration")
    if sum(1 for _ in _walk(config)) >= _LARGEST:
        raise UserError(f"{key}: {file} cannot be read (it has more than {_LARGEST:,} values)")
    for _, value in _walk(config):
        if _is_node(value) and isinstance(value["_target_"], str):
            value["_target_"] = _present_name(value["_target_"])
    return config


def _present_name(target: str) -> str:
    """Return the present name of a function of faig_lab from its name in an earlier version."""
    for former, present in _FORMER:
        if re.fullmatch(former, target):
            return re.sub(former, present, target)
    return target


def targets_of(config: object) -> frozenset[str]:
    """Return every `_target_` of a configuration, at any depth."""
    return frozenset(str(value["_target_"]) for _, value in _walk(config) if _is_node(value))


def check_stored(config: Mapping[str, Any], place: str, named: frozenset[str] = frozenset()) -> None:
    """Refuse a stored configuration that would call a function that it may not call. Nothing is imported.

    Args:
        config: plain data from a file that another person may have written.
        place: the file, with the key that led to the file.
        named: targets that the user has named, which are allowed too.

    Raises:
        UserError: the configuration has another target, another server, or an interpolation, which OmegaConf would
            resolve.
    """
    for key, value in _walk(config):
        if isinstance(value, str) and "${" in value:
            raise UserError(
                f"{place}: {key}: {show(value)} is an interpolation, which would be resolved here; {ADVICE}"
            )
        if _is_node(value) and not (str(value["_target_"]) in named or may_call(value["_target_"])):
            target = value["_target_"]
            raise UserError(f"{place}: {_joined(key, '_target_')}: {show(target)} would be called as code; {ADVICE}")
        if key.endswith("base_url") and value not in _servers():
            raise UserError(f"{place}: {key}: {show(value)} is not the server that faig_lab names; {ADVICE}")


ADVICE = "if you trust who made the folder, add trust=true"


def may_call(target: object) -> bool:
    """Return whether a stored configuration may call a target: shipped in `conf/`, a loss, or an optimizer of torch."""
    return isinstance(target, str) and (target in _shipped() or target in _LOSSES or _is_of_torch(target))


def check_links(folder: Path, key: str) -> None:
    """Refuse a run folder with a link to a place outside, since other files would be read and written.

    Raises:
        UserError: the folder has such a link. The message begins with `key`.
    """
    root = folder.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_LOOKED_INTO]
        for path in (Path(place, name) for name in (*folders, *files)):
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise UserError(f"{key}: {path} is a link that leads out of the run folder; {ADVICE}")


def check_recorded(settings: Sequence[str], place: str) -> None:
    """Refuse recorded settings of a sweep that would call forbidden functions or let Hydra read other folders.

    Args:
        settings: settings as on the command line, from a file that another person may have written.
        place: the file, with the key that led to the file.

    Raises:
        UserError: a setting is refused.
    """
    for setting in settings:
        key, _, value = setting.partition("=")
        key = key.lstrip("+~").partition("@")[0]
        of_hydra = key.startswith(("hydra.", "hydra/")) or key == "hydra"
        names = re.findall(r"[^\W\d][\w.]*\.[\w.]+", value) if "_target_" in setting else []
        if (
            "${" in setting
            or (of_hydra and not _HARMLESS.fullmatch(setting))
            or ("/" in value and (FOLDER / key).is_dir())
            or ("_target_" in setting and not (names and all(map(may_call, names))))
            or (key.endswith("base_url") and value not in _servers())
        ):
            raise UserError(f"{place}: {setting} may call any code or lead to other files; {ADVICE}")


def _is_node(value: object) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _walk(tree: object) -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted key, up to the maximum number. Keys with interpolations are values too."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    for _ in range(_LARGEST):
        if not waiting:
            return
        key, value = waiting.pop()
        yield key, value
        if isinstance(value, Mapping):
            waiting += [(_joined(key, name), inner) for name, inner in value.items()]
            waiting += [(_joined(key, name), name) for name in value if isinstance(name, str) and "${" in name]
        elif isinstance(value, list | tuple):
            waiting += [(_joined(key, place), inner) for place, inner in enumerate(value)]


def _joined(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


@cache
def _shipped() -> frozenset[str]:
    """Return the targets that the files of `conf/` name."""
    return frozenset(target for text in _texts() for target in _SHIPPED.findall(text))


@cache
def _servers() -> frozenset[str]:
    return frozenset(server for text in _texts() for server in _SERVER.findall(text))


@cache
def _texts() -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8") for path in sorted(FOLDER.rglob("*.yaml")))


def _is_of_torch(target: str) -> bool:
    match = _TORCH.fullmatch(target)
    if match is None:
        return False
    import torch

    place, name = match.groups()
    if place == "optim":
        chosen = vars(torch.optim).get(name)
        return isinstance(chosen, type) and issubclass(chosen, torch.optim.Optimizer)
    chosen = vars(torch.nn.modules.loss).get(name)
    return (
        isinstance(chosen, type)
        and issubclass(chosen, torch.nn.Module)
        and chosen.__module__ == "torch.nn.modules.loss"
        and vars(torch.nn).get(name) is chosen
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
