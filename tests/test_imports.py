"""The rules about imports, read from the source: packages import only from those before them."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "faig_lab"
BASE = ["errors", "granularity", "files", "cuda_graphs"]
CORE = ["networks", "filters", "data", "metrics", "attribution", "training", "evaluation"]
ORDER = [*BASE, *CORE, "config", "runs", "plotting", "studies", "report", "api", "cli", "start", "__main__"]
FILES = sorted(PACKAGE.rglob("*.py"))
# What takes long to import, and so must not be imported where `--help` passes by.
HEAVY = {"torch", "pytorch_lightning", "torchmetrics", "wandb", "matplotlib", "kornia", "skimage", "sklearn"}


@cache
def imports(path: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def package(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_packages_import_only_from_those_before_them(path: Path) -> None:
    if path.name == "__init__.py" and path.parent == PACKAGE:
        # What it offers is imported by name when it is used; here only the type checker reads it.
        assert {m.rpartition(".")[0] for m in imports(path) if m.startswith("faig_lab")} == {"faig_lab.api"}
        assert imports(path, top_level=True) == {"importlib.import_module", "typing.TYPE_CHECKING"}
        return
    assert package(path) in ORDER, f"{package(path)} has no place in the order of packages"
    allowed = ORDER[: ORDER.index(package(path)) + 1]
    for module in imports(path):
        if module.startswith("faig_lab."):
            assert module.split(".")[1] in [*allowed, "__version__"], f"{path.name} imports {module}"


def test_wandb_has_one_importer() -> None:
    importers = [name(p) for p in FILES if any(m.split(".")[0] == "wandb" for m in imports(p))]
    assert importers in ([], ["report/wandb_run.py"])


@pytest.mark.parametrize("path", [PACKAGE / "__main__.py", *(PACKAGE / "config").glob("*.py")], ids=name)
def test_command_line_imports_nothing_heavy(path: Path) -> None:
    assert not {module.split(".")[0] for module in imports(path, top_level=True)} & HEAVY


def test_command_line_loads_only_light_packages() -> None:
    loaded = imports(PACKAGE / "__main__.py", top_level=True)
    light = {"cli", "config", "errors", "files", "runs"}
    assert {m.split(".")[1] for m in loaded if m.startswith("faig_lab.")} <= light


def test_no_drawer_of_odds_and_ends() -> None:
    assert not [p for p in PACKAGE.rglob("*") if p.stem in ("utils", "helpers", "misc", "common")]
    assert sys.version_info >= (3, 11)


def settings_in_errors(source: str) -> list[str]:
    """The texts in `raise` statements that name a key of the configuration."""
    groups = "attribution|baseline|data|degradation|hydra|logger|target|trainer|training"
    key = re.compile(rf"(?<![\w.`])(?:{groups})\.(?!py\b|md\b|pt\b)[a-z]\w*")
    raised = [part for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Raise) for part in ast.walk(node)]
    texts = [part.value for part in raised if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return [text for text in texts if key.search(text)]


def test_the_core_names_no_setting() -> None:
    """An error of the library names the argument; the command line puts its key there (config/messages.py)."""
    assert settings_in_errors('raise ValueError(f"{a}: lower training.batch_size")') == [": lower training.batch_size"]
    core = [path for path in FILES if package(path) in CORE]
    assert {package(path) for path in core} == set(CORE)
    found = {name(path): settings_in_errors(path.read_text(encoding="utf-8")) for path in core}
    assert {path: texts for path, texts in found.items() if texts} == {}


def test_the_architecture_page_has_the_packages_in_their_order() -> None:
    text = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("| package |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert named == [name for name in ORDER if name not in (*BASE, "start", "__main__")]


def test_private_parts_of_libraries_are_named_on_the_architecture_page() -> None:
    """An import from a private module of a library stands in the table of the page."""
    text = (PACKAGE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    private = [
        (path, module)
        for path in [*FILES, *(PACKAGE.parent / "hydra_plugins").glob("*.py")]
        for module in imports(path)
        if not module.startswith(("faig_lab", "__future__")) and any(part.startswith("_") for part in module.split("."))
    ]
    assert private
    assert [
        module for path, module in private if f"{path.parent.name}/{path.name}" not in text or module not in text
    ] == []
