"""What the machine refuses (disk and memory), in one line that names the setting to change."""

import errno
import io
import logging
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faig_lab.errors import InputError, UserError
from faig_lab.files import text_of

log = logging.getLogger(__name__)

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
"""The system's numbers for a place that cannot be written to."""

_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator: .*(?:can't|not enough).*memory|ALLOC_FAILED", re.IGNORECASE)
_WANTED = re.compile(r"tried to allocate ([\d.]+ ?\w+)", re.IGNORECASE)
_WORKER = "DataLoader worker"
_ABSENT = object()

# Stage → what decides how much memory it takes, the most effective first.
_LOWER: Mapping[str, tuple[str, ...]] = {
    "data": ("data.probe_crop", "data.probe_crops", "data.test_crop", "data.test_crops"),
    "baseline": ("training.batch_size", "training.patch_size"),
    "target": ("training.batch_size", "training.patch_size"),
    "attribution": ("data.probe_crop",),
    "analysis/retraining": ("training.batch_size", "training.patch_size"),
    "analysis": ("data.test_crop",),
}
_KEPT = "what was finished is kept"


class LogFile(logging.FileHandler):
    """A log file; on a full disk it loses lines, without a traceback on the console for each of them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Let go of a line that could not be written; any other fault is reported as usual."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def check_text(arguments: Sequence[str]) -> None:
    """Refuse arguments, and a working folder, that cannot be written down as text.

    Python hides the bytes of a name that its locale cannot read in surrogates, which no UTF-8 file takes.

    Raises:
        UserError: names the argument and what makes it readable.
    """
    for argument in (*arguments, str(Path.cwd())):
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            encoding = sys.getfilesystemencoding()
            remedy = "rename the file or folder" if encoding == "utf-8" else "set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
            raise UserError(f"{text_of(argument)}: Python reads names as {encoding}, which this is not; {remedy}")


def print_anything() -> None:
    r"""Let stdout and stderr print `\u2212` where their encoding has no minus sign, instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Console(logging.Formatter):
    """What the console shows of a message: the message alone; a warning says that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, behind `warning: ` at that level."""
        text = super().format(record)
        return f"warning: {text}" if record.levelno == logging.WARNING else text


@contextmanager
def logged_warnings() -> Iterator[None]:
    """Log the warnings of libraries in one line, where Python would print a path and a line of source code.

    Lightning replaces `warnings.formatwarning` when it is imported, so `warnings.showwarning` is replaced here.
    """

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        text = f"{' '.join(str(message).split())} ({category.__name__}, {Path(filename).name}:{lineno})"
        if logging.getLogger().handlers:
            log.warning("%s", text)
        else:
            print(f"warning: {text}", file=sys.stderr)

    before = warnings.showwarning
    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def explained(settings: Mapping[str, Any], folder: Path, stage: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn a full disk, an unwritable folder or a lack of memory into a UserError; all else passes through.

    Args:
        settings: the whole configuration as plain data.
        folder: the run folder.
        stage: tells the stage that the run is in.

    Raises:
        UserError: names the setting to lower, or the folder to move.
    """
    try:
        yield
    except Exception as error:
        found = explain(error, settings, folder, stage())
        if found is None:
            raise
        raise found from error


def explain(
    error: Exception, settings: Mapping[str, Any], folder: Path, stage: str = "", key: str = "hydra.run.dir"
) -> UserError | None:
    """What `explained` makes of one exception; None where it is no trouble of the machine's.

    Args:
        error: the exception.
        settings: the whole configuration as plain data, as far as it is known.
        folder: the run folder, or that of a sweep.
        stage: what the run was doing.
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
        return UserError(f"training.workers: a process that cuts patches was ended; lower it (now {workers}): {text}")
    if lacks_memory(error):
        return UserError(_memory(text, settings, stage))
    return None


def lacks_memory(error: Exception) -> bool:
    """Whether an exception says that there is not enough memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error))))


def require_space(folder: Path, needed: int, argument: str, what: str) -> None:
    """Make sure that a disk has room before a large write begins.

    Args:
        folder: where to write; it exists.
        needed: bytes.
        argument: the caller's argument that names the folder.
        what: what will be written, for the message.

    Raises:
        InputError: there is less.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            argument,
            f"{what} takes {gigabytes(needed)} and {folder} has {gigabytes(free)} free; "
            f"free some, or set `{argument}` to a folder on another disk",
        )


def gigabytes(count: int) -> str:
    """A number of bytes for people: 3.53 GB, or MB below one tenth of that unit."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def _folders(settings: Mapping[str, Any]) -> dict[str, Path]:
    """The folders beside its own that a run writes to, by the setting that names each."""
    named = {key: _value(settings, key) for key in ("store", "data.root", "data.prepared")}
    return {key: Path(path).expanduser().absolute() for key, path in named.items() if isinstance(path, str | Path)}


def _full(error: OSError, folders: Mapping[str, Path]) -> str:
    """The folder is the one of the file, or the one on the fullest disk where no file is known."""
    inside = _within(Path(error.filename), folders) if error.filename is not None else None
    key = inside or min(folders, key=lambda key: shutil.disk_usage(_existing(folders[key])).free)
    free = gigabytes(shutil.disk_usage(_existing(folders[key])).free)
    return (
        f"{key}: no space left to write to {folders[key]} ({free} free); {_KEPT}: free some and start again, "
        f"or set {key} to a folder on another disk"
    )


def _unwritable(error: OSError, folders: Mapping[str, Path]) -> UserError | None:
    """None for a file that is in none of the folders: that is no folder of the user's to change."""
    key = _within(Path(error.filename), folders)
    if key is None:
        return None
    return UserError(f"{key}: {folders[key]} cannot be written to ({error.strerror}); choose another folder")


def _within(path: Path, folders: Mapping[str, Path]) -> str | None:
    """The innermost of the folders that a path is in, or that is in the path."""
    path = path.absolute()
    inside = [key for key, folder in folders.items() if path.is_relative_to(folder)]
    above = [key for key, folder in folders.items() if folder.is_relative_to(path)]
    return max(inside, key=lambda key: len(folders[key].parts)) if inside else next(iter(above), None)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _memory(text: str, settings: Mapping[str, Any], stage: str) -> str:
    names = next((names for name, names in _LOWER.items() if f"{stage}/".startswith(f"{name}/")), ())
    present = [name for name in names if _value(settings, name, _ABSENT) is not _ABSENT]
    wanted = _WANTED.search(text)
    what = f"out of memory in {stage or 'the run'}" + (f" ({wanted[1].rstrip('.')} asked for)" if wanted else "")
    lower = "lower " + " or ".join(f"{name} (now {_shown(_value(settings, name))})" for name in present)
    remedies = [lower] if present else ["use smaller images"]
    if stage == "data" and _value(settings, "data.prepared", _ABSENT) is None:
        remedies.append("give data.prepared=FOLDER, which keeps photographs on disk")
    return f"{present[0] if present else 'data'}: {what}; {', or '.join(remedies)}; {_KEPT}"


def _shown(value: object) -> str:
    return "null: the whole image" if value is None else str(value)


def _value(settings: Mapping[str, Any], key: str, missing: object = None) -> Any:
    """The value of a dotted key."""
    found: Any = settings
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return missing
        found = found[name]
    return found
