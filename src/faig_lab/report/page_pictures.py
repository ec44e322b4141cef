"""The pictures of a page: which there are, in which order, and embedded within the budget."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faig_lab.files import is_inside
from faig_lab.plotting.pictures import TARGET
from faig_lab.plotting.tiles import TileFile, TileRow, read_tiles
from faig_lab.plotting.words import as_percent, removal
from faig_lab.report.page import BUDGET, Embedded, embed_all, embed_charts
from faig_lab.runs.folder import RunFolder
from faig_lab.studies.section import sections_of

_BEFORE_AFTER = "before_after_"


@dataclass(frozen=True)
class Grid:
    """Pictures that can be compared; `row`, and in it the columns `left` and `right`, are what is compared first."""

    titles: list[str]
    rows: list[tuple[TileRow, list[tuple[TileFile, Embedded]]]]
    row: int
    left: int
    right: int


@dataclass(frozen=True)
class PagePictures:
    """Everything of figures/ that a page shows, by name.

    Attributes:
        figures: whole pictures; grids of pictures only where their tiles are not there.
        charts: which of them are drawings.
        marks: the places of their values, as `Marks`.
        tiles: grids whose pictures are files of their own.
        before_after: the names of the grids of masking, in the order of the degradations.
    """

    figures: dict[str, Embedded]
    charts: list[str]
    marks: dict[str, Any]
    tiles: dict[str, Grid]
    before_after: list[str]
    names: list[str]

    def of_section(self, section: str) -> list[str]:
        """The names of a section's grids, in the order of the degradations."""
        return [name for name in self.names if name.startswith(f"{section}_")]


def page_pictures(run: RunFolder) -> PagePictures:
    """Read and embed figures/*.png and figures/pictures/: charts first, pictures in what they leave of the budget."""
    known = [
        "isolation",
        "methods",
        "masking_curves",
        "layers",
        "training",
        *(section.name for section in sections_of(run)),
    ]
    charts = [_png(run, name) for name in known if _is_there(run, name)]
    drawn = dict(zip([path.stem for path in charts], embed_charts(charts), strict=True))
    names = [
        *sorted((path.stem for path in _drawn(run, f"{_BEFORE_AFTER}*")), key=lambda name: _place(run, name)),
        *(f"{section.name}_{name}" for section in sections_of(run) if section.strips for name in run.degradations),
    ]
    rows = {name: found for name in names if (found := read_tiles(run.path, name))}
    whole = [_png(run, name) for name in names if name not in rows and _is_there(run, name)]
    paths = [tile.path for grid in rows.values() for row in grid for tile in row.tiles] + whole
    left = BUDGET - sum(picture.bytes for picture in drawn.values())
    embedded = dict(zip(paths, embed_all(paths, left), strict=True))
    return PagePictures(
        figures=drawn | {path.stem: embedded[path] for path in whole},
        charts=list(drawn),
        marks={name: found for name in drawn if (found := _marks(run, name)) is not None},
        tiles={name: _grid(run, name, found, embedded) for name, found in rows.items()},
        before_after=[name for name in names if name.startswith(_BEFORE_AFTER)],
        names=[name for name in names if name in rows or _png(run, name) in embedded],
    )


def _grid(run: RunFolder, name: str, rows: list[TileRow], embedded: dict[Path, Embedded]) -> Grid:
    """The grid; first compared are the target and the target without, or with some of, the input's own filters."""
    degradation = max((d for d in run.degradations if name.endswith(f"_{d}")), key=len, default="")
    names, titles = [row.name for row in rows], [tile.title for tile in rows[0].tiles]
    shown = [(row, [(tile, embedded[tile.path]) for tile in row.tiles]) for row in rows]
    return Grid(
        titles,
        shown,
        row=_place_of(removal(degradation), names, 0),
        left=_place_of(TARGET, titles, 0),
        right=_place_of(f"{as_percent(run.headline)} {removal(degradation)} ", titles, len(titles) - 1),
    )


def _place_of(start: str, names: list[str], otherwise: int) -> int:
    """The first name that starts so."""
    return next((place for place, name in enumerate(names) if name.startswith(start)), otherwise)


def _marks(run: RunFolder, name: str) -> Any:
    path = _png(run, name).with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if is_inside(run.path, path) else None


def _drawn(run: RunFolder, pattern: str) -> Iterator[Path]:
    return (run.path / "figures").glob(f"{pattern}.png")


def _png(run: RunFolder, name: str) -> Path:
    return run.path / "figures" / f"{name}.png"


def _is_there(run: RunFolder, name: str) -> bool:
    """Names come from files of the run, so they may lead anywhere."""
    return is_inside(run.path, _png(run, name))


def _place(run: RunFolder, picture: str) -> tuple[int, str]:
    name = picture.removeprefix(_BEFORE_AFTER)
    return (run.degradations.index(name) if name in run.degradations else len(run.degradations), name)
