"""The configuration reference, made of what the files and the code say: `python -m faig_lab.config.reference`.

Values and most words come from the files in `conf/` and their comments; what a setting takes, and the words that are
missing, from the schema and from the signatures and docstrings that a `_target_` names.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import yaml

from faig_lab.config.composition import FOLDER
from faig_lab.config.describe import Description, parameters, schema
from faig_lab.config.targets import find

INTRODUCTION = """\
# Configuration reference

<!-- Generated; change conf/ or the code, then: python -m faig_lab.config.reference > docs/configuration.md -->

Every group, every setting and its value. `group=option` chooses a file of a group, `key=value` changes a setting. A
setting with a `+` is in no file: the table has its default, and the command line needs the `+` to change the setting.
`python -m faig_lab --cfg job` prints the configuration of a command line. Files of your own:
[a folder of your own](own_method.md#a-folder-of-your-own).
"""
_HIDDEN = ("hydra/help", "hydra/job_logging", "hydra/hydra_logging")
_HYDRA_KEYS = ("_partial_", "_convert_", "_recursive_")


@dataclass(frozen=True)
class Setting:
    """One row: dotted key, value as it is written, what it takes, what it is."""

    key: str
    value: str
    takes: str
    about: str


@dataclass(frozen=True)
class Option:
    """One file: its name, the comment that it starts with, its defaults list, and what it sets."""

    name: str
    about: str
    bases: tuple[str, ...]
    settings: tuple[Setting, ...]


def reference() -> str:
    """The whole page, in Markdown."""
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
    """All options in one table, then the settings of each."""
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
    """One YAML file, read with its comments."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.head = list(takewhile(lambda line: line.startswith("#"), self.text.splitlines()))
        document = yaml.compose(self.text)
        self.entries = self.entries_of(document) if document else {}

    def entries_of(self, node: yaml.Node) -> dict[str, yaml.Node]:
        """The values of a mapping by name."""
        assert isinstance(node, yaml.MappingNode)
        return {key.value: value for key, value in node.value}

    def written(self, node: yaml.Node) -> str:
        """A value as it stands in the file."""
        return self.text[node.start_mark.index : node.end_mark.index].strip()

    def comment(self, node: yaml.Node) -> str:
        """What stands behind a value on its line, and below it where it goes on."""
        found = re.match(r"[ \t]*(#.*(?:\n[ \t]*#.*)*)", self.text[node.end_mark.index :])
        return " ".join(line.strip().removeprefix("#").strip() for line in found[1].splitlines()) if found else ""

    def settings(self, key: str, node: yaml.Node, described: Description) -> Iterator[Setting]:
        """The row of a value, or those of the settings within it."""
        if not (isinstance(node, yaml.MappingNode) and node.value and not node.flow_style):
            yield Setting(key, self.written(node), described.takes, self.comment(node) or described.about)
            return
        yield from self.within(f"{key}.", self.entries_of(node))

    def within(self, prefix: str, entries: dict[str, yaml.Node]) -> Iterator[Setting]:
        """The rows of a mapping; with a `_target_` also the parameters that it leaves out."""
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
            # What has no default and is not in the file comes from the code; what takes one value only is no setting.
            if name not in entries and described.default not in (None, described.takes):
                yield Setting(f"+{prefix}{name}", described.default, described.takes, described.about)


_SCHEMA = dict(schema())


def _first_sentence(documented: object) -> str:
    """What a class or function of ours says that it is."""
    ours = str(getattr(documented, "__module__", "")).startswith(("faig_lab", "hydra_plugins"))
    return " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split()) if ours else ""


def _read(path: Path, group: str) -> Option:
    """A file of `conf/`; its keys are below the group's unless it says otherwise."""
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
    """An entry of a defaults list: a file, or a group and its option."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    return ", ".join(f"{key.value}: {value.value}" for key, value in node.value)


if __name__ == "__main__":
    sys.stdout.write(reference())
