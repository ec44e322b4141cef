"""The report of a run: a self-contained HTML page, made from the files of the run folder only, and its filters map.

The map of the discovered filters is a small picture for each layer, with a pixel for each filter.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from faig_lab.attribution import count_of
from faig_lab.files import is_inside, write_text
from faig_lab.plotting import findings
from faig_lab.plotting.style import MISSING, MIX, SCALE, Marks, degradation_colour
from faig_lab.plotting.words import removal
from faig_lab.report import texts
from faig_lab.report.page import as_uri, downloads, environment, page_pictures, policy, resource
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import over_photographs, unique
from faig_lab.studies.section import sections_of


def write_report(run: Path) -> Path:
    """Write `report.html` of a run folder, atomically, and return its path.

    The function reads config.yaml, metrics.json, status.json, tables/*.csv, attribution/ and figures/. The page leaves
    out what the run lacks. No file outside the run folder is read.

    Without JavaScript the page has the same text and pictures. JavaScript adds the wipe and the dial of pictures, the
    values of charts and the order of tables. The page loads nothing over the network; its own policy forbids that.
    """
    path = run / "report.html"
    write_text(path, environment().get_template("template.html.j2").render(_context(RunFolder(run))))
    return path


def _context(run: RunFolder) -> dict[str, Any]:
    script = resource("report.js")
    sections = sections_of(run)
    return {
        "run": run,
        "name": str(run.config.get("name") or run.path.name),
        "seed": run.config.get("seed"),
        "started": str(run.status.get("started") or "")[:10],
        "config": _text(run.path / "config.yaml"),
        "findings": findings,
        "texts": texts,
        "results": findings.method_results(run, run.headline),
        "isolated": {result.masked: result for result in findings.of_sets(run)},
        "isolation_of": findings.of_methods(run, run.headline),
        "isolation_ends": findings.ends_are(run),
        "interval_kind": over_photographs(run.table("comparison")),
        "restoration": _restoration(run),
        "gaps": {name: findings.gaps(run, name) for name in unique(run.table("completeness"), "degradation")},
        "share_inputs": unique(run.table("shares"), "degradation"),
        "pictures": page_pictures(run),
        "sections": sections,
        "map": filters_map(run),
        "colours": {"missing": MISSING, "mix": MIX},
        "csv": downloads(run),
        "csv_of": {section.name: _tables_of(run, section.name) for section in sections},
        "script": Markup(script),
        "policy": policy(script),
    }


def _restoration(run: RunFolder) -> dict[str, Any]:
    """Return the PSNR table: a row for each network, the gains, and a row for each masked set. Columns are inputs."""
    shown = unique(run.table("restoration"), "degradation")
    first = [name for name in run.degradations if name in shown]
    columns = first + sorted(set(shown) - set(first), key=lambda name: (name == "clean", "+" not in name, name))
    by_measure = {
        measure: {
            name: [means.get(column) for column in columns]
            for name, means in findings.restoration(run, measure).items()
        }
        for measure in ("psnr", "ssim")
    }
    masked = {
        name: [findings.masked_psnr(run, run.chosen, run.headline, name, column) for column in columns]
        for name in run.degradations
    }
    gains = [findings.gain(run, column) for column in columns]
    return by_measure | {"columns": columns, "gains": gains, "masked": masked}


def _tables_of(run: RunFolder, section: str) -> list[str]:
    """Return the names of the tables of a section's study."""
    return [name for name in sorted(run.tables) if name == section or name.startswith(f"{section}_")]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


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
