"""Hooks of MkDocs: one site from the README, docs/, notebooks/, experiments/ and the notes beside the code.

Pages keep their places, so links between them are as in the repository. The navigation is that of docs/index.md.
"""

import base64
import json
import re
import tomllib
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "experiments/**/*.md", "src/**/README.md")
PICTURES = ("docs/pictures/*", "experiments/**/*.png", "experiments/**/*.jpg", "benchmarks/results/**/*.png")
SHIM = "docs/site/iframe-worker.js"
_SHIM_OF_THE_THEME = "https://unpkg.com/iframe-worker/shim"
_OUTPUTS = {"image/png": "png", "image/jpeg": "jpg"}


def github_anchor(heading: str, separator: str = "-") -> str:
    """Return the anchor that GitHub gives a heading; the links in the pages have these."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the repository's address and the navigation."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # No repo_url: with it the theme asks the host of the repository for its number of stars.
    config.extra["repository"] = project["urls"]["Repository"]
    config.mdx_configs["toc"]["slugify"] = github_anchor
    config.nav = [{"Overview": "README.md"}, *_sections(), {"Changes": "CHANGELOG.md"}]
    return config


def _sections() -> list[dict[str, Any]]:
    """Return the navigation: docs/index.md, and a section for each of its tables, with all other pages at the end."""
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    parts = re.split(r"^\*\*(.+?)\*\*", text, flags=re.M)
    listed = {}
    for title, part in zip(parts[1::2], parts[2::2], strict=True):
        rows = re.findall(r"^\| \[([^\]]+)\]\(([^)#]+)\)", part, re.M)
        listed[title.strip(":")] = [
            {name[:1].upper() + name[1:]: normpath(f"docs/{path}").replace(".ipynb", ".md")} for name, path in rows
        ]
    named = {path for rows in listed.values() for row in rows for path in row.values()}
    named |= {"README.md", "CHANGELOG.md", "docs/index.md"}
    start = ["docs/index.md", *(["docs/tutorial.md"] if "docs/tutorial.md" not in named else [])]
    rest = [path for path in _paths(*PAGES) if path not in {*named, *start}]
    first = [path for path in rest if not path.startswith(("experiments/", "src/"))]
    return [
        {"Documentation": [*start, *first]},
        *({title: rows} for title, rows in listed.items() if rows),
        {"Experiments": [path for path in rest if path not in first]},
    ]


def _paths(*patterns: str) -> list[str]:
    """Return the files of the repository that match, by their paths from its root."""
    return sorted({path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by all pages and pictures, at their places in the repository."""
    found = Files([file for file in files if not (file.abs_src_path or "").startswith(config.docs_dir)])
    for path in _paths(*PAGES, *PICTURES, SHIM):
        found.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for path in _paths("notebooks/*.ipynb"):
        text, pictures = notebook(ROOT / path)
        found.append(File.generated(config, path.replace(".ipynb", ".md"), content=text))
        for name, content in pictures.items():
            found.append(File.generated(config, f"notebooks/{name}", content=content))
    return found


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by their names in the notebook's folder."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            kind = next((kind for kind in _OUTPUTS if kind in data), None)
            text = "".join(output.get("text", data.get("text/plain", ())))
            if kind:
                name = f"{path.stem}_{number}.{_OUTPUTS[kind]}"
                pictures[name] = base64.b64decode("".join(data[kind]))
                parts.append(f"![Output of the cell above]({name})")
            elif text:
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite what MkDocs reads in another way than GitHub: named code blocks, and links to source files."""
    text = re.sub(r"^```(\w+) file=(\S+)$", r'```\1 title="\2"', markdown, flags=re.M)
    text = re.sub(r"^```(\w+) example$", r"```\1", text, flags=re.M)
    folder = PurePosixPath(page.file.src_uri).parent
    blocks = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda found: _linked(found, folder, config, files), part)
        for part in blocks
    )


_LINK = re.compile(r"\]\((?!\w+:|#)([^)\s]+)\)")


def _linked(found: re.Match[str], folder: PurePosixPath, config: MkDocsConfig, files: Files) -> str:
    """Return a link: to a page of the site, or to a file of the repository that is no page of the site."""
    path, mark, part = found[1].partition("#")
    target = normpath(str(folder / path))
    if target.endswith(".ipynb"):
        path = path.replace(".ipynb", ".md")
    elif files.get_file_from_path(target) is None and (ROOT / target).exists():
        return f"]({config.extra['repository']}/blob/HEAD/{target}{mark}{part})"
    return f"]({path}{mark}{part})"


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Replace the one script that the theme loads from another server, so that search works offline."""
    return output.replace(_SHIM_OF_THE_THEME, get_relative_url(SHIM, page.url))


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Do the same for the page of a missing address."""
    return output_content.replace(_SHIM_OF_THE_THEME, f"/{SHIM}")
