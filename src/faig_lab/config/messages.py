"""Messages about invalid settings: the key, the fault and the nearest valid choice; the folder of choices, `conf/`.

The library raises `InputError`, which names an argument. The command line calls the library inside `with_keys`, so that
its user reads the key of the setting that the argument comes from.

Hydra's grammar allows no `=`, `~`, `#`, `&`, parentheses or non-ASCII letters outside of quotes, and the shell removes
the quotes that a user types. So `quote_text` adds quotes to the values of settings that are text.
"""

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from faig_lab.errors import InputError, UserError

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDER = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"
"""`conf/`, which is inside the package in a wheel and beside `src/` in a checkout."""

TEXT = re.compile(
    r"(name|run|runs|file|other|resume|store|(baseline|target)\.weights|export\.file|prune\.runs|logger\.(project|entity|group)"
    r"|data\.(root|prepared|base_url|(train|valid)\.file|\w+_dir|(\w+_)?lr_dirs\.\w+)|hydra\.(run|sweep)\.dir)"
)
"""Keys of settings whose value is a path or a free name. `runs` may be a list of paths."""

_SETTING = re.compile(r"(?P<key>\+{0,2}(?P<plain>[^=+~]+))=(?P<value>.*)", re.DOTALL)
_FUNCTION = re.compile(r"(choice|sort|shuffle|tag|glob|range|interval|str|extend_list)\(")
# A value in a list: a quoted text, or everything up to the next comma.
_ELEMENT = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,]*)\s*(?:,|$)""", re.DOTALL)


def quoted(text: str | Path) -> str:
    """Return text in single quotes, as Hydra reads them. An interpolation such as `${name}` stays an interpolation."""
    return QuotedString(str(text), Quote.single).with_quotes()


def quote_text(setting: str, *, multirun: bool) -> str:
    """Return the setting, with quotes if its value is text that Hydra would not read.

    Values in quotes, lists (`runs=[a,b]`), functions (`choice(a,b)`) and null stay unchanged.

    Args:
        setting: `key=value` as typed.
        multirun: whether commas separate the values of a sweep. In a single run they belong to the value.
    """
    match = _SETTING.fullmatch(setting)
    if not match or not TEXT.fullmatch(match["plain"]) or _FUNCTION.match(match["value"]):
        return setting
    value = match["value"]
    if match["plain"].startswith("hydra.") and value.startswith("~/"):  # Hydra makes a folder called ~
        value = str(Path(value).expanduser())
    if match["plain"] == "runs" and not Path(value).exists():
        listed = re.fullmatch(r"\[(.*)\]", value, re.DOTALL)
        if listed or ("," in value and not multirun):
            return f"{match['key']}=[{','.join(map(_quote, _elements(listed[1] if listed else value)))}]"
    return f"{match['key']}={','.join(map(_quote, _elements(value) if multirun else [value]))}"


def words_to_type(setting: str) -> str | None:
    """Return a setting that Hydra cannot read with quotes for a shell; None if quotes would not help."""
    match = _SETTING.fullmatch(setting)
    if not match or not match["value"] or match["value"][0] in "=[{":
        return None
    typed = f"{match['key']}={quoted(match['value'])}"
    return shlex.quote(typed) if set(typed) & set('"$`\\!') else f'"{typed}"'


def key_of(setting: str) -> str:
    """Return the key of a setting as typed: the text before `=`, without signs such as `+`."""
    return setting.partition("=")[0].lstrip("+~")


def is_multirun(flags: Sequence[str], settings: Sequence[str]) -> bool:
    """Return whether these arguments start a sweep."""
    named = ("sweep=", "hydra.mode=MULTIRUN")
    return bool({"-m", "--multirun"} & set(flags)) or any(s.lstrip("+").startswith(named) for s in settings)


def _elements(values: str) -> list[str]:
    """Return the values between commas. A comma inside quotes does not separate values."""
    return [match[1].rstrip() for match in _ELEMENT.finditer(values) if match[1] or match.end() < len(values)]


def _quote(value: str) -> str:
    """Return a value with quotes, unless Hydra reads the value as text or null."""
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
# The branch of a union for a range of a severity, e.g. float | tuple[float, float].
_RANGES = {"tuple[int, int]", "tuple[float, float]"}
_RANGE = "a range [low, high]"
# Branches of a union that no configuration file can satisfy, such as a tensor. The other branch counts.
_UNREACHABLE = {"is_instance_of", "needs_python_object", "callable_type"}
_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")


def show(value: Any) -> str:
    """Return a value as YAML has it, shortened to 60 characters."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the choice closest to `name`, ignoring case; None if no choice is as close as `cutoff` (0..1)."""
    by_lower: dict[str, str] = {}
    for choice in choices:
        by_lower.setdefault(choice.lower(), choice)
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def suggest(name: str, choices: Iterable[str]) -> str:
    """Return `did you mean X? (choices: ...)`, or the choices only if no choice is close."""
    valid = sorted(choices)
    if not valid:
        return "there are no choices"
    listed = ", ".join(valid)
    close = nearest(name, valid)
    return f"did you mean {close}? (choices: {listed})" if close else f"choices: {listed}"


def keys_of(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield all dotted keys of a nested mapping, groups and leaves."""
    for name, value in tree.items():
        yield prefix + str(name)
        if isinstance(value, Mapping):
            yield from keys_of(value, f"{prefix}{name}.")


def unknown_key(key: str, valid: Iterable[str]) -> str:
    """Return one line about an unknown dotted key, with the nearest key in `valid`.

    The siblings of the key come first, then the same name elsewhere. So `sigma` at the root leads to
    `degradation.parts.blur.sigma`.
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
    """Return the key whose last part is closest to `name`."""
    by_name = {key.rpartition(".")[2]: key for key in reversed(keys)}
    close = nearest(name, by_name, cutoff)
    return by_name[close] if close else None


def missing_path(key: str, path: Path, wanted: str) -> str:
    """Return one line about a missing file or folder (`wanted`), with the nearest name in its folder."""
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in _WEIGHTS)
        holds = f"; it holds {', '.join(inside[:5])}" if inside else ""
        return f"{key}: {path} is a folder, not a {wanted}{holds}"
    if path.exists():
        return f"{key}: {path} is a file, not a {wanted}; its folder is {path.parent}"
    parent = path.parent
    if not parent.is_dir():
        return f"{key}: {path}: no such {wanted}; there is no folder {parent}"
    close = nearest(path.name, (entry.name for entry in parent.iterdir()))
    hint = f"did you mean {parent / close}?" if close else f"nothing in {parent} has a similar name"
    return f"{key}: {path}: no such {wanted}; {hint}"


def first_error(error: ValidationError, prefix: str, keys: Iterable[str]) -> str:
    """Return the first fault of a validation in one line; `keys` are the valid dotted keys for suggestions."""
    details = error.errors(include_url=False)
    details = [detail for detail in details if detail["type"] not in _UNREACHABLE] or details
    detail, place = details[0], _place(details[0])
    key = ".".join([prefix, *place] if prefix else place)
    fault, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if fault == "extra_forbidden":
        return unknown_key(key, keys)
    if fault == "missing":
        return f"{key}: missing; the configuration must have it"
    if value is None:
        return f"{key}: a value is required; give {key}=..."
    if fault in _EXPECTED:
        return f"{key}: expected {_expected(details, place)}, not {show(value)}"
    if fault in _BOUNDS:
        name, words = _BOUNDS[fault]
        return f"{key}: must be {words} {context[name]:g}, not {show(value)}"
    if fault == "literal_error":
        choices = [part.strip(" '") for part in str(context["expected"]).replace(" or ", ",").split(",")]
        return f"{key}: {show(value)} is not a choice; {suggest(str(value), choices)}"
    return f"{key}: {detail['msg'].removeprefix('Value error, ')} (given: {show(value)})"


def _place(detail: ErrorDetails) -> list[str]:
    """Return the place of an error without the tag of a union's branch (`int`, `list[int]`), which is not a key."""
    parts = [str(part) for part in detail["loc"]]
    tagged = parts and (parts[-1] in _BRANCHES or "[" in parts[-1])
    return parts[:-1] if tagged else parts


def _expected(details: Sequence[ErrorDetails], place: Sequence[str]) -> str:
    """Return the expected values at a place: a word for each branch of a union. A branch may be a range."""
    branches = [detail for detail in details if _place(detail) == place]
    words = dict.fromkeys(_EXPECTED[detail["type"]] for detail in branches if detail["type"] in _EXPECTED)
    choices = [detail["ctx"]["expected"] for detail in branches if detail["type"] == "literal_error"]
    words |= dict.fromkeys(choice.replace("'", "") for choice in choices)
    if any(part in _RANGES for detail in details for part in detail["loc"]):
        words.pop(_EXPECTED["tuple_type"], None)
        words[_RANGE] = None
    if "a number" in words:
        words.pop("a whole number", None)
    return " or ".join(words)


def other_choices(key: str, config_dir: Path | None = None) -> str | None:
    """Return one line about an unknown key that other choices of its group have, or None if no choice has the key.

    Args:
        key: a dotted key of a group and a setting, such as `data.train_dir`.
        config_dir: the user's configuration folder, as in `--config-dir`.
    """
    group, _, name = key.partition(".")
    if group == "hydra":  # `conf/hydra` is not a group of settings
        return None
    folders = [folder / group for folder in (FOLDER, config_dir) if folder is not None]
    setting = name.partition(".")[0]
    choices = sorted({file.stem for folder in folders for file in folder.glob("*.yaml") if setting in _settings(file)})
    return f"{key}: unknown key here; it belongs to {group}={f' or {group}='.join(choices)}" if choices else None


def _settings(file: Path) -> set[str]:
    """Return the settings in a file of a group, without its defaults. A file that cannot be read has no settings."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return set()
    return set(content) - {"defaults", "_target_"} if isinstance(content, dict) else set()


ATTRIBUTION: Mapping[str, str] = {
    "folder": "run",
    "granularity": "attribution.granularity",
    "images": "data.probe_crop",
    "memory": "attribution.memory",
    "methods": "attribution.methods",
    "path": "attribution.path",
    "precision": "attribution.precision",
    "rank_others": "attribution.rank_other_parameters",
    "rule": "attribution.points",
}
"""Arguments of the attribution → keys of the command line."""

_MENTION = re.compile(r"`([\w.+]+)`")
_YAML = {"None": "null"}


def keys_below(node: str, arguments: Iterable[str]) -> dict[str, str]:
    """Return the keys of a node's arguments: argument → `node.argument`."""
    return {argument: f"{node}.{argument}" for argument in arguments}


@contextmanager
def with_keys(keys: Mapping[str, str]) -> Iterator[None]:
    """Replace arguments by keys in every `InputError` that is raised inside. The function is also a decorator.

    Contexts can be nested: the innermost context that has a key for the argument translates.

    Args:
        keys: argument → key, or another name on the command line. An argument without a key keeps its name. A part of
            an argument, such as `train.size`, gets the key of `train`.

    Raises:
        UserError: `<key>: <message>`.
        InputError: the argument has no key.
    """
    try:
        yield
    except InputError as error:
        key, message = _key(error.argument, keys), in_keys(error.message, keys)
        raise (InputError(error.argument, message) if key is None else UserError(f"{key}: {message}")) from error


def in_keys(text: str, keys: Mapping[str, str]) -> str:
    """Replace each argument that the text names in backticks by its key.

    Args:
        text: a message or a warning of the library.
        keys: argument → key. Other words in backticks stay unchanged. `None` becomes YAML's null.
    """
    return _MENTION.sub(lambda mention: _key(mention[1], {**_YAML, **keys}) or mention[0], text)


def _key(argument: str, keys: Mapping[str, str]) -> str | None:
    """Return the key of an argument or of its part, such as `train.size`; None if the argument has no key."""
    name, dot, part = argument.partition(".")
    return f"{keys[name]}{dot}{part}" if name in keys else None
