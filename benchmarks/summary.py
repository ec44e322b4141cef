"""The tables as Markdown, for docs/performance.md and the README to quote."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measuring import read_rows
from faig_lab.files import write_text

SECTIONS = {
    "attribution": ("a", "Attribution, against the published algorithm"),
    "rules": ("a", "Error of the score per gradient evaluation"),
    "floor": ("b", "Against the machine's floor"),
    "operations": ("b", "Where the time goes: the convolutions, each timed on its own"),
    "training": ("c", "Training steps, data included, against the faster plain loop"),
    "quality": ("c", "PSNR after equal steps of the small network on the same samples"),
    "memory": ("d", "Peak memory of an attribution"),
    "tiles": ("d", "The same image whole and in tiles"),
    "growth": ("e", "Growth: ratios to the first row"),
    "knobs": ("f", "Knobs of attribution: ratios to the first row of each group"),
    "study_operations": ("g", "Floating-point operations of the whole study, training included"),
}
"""File → part, and the title of its table."""

HEADS = {
    "what": "",
    "error": "error",
    "agreement": "top-1 % agreement",
    "holds_beyond": "also with more points",
    "floor_seconds": "floor, s",
    "share_of_floor": "floor / measured",
    "gflops": "GFLOP/s",
    "best_gflops": "best rate, GFLOP/s",
    "best": "which is that of a",
    "psnr": "PSNR, dB",
    "difference_to_float32": "to float32, dB",
    "memory_setting": "attribution.memory, GB",
    "peak_gb": "peak, GB",
    "whole_process_gb": "whole process, GB",
    "seconds": "seconds",
    "first_seconds": "the first time, s",
    "axis": "of",
    "ratio": "ratio of time",
    "expected": "ratio of operations",
    "tflop": "TFLOP",
}
"""Column → head; of others the name itself."""

FORMATS = {
    "error": "{:.1e}",
    "gap": "{:.1e}",
    "agreement": "{:.3f}",
    "times_as_fast": "{:.1f}×",
    "seconds": "{:.3g}",
    "first_seconds": "{:.3g}",
    "floor_seconds": "{:.3g}",
    "share_of_floor": "{:.0%}",
    "share": "{:.0%}",
    "gflops": "{:.0f}",
    "best_gflops": "{:.0f}",
    "seconds_per_step": "{:.3g}",
    "steps_per_second": "{:.3g}",
    "peak_gb": "{:.2f}",
    "whole_process_gb": "{:.2f}",
    "to_first": "{:.2f}",
    "seconds_whole": "{:.3g}",
    "seconds_tiled": "{:.3g}",
    "tiled_to_whole": "{:.2f}",
    "ratio": "{:.2f}",
    "expected": "{:.2f}",
    "tflop": "{:.2f}",
}
"""Columns of numbers → how one is written."""


def write_summary(folder: Path) -> None:
    """Write summary.md from the tables that are there."""
    path = folder / "machine.json"
    machines = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    lines = ["<!-- made by python -m benchmarks; do not edit -->", ""]
    before = None
    for name, (part, title) in SECTIONS.items():
        rows = read_rows(folder / f"{name}.csv")
        if not rows:
            continue
        if part != before and part in machines:
            lines += [described(part, machines[part]), ""]
        before = part
        lines += [f"**{title}**", "", *table(rows), ""]
    write_text(folder / "summary.md", "\n".join(lines))


def described(part: str, about: Mapping[str, object]) -> str:
    """What a part was measured on, in a sentence."""
    place = f"{about['device']}, {about['cores']} cores, {about['threads']} threads, load {about['load_before']} before"
    code = f"torch {about['torch']}, commit {about['commit']}"
    plan = "" if about["plan"] == "full" else f" Plan {about['plan']}: to see that it runs, no result."
    return f"Part {part}: {place}; {code}; {about['date']}, {about['minutes']} minutes.{plan}"


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Lines of a Markdown table; columns that no row has are left out."""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    heads = [HEADS.get(name, name.replace("_", " ")) for name in names]
    marks = ["---:" if name in FORMATS else "---" for name in names]
    body = [[_cell(name, row[name]) for name in names] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in (heads, marks, *body)]


def _cell(name: str, value: str) -> str:
    return FORMATS[name].format(float(value)) if value and name in FORMATS else value
