"""The installed wheel runs the first look from a folder that has nothing to do with the checkout.

`python tests/wheel_case.py PYTHON WHEEL [PIP ARGUMENT ...]` makes an environment of that Python, installs the wheel
and its dependencies there (the versions of constraints.txt), and runs the first look.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).resolve().parents[1]
EXECUTABLES = "Scripts" if sys.platform == "win32" else "bin"
REDUCED = [
    *("data.test_crop=48", "data.probe_crop=48", "data.probe_crops=1", "attribution.points=2"),
    *("analysis.percents=[0.5]", "attribution.methods.random.draws=1", "trainer=cpu", "logger=none"),
]
"""Settings with which the first look takes seconds, and still shows the finding."""


def output(*command: str | Path, cwd: Path) -> str:
    """What a command prints; the checkout is not on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} {command[1]}: {done.stderr}"
    return done.stdout


def look(home: Path, elsewhere: Path) -> dict[str, float]:
    """The metrics of a small first look with the command of the environment `home`, run in the folder `elsewhere`."""
    command = home / EXECUTABLES / "faig-lab"
    said = output(command, "experiment=first_look", *REDUCED, "hydra.run.dir=run", cwd=elsewhere)
    assert str(Path("run") / "report.html") in said
    assert (elsewhere / "run" / "report.html").stat().st_size > 100_000
    metrics: dict[str, float] = json.loads((elsewhere / "run" / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def main(arguments: Sequence[str]) -> None:
    """Try a wheel with a Python, in folders that are removed afterwards."""
    python, wheel, *others = arguments
    with TemporaryDirectory() as folder:
        home, elsewhere = Path(folder) / "venv", Path(folder) / "elsewhere"
        elsewhere.mkdir()
        output(python, "-m", "venv", home, cwd=elsewhere)
        pip = [home / EXECUTABLES / "python", "-m", "pip", "install", "--quiet", *others]
        output(*pip, "-c", REPOSITORY / "constraints.txt", Path(wheel).resolve(), cwd=elsewhere)
        version = output(home / EXECUTABLES / "python", "--version", cwd=elsewhere).strip()
        metrics = look(home, elsewhere)
        print(f"{version}: {Path(wheel).name}: isolation {metrics['isolation/isolation_share/0.5']:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
