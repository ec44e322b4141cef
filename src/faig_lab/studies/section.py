"""The section that a study adds to the report: figure, table, caption and texts."""

import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from faig_lab.plotting.pictures import Pictures
from faig_lab.runs.folder import RunFolder

if TYPE_CHECKING:  # task=compare needs no torch
    from faig_lab.evaluation.evaluator import Example


@dataclass(frozen=True)
class Table:
    """A small table of texts: the head, and rows whose first cell is the row's head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Strips:
    """Pictures beside the figure, drawn when the study ends: `figures/<section>_<degradation>.png`.

    Args:
        grids: the study's examples → a grid per degradation.
        alt: the content of each grid; `{input}` becomes its degradation.
        caption: how to read each grid; `{input}` becomes its degradation.
    """

    grids: "Callable[[Sequence[Example]], Sequence[Pictures]]"
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A section that is shown when its table exists: a figure, a table, a caption and one sentence with numbers.

    In every text `{unit}` and `{units}` become the run's word for the ranked units, such as `filter` and `filters`.

    Args:
        name: of the study, its table `tables/<name>.csv`, its figure `figures/<name>.png` and its anchor.
        title: the heading, a question in plain words.
        link: the heading's short form, for the contents.
        method: the procedure, for readers who have not read the paper; plain text.
        figure: run → the figure, None where there is nothing to draw.
        alt: the content of the figure, for readers who cannot see the figure.
        caption: how to read the figure.
        sentence: run → one sentence with the main numbers and no verdict; may be empty.
        table: run → a small table, None where the figure is enough.
        note: a closing remark, e.g. on the limits of the study; may be empty.
        order: the place in the report; the effects of the filters come before the reliability of the rankings.
        strips: pictures from the examples of the study, if there are any.
    """

    name: str
    title: str
    link: str
    method: str
    figure: Callable[[RunFolder], Figure | None]
    alt: str
    caption: str
    sentence: Callable[[RunFolder], str] = lambda run: ""
    table: Callable[[RunFolder], Table | None] = lambda run: None
    note: str = ""
    order: int = 100
    strips: Strips | None = None


def sections() -> tuple[Section, ...]:
    """Return the section of every study, in the order of the report."""
    package = import_module("faig_lab.studies")
    modules = (import_module(f"faig_lab.studies.{module.name}") for module in pkgutil.iter_modules(package.__path__))
    loaded = [module.SECTION for module in modules if hasattr(module, "SECTION")]
    return tuple(sorted(loaded, key=lambda section: section.order))


def sections_of(run: RunFolder) -> tuple[Section, ...]:
    """Return the sections that a run has a table for, including the user's own studies.

    A study of the user lies in the module that the run's configuration names as `_target_`. The module is not
    imported here: it is loaded while the study runs, and a page made from a stranger's folder executes no code.
    """
    studies = (run.config.get("analysis") or {}).get("studies") or {}
    named = (str(node.get("_target_")).rpartition(".")[0] for node in studies.values() if isinstance(node, dict))
    of_user = (getattr(sys.modules.get(module), "SECTION", None) for module in named)
    by_name = {section.name: section for section in (*of_user, *sections()) if isinstance(section, Section)}
    shown = (section for section in by_name.values() if not run.table(section.name).empty)
    return tuple(sorted(shown, key=lambda section: section.order))
