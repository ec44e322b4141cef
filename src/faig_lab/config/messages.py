"""Words for what is wrong with a setting: one line that names the key and the nearest valid choice."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list such as [1, 2]",
    "tuple_type": "a list such as [1, 2]",
    "dict_type": "a group of settings",
    "model_type": "a group of settings",
    "model_attributes_type": "a group of settings",
}
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_BRANCHES = {"int", "float", "str", "bool"}
# The branch of a union that a severity's range is, e.g. float | tuple[float, float].
_RANGES = {"tuple[int, int]", "tuple[float, float]"}
_RANGE = "a range [low, high]"
# Branches of a union that no configuration file can satisfy (a tensor, say); the other branch's word counts.
_UNREACHABLE = {"is_instance_of", "needs_python_object", "callable_type"}
_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")


def show(value: Any) -> str:
    """`value` as it would stand in YAML, shortened to 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The choice that is spelt most like `name`, or None if none is as close as `cutoff` (0..1); case is no matter."""
    by_lower: dict[str, str] = {}
    for choice in choices:
        by_lower.setdefault(choice.lower(), choice)
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


def suggest(name: str, choices: Iterable[str]) -> str:
    """`did you mean X? (choices: ...)`, or the choices alone if none is close."""
    valid = sorted(choices)
    if not valid:
        return "there is nothing to choose from"
    listed = ", ".join(valid)
    close = nearest(name, valid)
    return f"did you mean {close}? (choices: {listed})" if close else f"choices: {listed}"


def keys_of(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """All dotted keys of a nested mapping, groups and leaves."""
    for name, value in tree.items():
        yield prefix + str(name)
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{prefix}{name}.")


def unknown_key(key: str, valid: Iterable[str]) -> str:
    """One line about a dotted key that does not exist, with the nearest of the dotted keys in `valid`.

    Looks among the key's siblings first, then for the same name elsewhere, so that `sigma` at the root
    finds `degradation.parts.blur.sigma`.
    """
    keys = [other for other in valid if other != key and not other.startswith(f"{key}.")]
    parent, _, name = key.rpartition(".")
    if parent and parent not in keys:
        return unknown_key(parent, keys)
    siblings = [other for other in keys if other.rpartition(".")[0] == parent]
    close = _closest_name(name, siblings) or _closest_name(name, keys, cutoff=0.8)
    if close:
        shown = close.rpartition(".")[2] if close in siblings else close
        return f"{key}: unknown key; did you mean {shown}?"
    listed = ", ".join(sorted({other.rpartition(".")[2] for other in siblings}))
    return f"{key}: unknown key; {parent or 'the root'} has: {listed or 'no settings'}"


def _closest_name(name: str, keys: Sequence[str], cutoff: float = 0.6) -> str | None:
    """The key whose last part is spelt most like `name`."""
    by_name = {key.rpartition(".")[2]: key for key in reversed(keys)}
    close = nearest(name, by_name, cutoff)
    return by_name[close] if close else None


def missing_path(key: str, path: Path, kind: str) -> str:
    """One line about a file or folder that is not there, with the nearest name beside it."""
    if path.is_dir():
        return f"{key}: {path} is a folder, not a {kind}{_some_of(path)}"
    if path.exists():
        return f"{key}: {path} is a file, not a {kind}; its folder is {path.parent}"
    parent = path.parent
    if not parent.is_dir():
        return f"{key}: {path}: no such {kind}; there is no folder {parent}"
    close = nearest(path.name, (entry.name for entry in parent.iterdir()))
    hint = f"did you mean {parent / close}?" if close else f"nothing in {parent} has a similar name"
    return f"{key}: {path}: no such {kind}; {hint}"


def _some_of(folder: Path) -> str:
    inside = sorted(entry.name for entry in folder.iterdir() if entry.suffix in _WEIGHTS)
    return f"; it holds {', '.join(inside[:5])}" if inside else ""


def first_error(error: ValidationError, prefix: str, keys: Iterable[str]) -> str:
    """The first thing that `error` found, as one line; `keys` are the valid dotted keys to suggest from."""
    found = error.errors(include_url=False)
    reachable = [detail for detail in found if detail["type"] not in _UNREACHABLE] or found
    place = _place(reachable[0])
    key = ".".join([prefix, *place] if prefix else place)
    ranged = any(part in _RANGES for detail in reachable for part in detail["loc"])
    return _line(key, reachable[0], [detail for detail in reachable if _place(detail) == place], keys, ranged)


def _place(detail: ErrorDetails) -> list[str]:
    """Where the error is, without the tag of a union's branch (`int`, `list[int]`), which is no key."""
    parts = [str(part) for part in detail["loc"]]
    tagged = parts and (parts[-1] in _BRANCHES or "[" in parts[-1])
    return parts[:-1] if tagged else parts


def _line(key: str, detail: ErrorDetails, branches: Sequence[ErrorDetails], keys: Iterable[str], ranged: bool) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(key, keys)
    if kind == "missing":
        return f"{key}: missing; the configuration must have it"
    if value is None:
        return f"{key}: a value is required; give {key}=..."
    if kind in _EXPECTED:
        return f"{key}: expected {_expected(branches, ranged)}, not {show(value)}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{key}: must be {words} {context[name]:g}, not {show(value)}"
    if kind == "literal_error":
        choices = [part.strip(" '") for part in str(context["expected"]).replace(" or ", ",").split(",")]
        return f"{key}: {show(value)} is not a choice; {suggest(str(value), choices)}"
    return f"{key}: {detail['msg'].removeprefix('Value error, ')} (given: {show(value)})"


def _expected(branches: Sequence[ErrorDetails], ranged: bool) -> str:
    """What would do in place of the value: one word for each branch of a union, one of which may be a range."""
    words = dict.fromkeys(_EXPECTED[detail["type"]] for detail in branches if detail["type"] in _EXPECTED)
    if ranged:
        words.pop(_EXPECTED["tuple_type"], None)
        words[_RANGE] = None
    if "a number" in words:
        words.pop("a whole number", None)
    return " or ".join(words)
