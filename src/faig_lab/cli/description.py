"""What a record of a run says about it: a name, the command line, the commit, the data."""

import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

import faig_lab
from faig_lab.config import Settings
from faig_lab.report.records import Description
from faig_lab.runs.folder import RunFolder


def describe(settings: Settings, run: RunFolder, *, job: str = "study") -> Description:
    """Return how the records name and describe a run.

    Args:
        settings: the settings of the run.
        run: the run folder, whose status has the origin of the run.
        job: the task.
    """
    told = {name: run.status[name] for name in ("command", "commit") if run.status.get(name)}
    data = str(settings.data.get("_target_", "")).rpartition(".")[2]
    notes = [
        f"`{told['command']}`" if "command" in told else "",
        f"commit {told['commit']}" if "commit" in told else "",
    ]
    notes += [f"data: {data}", f"faig_lab {faig_lab.__version__}"]
    return Description(
        experiment=settings.name,
        method=settings.attribution.name,
        network=network_label(settings.network),
        seed=settings.seed,
        job=job,
        config={**settings.model_dump(), **told, "version": faig_lab.__version__},
        notes="  \n".join(note for note in notes if note),
    )


def network_label(network: Mapping[str, Any]) -> str:
    """Return the class of a network with its sizes: `SRResNet-24x8` for 24 features and 8 blocks."""
    name = str(network.get("_target_", "network")).rpartition(".")[2]
    sizes = [str(v) for k, v in network.items() if isinstance(v, int) and not isinstance(v, bool) and k != "scale"]
    return f"{name}-{'x'.join(sizes)}" if sizes else name


def origin() -> dict[str, str]:
    """Return the command line of this process and the commit of faig_lab, for status.json."""
    commit = commit_of(Path(faig_lab.__file__).parent)
    return {"command": command(), **({"commit": commit} if commit else {})}


def command() -> str:
    """Return the command line that starts this run. For a job of a sweep it is the command of this job alone."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else sys.argv[1:]
    return f"python -m faig_lab {shlex.join(typed)}".strip()


@cache
def commit_of(package: Path) -> str | None:
    """Return the git commit of a folder of source, with a + for changed files; None if git does not track it."""
    commit = _git(package, "rev-parse", "HEAD") if _git(package, "ls-files", "--error-unmatch", "__init__.py") else None
    changed = commit and _git(package, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{commit}+" if changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() or None
