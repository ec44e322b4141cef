"""results.json, which has every result as soon as there is one, and the table that is made of it."""

import json
import math
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

OK, FAILED, NOTED = "ok", "FAILED", "noted"
UNDONE = (FAILED, "out of time", "crashed")
TITLES = {
    "correct": "Correct: the device against the processor",
    "runs": "Runs: the command line on the device",
    "speed": "Speed",
    "study": "The study experiments/full_size",
}


class Results:
    """Rows of the parts in one JSON file, written again with every row; only one process writes at a time.

    Args:
        path: results.json; what is there already stays.
        part: whose rows are added.
    """

    def __init__(self, path: Path, part: str = "") -> None:
        self.path, self.part = path, part

    def read(self) -> dict[str, Any]:
        """Everything so far."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {"parts": {}}

    def note(self, **values: object) -> None:
        """Set what is known of the part as a whole; without a part, of the machine."""
        content = self.read()
        place = content["parts"].setdefault(self.part, {"rows": []}) if self.part else content
        place.update(values)
        self._write(content)

    def add(self, what: str, value: object, wanted: str = "", state: str = NOTED) -> None:
        """One more row.

        Args:
            what: of the part.
            value: a number or words.
            wanted: what the value has to be.
            state: ok, FAILED, or noted where nothing is wanted.
        """
        if isinstance(value, float):
            value = float(f"{value:.4g}") if math.isfinite(value) else str(value)
        print(f"  {what}: {value}{f'  (wanted: {wanted})' if wanted else ''}  {state}", flush=True)
        content = self.read()
        rows = content["parts"].setdefault(self.part, {"rows": []})["rows"]
        rows.append({"what": what, "value": value, "wanted": wanted, "state": state})
        self._write(content)

    def at_most(self, what: str, value: float, bound: float) -> None:
        """A row whose value must not be larger; one that is no number has failed."""
        self.add(what, float(value), f"≤ {bound:g}", OK if value <= bound else FAILED)

    def at_least(self, what: str, value: float, bound: float) -> None:
        """A row whose value must not be smaller."""
        self.add(what, float(value), f"≥ {bound:g}", OK if value >= bound else FAILED)

    def attempt(self, what: str, run: Callable[[], object]) -> None:
        """Run it; if it raises, that is a row, and the next one has its turn."""
        self.note(now=what)
        try:
            run()
        except Exception as error:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            self.add(what, f"{type(error).__name__}: {lines[0][:200]}", "to run", FAILED)

    def _write(self, content: Mapping[str, Any]) -> None:
        # Without faig_lab.files: where packages are missing, this has to work all the same.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self.path)


def table(content: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    about = content.get("machine", {})
    lines = ["# A GPU in ten minutes", "", ", ".join(f"{name} {value}" for name, value in about.items()), ""]
    for part, found in content["parts"].items():
        seconds = found.get("seconds")
        state = found.get("state", "running")
        where = f" in {found['now']}" if state in UNDONE and "now" in found else ""
        spent = f" ({state}{where}{'' if seconds is None else f', {seconds:.0f} s'})"
        lines += [f"**{TITLES.get(part, part)}**{spent}", ""]
        if found["rows"]:
            lines += ["| | value | wanted | |", "| --- | --- | --- | --- |"]
            lines += [
                f"| {r['what']} | {r['value']} | {r['wanted']} | {'' if r['state'] == NOTED else r['state']} |".replace(
                    "\n", " "
                )
                for r in found["rows"]
            ]
            lines.append("")
    failed, rows = failures(content), sum(len(found["rows"]) for found in content["parts"].values())
    lines.append(f"{rows} rows; " + (f"failed: {'; '.join(failed)}" if failed else "nothing failed"))
    return "\n".join(lines) + "\n"


def failures(content: Mapping[str, Any]) -> list[str]:
    """Rows that failed, and parts that did not come to their end."""
    found = [f"part {part} {p['state']}" for part, p in content["parts"].items() if p.get("state") in UNDONE]
    return found + [
        f"{part}: {row['what']}" for part, p in content["parts"].items() for row in p["rows"] if row["state"] == FAILED
    ]
