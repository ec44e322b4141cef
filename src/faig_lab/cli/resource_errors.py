"""A full disk, an unwritable folder or a lack of memory, in one line that names the setting to change."""

import errno
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faig_lab.errors import UserError, lacks_memory
from faig_lab.files import UNWRITABLE, gigabytes

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WANTED = re.compile(r"tried to allocate ([\d.]+ ?\w+)", re.IGNORECASE)
_WORKER = "DataLoader worker"
_ABSENT = object()

_LOWER: Mapping[str, tuple[str, ...]] = {
    "data": ("data.probe_crop", "data.probe_crops", "data.test_crop", "data.test_crops"),
    "baseline": ("training.batch_size", "training.patch_size"),
    "target": ("training.batch_size", "training.patch_size"),
    "attribution": ("data.probe_crop",),
    "analysis/clusters": ("analysis.studies.clusters.most", "analysis.studies.clusters.crop"),
    "analysis/retraining": ("training.batch_size", "training.patch_size"),
    "analysis/switches": ("training.batch_size", "training.patch_size"),
    "analysis/task_vectors": ("training.batch_size", "training.patch_size"),
    "analysis": ("data.test_crop",),
}
_KEPT = "what was finished is kept"


@contextmanager
def explained(settings: Mapping[str, Any], folder: Path, stage: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn a full disk, an unwritable folder or a lack of memory into a UserError. All other errors pass through.

    Args:
        settings: the whole configuration as plain data.
        folder: the run folder.
        stage: returns the current stage of the run.

    Raises:
        UserError: names the setting to lower, or the folder to move.
    """
    try:
        yield
    except Exception as error:
        explanation = explain(error, settings, folder, stage=stage())
        if explanation is None:
            raise
        raise explanation from error


def explain(
    error: Exception, settings: Mapping[str, Any], folder: Path, *, stage: str = "", key: str = "hydra.run.dir"
) -> UserError | None:
    """Return the UserError for an exception; None if the exception is not about disk or memory.

    Args:
        error: the exception.
        settings: the whole configuration as plain data, as far as it is known.
        folder: the folder of the run or of the sweep.
        stage: the stage of the run.
        key: the setting that names `folder`.
    """
    folders = {key: folder.absolute(), **_folders(settings)}
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _FULL:
        return UserError(_full(error, folders))
    if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename is not None:
        return _unwritable(error, folders)
    if _WORKER in text and isinstance(error, RuntimeError):
        workers = _value(settings, "training.workers")
        return UserError(f"training.workers: a process that cuts patches was killed; lower the value {workers}: {text}")
    if lacks_memory(error):
        return UserError(_memory(text, settings, stage))
    return None


def _folders(settings: Mapping[str, Any]) -> dict[str, Path]:
    """Return the other folders that a run writes to: setting → folder."""
    named = {key: _value(settings, key) for key in ("store", "data.root", "data.prepared")}
    return {key: Path(path).expanduser().absolute() for key, path in named.items() if isinstance(path, str | Path)}


def _full(error: OSError, folders: Mapping[str, Path]) -> str:
    """Name the folder of the file; if no file is known, name the folder on the fullest disk."""
    inside = _within(Path(error.filename), folders) if error.filename is not None else None
    key = inside or min(folders, key=lambda key: shutil.disk_usage(_existing(folders[key])).free)
    free = gigabytes(shutil.disk_usage(_existing(folders[key])).free)
    return (
        f"{key}: no space left to write to {folders[key]} ({free} free); {_KEPT}: free some space and start again, "
        f"or set {key} to a folder on another disk"
    )


def _unwritable(error: OSError, folders: Mapping[str, Path]) -> UserError | None:
    """Return the error for an unwritable folder; None for a file outside of all folders that settings name."""
    key = _within(Path(error.filename), folders)
    if key is None:
        return None
    return UserError(f"{key}: {folders[key]} cannot be written to ({error.strerror}); choose another folder")


def _within(path: Path, folders: Mapping[str, Path]) -> str | None:
    """Return the key of the innermost folder that contains the path, or of a folder inside the path."""
    path = path.absolute()
    inside = [key for key, folder in folders.items() if path.is_relative_to(folder)]
    above = [key for key, folder in folders.items() if folder.is_relative_to(path)]
    return max(inside, key=lambda key: len(folders[key].parts)) if inside else next(iter(above), None)


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above the path that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _memory(text: str, settings: Mapping[str, Any], stage: str) -> str:
    names = next((names for name, names in _LOWER.items() if f"{stage}/".startswith(f"{name}/")), ())
    present = [name for name in names if _value(settings, name, _ABSENT) is not _ABSENT]
    wanted = _WANTED.search(text)
    event = f"out of memory in {stage or 'the run'}" + (f" ({wanted[1].rstrip('.')} asked for)" if wanted else "")
    lower = "lower " + " or ".join(f"{name} (now {_shown(_value(settings, name))})" for name in present)
    remedies = [lower] if present else ["use smaller images"]
    if stage == "data" and _value(settings, "data.prepared", _ABSENT) is None:
        remedies.append("give data.prepared=FOLDER, which keeps photographs on disk")
    return f"{present[0] if present else 'data'}: {event}; {', or '.join(remedies)}; {_KEPT}"


def _shown(value: object) -> str:
    return "null: the whole image" if value is None else str(value)


def _value(settings: Mapping[str, Any], key: str, missing: object = None) -> Any:
    """Return the value of a dotted key."""
    value: Any = settings
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return missing
        value = value[name]
    return value
