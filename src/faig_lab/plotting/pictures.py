"""Pictures before and after masking: a grid for each degradation, its arrays and its files."""

import json
import logging
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from faig_lab.files import atomic_write, file_name, is_inside, write_json
from faig_lab.plotting.style import MUTED, WIDTH, drawing, new_figure
from faig_lab.plotting.words import as_percent, decimal, degraded, removal

if TYPE_CHECKING:  # task=compare needs no torch
    from torch import Tensor

    from faig_lab.evaluation.evaluator import Example

BASELINE = "baseline"
TARGET = "target"
TRUTH = "ground truth"
STRENGTH = "λ = "
"""The beginning of the title of a restoration at a strength: `λ = 0.25`."""

# Side of a tile in pixels of HR. A larger part would not be visible at the size of a tile in the report.
_WINDOW = 160
_STRIP_WINDOW = 96
_LETTER = 0.062  # maximum mean width of a letter of a title, in inches

Window = tuple[float, float, float, float]
"""A part of an image: top, left, height and width as fractions of the image."""


@dataclass(frozen=True)
class Tile:
    """A picture, (H, W, 3) floats in [0, 1], with its PSNR in dB against the ground truth, if it has a PSNR.

    An LR picture is shown at the size of the other pictures.
    """

    image: NDArray[np.floating[Any]]
    psnr: float | None = None


@dataclass(frozen=True)
class PictureRow:
    """A held-out image: its name, and a tile for each column title, in order."""

    name: str
    tiles: Mapping[str, Tile]


@dataclass(frozen=True)
class Pictures:
    """The rows of a grid. All rows have the titles of the first row.

    `truth` is the ground truth of all rows, if the last tile of a row is not the ground truth.
    """

    degradation: str
    rows: Sequence[PictureRow]
    truth: NDArray[np.floating[Any]] | None = None

    def truth_of(self, row: PictureRow) -> NDArray[np.floating[Any]]:
        """Return the ground truth of a row: its last tile, or the ground truth of the grid."""
        return list(row.tiles.values())[-1].image if self.truth is None else self.truth


def input_title(degradation: str) -> str:
    """Return the title of the column of degraded inputs: `blurred input`."""
    return f"{degraded(degradation)} input"


def masked_title(degradation: str, masked_percent: float) -> str:
    """Return the title of the column of a target with a masked set: `1 % deblurring set masked`."""
    return f"{as_percent(masked_percent)} {removal(degradation)} set masked"


def as_array(image: "Tensor") -> NDArray[np.float32]:
    """Convert an image (3, H, W) to an array (H, W, 3) in [0, 1]."""
    return image.clamp(0, 1).permute(1, 2, 0).contiguous().cpu().numpy()


def picture_grids(examples: "Sequence[Example]", percent: float) -> list[Pictures]:
    """Return a grid for each degradation: input, baseline, target, target with each set masked, ground truth.

    Args:
        examples: the examples of `evaluation.evaluator.examples`.
        percent: percent of the units that is masked in the examples.
    """
    grids: dict[str, list[PictureRow]] = {}
    for example in examples:
        tiles = {input_title(example.degradation): Tile(as_array(example.input))}
        for name, image in example.restored.items():
            title = name if name in (BASELINE, TARGET) else masked_title(name, percent)
            tiles[title] = Tile(as_array(image), example.psnr[name])
        tiles[TRUTH] = Tile(as_array(example.truth))
        grids.setdefault(example.degradation, []).append(PictureRow(example.image, tiles))
    return [Pictures(degradation, rows) for degradation, rows in grids.items()]


def before_after(pictures: Pictures) -> Figure:
    """Draw a grid with a row for each image and a column for each title, with the PSNR below each tile.

    Of an image larger than 160 pixels of HR, the window of that size with the strongest edges in the ground truth is
    shown. The PSNR is that of the whole image.
    """
    titles = list(pictures.rows[0].tiles)
    figure = _grid(pictures, [_wrapped(title, len(titles)) for title in titles], _WINDOW)
    longest = int(WIDTH / len(titles) / _LETTER)
    with drawing():
        for panel, row in zip(figure.axes[len(titles) - 1 :: len(titles)], pictures.rows, strict=True):
            if row.tiles[titles[-1]].psnr is None:  # the ground truth has the name of the image instead
                name = row.name if len(row.name) <= longest else f"{row.name[: longest - 1]}…"
                panel.set_xlabel(name, fontsize=7, color=MUTED, labelpad=2)
    return figure


def strips(pictures: Pictures) -> Figure:
    """Draw the same part of an image in every tile: a row for each name, a column for each title, PSNR below.

    The part is the window of 96 pixels of HR with the strongest edges in the ground truth. The PSNR is that of the
    whole image.
    """
    titles = list(pictures.rows[0].tiles)
    figure = _grid(pictures, titles, _STRIP_WINDOW)
    with drawing():
        for panel, row in zip(figure.axes[:: len(titles)], pictures.rows, strict=True):
            panel.set_ylabel(row.name.replace(" ", "\n"), fontsize=8)
    return figure


def _grid(pictures: Pictures, heads: Sequence[str], window: int) -> Figure:
    """Draw tiles with a head above each column and the PSNR below each tile."""
    titles = list(pictures.rows[0].tiles)
    height = len(pictures.rows) * (0.97 * WIDTH / len(titles) + 0.2)
    with drawing():
        figure = new_figure(0.18 + 0.12 * max(head.count("\n") + 1 for head in heads) + height)
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.0, hspace=0.0))
        axes = figure.subplots(len(pictures.rows), len(titles), squeeze=False)
        for row, panels in zip(pictures.rows, axes, strict=True):
            part = detailed_window(pictures.truth_of(row), window)
            for panel, title in zip(panels, titles, strict=True):
                tile = row.tiles[title]
                panel.imshow(np.clip(cut(tile.image, part), 0, 1))
                panel.set_xticks([])
                panel.set_yticks([])
                panel.spines[:].set_visible(False)
                if tile.psnr is not None:
                    panel.set_xlabel(f"{decimal(tile.psnr)} dB", fontsize=8, labelpad=2)
        for panel, head in zip(axes[0], heads, strict=True):
            panel.set_title(head, fontsize=7.5, fontweight="normal", pad=4)
    return figure


def _wrapped(title: str, columns: int) -> str:
    """Wrap a title above a tile into few lines of similar length."""
    glued = title.replace(" %", "\N{NO-BREAK SPACE}%")  # no line starts with the sign
    widest = max(12, int(WIDTH / columns / _LETTER))
    lines = textwrap.wrap(glued, widest, break_long_words=False)
    narrower = (textwrap.wrap(glued, width, break_long_words=False) for width in range(8, widest))
    return "\n".join(next((wrapped for wrapped in narrower if len(wrapped) == len(lines)), lines))


def detailed_window(truth: NDArray[np.floating[Any]], side: int) -> Window:
    """Return the window with the strongest edges, as fractions of the image.

    Height and width of the window are `side` pixels of `truth`. A smaller image is shown whole.
    """
    height, width = truth.shape[:2]
    tall, wide = min(side, height), min(side, width)
    grey = truth.mean(axis=2)
    edges = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    total = np.pad(edges.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    strength = {
        (top, left): total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        for top in range(0, height - tall + 1, 16)
        for left in range(0, width - wide + 1, 16)
        for bottom, right in [(min(top + tall, height - 1), min(left + wide, width - 1))]
    }
    top, left = max(strength, key=lambda corner: strength[corner])
    return top / height, left / width, tall / height, wide / width


def cut(image: NDArray[np.floating[Any]], window: Window) -> NDArray[np.floating[Any]]:
    """Cut a window, given in fractions, out of an image of any size."""
    height, width = image.shape[:2]
    top, left = round(window[0] * height), round(window[1] * width)
    return image[top : top + max(1, round(window[2] * height)), left : left + max(1, round(window[3] * width))]


log = logging.getLogger(__name__)

# Side in pixels of HR. A few pictures are shown large. Many pictures are shown as details, to keep the page small.
LARGE = 192
DETAIL = 160


@dataclass(frozen=True)
class TileFile:
    """A picture of a page: the title of its column, its PSNR in dB (or None) and its PNG file."""

    title: str
    psnr: float | None
    path: Path


@dataclass(frozen=True)
class TileRow:
    """A row of a grid: its name and its pictures in the order of the columns."""

    name: str
    tiles: list[TileFile]


def write_tiles(run: Path, name: str, pictures: Pictures, side: int) -> None:
    """Write `figures/pictures/<name>/<row>_<column>.png` and their list, `index.json`.

    Args:
        run: the run folder.
        name: name of the grid.
        pictures: the grid. Its rows may show different images.
        side: side of the shown part in pixels of HR. The part with the most details is shown. LR is not resized.
    """
    folder = run / "figures" / "pictures" / file_name(name, "figures")
    listed = []
    for place, row in enumerate(pictures.rows):
        window = detailed_window(pictures.truth_of(row), side)
        tiles = []
        for column, (title, tile) in enumerate(row.tiles.items()):
            file = f"{place}_{column}.png"
            pixels = np.round(255 * np.clip(cut(tile.image, window), 0, 1)).astype(np.uint8)
            with atomic_write(folder / file) as temporary:
                Image.fromarray(pixels).save(temporary, optimize=True)
            tiles.append({"title": title, "psnr": tile.psnr, "file": file})
        listed.append({"name": row.name, "tiles": tiles})
    write_json(folder / "index.json", {"rows": listed})


def read_tiles(run: Path, name: str) -> list[TileRow]:
    """Read the rows of a grid from `write_tiles`. A missing grid, or a grid with a file outside, has no rows."""
    index = run / "figures" / "pictures" / name / "index.json"
    if not is_inside(run, index):
        return []
    rows = [
        TileRow(row["name"], [TileFile(t["title"], t["psnr"], index.parent / t["file"]) for t in row["tiles"]])
        for row in json.loads(index.read_text(encoding="utf-8"))["rows"]
    ]
    outside = [tile.path for row in rows for tile in row.tiles if not is_inside(run, tile.path)]
    if outside:
        log.warning("%s names %s, which is not a file of the run; its pictures are left out", index, outside[0])
    return [] if outside else rows
