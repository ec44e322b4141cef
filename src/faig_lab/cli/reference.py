"""Two generated pages of docs/: the configuration reference and the studies."""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, get_args

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


@dataclass(frozen=True)
class Description:
    """A setting: its valid values, its meaning, and its default (None: no default)."""

    takes: str
    about: str = ""
    default: str | None = None


def schema(group: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Description]]:
    """Yield every setting of the schema by dotted key."""
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
    """Return the parameters of a class or function of faig_lab by name, with the text of its docstring.

    Functions of other packages have no parameters here, since their signatures change with the version.
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


def _arguments(docstring: str) -> dict[str, str]:
    """Return the `Args:` of a Google docstring: name → text."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", docstring, re.M)
    entries = re.findall(r"^    (\w+)[^:\n]*:((?:.*\n?)(?:^ {5,}.*\n?)*)", section[1] if section else "", re.M)
    return {name: " ".join(words.split()) for name, words in entries}


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


@dataclass(frozen=True)
class Setting:
    """A row: dotted key, written value, valid values, meaning."""

    key: str
    value: str
    takes: str
    about: str


@dataclass(frozen=True)
class Option:
    """A file: its name, its first comment, its defaults list and its settings."""

    name: str
    about: str
    bases: tuple[str, ...]
    settings: tuple[Setting, ...]


def reference() -> str:
    """Return the whole page in Markdown."""
    root = _read(FOLDER / "config.yaml", "")
    chosen = dict(base.split(": ") for base in root.bases if ": " in base)
    lines = [INTRODUCTION, "## The run", "", *_table(root.settings)]
    for group in sorted(_groups() - set(_HIDDEN), key=lambda group: (list({**chosen, group: ""}).index(group), group)):
        options = [_read(path, group) for path in sorted((FOLDER / group).glob("*.yaml"))]
        lines += _group(options, group, chosen.get(group))
    return "\n".join(lines).rstrip() + "\n"


def _groups() -> set[str]:
    return {path.parent.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/**/*.yaml")}


def _group(options: list[Option], group: str, chosen: str | None) -> Iterator[str]:
    """Yield a table of all options, then the settings of each option."""
    yield from (f"## {group}", "", "| option | what it is |", "| --- | --- |")
    for option in options:
        default = " (default)" if option.name == chosen else ""
        yield f"| `{group}={option.name}`{default} | {_cell(option.about)} |"
    yield ""
    for option in options:
        yield from (f"### {group}={option.name}", "")
        if option.bases:
            bases = ", ".join(f"`{base}`" for base in option.bases)
            yield from (f"Made of {bases}{', with' if option.settings else '.'}", "")
        yield from _table(option.settings)


def _table(settings: tuple[Setting, ...]) -> Iterator[str]:
    if not settings:
        return
    yield from ("| setting | value | takes | what it is |", "| --- | --- | --- | --- |")
    for row in settings:
        yield f"| `{row.key}` | `{_cell(row.value)}` | {_cell(row.takes)} | {_cell(row.about)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


class _File:
    """A YAML file with its comments."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.head = list(takewhile(lambda line: line.startswith("#"), self.text.splitlines()))
        document = yaml.compose(self.text)
        self.entries = self.entries_of(document) if document else {}

    def entries_of(self, node: yaml.Node) -> dict[str, yaml.Node]:
        """Return the values of a mapping by name."""
        assert isinstance(node, yaml.MappingNode)
        return {key.value: value for key, value in node.value}

    def written(self, node: yaml.Node) -> str:
        """Return a value as the file has it."""
        return self.text[node.start_mark.index : node.end_mark.index].strip()

    def comment(self, node: yaml.Node) -> str:
        """Return the comment behind a value, with the comment lines that follow."""
        found = re.match(r"[ \t]*(#.*(?:\n[ \t]*#.*)*)", self.text[node.end_mark.index :])
        return " ".join(line.strip().removeprefix("#").strip() for line in found[1].splitlines()) if found else ""

    def settings(self, key: str, node: yaml.Node, described: Description) -> Iterator[Setting]:
        """Yield the row of a value, or the rows of the settings inside."""
        if not (isinstance(node, yaml.MappingNode) and node.value and not node.flow_style):
            yield Setting(key, self.written(node), described.takes, self.comment(node) or described.about)
            return
        yield from self.within(f"{key}.", self.entries_of(node))

    def within(self, prefix: str, entries: dict[str, yaml.Node]) -> Iterator[Setting]:
        """Yield the rows of a mapping. With a `_target_`, the parameters that the mapping leaves out follow."""
        target = entries.get("_target_")
        known: dict[str, Description] = {}
        if target is not None:
            made_by = find({"_target_": target.value}, prefix.rstrip("."))
            known = {"_target_": Description("class or function", _first_sentence(made_by)), **parameters(made_by)}
        for name, node in entries.items():
            if name not in _HYDRA_KEYS:
                described = known.get(name) or _SCHEMA.get(f"{prefix}{name}") or Description("")
                yield from self.settings(f"{prefix}{name}", node, described)
        for name, described in known.items():
            # Code gives a parameter without default that is not in the file. A single valid value is no setting.
            if name not in entries and described.default not in (None, described.takes):
                yield Setting(f"+{prefix}{name}", described.default, described.takes, described.about)


_SCHEMA = dict(schema())


def _first_sentence(documented: object) -> str:
    """Return the first sentence of the docstring of a class or function of faig_lab."""
    ours = str(getattr(documented, "__module__", "")).startswith(("faig_lab", "hydra_plugins"))
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split()) if ours else ""


def _read(path: Path, group: str) -> Option:
    """Read a file of `conf/`. Its keys are below the group, unless the file has another package."""
    file = _File(path)
    package = next((line.split()[-1] for line in file.head if line.startswith("# @package")), group.replace("/", "."))
    prefix = "" if package in ("_global_", "") else f"{package}."
    defaults = file.entries.pop("defaults", None)
    bases = [_base(node) for node in defaults.value] if defaults is not None else []
    return Option(
        path.stem,
        " ".join(line.removeprefix("#").strip() for line in file.head if not line.startswith("# @")),
        tuple(base for base in bases if base != "_self_"),
        tuple(file.within(prefix, file.entries)),
    )


def _base(node: yaml.Node) -> str:
    """Return an entry of a defaults list: a file, or a group and its option."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return ", ".join(f"{key.value}: {value.value}" for key, value in node.value)


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
            about = _read(option, "analysis").about
            lines += [f"`analysis={section.name}`: {about}", "", " ".join(returns.split()), ""]
        lines += [f"The figure: {_in_filters(section.caption)} {_in_filters(section.note)}".rstrip(), ""]
    return "\n".join(fill(line, 120, break_on_hyphens=False, break_long_words=False) for line in lines).rstrip() + "\n"


def _in_filters(text: str) -> str:
    """Return a text of a section with the name of the units that are ranked by default."""
    return text.format(unit="filter", units="filters", Units="Filters", input="degraded")


if __name__ == "__main__":
    sys.stdout.write(studies() if sys.argv[1:] == ["studies"] else reference())
