"""The page of a run: a self-contained HTML page, made from the files of the run folder only.

Pictures and tables are embedded within a budget of bytes. The map of the discovered filters is a small picture for each
layer, with a pixel for each filter.
"""

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from faig_lab.files import is_inside, write_text
from faig_lab.plotting import findings, words
from faig_lab.plotting.pictures import TARGET, TileFile, TileRow, read_tiles
from faig_lab.plotting.style import MISSING, MIX, SCALE, Marks, degradation_colour
from faig_lab.plotting.words import as_percent, removal
from faig_lab.report import texts
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
    script, sections, config = _resource("report.js"), sections_of(run), run.path / "config.yaml"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {
        "run": run,
        "name": str(run.config.get("name") or run.path.name),
        "seed": run.config.get("seed"),
        "started": str(run.status.get("started") or "")[:10],
        "config": config.read_text(encoding="utf-8") if config.is_file() else "",
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
        "pictures": _page_pictures(run),
        "sections": sections,
        "map": filters_map(run),
        "colours": {"missing": MISSING, "mix": MIX},
        "csv": downloads(run),
        "csv_of": {
            section.name: [t for t in sorted(run.tables) if t == section.name or t.startswith(f"{section.name}_")]
            for section in sections
        },
        "script": Markup(script),
        # The page loads nothing and runs this script only.
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    }


def _restoration(run: RunFolder) -> dict[str, Any]:
    """Return the PSNR table: a row for each network, the gains, and a row for each masked set. Columns are inputs."""
    shown = unique(run.table("restoration"), "degradation")
    first = [name for name in run.degradations if name in shown]
    columns = first + sorted(set(shown) - set(first), key=lambda name: (name == "clean", "+" not in name, name))
    by_network = {
        measure: {
            network: [means.get(column) for column in columns]
            for network, means in findings.restoration(run, measure).items()
        }
        for measure in ("psnr", "ssim")
    }
    masked = {
        name: [findings.masked_psnr(run, run.chosen, run.headline, name, column) for column in columns]
        for name in run.degradations
    }
    return by_network | {
        "columns": columns, "gains": [findings.gain(run, column) for column in columns], "masked": masked
    }  # fmt: skip


def environment() -> Environment:
    """Return the templates of this package with the number formats as filters. An undefined name is an error."""
    templates = Environment(
        loader=PackageLoader("faig_lab.report", "."),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters.update(
        share=words.share, small_share=words.small_share, number=words.decimal, signed=words.signed,
        count=words.count, percent=words.as_percent, duration=words.duration, removal=words.removal,
        degraded=words.degraded, method=words.method_label, listed=words.listed, sentence_case=words.sentence_case,
        # The width of a bar for a share, which is clipped to [0, 1].
        width=lambda share: f"{100 * min(max(share if words.is_known(share) else 0.0, 0.0), 1.0):.1f}%",
        # A file's name that a narrow column may break after an underscore.
        breakable=lambda name: escape(name).replace("_", Markup("_<wbr>")),
    )  # fmt: skip
    templates.globals.update(between=words.between, with_std=words.with_std, style=Markup(_resource("report.css")))
    templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return templates


def _resource(name: str) -> str:
    """Return the text of a file of this package: the style sheet or the script."""
    return (resources("faig_lab.report") / name).read_text(encoding="utf-8")


# Bytes of all pictures of a page, before base64 adds a third. The page stays below 6 MB.
BUDGET = 4_000_000
# Bytes of all tables, before base64 adds a third. A table beyond this limit is only linked.
TABLES = 350_000
_WIDTHS = (1, 0.85, 0.7, 0.55, 0.45)
_QUALITIES = (92, 85)


@dataclass(frozen=True)
class Embedded:
    """A picture as `data:` URI with its size in pixels, for which the page reserves space."""

    uri: str
    width: int
    height: int

    @property
    def bytes(self) -> int:
        """The approximate number of bytes of the picture, before base64."""
        return len(self.uri) * 3 // 4


def embed_charts(paths: Sequence[Path]) -> list[Embedded]:
    """Embed charts, which are PNG files, at full size with 256 colours. The eye sees no difference."""
    embedded = []
    for path in paths:
        with Image.open(path) as image:
            # This method keeps the colours of thin lines, which few pixels have.
            palette = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        data = min(_encoded(palette, "png"), path.read_bytes(), key=len)
        embedded.append(Embedded(_uri(data, "image/png"), *palette.size))
    return embedded


def embed_all(paths: Sequence[Path], budget: int = BUDGET) -> list[Embedded]:
    """Embed PNG files within a budget of bytes: small files unchanged, large files in equal parts of the rest."""
    remaining, large = budget, len(paths)
    # The smallest files come first, so that the large files get the bytes that are left.
    embedded: dict[Path, Embedded] = {}
    for path in sorted(paths, key=lambda path: path.stat().st_size):
        data, format_name, size = _within(path, remaining // large)
        remaining, large = remaining - len(data), large - 1
        embedded[path] = Embedded(_uri(data, f"image/{format_name}"), *size)
    return [embedded[path] for path in paths]


def _within(path: Path, limit: int) -> tuple[bytes, str, tuple[int, int]]:
    """Return the file itself if it is small enough, else a JPEG of the best quality and width within the limit."""
    data = path.read_bytes()
    with Image.open(path) as image:
        if len(data) <= limit:
            return data, "png", image.size
        picture = image.convert("RGB")
    for width in _WIDTHS:
        size = round(width * picture.width), round(picture.height * round(width * picture.width) / picture.width)
        resized = picture.resize(size, Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            # Colour has full resolution, since these pictures show noise.
            data = _encoded(resized, "jpeg", quality=quality, subsampling=0)
            if len(data) <= limit:
                return data, "jpeg", picture.size
    return data, "jpeg", picture.size


def _encoded(picture: Image.Image, format_name: str, **options: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=format_name, optimize=True, **options)
    return file.getvalue()


def _uri(data: bytes, media_type: str) -> str:
    """Return bytes as `data:` URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


@dataclass(frozen=True)
class Download:
    """A table: its number of rows, its size in kB, and the CSV file as `data:` URI unless the file is too large."""

    rows: int
    kilobytes: float
    uri: str | None


def downloads(run: RunFolder) -> dict[str, Download]:
    """Return every table of the run by name, in the order of the names. The smallest tables are embedded first."""
    remaining, tables = TABLES, {}
    files = {name: (run.path / "tables" / f"{name}.csv").read_bytes() for name in run.tables}
    for name, data in sorted(files.items(), key=lambda item: len(item[1])):
        fits = len(data) <= remaining
        remaining -= len(data) if fits else 0
        uri = _uri(data, "text/csv;charset=utf-8") if fits else None
        tables[name] = Download(len(run.tables[name]), max(1.0, len(data) / 1000), uri)
    return dict(sorted(tables.items()))


@dataclass(frozen=True)
class Grid:
    """Pictures to compare. The page first compares the columns `left` and `right` of the row `row`."""

    titles: list[str]
    rows: list[tuple[TileRow, list[tuple[TileFile, Embedded]]]]
    row: int
    left: int
    right: int


def _page_pictures(run: RunFolder) -> dict[str, Any]:
    """Read and embed figures/*.png and figures/pictures/. Charts come first; pictures share the rest of the budget.

    Returns:
        figures: whole pictures by name; a grid of pictures is among them only if the grid has no tiles.
        charts: the names of the drawings among the whole pictures.
        marks: the places of the values in the charts, as `Marks`.
        tiles: name → `Grid`. Each picture of the grid is a file.
        before_after: the names of the grids of masking, in the order of the degradations.
        of_section: section → the names of its grids, in the order of the degradations.
    """
    folder, sections, order = run.path / "figures", sections_of(run), run.degradations

    def files(names: Iterable[str], suffix: str = "png") -> dict[str, Path]:
        # Names come from files of the run, so they may lead anywhere: each is looked for inside of the run folder.
        paths = {name: folder / f"{name}.{suffix}" for name in names}
        return {name: path for name, path in paths.items() if is_inside(run.path, path)}

    known = ["isolation", "methods", "masking_curves", "layers", "training", *(section.name for section in sections)]
    charts = files(known)
    drawn = dict(zip(charts, embed_charts(list(charts.values())), strict=True))
    masked = [path.stem.removeprefix("before_after_") for path in folder.glob("before_after_*.png")]
    masked.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    before_after = [f"before_after_{name}" for name in masked]
    of_section = {section.name: [f"{section.name}_{d}" for d in order if section.strips] for section in sections}
    names = [*before_after, *(name for grids in of_section.values() for name in grids)]
    rows = {name: tiles for name in names if (tiles := read_tiles(run.path, name))}
    whole = files(name for name in names if name not in rows)
    paths = [tile.path for grid in rows.values() for row in grid for tile in row.tiles] + list(whole.values())
    left = BUDGET - sum(picture.bytes for picture in drawn.values())
    embedded = dict(zip(paths, embed_all(paths, left), strict=True))
    return {
        "figures": drawn | {name: embedded[path] for name, path in whole.items()},
        "charts": list(drawn),
        "marks": {name: json.loads(path.read_text(encoding="utf-8")) for name, path in files(drawn, "json").items()},
        "tiles": {name: _grid(run, name, tiles, embedded) for name, tiles in rows.items()},
        "before_after": before_after,
        "of_section": {
            section: [name for name in grids if name in rows or name in whole] for section, grids in of_section.items()
        },
    }


def _grid(run: RunFolder, name: str, rows: list[TileRow], embedded: Mapping[Path, Embedded]) -> Grid:
    """Return the grid. The page first compares the target with the target whose filters for the input are masked."""
    degradation = max((d for d in run.degradations if name.endswith(f"_{d}")), key=len, default="")
    titles = [tile.title for tile in rows[0].tiles]

    def place_of(start: str, names: list[str], otherwise: int) -> int:
        return next((place for place, name in enumerate(names) if name.startswith(start)), otherwise)

    return Grid(
        titles,
        [(row, [(tile, embedded[tile.path]) for tile in row.tiles]) for row in rows],
        row=place_of(removal(degradation), [row.name for row in rows], 0),
        left=place_of(TARGET, titles, 0),
        right=place_of(f"{as_percent(run.headline)} {removal(degradation)} ", titles, len(titles) - 1),
    )


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
    from faig_lab.attribution import count_of  # task=compare needs no torch

    files = {name: run.path / "attribution" / f"{name}_index.txt" for name in run.degradations}
    files = {name: file for name, file in files.items() if is_inside(run.path, file)}
    if not files or not run.filters or run.granularity != "filter" or run.ranks_others:
        return None
    wanted, ranked = count_of(run.headline, run.filters), {}
    for name, file in files.items():
        with file.open(encoding="utf-8") as lines:  # flat indices, the best filter first
            ranked[name] = np.array([int(line) for line in islice(lines, wanted)], dtype=np.int64)
    colours = {name: degradation_colour(run.degradations.index(name)) for name in ranked}
    layers = [_layer(layer, ranked, list(colours.values())) for layer in run.layout["layers"]]
    union = len(np.unique(np.concatenate(list(ranked.values()))))
    return FiltersMap(layers, colours, union < wanted * len(ranked))


def _layer(layer: Mapping[str, Any], ranked: Mapping[str, NDArray[np.int64]], colours: Sequence[str]) -> LayerMap:
    outputs, inputs, offset = (int(layer[key]) for key in ("out", "in", "offset"))
    pixels = np.zeros(outputs * inputs, dtype=np.uint8)
    points, counts = [], {}
    for place, (name, order) in enumerate(ranked.items()):
        ranks = np.flatnonzero((order >= offset) & (order < offset + pixels.size))
        filters = order[ranks] - offset
        pixels[filters] = np.where(pixels[filters] > 0, len(ranked) + 1, place + 1)
        counts[name] = len(filters)
        for flat, rank in zip(filters.tolist(), ranks.tolist(), strict=True):
            row, column = divmod(flat, inputs)
            x, y = round(SCALE * (column + 0.5) / inputs), round(SCALE * (row + 0.5) / outputs)
            points.append((x, y, place, f"out {row}, in {column}: rank {rank + 1}"))
    palette = [_EMPTY, *colours, MIX]
    picture = Image.fromarray(pixels.reshape(outputs, inputs)).convert("P")
    picture.putpalette([round(255 * part) for colour in palette for part in to_rgb(colour)])
    # A filter takes at most a byte.
    uri = _uri(_encoded(picture, "png", bits=max(1, (len(palette) - 1).bit_length())), "image/png")
    labels = [f"{removal(name)} filter" for name in ranked]
    name = str(layer["name"]).removesuffix(".weight")
    size = max(1, min(_LARGEST, _WIDEST // inputs, _TALLEST // outputs))
    return LayerMap(name, outputs, inputs, size, uri, counts, Marks(labels, points))
