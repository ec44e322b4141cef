"""The fenced blocks of README.md, CONTRIBUTING.md, docs/ and experiments/: commands, files, Python. And scripts.

```bash                     commands, one a line; `\\` continues a line
```python                   code that runs, with one namespace for the page
```python file=mine.py      a file, also ```yaml file=mine/attribution/x.yaml
```text                     output, and anything else that is not checked
"""

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from faig_lab.cli.arguments import inspected

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", CONTRIBUTING, *DOCS, *sorted((ROOT / "experiments").rglob("*.md"))]


def script(path: Path) -> ModuleType:
    """A Python file that is no module of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_BLOCK = re.compile(r"^```(\w+)([^\n`]*)\n(.*?)^```$", re.M | re.S)
_OURS = re.compile(r"(?:^|\s)(?:[\w./]*python3? -m faig_lab|torchrun .*?-m faig_lab|faig-lab)(?=\s|$)(.*)")
_END = {";", "|", "||", "&&", "&", ">", ">>", "2>&1"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is (if any), whether it is only an example, its text."""

    language: str
    file: str | None
    example: bool
    text: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    files = [info.strip().removeprefix("file=") if "file=" in info else None for _, info, _ in found]
    return [Block(kind, file, "example" in info, text) for (kind, info, text), file in zip(found, files, strict=True)]


def write_block(block: Block, folder: Path) -> None:
    """Write the file that the block is, if it is one."""
    if block.file is not None:
        (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.file).write_text(block.text, encoding="utf-8")


def lines(block: Block) -> list[str]:
    """The commands of a block, without comments."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    plain = [re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines()]
    return [line for line in plain if line]


def arguments(line: str) -> list[str] | None:
    """The arguments of a command of ours, with placeholders filled in; None if it is another command."""
    filled = re.sub(r"<[\w -]+>", "x", re.sub(r"\$\{?\w+\}?|\$\(.*?\)", "0", line))
    found = _OURS.search(filled)
    if found is None:
        return None
    lexer = shlex.shlex(found[1], posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    given = list(lexer)
    end = next((place for place, token in enumerate(given) if token in _END), len(given))
    return given[:end]


@dataclass(frozen=True)
class Command:
    """Settings of a command of ours, and its flags."""

    settings: tuple[str, ...]
    config_dir: str | None
    only_shows: bool


def _values(override: Override) -> Iterator[str]:
    """The settings that a setting stands for: itself, each value of a sweep, both ends of an interval."""
    if not override.is_sweep_override():
        yield override.input_line or ""
        return
    interval = override.value() if not override.is_discrete_sweep() else None
    ends = [f"{end:g}" for end in (interval.start, interval.end)] if isinstance(interval, IntervalSweep) else []
    for value in ends or override.sweep_string_iterator():
        yield f"{override.get_key_element()}={value}"


def commands(given: Sequence[str]) -> Iterator[Command]:
    """The run of a command; of a sweep its first one, and one for each other value of each setting."""
    parsed = get_args_parser().parse_args(list(given))
    shows = bool(parsed.help or parsed.hydra_help or parsed.info or not given)
    overrides = OverridesParser.create().parse_overrides(list(inspected(parsed.overrides)))
    values = [list(_values(override)) for override in overrides]
    first = [choices[0] for choices in values]
    yield Command(tuple(first), parsed.config_dir, shows)
    for place, choices in enumerate(values):
        for choice in choices[1:]:
            yield Command((*first[:place], choice, *first[place + 1 :]), parsed.config_dir, shows)
