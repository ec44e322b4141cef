"""What settings take and what they are, in words: from the schema, and from what a `_target_` names."""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError

from faig_lab.config.settings import Settings

_KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "a value for each name",
    "null": "null",
}
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_NAMED = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True)
class Description:
    """Of one setting: what it takes, what it is, and its value where no file gives one (None: there is none)."""

    takes: str
    about: str = ""
    default: str | None = None


def schema(group: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Description]]:
    """Every setting of the schema by dotted key."""
    for name, field in group.model_fields.items():
        key = f"{prefix}{name}"
        kind = field.annotation
        groups = [part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, BaseModel)]
        for inner in groups:
            yield from schema(inner, f"{key}.")
        if kind not in groups:
            yield (
                key,
                Description(
                    takes(Annotated[kind, *field.metadata] if field.metadata else kind), field.description or ""
                ),
            )


def parameters(target: Callable[..., Any]) -> dict[str, Description]:
    """The parameters of a class or function of ours by name, with the words of its docstring.

    Another package's has its own manual, and its signature changes with the version; nothing is said of it here.
    """
    if target.__module__.split(".")[0] not in ("faig_lab", "hydra_plugins"):
        return {}
    words: dict[str, str] = {}
    for documented in reversed(inspect.getmro(target)) if inspect.isclass(target) else [target]:
        words |= _arguments(inspect.cleandoc(documented.__doc__ or ""))
    found = {name: p for name, p in inspect.signature(target).parameters.items() if p.kind in _NAMED}
    return {
        name: Description(
            takes(p.annotation),
            words.get(name, ""),
            None if p.default is inspect.Parameter.empty else _shown(p.default),
        )
        for name, p in found.items()
    }


def takes(annotation: Any) -> str:
    """What values an annotation lets through; nothing where it has no words in a configuration."""
    if annotation is inspect.Parameter.empty:
        return ""
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
        described = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError):
        return ""
    return _words(described, described.get("$defs", {}))


def _words(described: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in described:
        return _words(named[described["$ref"].rpartition("/")[2]], named)
    if "enum" in described or "const" in described:
        return ", ".join(map(_shown, described.get("enum", [described.get("const")])))
    if "anyOf" in described:
        words = list(dict.fromkeys(filter(None, (_words(branch, named) for branch in described["anyOf"]))))
        return " or ".join(words)
    kind = described.get("type")
    if kind == "array":
        inner = [_words(item, named) for item in described.get("prefixItems", [])]
        return f"[{', '.join(inner)}]" if inner else f"list of {_words(described.get('items', {}), named) or 'values'}"
    bounds = ", ".join(f"{words} {_shown(described[name])}" for name, words in _BOUNDS.items() if name in described)
    return f"{_KINDS[kind]} ({bounds})" if kind in _KINDS and bounds else _KINDS.get(str(kind), "")


def _arguments(docstring: str) -> dict[str, str]:
    """The `Args:` of a Google docstring: name → words."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", docstring, re.M)
    entries = re.findall(r"^    (\w+)[^:\n]*:((?:.*\n?)(?:^ {5,}.*\n?)*)", section[1] if section else "", re.M)
    return {name: " ".join(words.split()) for name, words in entries}


def _shown(value: Any) -> str:
    """A value as it would be typed."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    try:
        return json.dumps(value)
    except TypeError:
        return ""
