"""Words for what is wrong with a setting, and values quoted for Hydra.

Hydra's grammar has no `=`, `~`, `#`, `&`, parentheses or non-ASCII letters outside of quotes, and the shell removes
the quotes that a user types. A setting whose value is text anyway needs no quotes here.
"""

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

TEXT = re.compile(
    r"(name|run|runs|file|other|resume|store|(baseline|target)\.weights|export\.file|prune\.runs|logger\.(project|entity|group)"
    r"|data\.(root|prepared|base_url|(train|valid)\.file|\w+_dir|(\w+_)?lr_dirs\.\w+)|hydra\.(run|sweep)\.dir)"
)
"""The keys of settings that are a path or a free name. `runs` may be a list of paths."""

_SETTING = re.compile(r"(?P<key>\+{0,2}(?P<plain>[^=+~]+))=(?P<value>.*)", re.DOTALL)
_FUNCTION = re.compile(r"(choice|sort|shuffle|tag|glob|range|interval|str|extend_list)\(")
# One value among several: a quoted text, or all up to the next comma.
_ELEMENT = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,]*)\s*(?:,|$)""", re.DOTALL)


def quoted(text: str | Path) -> str:
    """Text in single quotes as Hydra reads them back; an interpolation such as `${name}` stays one."""
    return QuotedString(str(text), Quote.single).with_quotes()


def quote_text(setting: str, *, multirun: bool) -> str:
    """The setting with its value quoted, if the value is text and Hydra would not read it as it is.

    What Hydra reads as text stays: values in quotes, lists (`runs=[a,b]`), functions (`choice(a,b)`) and null.

    Args:
        setting: `key=value` as typed.
        multirun: whether commas separate the values of a sweep. In a single run they belong to the value.
    """
    found = _SETTING.fullmatch(setting)
    if not found or not TEXT.fullmatch(found["plain"]) or _FUNCTION.match(found["value"]):
        return setting
    value = found["value"]
    if found["plain"].startswith("hydra.") and value.startswith("~/"):  # Hydra makes a folder called ~
        value = str(Path(value).expanduser())
    if found["plain"] == "runs" and not Path(value).exists():
        listed = re.fullmatch(r"\[(.*)\]", value, re.DOTALL)
        if listed or ("," in value and not multirun):
            return f"{found['key']}=[{','.join(map(_quote, _elements(listed[1] if listed else value)))}]"
    return f"{found['key']}={','.join(map(_quote, _elements(value) if multirun else [value]))}"


def words_to_type(setting: str) -> str | None:
    """A setting that Hydra cannot read, as it has to be typed in a shell; None where quotes would not help."""
    found = _SETTING.fullmatch(setting)
    if not found or not found["value"] or found["value"][0] in "=[{":
        return None
    typed = f"{found['key']}={quoted(found['value'])}"
    return shlex.quote(typed) if set(typed) & set('"$`\\!') else f'"{typed}"'


def is_multirun(flags: Sequence[str], settings: Sequence[str]) -> bool:
    """Whether these arguments start a sweep."""
    named = ("sweep=", "hydra.mode=MULTIRUN")
    return bool({"-m", "--multirun"} & set(flags)) or any(one.lstrip("+").startswith(named) for one in settings)


def _elements(values: str) -> list[str]:
    """The values between commas; a comma within quotes separates nothing."""
    return [match[1].rstrip() for match in _ELEMENT.finditer(values) if match[1] or match.end() < len(values)]


def _quote(value: str) -> str:
    """One value, quoted unless Hydra reads it as text or null."""
    try:
        read = OverridesParser.create().parse_override(f"x={value}")
        as_it_is = value == "" or (not read.is_sweep_override() and isinstance(read.value(), str | None))
    except HydraException:
        as_it_is = False
    return value if as_it_is else quoted(value)


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
