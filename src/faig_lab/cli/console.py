"""What the user reads in terminal and log: messages, warnings, progress, and errors in one line that names the setting.

The errors are those of Hydra and OmegaConf while composing, of the disk and of memory.
"""

import errno
import io
import logging
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from faig_lab.cli.arguments import GROUP_CHOICE, known_keys
from faig_lab.config.messages import FOLDER, nearest, other_choices, suggest, unknown_key, words_to_type
from faig_lab.errors import UserError, lacks_memory
from faig_lab.files import UNWRITABLE, gigabytes, text_of
from faig_lab.plotting.words import duration
from faig_lab.runs import processes

_EVERY = 10.0  # seconds between two lines of progress where there is no terminal

log = logging.getLogger(__name__)


class LogFile(logging.FileHandler):
    """A log file. On a full disk the file loses lines, and the console shows no traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Ignore a line that could not be written. Report any other error as usual."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def check_text(arguments: Sequence[str]) -> None:
    """Refuse arguments and a working folder that cannot be written as text.

    Python represents bytes that its locale cannot read by surrogates, which a UTF-8 file cannot contain.

    Raises:
        UserError: names the argument and a remedy.
    """
    for argument in (*arguments, str(Path.cwd())):
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            encoding = sys.getfilesystemencoding()
            remedy = "rename the file or folder" if encoding == "utf-8" else "set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
            raise UserError(f"{text_of(argument)}: not a name in {encoding}, as Python reads it; {remedy}")


def print_anything() -> None:
    r"""Let stdout and stderr print `\u2212` if their encoding has no minus sign, so that the run continues."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Console(logging.Formatter):
    """The format of console messages: the message only, with a prefix for warnings."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, with the prefix `warning: ` at that level."""
        text = super().format(record)
        return f"warning: {text}" if record.levelno == logging.WARNING else text


@contextmanager
def logged_warnings() -> Iterator[None]:
    """Log the warnings of libraries in one line. Python would print a path and a line of source code.

    Lightning replaces `warnings.formatwarning` when it is imported, so `warnings.showwarning` is replaced here.
    """

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        text = f"{' '.join(str(message).split())} ({category.__name__}, {Path(filename).name}:{lineno})"
        if logging.getLogger().handlers:
            log.warning("%s", text)
        else:
            print(f"warning: {text}", file=sys.stderr)

    before = warnings.showwarning
    warnings.showwarning = show  # type: ignore[assignment]  # *_ stands for two parameters
    try:
        yield
    finally:
        warnings.showwarning = before


@contextmanager
def progress_bar(name: str, total: int) -> Iterator[Callable[[str], None]]:
    """Show the progress of a loop, except Lightning's: a bar in a terminal, or a line every 10 s.

    The bar and the line have the remaining time. A loop of less than 10 s logs nothing.

    Args:
        name: name of the loop.
        total: number of steps. A loop may take more: then only the number of steps that are done is shown.

    Yields:
        A function to call after each step with the name of the step.
    """
    terminal = sys.stderr.isatty()
    start = said = time.monotonic()
    done = 0
    with tqdm(total=total, desc=name, leave=False, disable=processes.rank() > 0 or not terminal) as bar:

        def advance(what: str) -> None:
            nonlocal said, done
            done += 1
            bar.set_postfix_str(what, refresh=False)
            bar.update()
            now = time.monotonic()
            if now - said >= _EVERY and not terminal and processes.rank() == 0:
                said = now
                left = duration((now - start) / done * (total - done)) if done <= total else None
                log.info("%s: %d%s", name, done, f" of {total}, about {left} left" if left else " steps done")

        yield advance


_NOT_IN_CONFIG = re.compile(r"Could not (?:override|append to|delete from config\.) '([^']+)'")
_PRESENT = re.compile(r"An item is already at '([^']+)'")
_TWICE = re.compile(
    r"Multiple values for ([\w/@]+)|^([\w/@]+) appears more than once"
    r"|force-add of config groups is not supported: '\+\+([\w/@]+)="
)
_FULL_KEY = re.compile(r"full_key: (\S+)")
_EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit"}


def explain_composing(
    error: HydraException | OmegaConfBaseException, settings: Sequence[str], config_dir: Path | None
) -> str:
    """Return one line about an error, with the nearest valid choice.

    Args:
        error: an error that was raised while composing.
        settings: the settings of the command line, without flags.
        config_dir: the user's configuration folder, as in `--config-dir`.
    """
    if isinstance(error, OverrideParseException):  # Hydra's reasons name tokens and are left out
        setting = error.override
        if "=" not in setting:
            close = nearest(re.split(r"[^\w./]", setting)[0], known_keys((), config_dir))
            return f"{setting}: not a setting; write {close or 'key'}=value"
        typed = words_to_type(setting)
        how = f"; if the value is text, type {typed}" if typed else ", with quotes around special characters"
        return f"{setting}: not a setting; write key=value{how}"
    group, _, option = (getattr(error, "missing_cfg_file", None) or "").rpartition("/")
    if isinstance(error, MissingConfigException) and group:
        return _unknown_option(group, option, error.options, config_dir)
    text = f"{error}\n{error.__cause__ or ''}"
    if absent := _NOT_IN_CONFIG.search(text):
        return _unknown_setting(absent[1], text, settings, config_dir)
    if present := _PRESENT.search(text):
        return f"{present[1]}: the key exists already; write {present[1]}=... without the +"
    if twice := _TWICE.search(text):
        group = next(filter(None, twice.groups()))
        given = [setting.lstrip("+") for setting in settings if setting.lstrip("+").startswith(f"{group}=")]
        if len(given) > 1:
            return f"{group}: chosen {len(given)} times ({' '.join(given)}); leave one choice"
        return f"{group}: a choice exists already; write {given[0] if given else f'{group}=...'} without the +"
    internal = ("full_key:", "object_type=", "reference_type=", "child config", "See https://")
    lines = [line.strip() for line in text.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith(internal)))


def _unknown_setting(key: str, text: str, settings: Sequence[str], config_dir: Path | None) -> str:
    known = known_keys(settings, config_dir, of_hydra=key.startswith("hydra."))
    if key in known and (within := _FULL_KEY.search(text)):  # a whole group was given, and a key of the group is wrong
        key = within[1]
    group = key.partition(".")[0]
    choices = [setting for setting in settings if (m := GROUP_CHOICE.match(setting)) and m[1] == group]
    if key in known and any("," in setting for setting in choices):
        return f"{key}: Hydra looks for it in the default {group}; in a sweep write ++{key}=..."
    elsewhere = None if ".".join(key.split(".")[:2]) in known else other_choices(key, config_dir)
    return elsewhere or unknown_key(key, known)


def _unknown_option(group: str, option: str, listed: Sequence[str] | None, config_dir: Path | None) -> str:
    if group == "hydra/launcher" and option in _EXTRAS:
        return f'hydra/launcher: {option} is not installed; pip install "faig_lab[{_EXTRAS[option]}]"'
    # Hydra lists no options for a name within a list, as in degradation=[noise,blr].
    folders = [folder / group for folder in (FOLDER, config_dir) if folder is not None]
    options = listed or [path.stem for folder in folders for path in folder.glob("*.yaml")]
    # Launchers are typed by their own names; see `normalise`.
    names = {name.removeprefix("faig_lab_") for name in options} if group == "hydra/launcher" else set(options)
    return f"{group}: unknown option {option!r}; {suggest(option, names)}"


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
    folders = {key: folder.absolute()}
    for name in ("store", "data.root", "data.prepared"):  # the other folders that a run writes to
        if isinstance(path := _value(settings, name), str | Path):
            folders[name] = Path(path).expanduser().absolute()
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _FULL:
        return UserError(_full(error, folders))
    if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename is not None:
        inside = _within(Path(error.filename), folders)
        fault = f"cannot be written to ({error.strerror}); choose another folder"
        return None if inside is None else UserError(f"{inside}: {folders[inside]} {fault}")
    if _WORKER in text and isinstance(error, RuntimeError):
        workers = _value(settings, "training.workers")
        return UserError(f"training.workers: a process that cuts patches was killed; lower the value {workers}: {text}")
    return UserError(_memory(text, settings, stage)) if lacks_memory(error) else None


def _full(error: OSError, folders: Mapping[str, Path]) -> str:
    """Name the folder of the file; if no file is known, name the folder on the fullest disk."""

    def free(key: str) -> int:
        """Return the free bytes on the disk of a folder, which may not exist yet."""
        path = folders[key]
        return shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free

    inside = None if error.filename is None else _within(Path(error.filename), folders)
    key = inside or min(folders, key=free)
    return (
        f"{key}: no space left to write to {folders[key]} ({gigabytes(free(key))} free); {_KEPT}: free some space and "
        f"start again, or set {key} to a folder on another disk"
    )


def _within(path: Path, folders: Mapping[str, Path]) -> str | None:
    """Return the key of the innermost folder that contains the path, or of a folder inside the path."""
    path = path.absolute()
    inside = [key for key, folder in folders.items() if path.is_relative_to(folder)]
    above = [key for key, folder in folders.items() if folder.is_relative_to(path)]
    return max(inside, key=lambda key: len(folders[key].parts)) if inside else next(iter(above), None)


def _memory(text: str, settings: Mapping[str, Any], stage: str) -> str:
    names = next((names for name, names in _LOWER.items() if f"{stage}/".startswith(f"{name}/")), ())
    now = {name: value for name in names if (value := _value(settings, name, _ABSENT)) is not _ABSENT}
    wanted = _WANTED.search(text)
    event = f"out of memory in {stage or 'the run'}" + (f" ({wanted[1].rstrip('.')} asked for)" if wanted else "")
    shown = [f"{name} (now {'null: the whole image' if value is None else value})" for name, value in now.items()]
    remedies = [f"lower {' or '.join(shown)}" if shown else "use smaller images"]
    if stage == "data" and _value(settings, "data.prepared", _ABSENT) is None:
        remedies.append("give data.prepared=FOLDER, which keeps photographs on disk")
    return f"{next(iter(now), 'data')}: {event}; {', or '.join(remedies)}; {_KEPT}"


def _value(settings: Mapping[str, Any], key: str, missing: object = None) -> Any:
    """Return the value of a dotted key."""
    value: Any = settings
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return missing
        value = value[name]
    return value
