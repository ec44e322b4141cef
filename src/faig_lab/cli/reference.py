"""Two generated pages of docs/: the configuration reference and the studies."""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError

from faig_lab.config.messages import FOLDER
from faig_lab.config.settings import Settings
from faig_lab.config.targets import find
from faig_lab.studies.section import sections

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


class Description(NamedTuple):
    """A setting: its valid values, its meaning, and its value in the file or its default (None: no default)."""

    takes: str
    about: str = ""
    default: str | None = None


def schema(group: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Description]]:
    """Yield every setting of the schema by dotted key."""
    for name, field in group.model_fields.items():
        kind = field.annotation
        groups = [part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, BaseModel)]
        for inner in groups:
            yield from schema(inner, f"{prefix}{name}.")
        if kind not in groups:
            valid = takes(Annotated[kind, *field.metadata] if field.metadata else kind)
            yield f"{prefix}{name}", Description(valid, field.description or "")


def parameters(target: Callable[..., Any]) -> dict[str, Description]:
    """Return the parameters of a class or function of faig_lab by name, with the text of its docstring.

    Functions of other packages have no parameters here, since their signatures change with the version.
    """
    if target.__module__.split(".")[0] not in ("faig_lab", "hydra_plugins"):
        return {}
    words: dict[str, str] = {}
    for documented in reversed(inspect.getmro(target)) if inspect.isclass(target) else [target]:
        # The `Args:` of a Google docstring: name → text.
        section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", inspect.cleandoc(documented.__doc__ or ""), re.M)
        entries = re.findall(r"^    (\w+)[^:\n]*:((?:.*\n?)(?:^ {5,}.*\n?)*)", section[1] if section else "", re.M)
        words |= {name: " ".join(text.split()) for name, text in entries}
    found = {}
    for name, p in inspect.signature(target).parameters.items():
        if p.kind in _NAMED:
            default = None if p.default is inspect.Parameter.empty else _shown(p.default)
            found[name] = Description(takes(p.annotation), words.get(name, ""), default)
    return found


def takes(annotation: Any) -> str:
    """Return the valid values of an annotation in words; empty for an annotation without words in a configuration."""
    if annotation is inspect.Parameter.empty:
        return ""
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
        described = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError):
        return ""
    return _words(described, described.get("$defs", {}))


def _words(described: Mapping[str, Any], named: Mapping[str, Any]) -> str:
    """Return a JSON schema in words."""
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


def _shown(value: Any) -> str:
    """Return a value as a user types it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    try:
        return json.dumps(value)
    except TypeError:
        return ""


INTRODUCTION = """\
# Configuration reference

<!-- Generated; change conf/ or the code, then: python -m faig_lab.cli.reference > docs/configuration.md -->

Every group, every setting and its value. `group=option` chooses a file of a group, `key=value` changes a setting. A
setting with a `+` is in no file: the table has its default, and the command line needs the `+` to change the setting.
`python -m faig_lab --cfg job` prints the configuration of a command line. Files of your own:
[a folder of your own](own_method.md#a-folder-of-your-own).
"""
_HIDDEN = ("hydra/help", "hydra/job_logging", "hydra/hydra_logging")
_HYDRA_KEYS = ("_partial_", "_convert_", "_recursive_")
_SCHEMA = dict(schema())


def reference() -> str:
    """Return the whole page in Markdown."""
    root = read_option(FOLDER / "config.yaml", "")
    chosen = dict(base.split(": ") for base in root.bases if ": " in base)
    lines = [INTRODUCTION, "## The run", "", *_table(root.settings)]
    groups = {path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/**/*.yaml")} - set(_HIDDEN)
    for group in sorted(groups, key=lambda group: (list({**chosen, group: ""}).index(group), group)):
        options = [read_option(path, group) for path in sorted((FOLDER / group).glob("*.yaml"))]
        lines += [f"## {group}", "", "| option | what it is |", "| --- | --- |"]
        for option in options:
            default = " (default)" if option.name == chosen.get(group) else ""
            lines.append(f"| `{group}={option.name}`{default} | {_cell(option.about)} |")
        lines.append("")
        for option in options:
            lines += [f"### {group}={option.name}", ""]
            if option.bases:
                bases = ", ".join(f"`{base}`" for base in option.bases)
                lines += [f"Made of {bases}{', with' if option.settings else '.'}", ""]
            lines += _table(option.settings)
    return "\n".join(lines).rstrip() + "\n"


def _table(settings: Sequence[tuple[str, Description]]) -> Iterator[str]:
    if settings:
        yield from ("| setting | value | takes | what it is |", "| --- | --- | --- | --- |")
        for key, row in settings:
            yield f"| `{key}` | `{_cell(row.default or '')}` | {_cell(row.takes)} | {_cell(row.about)} |"
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


class Option(NamedTuple):
    """A file of `conf/`: its name, its first comment, its defaults list, and its settings by key with their values."""

    name: str
    about: str
    bases: list[str]
    settings: list[tuple[str, Description]]


def read_option(path: Path, group: str) -> Option:
    """Read a file of `conf/`. Its keys are below the group, unless the file has another package."""
    text = path.read_text(encoding="utf-8")
    head = list(takewhile(lambda line: line.startswith("#"), text.splitlines()))
    package = next((line.split()[-1] for line in head if line.startswith("# @package")), group.replace("/", "."))
    prefix = "" if package in ("_global_", "") else f"{package}."
    document = yaml.compose(text)
    entries = _entries(document) if document else {}
    defaults = entries.pop("defaults", None)
    bases = [_base(node) for node in defaults.value] if defaults is not None else []
    about = " ".join(line.removeprefix("#").strip() for line in head if not line.startswith("# @"))
    return Option(path.stem, about, [base for base in bases if base != "_self_"], list(_rows(text, prefix, entries)))


def _entries(mapping: yaml.Node) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in mapping.value}


def _base(node: yaml.Node) -> str:
    """Return an entry of a defaults list: a file, or a group and its option."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return ", ".join(f"{key.value}: {value.value}" for key, value in node.value)


def _rows(text: str, prefix: str, entries: Mapping[str, yaml.Node]) -> Iterator[tuple[str, Description]]:
    """Yield the settings of a mapping by key. With a `_target_`, the parameters that the mapping leaves out follow.

    Args:
        text: the file.
        prefix: the key of the mapping with a dot.
        entries: the values of the mapping by name.
    """
    known: dict[str, Description] = {}
    if "_target_" in entries:
        target = find({"_target_": entries["_target_"].value}, prefix.rstrip("."))
        ours = target.__module__.startswith(("faig_lab", "hydra_plugins"))
        first = " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split()) if ours else ""
        known = {"_target_": Description("class or function", first), **parameters(target)}
    for name, node in entries.items():
        key = f"{prefix}{name}"
        if name in _HYDRA_KEYS:
            continue
        if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
            yield from _rows(text, f"{key}.", _entries(node))
            continue
        described = known.get(name) or _SCHEMA.get(key) or Description("")
        start, end = node.start_mark.index, node.end_mark.index
        behind = re.match(r"[ \t]*(#.*(?:\n[ \t]*#.*)*)", text[end:])  # with the comment lines that follow
        comment = " ".join(line.strip().removeprefix("#").strip() for line in behind[1].splitlines()) if behind else ""
        yield key, Description(described.takes, comment or described.about, text[start:end].strip())
    for name, described in known.items():
        # Code gives a parameter without default that is not in the file. A single valid value is no setting.
        if name not in entries and described.default not in (None, described.takes):
            yield f"+{prefix}{name}", described


STUDIES = """\
# Studies

<!-- Generated; change the study or its YAML, then: python -m faig_lab.cli.reference studies > docs/studies.md -->

A study is a question about the discovered filters. `analysis=<name>` adds the study to a run, `task=analyse
run=<folder> analysis=<name>` adds it to a finished run. Every run has the [masking](method.md) study. What each study
writes stands in its docstring, what it takes in the [configuration reference](configuration.md#analysis), and
[a study of your own](own_analysis.md) needs one file.
"""


def studies() -> str:
    """Return the page of the studies in Markdown, from the section, the docstring and the YAML of each study."""
    lines = [*STUDIES.splitlines(), ""]
    for section in sections():
        option = FOLDER / "analysis" / f"{section.name}.yaml"
        lines += [f"## {_in_filters(section.title)}", "", _in_filters(section.method), ""]
        if option.is_file():
            module = import_module(f"faig_lab.studies.{section.name}")
            returns = (inspect.getdoc(getattr(module, section.name)) or "").partition("Returns:\n")[2].split("\n\n")[0]
            about = read_option(option, "analysis").about
            lines += [f"`analysis={section.name}`: {about}", "", " ".join(returns.split()), ""]
        lines += [f"The figure: {_in_filters(section.caption)} {_in_filters(section.note)}".rstrip(), ""]
    return "\n".join(fill(line, 120, break_on_hyphens=False, break_long_words=False) for line in lines).rstrip() + "\n"


def _in_filters(text: str) -> str:
    """Return a text of a section with the name of the units that are ranked by default."""
    return text.format(unit="filter", units="filters", Units="Filters", input="degraded")


if __name__ == "__main__":
    sys.stdout.write(studies() if sys.argv[1:] == ["studies"] else reference())
