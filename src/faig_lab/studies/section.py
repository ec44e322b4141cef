"""What a further section of the report consists of; one analysis, one section."""

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
    from faig_lab.evaluation.examples import Example


@dataclass(frozen=True)
class Table:
    """A small table: the head, and rows whose first cell is their head. Cells are text, ready to be read."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Strips:
    """Pictures beside the figure, drawn when the analysis ends: `figures/<section>_<degradation>.png`.

    Args:
        grids: the analysis's examples → a grid per degradation.
        alt: what each shows; `{input}` becomes its degradation.
        caption: how to read each; `{input}` becomes its degradation.
    """

    grids: "Callable[[Sequence[Example]], Sequence[Pictures]]"
    alt: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A section that is shown when its table exists: a figure, a table, a caption and one sentence with numbers.

    In every text `{unit}` and `{units}` become the run's word for what was ranked, such as `filter` and `filters`.

    Args:
        name: of the analysis, its table `tables/<name>.csv`, its figure `figures/<name>.png` and its anchor.
        title: the heading, a question in plain words.
        link: the heading's short form, for the contents.
        method: what was done, for someone who has not read the paper; plain text.
        figure: run → the figure, None where there is nothing to draw.
        alt: what the figure shows, for those who cannot see it.
        caption: how to read the figure.
        sentence: run → one sentence with the main numbers and no verdict; may be empty.
        table: run → a small table, None where the figure says it all.
        note: a closing remark, e.g. what this does not show; may be empty.
        order: the place in the report; what the filters do comes before whether the rankings can be trusted.
        strips: pictures from the analysis's examples, if it hands any over.
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
    """The section of every study, in the order in which the report shows them."""
    package = import_module("faig_lab.studies")
    modules = (import_module(f"faig_lab.studies.{module.name}") for module in pkgutil.iter_modules(package.__path__))
    found = [module.SECTION for module in modules if hasattr(module, "SECTION")]
    return tuple(sorted(found, key=lambda section: section.order))


def sections_of(run: RunFolder) -> tuple[Section, ...]:
    """The sections that a run has a table for, those of the user's own studies too.

    A study of the user's own lies in the module that the run's configuration names as `_target_`. The module is not
    imported here: it is known while the study runs, and a page made from a stranger's folder executes nothing.
    """
    studies = (run.config.get("analysis") or {}).get("studies") or {}
    named = (str(node.get("_target_")).rpartition(".")[0] for node in studies.values() if isinstance(node, dict))
    own = (getattr(sys.modules.get(module), "SECTION", None) for module in named)
    found = {section.name: section for section in (*own, *sections()) if isinstance(section, Section)}
    return tuple(sorted((one for one in found.values() if run.table(one.name)), key=lambda section: section.order))
