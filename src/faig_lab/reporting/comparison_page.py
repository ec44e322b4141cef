"""The page of a comparison: one self-contained HTML file over several runs, in the style of a run's report."""

import os
from collections.abc import Sequence
from datetime import date
from importlib.resources import files as resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from faig_lab.files import write_text
from faig_lab.reporting import words
from faig_lab.reporting.comparison import Comparison, Estimate
from faig_lab.reporting.comparison_figure import specificity_figure
from faig_lab.reporting.embed import embed_all
from faig_lab.reporting.finished_runs import LeftOut
from faig_lab.reporting.style import write_figure

_NETWORKS = ("bicubic", "baseline", "target")
_MEASURES = {"own": "own function removed", "other": "others removed"}


def write_comparison(folder: Path, comparison: Comparison, left_out: Sequence[LeftOut]) -> Path:
    """Write `compare.html` and its figure to a folder, and return the page's path.

    Reports of runs are linked relative to the folder, so that both can be moved together.
    """
    figure = specificity_figure(comparison)
    picture = folder / "specificity.png"
    if figure is not None:
        write_figure(picture, figure)
    environment = Environment(
        loader=PackageLoader("faig_lab.reporting", "."),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        number=words.number, signed=words.signed, percent=words.percent, method=words.method_label,
        degraded=words.degraded, removal=words.removal, sentence_case=words.sentence_case, interval=interval,
        clear=is_clear,
    )  # fmt: skip
    page = environment.get_template("comparison.html.j2").render(
        style=Markup((resources("faig_lab.reporting") / "report.css").read_text(encoding="utf-8")),  # our own file
        figure=embed_all([picture])[0] if figure is not None else None,
        made=date.today().isoformat(),
        sentences=sentences(comparison), warnings=warnings(comparison),
        links={run: _link(run.folder / "report.html", folder) for run in comparison.runs},
        c=comparison, left_out=left_out, networks=_NETWORKS, measures=_MEASURES,
    )  # fmt: skip
    path = folder / "compare.html"
    write_text(path, page)
    return path


def sentences(comparison: Comparison) -> list[str]:
    """What came out at the headline percent: each experiment's most specific method, and how sure that is."""
    headline = comparison.headline
    found = []
    for group in comparison.groups:
        best = comparison.best(group, headline)
        top = comparison.estimate(group, best, headline) if best else None
        if best is None or top is None or group not in comparison.judged:
            continue
        text = f"{group}: {words.method_label(best)} is the most specific at {words.percent(headline)}"
        found.append(f"{text}, with {_with_interval(top)} over {_runs(top.n)}. {_against(comparison, [group], best)}")
    if len(comparison.judged) > 1:
        found += [
            _against(comparison, comparison.judged, method, "In all of them together ")
            for method in _rivals(comparison)
        ]
    return [text.strip() for text in found if text]


def warnings(comparison: Comparison) -> list[str]:
    """Experiments whose removed shares mean little."""
    return [
        f"{group}: the target is only {words.number(gain.mean)} dB above the baseline in {words.removal(name)}, which "
        "its removed shares and specificities divide by; they mean little, and the summary leaves this experiment out."
        for group in comparison.groups
        for name, gain in comparison.small_gains(group).items()
    ]


def _rivals(comparison: Comparison) -> list[str]:
    """The methods that are the most specific of an experiment, without the reference."""
    best = dict.fromkeys(comparison.best(group, comparison.headline) for group in comparison.judged)
    return [method for method in best if method not in (None, comparison.reference)]


def _against(comparison: Comparison, groups: Sequence[str], method: str, start: str = "") -> str:
    """A method against the reference, run by run."""
    difference = comparison.difference(groups, method, comparison.headline)
    if method == comparison.reference or difference is None:
        return ""
    text = f"{start}{words.method_label(method)} minus {words.method_label(comparison.reference)} in the same run: "
    shown = _with_interval(difference, signed=True)
    return f"{words.sentence_case(text)}{shown} over {_runs(difference.n)}{_verdict(difference)}"


def is_clear(difference: Estimate) -> bool:
    """Whether an interval leaves zero out."""
    return difference.low is not None and difference.high is not None and difference.low * difference.high > 0


def interval(found: Estimate, digits: int = 2) -> str:
    """`0.61 to 0.83`, or nothing for a single run."""
    if found.low is None or found.high is None:
        return ""
    return f"{words.number(found.low, digits)} to {words.number(found.high, digits)}"


def _with_interval(found: Estimate, signed: bool = False) -> str:
    shown: Any = words.signed if signed else words.number
    between = interval(found)
    return f"{shown(found.mean)} ({between})" if between else str(shown(found.mean))


def _verdict(difference: Estimate) -> str:
    if difference.low is None:
        return "; one run says nothing about how much runs differ."
    if not is_clear(difference):
        return ": the interval holds zero, so these runs do not tell them apart."
    return ": more specific." if difference.mean > 0 else ": less specific."


def _runs(count: int) -> str:
    return f"{count} {'run' if count == 1 else 'runs'}"


def _link(report: Path, folder: Path) -> str | None:
    """The way from the page to a report, for a browser; None where there is no report."""
    return quote(Path(os.path.relpath(report, folder)).as_posix()) if report.is_file() else None
