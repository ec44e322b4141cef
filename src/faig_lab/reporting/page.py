"""What every page is made with: the templates, their number formats, the style sheet and the policy."""

import base64
import hashlib
from importlib.resources import files as resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from faig_lab.reporting import words


def environment() -> Environment:
    """The templates of this package, with the number formats as filters; an undefined name is an error."""
    made = Environment(
        loader=PackageLoader("faig_lab.reporting", "."),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(
        share=words.share, small_share=words.small_share, number=words.number, signed=words.signed,
        count=words.count, percent=words.percent, duration=words.duration, removal=words.removal,
        degraded=words.degraded, method=words.method_label, listed=words.listed, sentence_case=words.sentence_case,
        width=_width, breakable=_breakable,
    )  # fmt: skip
    made.globals.update(between=words.between, with_std=words.with_std, style=Markup(resource("report.css")))
    made.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return made


def resource(name: str) -> str:
    """Return the text of a file of this package: style sheet or script, both our own."""
    return (resources("faig_lab.reporting") / name).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """Return a page's Content-Security-Policy: nothing from outside, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _width(share: float | None) -> str:
    """A share as the width of a bar, clipped to 0..1."""
    return f"{100 * min(max(share or 0.0, 0.0), 1.0):.1f}%"


def _breakable(name: str) -> Markup:
    """A file's name that a narrow column may break after an underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))
