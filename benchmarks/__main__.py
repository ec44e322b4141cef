"""The command line of the benchmarks.

make bench ARGS="--parts ab --quick", or python -m benchmarks --help
"""

import argparse
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import attribution, floor, growth, knobs, memory, training, whole_study
from benchmarks.case import trained_case
from benchmarks.figure import draw
from benchmarks.measuring import machine
from benchmarks.plan import PLANS
from benchmarks.summary import write_summary
from faig_lab.errors import UserError
from faig_lab.files import write_json

PARTS = {
    "a": "attribution against a plain implementation",
    "b": "one gradient evaluation against the floor",
    "c": "training against a plain loop",
    "d": "memory",
    "e": "growth",
    "f": "knobs of attribution",
    "g": "operations of the whole study",
}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory, as ratios.")
    what = ", ".join(f"{key} {name}" for key, name in PARTS.items())
    parser.add_argument("--parts", default="".join(PARTS), help=f"{what} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a smaller network, everything once: minutes")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--run", type=Path, help="part a: attribute the networks of this finished run")
    parser.add_argument("--out", type=Path, help="where to write; default: benchmarks/results/<device>")
    parser.add_argument("--report", action="store_true", help="measure nothing: summary and figure from what is there")
    asked = parser.parse_args(given)
    if not asked.parts or set(asked.parts) - set(PARTS):
        parser.error(f"--parts: {asked.parts!r} has other letters than {''.join(PARTS)}")
    return asked


def main(given: list[str] | None = None) -> int:
    """Measure; 1 if a part failed, the others are measured all the same."""
    asked = arguments(given)
    plan = "tiny" if asked.tiny else "quick" if asked.quick else "full"
    place = Path("benchmarks/results") if plan == "full" else Path("outputs/bench") / plan
    folder = asked.out or place / asked.device
    if not asked.report:
        if asked.device == "cuda" and not torch.cuda.is_available():
            print("error: no CUDA device here; make bench measures on the processor", file=sys.stderr)
            return 2
        failed = measure(asked, plan, folder)
    else:
        failed = []
    write_summary(folder)
    draw(folder)
    print(f"\n{(folder / 'summary.md').read_text(encoding='utf-8')}\nwritten to {folder}")
    if failed:
        print(f"error: part {', '.join(failed)} failed, see above", file=sys.stderr)
    return int(bool(failed))


def measure(asked: argparse.Namespace, plan_name: str, folder: Path) -> list[str]:
    """Measure the parts that are asked for; those that failed."""
    # A machine of one processor is to be measured too; torch warns of more workers than processors.
    warnings.filterwarnings("ignore", message=".*This DataLoader will create.*")
    plan = PLANS[plan_name]
    parts: dict[str, Callable[[], None]] = {
        "a": lambda: attribution.measure(trained_case(plan, asked.device, asked.run), plan, folder),
        "b": lambda: floor.measure(plan, asked.device, folder),
        "c": lambda: training.measure(plan, asked.device, folder),
        "d": lambda: memory.measure(plan, asked.device, folder),
        "e": lambda: growth.measure(plan, asked.device, folder),
        "f": lambda: knobs.measure(plan, asked.device, folder),
        "g": lambda: whole_study.measure(plan, folder),
    }
    failed = []
    for part in sorted(set(asked.parts)):
        print(f"\n{part}: {PARTS[part]}", flush=True)
        here, start = machine(torch.device(asked.device)), time.perf_counter()
        try:
            parts[part]()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            failed.append(part)
        except Exception:  # hours of the other parts are not to be lost
            traceback.print_exc()
            failed.append(part)
        else:
            note(folder, part, here | {"plan": plan_name, "minutes": round((time.perf_counter() - start) / 60, 1)})
    return failed


def note(folder: Path, part: str, about: dict[str, object]) -> None:
    """Add to machine.json what a part was measured on."""
    path = folder / "machine.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, dict(sorted({**known, part: about}.items())))


if __name__ == "__main__":
    sys.exit(main())
