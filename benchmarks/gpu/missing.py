"""What the machine lacks. Only the standard library is imported here: anything else may be what is missing."""

import importlib.util
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from shutil import which

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("train", "probe", "test")
NOT_NEEDED = ("wandb",)
"""Dependencies that nothing here imports."""


def missing(device: str, data: Path | None) -> list[str]:
    """Packages by name (with the version that is wanted), folders of photographs, the GPU itself; [] for nothing."""
    found = list(packages())
    if not found and device == "cuda" and not _has_gpu():
        found.append(f"a CUDA GPU (torch {version('torch')} sees none)")
    return found + folders(data)


def packages() -> Iterator[str]:
    """Dependencies of the project, and theirs, that are not installed or not in the version that is wanted."""
    if importlib.util.find_spec("packaging") is None:  # which reads versions
        yield "packaging"
        return
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    seen: set[str] = set()
    while waiting:
        wanted = waiting.pop(0)
        name = wanted.name.lower().replace("_", "-")
        if name in NOT_NEEDED or name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            yield f"{wanted.name}{wanted.specifier}"
            continue
        if not wanted.specifier.contains(found.version, prereleases=True):
            yield f"{wanted.name}{wanted.specifier} (there is {found.version})"
        further = (Requirement(text) for text in found.requires or ())
        # torch itself brings its CUDA libraries; builds for other systems name packages that are not needed.
        waiting += [r for r in further if name != "torch" and (r.marker is None or r.marker.evaluate({"extra": ""}))]


def folders(data: Path | None) -> list[str]:
    """Folders of photographs that are not there or empty; none are wanted where no folder is given."""
    wanted = [data / name for name in FOLDERS] if data is not None else []
    return [f"photographs in {folder}" for folder in wanted if not folder.is_dir() or not any(folder.iterdir())]


def of_use() -> list[str]:
    """What something is left out without, and what."""
    found = []
    if importlib.util.find_spec("cv2") is None:
        found.append("opencv-python-headless: no plain training loop to compare with")
    if which("gcc") is None and which("cc") is None:
        found.append("a C compiler: no torch.compile")
    return found


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
