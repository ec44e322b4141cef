"""The report of a run: one self-contained HTML page, made from the files of the run folder alone."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from faig_lab.files import write_text
from faig_lab.reporting import facts, findings, sentences, words
from faig_lab.reporting.embed import Embedded, embed_all
from faig_lab.reporting.run_files import RunFiles, read_run, unique
from faig_lab.reporting.sections import SECTIONS

_COMBINED = "+"


def write_report(run: Path) -> Path:
    """Write `report.html` of a run folder, atomically, and return its path.

    Reads config.yaml, metrics.json, status.json, tables/*.csv, attribution/*.json and figures/*.png; what is
    not there is left out of the page. No file outside the run folder is read.
    """
    files = read_run(run)
    path = run / "report.html"
    write_text(path, _environment().get_template("template.html.j2").render(_context(files)))
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
        sentence_case=words.sentence_case, width=_width,
    )  # fmt: skip
    return environment


def _context(run: RunFiles) -> dict[str, Any]:
    figures = _figures(run)
    results = findings.method_results(run, run.headline)
    return {
        "run": run,
        "name": str(run.config.get("name") or run.folder.name),
        "seed": run.config.get("seed"),
        "started": str(run.status.get("started") or "")[:10],
        "config": _text(run.folder / "config.yaml"),
        "question": sentences.question(run),
        "warnings": sentences.warnings(run),
        "masked_sets": sentences.masked_sets(run),
        "verdict": next((sentences.verdict(run, r) for r in results if r.method == run.chosen), None),
        "against_random": sentences.against_random(run, results),
        "winner": sentences.winner(run, results),
        "results": results,
        "masked_count": findings.masked_count(run, run.headline),
        "held_out": findings.held_out_images(run),
        "matrices": {method: findings.matrix(run, method, run.headline) for method in run.methods},
        "restoration": _restoration(run),
        "where": sentences.where(run),
        "completeness": _completeness(run),
        "facts": facts.study(run),
        "attribution": facts.attribution(run),
        "versions": facts.versions(run),
        "seconds": facts.seconds(run),
        "figures": figures,
        "sections": [section for section in SECTIONS if run.table(section.name)],
        "strips": {section.name: [path.stem for path in _strips(run, section.name)] for section in SECTIONS},
        "pictures": [name for name in figures if name.startswith("before_after_")],
        "csv_names": sorted(run.tables),
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


def _figures(run: RunFiles) -> dict[str, Embedded]:
    """The embedded figures by name, those before and after first and in the order of the degradations."""
    known = ["specificity", "masking_curves", "layers", "training", *(section.name for section in SECTIONS)]
    pictures = sorted((run.folder / "figures").glob("before_after_*.png"), key=lambda path: _place(run, path))
    paths = [
        *pictures,
        *(path for name in known if (path := run.folder / "figures" / f"{name}.png").is_file()),
        *(path for section in SECTIONS if section.strips for path in _strips(run, section.name)),
    ]
    return dict(zip([path.stem for path in paths], embed_all(paths), strict=True))


def _strips(run: RunFiles, section: str) -> list[Path]:
    """The pictures of a section, in the order of the degradations."""
    return [path for name in run.degradations if (path := run.folder / "figures" / f"{section}_{name}.png").is_file()]


def _place(run: RunFiles, path: Path) -> tuple[int, str]:
    name = path.stem.removeprefix("before_after_")
    return (run.degradations.index(name) if name in run.degradations else len(run.degradations), name)


def _width(share: float | None) -> str:
    """A share as the width of a bar, clipped to 0..1."""
    return f"{100 * min(max(share or 0.0, 0.0), 1.0):.1f}%"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
