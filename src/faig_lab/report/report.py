"""The report of a run: a self-contained HTML page, made from the files of the run folder only."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from faig_lab.files import write_text
from faig_lab.plotting import findings
from faig_lab.plotting.style import MISSING, MIX
from faig_lab.report import facts, texts
from faig_lab.report.filters_map import filters_map
from faig_lab.report.page import downloads, environment, page_pictures, policy, resource
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
        "facts": facts,
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
