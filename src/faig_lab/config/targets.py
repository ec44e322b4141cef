"""What a configuration may call: whether each `_target_` exists and its arguments fit, and what a stored file may name.

The target is the only schema of a node. The messages are made of its parameter names, its annotations and its
ValueErrors.

A configuration names functions and their arguments, so a configuration is code: see docs/trust.md. Settings that the
user types, and the configuration folders that the user names, are the user's code. A run folder or the folder of a
sweep is data: it may name the functions that faig_lab ships in `conf/`, the losses of torch.nn and the optimizers of
torch.optim, and nothing else. The checks of stored files import nothing.
"""

import importlib
import inspect
import json
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from faig_lab.config.messages import FOLDER, first_error, in_keys, keys_below, nearest, other_choices, show, suggest
from faig_lab.errors import InputError, UserError

_SCALE_ARGUMENT = "scale_argument"
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_"}
_NAMED = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


def check_node(node: Mapping[str, Any], key: str) -> None:
    """Check a node and the nodes inside it. A UserError names the dotted key below `key`."""
    node = _as_called(node, key)
    target = find(node, key)
    arguments = {name: value for name, value in node.items() if name not in _HYDRA_KEYS}
    check_arguments(target, arguments, key, partial=node.get("_partial_", False))


def find(node: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Return the class or function that `node._target_` names."""
    path = node.get("_target_")
    if not isinstance(path, str):
        raise UserError(f"{key}._target_: missing; it names the class or function, e.g. torch.nn.L1Loss")
    target = _imported(path, f"{key}._target_")
    if not callable(target):
        raise UserError(f"{key}._target_: {path} is a {type(target).__name__}, not a class or function")
    return cast("Callable[..., Any]", target)


def _imported(path: str, key: str) -> Any:
    """Import the longest prefix of `path` that is a module, then follow the attributes."""
    parts = path.split(".")
    value: Any = None
    for end, part in enumerate(parts, start=1):
        name = ".".join(parts[:end])
        if value is not None and hasattr(value, part):
            value = getattr(value, part)
            continue
        within = value
        try:
            value = importlib.import_module(name)
        except ImportError as error:
            if not (isinstance(error, ModuleNotFoundError) and error.name == name):
                raise UserError(f"{key}: {path}: importing {name} failed: {error}") from error
            if within is None:
                raise UserError(f"{key}: {path}: there is no module {part}") from None
            if not isinstance(within, types.ModuleType):
                raise UserError(f"{key}: {path}: there is no {part}") from None
            names = [other for other in dir(within) if not other.startswith("_")]
            close = nearest(part, names)
            hint = f"did you mean {within.__name__}.{close}?" if close else suggest(part, names[:20])
            raise UserError(f"{key}: {path}: there is no {part} in {within.__name__}; {hint}") from None
    return value


def check_arguments(
    target: Callable[..., Any], arguments: Mapping[str, Any], key: str, *, partial: bool = False
) -> None:
    """Check names and types of `arguments` against the signature of `target`.

    With `partial` no argument counts as missing, since code gives the others.
    """
    parameters = inspect.signature(target).parameters
    named = {name: p for name, p in parameters.items() if p.kind in _NAMED}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except (NameError, TypeError):  # annotations that cannot be evaluated
        hints = {}
    for name, value in arguments.items():
        if name not in named and not open_ended:
            raise UserError(_unknown_argument(target, name, key, named))
        _check_value(value, hints.get(name, Any), f"{key}.{name}")
    required = [name for name, p in named.items() if p.default is inspect.Parameter.empty]
    missing = [name for name in required if name not in arguments]
    if missing and not partial:
        raise UserError(f"{key}.{missing[0]}: missing; {target.__name__} needs it")


def build(node: Mapping[str, Any], key: str) -> Any:
    """Instantiate a cheap node. Its errors become a UserError that names the key."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    node = _as_called(node, key)
    try:
        return instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        inner = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)  # the node that the message is about
        for part in inner[1].split(".") if inner else ():
            if isinstance(node.get(part), Mapping):  # not in a list, whose node keeps the key
                node, key = node[part], f"{key}.{part}"
        text = in_keys(str(cause), keys_below(key, node)) if isinstance(cause, InputError) else str(cause)
        raise UserError(_about(text, node, key)) from error


def _about(message: str, node: Mapping[str, Any], key: str) -> str:
    """Add the dotted key to a message, or the key of the argument with which the message begins."""
    line = " ".join(message.split())
    match = re.match(r"['`]?([\w.]+)['`]?(?::| (?=must|has|is|needs|should))\s*(.*)", line)
    if match and match[1].split(".")[0] in node:
        return f"{key}.{match[1]}: {match[2]}"
    return line if line.startswith(f"{key}.") else f"{key}: {line}"


def _unknown_argument(target: Callable[..., Any], name: str, key: str, valid: Mapping[str, object]) -> str:
    if (key, name) == ("network", "scale"):
        close = nearest("upscale", valid) or nearest("scale", valid)
        passes = f"+network.{_SCALE_ARGUMENT}={close or 'NAME'} passes the factor under another name"
        return f"network.scale: {target.__name__} has no such argument; {passes}, and null passes none"
    elsewhere = other_choices(f"{key}.{name}") if "." not in key else None
    if elsewhere:
        return elsewhere
    names = [other for other in valid if other != "self"]
    close = nearest(name, names)
    hint = f"did you mean {close}?" if close else f"it takes {', '.join(names) or 'nothing'}"
    return f"{key}.{name}: unknown key of {target.__name__}; {hint}"


def _check_value(value: Any, annotation: Any, key: str) -> None:
    if isinstance(value, Mapping) and "_target_" in value:
        check_node(value, key)
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, Mapping) and "_target_" in inner:
                check_node(inner, f"{key}.{name}")
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    except PydanticUserError:
        return  # the annotation has no schema; the target itself checks the value
    try:
        # Through JSON: a list may become a tuple, but "2" never becomes 2.
        adapter.validate_json(json.dumps(value))
    except ValidationError as error:
        raise UserError(first_error(error, key, ())) from None


def make(node: Mapping[str, Any]) -> Any:
    """Instantiate a `_target_` node with plain lists and dicts."""
    from hydra.utils import instantiate

    return instantiate(_as_called(node, "network"), _convert_="all")


def _as_called(node: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the node with the arguments of its class: `scale` gets the name that `scale_argument` has.

    With `scale_argument: null` the class takes no factor. A node without `scale_argument` stays as it is.

    Raises:
        UserError: `scale_argument` is no name, or a name that the node has already.
    """
    if _SCALE_ARGUMENT not in node:
        return dict(node)
    called = {name: value for name, value in node.items() if name not in (_SCALE_ARGUMENT, "scale")}
    name = node[_SCALE_ARGUMENT]
    if name is None:
        return called
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(
            f"{key}.{_SCALE_ARGUMENT}: {show(name)} is no name of an argument; give e.g. upscale, or null for a class "
            "that takes no factor"
        )
    if name in called:
        raise UserError(
            f"{key}.{name}: {key}.scale is this argument, since {key}.{_SCALE_ARGUMENT}={name}; leave it out"
        )
    return called | {name: node.get("scale")}


_LARGEST = 100_000
"""Maximum number of values of a configuration. References in YAML can make a small file arbitrarily large."""

_LOSSES = {f"faig_lab.attribution.{name}" for name in ("SquaredError", "AbsoluteError", "Charbonnier")}
_TARGET = re.compile(r"^\s*(?:- )?_target_: *(faig_lab\.[\w.]+) *(?:#.*)?$", re.MULTILINE)
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
        line = " ".join(str(error).split())[:200]
        raise UserError(f"{key}: {file} cannot be read ({type(error).__name__}: {line})") from error
    if not isinstance(config, dict):
        raise UserError(f"{key}: {file} is no configuration")
    if sum(1 for _ in _values(config)) >= _LARGEST:
        raise UserError(f"{key}: {file} cannot be read (it has more than {_LARGEST:,} values)")
    for _, value in _values(config):
        if _is_node(value) and isinstance(value["_target_"], str):
            for former, present in _FORMER:
                value["_target_"] = re.sub(rf"^(?:{former})\Z", present, value["_target_"])
    return config


def targets_of(config: object) -> frozenset[str]:
    """Return every `_target_` of a configuration, at any depth."""
    return frozenset(str(value["_target_"]) for _, value in _values(config) if _is_node(value))


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
    for key, value in _values(config):
        if isinstance(value, str) and "${" in value:
            raise UserError(
                f"{place}: {key}: {show(value)} is an interpolation, which would be resolved here; {ADVICE}"
            )
        if _is_node(value) and not (str(value["_target_"]) in named or may_call(value["_target_"])):
            target = value["_target_"]
            raise UserError(f"{place}: {_below(key, '_target_')}: {show(target)} would be called as code; {ADVICE}")
        if key.endswith("base_url") and value not in _shipped(_SERVER):
            raise UserError(f"{place}: {key}: {show(value)} is not the server that faig_lab names; {ADVICE}")


ADVICE = "if you trust who made the folder, add trust=true"


def may_call(target: object) -> bool:
    """Return whether a stored configuration may call a target: shipped in `conf/`, a loss, or an optimizer of torch."""
    return isinstance(target, str) and (target in _shipped(_TARGET) or target in _LOSSES or _is_of_torch(target))


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
            or (key.endswith("base_url") and value not in _shipped(_SERVER))
        ):
            raise UserError(f"{place}: {setting} may call any code or lead to other files; {ADVICE}")


def _is_node(value: object) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


def _values(tree: object) -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted key, up to the maximum number. Keys with interpolations are values too."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    for _ in range(_LARGEST):
        if not waiting:
            return
        key, value = waiting.pop()
        yield key, value
        if isinstance(value, Mapping):
            waiting += [(_below(key, name), inner) for name, inner in value.items()]
            waiting += [(_below(key, name), name) for name in value if isinstance(name, str) and "${" in name]
        elif isinstance(value, list | tuple):
            waiting += [(_below(key, place), inner) for place, inner in enumerate(value)]


def _below(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)


@cache
def _shipped(pattern: re.Pattern[str]) -> frozenset[str]:
    """Return what the files of `conf/` have in the place of a pattern's group: targets or servers."""
    texts = (path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.yaml"))
    return frozenset(match for text in texts for match in pattern.findall(text))


def _is_of_torch(target: str) -> bool:
    match = _TORCH.fullmatch(target)
    if match is None:
        return False
    import torch

    place, name = match.groups()
    module = torch.optim if place == "optim" else torch.nn.modules.loss
    base = torch.optim.Optimizer if place == "optim" else torch.nn.Module
    chosen = vars(module).get(name)
    if not (isinstance(chosen, type) and issubclass(chosen, base)):
        return False
    return place == "optim" or (chosen.__module__ == module.__name__ and vars(torch.nn).get(name) is chosen)
