"""Checks of nodes with a `_target_`: whether the target exists, and whether the arguments fit its signature.

The target is the only schema. The messages are made of its parameter names, its annotations and its ValueErrors.
"""

import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from faig_lab.config.messages import first_error, in_keys, keys_below, nearest, other_choices, show, suggest
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
    target = _walk(path, f"{key}._target_")
    if not callable(target):
        raise UserError(f"{key}._target_: {path} is a {type(target).__name__}, not a class or function")
    return cast("Callable[..., Any]", target)


def check_arguments(
    target: Callable[..., Any], arguments: Mapping[str, Any], key: str, *, partial: bool = False
) -> None:
    """Check names and types of `arguments` against the signature of `target`.

    With `partial` no argument counts as missing, since code gives the others.
    """
    parameters = inspect.signature(target).parameters
    named = {name: p for name, p in parameters.items() if p.kind in _NAMED}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    hints = _hints(target)
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
        for part in _refused(str(error)):
            if isinstance(node.get(part), Mapping):  # not in a list, whose node keeps the key
                node, key = node[part], f"{key}.{part}"
        text = in_keys(str(cause), keys_below(key, node)) if isinstance(cause, InputError) else str(cause)
        raise UserError(_about(text, node, key)) from error


def _refused(message: str) -> list[str]:
    """The keys below a node that lead to the inner node which Hydra's message is about."""
    found = re.search(r"^full_key: (\S+)$", message, re.MULTILINE)
    return found[1].split(".") if found else []


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


def _walk(path: str, key: str) -> Any:
    """Import the longest prefix of `path` that is a module, then follow the attributes."""
    parts = path.split(".")
    value: Any = None
    for end, part in enumerate(parts, start=1):
        name = ".".join(parts[:end])
        if value is not None and hasattr(value, part):
            value = getattr(value, part)
            continue
        try:
            value = importlib.import_module(name)
        except ImportError as error:
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                raise UserError(_not_found(path, part, value, key)) from None
            raise UserError(f"{key}: {path}: importing {name} failed: {error}") from error
    return value


def _not_found(path: str, part: str, within: Any, key: str) -> str:
    if within is None:
        return f"{key}: {path}: there is no module {part}"
    if not isinstance(within, types.ModuleType):
        return f"{key}: {path}: there is no {part}"
    names = [name for name in dir(within) if not name.startswith("_")]
    close = nearest(part, names)
    hint = f"did you mean {within.__name__}.{close}?" if close else suggest(part, names[:20])
    return f"{key}: {path}: there is no {part} in {within.__name__}; {hint}"


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Return annotations by parameter; empty if they cannot be evaluated."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


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
    """The node with the arguments of its class: `scale` gets the name that `scale_argument` has.

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
