"""The pictures of a grid as files of their own, from which the page makes what can be wiped and dialled."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from faig_lab.files import atomic_write, file_name, is_inside, write_json
from faig_lab.plotting.pictures import Pictures, cut, detailed_window

log = logging.getLogger(__name__)

# Pixels of HR per side. Few pictures are shown large; of many, a detail keeps the page light.
LARGE = 192
DETAIL = 160


@dataclass(frozen=True)
class TileFile:
    """One picture of a page: its column's title, its PSNR in dB (None: it has none) and its PNG file."""

    title: str
    psnr: float | None
    path: Path


@dataclass(frozen=True)
class TileRow:
    """One row of a grid: its name and its pictures in the order of the columns."""

    name: str
    tiles: list[TileFile]


def write_tiles(run: Path, name: str, pictures: Pictures, side: int) -> None:
    """Write `figures/pictures/<name>/<row>_<column>.png` and the list of them, `index.json`.

    Args:
        run: the run folder.
        name: of the grid.
        pictures: the grid; its rows may be of different images.
        side: pixels of HR per side of what is shown, the most detailed part; LR keeps its own pixels.
    """
    folder = run / "figures" / "pictures" / file_name(name, "figures")
    listed = []
    for place, row in enumerate(pictures.rows):
        window = detailed_window(pictures.truth_of(row), side)
        tiles = []
        for column, (title, tile) in enumerate(row.tiles.items()):
            file = f"{place}_{column}.png"
            _write_png(folder / file, cut(tile.image, window))
            tiles.append({"title": title, "psnr": tile.psnr, "file": file})
        listed.append({"name": row.name, "tiles": tiles})
    write_json(folder / "index.json", {"rows": listed})


def read_tiles(run: Path, name: str) -> list[TileRow]:
    """The rows of a grid that `write_tiles` wrote, none where there is no such grid or it names a file outside."""
    index = run / "figures" / "pictures" / name / "index.json"
    if not is_inside(run, index):
        return []
    rows = [
        TileRow(row["name"], [TileFile(t["title"], t["psnr"], index.parent / t["file"]) for t in row["tiles"]])
        for row in json.loads(index.read_text(encoding="utf-8"))["rows"]
    ]
    outside = [tile.path for row in rows for tile in row.tiles if not is_inside(run, tile.path)]
    if outside:
        log.warning("%s names %s, which is no file of the run: these pictures are left out", index, outside[0])
    return [] if outside else rows


def _write_png(path: Path, image: NDArray[np.floating[Any]]) -> None:
    with atomic_write(path) as temporary:
        Image.fromarray(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)).save(temporary, optimize=True)
