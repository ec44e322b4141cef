"""The map of the discovered filters: a small picture for each layer, with a pixel for each filter."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from faig_lab.attribution import count_of
from faig_lab.files import is_inside
from faig_lab.plotting.marks import SCALE, Marks
from faig_lab.plotting.style import MIX, degradation_colour
from faig_lab.plotting.words import removal
from faig_lab.report.page import as_uri
from faig_lab.runs.folder import RunFolder

_EMPTY = "#eceff2"
# CSS pixels. A filter is drawn as large as possible while its layer fits.
_LARGEST, _WIDEST, _TALLEST = 4, 144, 192


@dataclass(frozen=True)
class LayerMap:
    """One layer: a picture with a row for each output channel and a column for each input channel.

    Attributes:
        name: name of the weight, without `.weight`.
        outputs: number of rows of the picture.
        inputs: number of columns of the picture.
        size: width of a filter in CSS pixels.
        uri: the picture as PNG, a `data:` URI.
        counts: number of discovered filters of each degradation.
        marks: places of the discovered filters. Channels are counted from 0, ranks over the network from 1.
    """

    name: str
    outputs: int
    inputs: int
    size: int
    uri: str
    counts: dict[str, int]
    marks: Marks


@dataclass(frozen=True)
class FiltersMap:
    """All layers in order, the colour of each degradation, and whether sets have filters in common."""

    layers: list[LayerMap]
    colours: dict[str, str]
    shared: bool


def filters_map(run: RunFolder) -> FiltersMap | None:
    """Return the map of the run's method at the headline percent.

    The map is None without layout or ranking, and if the run ranked other units than filters.
    The function reads `attribution/layout.json` and the first lines of the ranking,
    `attribution/<degradation>_index.txt`.
    """
    total = run.filters
    names = [name for name in run.degradations if is_inside(run.path, _index(run, name))]
    if not names or not total or run.granularity != "filter" or run.ranks_others:
        return None
    wanted = count_of(run.headline, total)
    ranked = {name: _first(_index(run, name), wanted) for name in names}
    colours = {name: degradation_colour(run.degradations.index(name)) for name in names}
    layers = [_layer(layer, ranked, list(colours.values())) for layer in run.layout["layers"]]
    union = len(np.unique(np.concatenate(list(ranked.values()))))
    return FiltersMap(layers, colours, union < wanted * len(names))


def _index(run: RunFolder, degradation: str) -> Path:
    return run.path / "attribution" / f"{degradation}_index.txt"


def _first(path: Path, wanted: int) -> NDArray[np.int64]:
    """Read the flat indices of the best filters, the best filter first."""
    with path.open(encoding="utf-8") as file:
        return np.array([int(line) for line in islice(file, wanted)], dtype=np.int64)


def _layer(layer: dict[str, object], ranked: dict[str, NDArray[np.int64]], colours: Sequence[str]) -> LayerMap:
    outputs, inputs, offset = (int(str(layer[key])) for key in ("out", "in", "offset"))
    pixels = np.zeros(outputs * inputs, dtype=np.uint8)
    points, counts = [], {}
    for place, (name, order) in enumerate(ranked.items()):
        ranks = np.flatnonzero((order >= offset) & (order < offset + pixels.size))
        filters = order[ranks] - offset
        pixels[filters] = np.where(pixels[filters] > 0, len(ranked) + 1, place + 1)
        counts[name] = len(filters)
        points += [
            (*_middle(*divmod(int(f), inputs), outputs, inputs), place, _words(int(f), inputs, int(rank)))
            for f, rank in zip(filters, ranks, strict=True)
        ]
    uri = _picture(pixels.reshape(outputs, inputs), [_EMPTY, *colours, MIX])
    labels = [f"{removal(name)} filter" for name in ranked]
    name = str(layer["name"]).removesuffix(".weight")
    size = max(1, min(_LARGEST, _WIDEST // inputs, _TALLEST // outputs))
    return LayerMap(name, outputs, inputs, size, uri, counts, Marks(labels, points))


def _middle(row: int, column: int, outputs: int, inputs: int) -> tuple[int, int]:
    return round(SCALE * (column + 0.5) / inputs), round(SCALE * (row + 0.5) / outputs)


def _words(flat: int, inputs: int, rank: int) -> str:
    return f"out {flat // inputs}, in {flat % inputs}: rank {rank + 1}"


def _picture(pixels: NDArray[np.uint8], colours: Sequence[str]) -> str:
    """Return a palette PNG as `data:` URI. A filter takes at most a byte."""
    image = Image.fromarray(pixels).convert("P")
    image.putpalette([round(255 * part) for colour in colours for part in to_rgb(colour)])
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True, bits=max(1, (len(colours) - 1).bit_length()))
    return as_uri(file.getvalue(), "image/png")
