"""Build: the README that PyPI shows, with absolute addresses of its pictures and pages."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

# ](target) of a link or a picture, and whether it is a picture
_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!\w+:|#)([^)\s]+)\)")


def absolute(text: str, repository: str) -> str:
    """Return the Markdown `text` with links relative to the root of the repository made absolute.

    A picture gets the address of its bytes, a page the address at which it is read. Addresses with a scheme
    (`https:`) and links within the page (`#part`) stay.
    """
    return _LINK.sub(
        lambda found: f"{found[1]}{found[2]}({repository}/{'raw' if found[1] else 'blob'}/HEAD/{found[3]})", text
    )


class ReadmeHook(MetadataHookInterface):
    """Set the project's `readme`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add `readme` to the table `project` of pyproject.toml; the repository's address is in its `urls`."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        readme = absolute(text, metadata["urls"]["Repository"].rstrip("/"))
        metadata["readme"] = {"content-type": "text/markdown", "text": readme}
