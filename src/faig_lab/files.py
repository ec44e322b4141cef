"""Atomic writes: a reader sees the old file or the new one, never half of either. Names that may become a file's."""

import io
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faig_lab.errors import InputError

FILE_NAME = r"\w[\w.-]{0,99}"
"""What a name looks like that becomes a file or a part of its name: one letter, digit or _, then also . and -."""

_ERRORS = "backslashreplace"  # in JSON it is the escape that reads back as what was written
_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")


def file_name(name: str, what: str, *, several: bool = True) -> str:
    """The name, which is about to become a file or a part of its name; `several` names may have `+` between them.

    Raises:
        InputError: it would lead elsewhere or is no name; the argument is `what`.
    """
    if not re.fullmatch(rf"{FILE_NAME}(\+{FILE_NAME})*" if several else FILE_NAME, name):
        raise InputError(what, f"{name!r} becomes the name of a file; use letters, digits, _, - and . (100 at most)")
    return name


def text_of(name: str) -> str:
    r"""A name that the system gave, as text that can be written as UTF-8; bytes that are no UTF-8 stand as `\xe4`.

    It is the same in every locale: where Python reads names as ASCII (LC_ALL=C, PYTHONUTF8=0), `ä` comes as two
    surrogates and leaves here as `ä`.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a path, which a stranger may have named, is a file at or below the folder, links followed."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same suffix); on success it becomes `path`, on failure it is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private to the user; results are meant to be shared like any other file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a full disk does not say which file it was
        raise


def remove_leftovers(folder: Path, not_in: Sequence[str] = ()) -> None:
    """Remove the temporary files that a killed `atomic_write` left in a folder and below, but for some subfolders."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in not_in]
        for name in files:
            if _TEMPORARY.fullmatch(name):
                Path(place, name).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    r"""Write `text` as UTF-8, atomically; a surrogate, a byte of a name that is no UTF-8, becomes `\udce4`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=_ERRORS)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused (ValueError)."""
    write_text(path, _json(value))


def overwrite_json(path: Path, value: Any) -> None:
    """As `write_json`, but into the file that is there: on a full disk a second one has no room."""
    with path.open("r+b") as file:
        file.write(_json(value).encode(errors=_ERRORS))
        file.truncate()


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as a compressed npz, atomically; names may contain `/`."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **dict(arrays))  # type: ignore[arg-type]


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain containers with `torch.save`, atomically.

    In memory first: a full disk is then the usual OSError, where torch's own writer says "unexpected pos".
    """
    import torch

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
