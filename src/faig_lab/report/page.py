"""The parts of every page: templates, number formats, and pictures and tables embedded within a budget of bytes."""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from faig_lab.files import is_inside
from faig_lab.plotting import words
from faig_lab.plotting.pictures import TARGET, TileFile, TileRow, read_tiles
from faig_lab.plotting.words import as_percent, removal
from faig_lab.runs.folder import RunFolder
from faig_lab.studies.section import sections_of


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
        width=_width, breakable=_breakable,
    )  # fmt: skip
    templates.globals.update(between=words.between, with_std=words.with_std, style=Markup(resource("report.css")))
    templates.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return templates


def resource(name: str) -> str:
    """Return the text of a file of this package: the style sheet or the script."""
    return (resources("faig_lab.report") / name).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """Return a page's Content-Security-Policy: the page loads nothing and runs this script only."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _width(share: float | None) -> str:
    """Return the width of a bar for a share, which is clipped to [0, 1]."""
    known = share if words.is_known(share) else 0.0
    return f"{100 * min(max(known, 0.0), 1.0):.1f}%"


def _breakable(name: str) -> Markup:
    """Return a file's name that a narrow column may break after an underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))


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
    return [_embedded(path, *_few_colours(path)) for path in paths]


def embed_all(paths: Sequence[Path], budget: int = BUDGET) -> list[Embedded]:
    """Embed PNG files within a budget of bytes: small files unchanged, large files in equal parts of the rest."""
    remaining, large = budget, len(paths)
    # The smallest files come first, so that the large files get the bytes that are left.
    embedded: dict[Path, Embedded] = {}
    for path in sorted(paths, key=lambda path: path.stat().st_size):
        data, format_name = _within(path, remaining // large)
        remaining, large = remaining - len(data), large - 1
        embedded[path] = _embedded(path, data, format_name)
    return [embedded[path] for path in paths]


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
        uri = as_uri(data, "text/csv;charset=utf-8") if fits else None
        tables[name] = Download(len(run.tables[name]), max(1.0, len(data) / 1000), uri)
    return dict(sorted(tables.items()))


def as_uri(data: bytes, media_type: str) -> str:
    """Return bytes as `data:` URI."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _embedded(path: Path, data: bytes, format_name: str) -> Embedded:
    with Image.open(path) as image:
        return Embedded(as_uri(data, f"image/{format_name}"), image.width, image.height)


def _few_colours(path: Path) -> tuple[bytes, str]:
    file = io.BytesIO()
    with Image.open(path) as image:
        # This method keeps the colours of thin lines, which few pixels have.
        palette = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        palette.save(file, format="PNG", optimize=True)
    return min(file.getvalue(), path.read_bytes(), key=len), "png"


def _within(path: Path, limit: int) -> tuple[bytes, str]:
    """Return the file itself if it is small enough, else a JPEG of the best quality and width within the limit."""
    data = path.read_bytes()
    if len(data) <= limit:
        return data, "png"
    with Image.open(path) as image:
        picture = image.convert("RGB")
    for width in _WIDTHS:
        for quality in _QUALITIES:
            data = _jpeg(picture, round(width * picture.width), quality)
            if len(data) <= limit:
                return data, "jpeg"
    return data, "jpeg"


def _jpeg(picture: Image.Image, width: int, quality: int) -> bytes:
    """Compress to JPEG with colour at full resolution, since these pictures show noise."""
    height = round(picture.height * width / picture.width)
    file = io.BytesIO()
    resized = picture.resize((width, height), Image.Resampling.LANCZOS)
    resized.save(file, format="JPEG", quality=quality, subsampling=0, optimize=True)
    return file.getvalue()


_BEFORE_AFTER = "before_after_"


@dataclass(frozen=True)
class Grid:
    """Pictures to compare. The page first compares the columns `left` and `right` of the row `row`."""

    titles: list[str]
    rows: list[tuple[TileRow, list[tuple[TileFile, Embedded]]]]
    row: int
    left: int
    right: int


@dataclass(frozen=True)
class PagePictures:
    """All pictures of figures/ that a page shows, by name.

    Attributes:
        figures: whole pictures; a grid of pictures is among them only if the grid has no tiles.
        charts: the names of the drawings among the whole pictures.
        marks: the places of the values in the charts, as `Marks`.
        tiles: grids of which each picture is a file.
        before_after: the names of the grids of masking, in the order of the degradations.
        names: the names of all grids that the run has.
    """

    figures: dict[str, Embedded]
    charts: list[str]
    marks: dict[str, Any]
    tiles: dict[str, Grid]
    before_after: list[str]
    names: list[str]

    def of_section(self, section: str) -> list[str]:
        """Return the names of a section's grids, in the order of the degradations."""
        return [name for name in self.names if name.startswith(f"{section}_")]


def page_pictures(run: RunFolder) -> PagePictures:
    """Read and embed figures/*.png and figures/pictures/. Charts come first; pictures share the rest of the budget."""
    # Names come from files of the run, so they may lead anywhere: each is looked for inside of the run folder.
    known = ["isolation", "methods", "masking_curves", "layers", "training"]
    known += [section.name for section in sections_of(run)]
    charts = [_png(run, name) for name in known if is_inside(run.path, _png(run, name))]
    drawn = dict(zip([path.stem for path in charts], embed_charts(charts), strict=True))
    names = [
        *sorted(
            (path.stem for path in (run.path / "figures").glob(f"{_BEFORE_AFTER}*.png")),
            key=lambda name: _place(run, name),
        ),
        *(f"{section.name}_{name}" for section in sections_of(run) if section.strips for name in run.degradations),
    ]
    rows = {name: tiles for name in names if (tiles := read_tiles(run.path, name))}
    whole = [_png(run, name) for name in names if name not in rows and is_inside(run.path, _png(run, name))]
    paths = [tile.path for grid in rows.values() for row in grid for tile in row.tiles] + whole
    left = BUDGET - sum(picture.bytes for picture in drawn.values())
    embedded = dict(zip(paths, embed_all(paths, left), strict=True))
    return PagePictures(
        figures=drawn | {path.stem: embedded[path] for path in whole},
        charts=list(drawn),
        marks={name: marks for name in drawn if (marks := _marks(run, name)) is not None},
        tiles={name: _grid(run, name, tiles, embedded) for name, tiles in rows.items()},
        before_after=[name for name in names if name.startswith(_BEFORE_AFTER)],
        names=[name for name in names if name in rows or _png(run, name) in embedded],
    )


def _grid(run: RunFolder, name: str, rows: list[TileRow], embedded: dict[Path, Embedded]) -> Grid:
    """Return the grid. The page first compares the target with the target whose filters for the input are masked."""
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
    """Return the place of the first name that begins with `start`."""
    return next((place for place, name in enumerate(names) if name.startswith(start)), otherwise)


def _marks(run: RunFolder, name: str) -> Any:
    path = _png(run, name).with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")) if is_inside(run.path, path) else None


def _png(run: RunFolder, name: str) -> Path:
    return run.path / "figures" / f"{name}.png"


def _place(run: RunFolder, picture: str) -> tuple[int, str]:
    name = picture.removeprefix(_BEFORE_AFTER)
    return (run.degradations.index(name) if name in run.degradations else len(run.degradations), name)
