"""The report of a run: one self-contained HTML page, made from the files of the run folder alone."""

import base64
import hashlib
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from faig_lab.files import write_text
from faig_lab.reporting import (
    depth,
    facts,
    filters_map,
    findings,
    isolation,
    reference,
    sentences,
    shares,
    standing,
    units,
    words,
)
from faig_lab.reporting.downloads import downloads
from faig_lab.reporting.page_pictures import page_pictures
from faig_lab.reporting.run_files import RunFiles, over_photographs, read_run, unique
from faig_lab.reporting.sections import SECTIONS

_COMBINED = "+"


def write_report(run: Path) -> Path:
    """Write `report.html` of a run folder, atomically, and return its path.

    Reads config.yaml, metrics.json, status.json, tables/*.csv, attribution/ and figures/; what is not there
    is left out of the page. No file outside the run folder is read. Without JavaScript the page says and shows
    the same; with it, pictures can be wiped and dialled, values read and tables sorted. Nothing is loaded over
    the network, which the page's own policy forbids.
    """
    files = read_run(run)
    path = run / "report.html"
    write_text(path, units.spoken_page(_environment().get_template("template.html.j2").render(_context(files)), files))
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("faig_lab.reporting", "."),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        share=words.share, small_share=words.small_share, number=words.number, signed=words.signed,
        count=words.count, percent=words.percent, duration=words.duration, removal=words.removal,
        degraded=words.degraded, method=words.method_label, listed=words.listed,
        sentence_case=words.sentence_case, width=_width, between=standing.between,
        breakable=_breakable,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment


def _context(run: RunFiles) -> dict[str, Any]:
    script = (resources("faig_lab.reporting") / "report.js").read_text(encoding="utf-8")
    pictures = page_pictures(run)
    results = findings.method_results(run, run.headline)
    return {
        "run": run,
        "name": str(run.config.get("name") or run.folder.name),
        "seed": run.config.get("seed"),
        "started": str(run.status.get("started") or "")[:10],
        "config": _text(run.folder / "config.yaml"),
        "question": sentences.question(run),
        "warnings": sentences.warnings(run),
        "isolated": [(found, isolation.set_sentence(run, found)) for found in isolation.of_sets(run)],
        "isolation_of": isolation.of_methods(run, run.headline),
        "isolation_ends": isolation.ends_are(run),
        "clean_cost": isolation.clean_cost(run),
        "harm": isolation.harm_sentence(run),
        "reference": reference.sentence(run),
        "masked_sets": sentences.masked_sets(run),
        "means": sentences.means(run, results),
        "interval_kind": over_photographs(run.table("comparison")),
        "paired": any(result.difference is not None for result in results),
        "caution": standing.caution(run),
        "by_construction": standing.by_construction(run, results),
        "cancelling": sentences.cancelling(run),
        "results": results,
        "masked_count": findings.masked_count(run, run.headline),
        "held_out": findings.held_out_images(run),
        "matrices": {method: findings.matrix(run, method, run.headline) for method in run.methods},
        "heat": {method: _heat(run, method) for method in run.methods},
        "restoration": _restoration(run),
        "where": depth.where(run),
        "completeness": _completeness(run),
        "shares": shares.shares(run),
        "unit": units.meaning(run),
        "facts": facts.study(run),
        "attribution": facts.attribution(run),
        "versions": facts.versions(run),
        "seconds": facts.seconds(run),
        "figures": pictures.figures,
        "charts": pictures.charts,
        "marks": pictures.marks,
        "tiles": pictures.tiles,
        "pictures": pictures.before_after,
        "sections": [section for section in SECTIONS if run.table(section.name)],
        "strips": {section.name: pictures.of_section(section.name) for section in SECTIONS},
        "map": filters_map.filters_map(run),
        "both": filters_map.BOTH,
        "csv": downloads(run),
        "csv_of": {section.name: _tables_of(run, section.name) for section in SECTIONS},
        "style": Markup((resources("faig_lab.reporting") / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "policy": _policy(script),
    }


def _restoration(run: RunFiles) -> dict[str, Any]:
    """The PSNR table: a row per network, the gains, and a row per masked set; columns are degradations."""
    means, ssims = findings.restoration(run), findings.restoration(run, "ssim")
    shown = unique(run.table("restoration"), "degradation")
    first = [name for name in run.degradations if name in shown]
    columns = first + sorted(set(shown) - set(first), key=lambda name: (name == "clean", _COMBINED not in name, name))
    return {
        "columns": columns,
        "networks": {name: [means[name].get(column) for column in columns] for name in means},
        "ssim": {name: [ssims[name].get(column) for column in columns] for name in ssims},
        "gains": [findings.gain(run, column) for column in columns],
        "masked": {
            name: [findings.masking(run, run.chosen, run.headline, name, column, "psnr").mean for column in columns]
            for name in run.degradations
        },
    }


def _completeness(run: RunFiles) -> dict[str, Any]:
    """The gap over the probe and the largest gap of one image for each degradation, and the table's rows."""
    rows = run.table("completeness")
    return {"rows": rows, "gaps": {name: findings.gaps(run, name) for name in unique(rows, "degradation")}}


def _heat(run: RunFiles, method: str) -> list[list[tuple[findings.Cell, str]]]:
    """The specificity matrix, each cell with a sentence on what it says."""
    names = run.degradations
    cells = findings.matrix(run, method, run.headline)
    return [
        [(cell, _cell_words(run, method, masked, shown, cell)) for shown, cell in zip(names, row, strict=True)]
        for masked, row in zip(names, cells, strict=True)
    ]


def _cell_words(run: RunFiles, method: str, masked: str, shown: str, cell: findings.Cell) -> str:
    target = findings.restoration(run).get("target", {}).get(shown)
    psnr = findings.masking(run, method, run.headline, masked, shown, "psnr").mean
    draws = f" ± {words.number(cell.std)} over {cell.draws} draws" if cell.draws > 1 else ""
    draws += f", harm {words.number(cell.harm)}" if cell.harm >= isolation.HARM else ""
    return (
        f"{words.sentence_case(words.removal(masked))} filters of {words.method_label(method)} masked: "
        f"{words.number(cell.mean)}{draws} of {words.removal(shown)} removed; {words.degraded(shown)} input from "
        f"{words.number(target)} to {words.number(psnr)} dB"
    )


def _tables_of(run: RunFiles, section: str) -> list[str]:
    """The tables of a section's analysis."""
    return [name for name in sorted(run.tables) if name == section or name.startswith(f"{section}_")]


def _policy(script: str) -> str:
    """The page's Content-Security-Policy: nothing from outside, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def _width(share: float | None) -> str:
    """A share as the width of a bar, clipped to 0..1."""
    return f"{100 * min(max(share or 0.0, 0.0), 1.0):.1f}%"


def _breakable(name: str) -> Markup:
    """A file's name that a narrow column may break after an underscore."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
