"""Paths and names on the command line, quoted for Hydra.

Hydra's grammar has no `=`, `~`, `#`, `&`, parentheses or non-ASCII letters outside of quotes, and the shell removes
the quotes that a user types. A setting whose value is text anyway needs no quotes here.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

TEXT = re.compile(
    r"(name|run|runs|resume|store|(baseline|target)\.weights|export\.file|prune\.runs|logger\.(project|entity|group)"
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
