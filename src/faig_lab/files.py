"""Files: atomic writes, valid file names, space on the disk, and safe reading of archives of unknown origin."""

import errno
import io
import json
import math
import os
import pickle
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faig_lab.errors import InputError

FILE_NAME = r"\w[\w.-]{0,99}"
"""The pattern of a name that becomes a file name or a part: a letter, digit or _, then also . and -."""

PRETRAINED = Path(__file__).with_name("pretrained")
"""The folder of the weights that the package ships. Its README names their origin."""

PACKAGE = "package:"
"""The prefix of the name of shipped weights, whose path depends on the installation."""

UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
"""The error numbers of the system for a place that cannot be written to."""

_ERRORS = "backslashreplace"  # in JSON this escape is read back as the original
_TEMPORARY = re.compile(r"\..+-[a-z0-9_]{8}(\.\w+)?")


def file_name(name: str, what: str, *, several: bool = True) -> str:
    """Return a name that becomes a file name or a part. With `several`, names may be joined by `+`.

    Raises:
        InputError: the name is not valid or leads to another folder. The error names the argument `what`.
    """
    if not re.fullmatch(rf"{FILE_NAME}(\+{FILE_NAME})*" if several else FILE_NAME, name):
        raise InputError(what, f"{name!r} becomes the name of a file; use letters, digits, _, - and . (100 at most)")
    return name


def text_of(name: str) -> str:
    r"""Return a name from the system as text that can be written as UTF-8. Invalid bytes become `\xe4`.

    The result is the same in every locale. If Python reads names as ASCII (LC_ALL=C, PYTHONUTF8=0), it represents `ä`
    by two surrogates, and this function returns `ä`.
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def weights_file(name: str | Path, key: str = "weights") -> Path:
    """Return the file of a weights setting: a path, or `package:NAME` for a file that faig_lab ships.

    Args:
        name: the value of the setting; `~` is the user's home folder.
        key: the configuration key for error messages.

    Raises:
        InputError: faig_lab ships no weights of that name.
    """
    wanted = str(name)
    if not wanted.startswith(PACKAGE):
        return Path(name).expanduser()
    shipped = {f"{PACKAGE}{file.name}": file for file in sorted(PRETRAINED.glob("*.safetensors"))}
    if wanted not in shipped:
        raise InputError(key, f"faig_lab ships no weights {wanted}; choices: {', '.join(shipped)}")
    return shipped[wanted]


def is_inside(folder: Path, path: Path) -> bool:
    """Return whether a path is a file at or below the folder, after following links. The path may be untrusted."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffix. It becomes `path`, or is removed after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files, but results get the usual permissions.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # the error of a full disk names no file
        raise


def remove_leftovers(folder: Path, not_in: Sequence[str] = ()) -> None:
    """Remove the temporary files that a killed `atomic_write` left in a folder and below, except in some subfolders."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in not_in]
        for name in files:
            if _TEMPORARY.fullmatch(name):
                Path(place, name).unlink(missing_ok=True)


def require_space(folder: Path, needed: int, argument: str, what: str) -> None:
    """Check before a large write that the disk has enough space.

    Args:
        folder: the folder of the write, which exists.
        needed: number of bytes.
        argument: the caller's argument that names the folder.
        what: the content of the write, for the message.

    Raises:
        InputError: the disk has less space.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            argument,
            f"{what} takes {gigabytes(needed)} and {folder} has {gigabytes(free)} free; "
            f"free some space, or set `{argument}` to a folder on another disk",
        )


def gigabytes(count: int) -> str:
    """Return a number of bytes as text: 3.53 GB, or MB for less than 0.1 GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def write_text(path: Path, text: str) -> None:
    r"""Write `text` as UTF-8, atomically. A surrogate (a byte that is not valid UTF-8) becomes `\udce4`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=_ERRORS)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity raise a ValueError."""
    write_text(path, _json(value))


def overwrite_json(path: Path, value: Any) -> None:
    """Write JSON into the existing file, since a full disk has no space for a temporary file."""
    with path.open("r+b") as file:
        file.write(_json(value).encode(errors=_ERRORS))
        file.truncate()


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as a compressed npz, atomically. Names may contain `/`."""
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **dict(arrays))  # type: ignore[arg-type]  # read as allow_pickle


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain containers with `torch.save`, atomically.

    The file is made in memory first. So a full disk raises the usual OSError, while torch's writer raises an error
    about "unexpected pos".
    """
    import torch

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def write_safetensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write contiguous tensors that own their memory in the safetensors format, atomically."""
    from safetensors.torch import save

    content = save(dict(tensors), metadata={"format": "pt"})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _umask() -> int:
    """Return the umask of the process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


SMALL = 100_000_000
"""Number of bytes to which every archive may unpack."""

RATIO = 100
"""Factor by which a larger archive may grow. Weights and photographs grow little, an archive of zeros 1000 times."""


_ZIP = b"PK\x03\x04"


_DAMAGED = (OSError, EOFError, KeyError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error)
"""Errors that the libraries raise for an archive that is damaged or of another format."""


class RefusedError(ValueError):
    """A file that is not unpacked or not read. The message is the reason in one line."""


def check_unpacked(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive whose declared sizes are far larger than the archive.

    Args:
        archive: the opened archive. Nothing is unpacked. (Python reads at most the declared size of a member.)
        size: size of the file in bytes.

    Raises:
        RefusedError: the declared sizes are too large.
    """
    declared = sum(info.file_size for info in archive.infolist())
    if declared > max(SMALL, RATIO * size):
        raise RefusedError(f"its {size:,} bytes would unpack to {declared:,}; it was not unpacked")


def check_sums(archive: zipfile.ZipFile) -> None:
    """Compare every member with its checksum. Torch does not do so, and a flipped bit changes a weight.

    Args:
        archive: the opened archive, whose declared sizes were checked.

    Raises:
        RefusedError: a member differs from its checksum.
    """
    try:
        damaged = archive.testzip()
    except _DAMAGED as error:
        raise RefusedError(f"it is damaged: {reason(error)}") from None
    if damaged is not None:
        raise RefusedError(f"it is damaged: the checksum of {damaged} is wrong")


def read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz after a check of declared sizes and checksums.

    Raises:
        RefusedError: the declared sizes are too large, an array claims to be larger than its data, or the content is
            damaged or no .npz of plain arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_unpacked(archive, len(content))
            check_sums(archive)
            for info in archive.infolist():
                _check_array(archive, info)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except _DAMAGED as error:
        raise RefusedError(" ".join(str(error).split())) from error


def _check_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Check the size in the header of an array, since numpy reserves this size before it reads the data."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > info.file_size:
        raise RefusedError(f"{info.filename} claims to be larger than its data")


def read_tensors(path: Path) -> Any:
    """Read a file of `torch.save`: tensors in plain containers, on the CPU. Nothing in the file is executed.

    Checksums are compared. Files of torch before 1.6 are not archives and have no checksums.

    Raises:
        RefusedError: the file has other content, which the message names, too large sizes, or a wrong checksum.
        Exception: reading arbitrary bytes as a pickle, torch raises almost anything.
    """
    import torch

    with path.open("rb") as file:
        head = file.read(4)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_unpacked(archive, path.stat().st_size)
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise RefusedError("it is a TorchScript program, which is code; nothing in it was executed")
            # Under torch.serialization.set_crc32_options(False) every checksum is written as 0.
            if any(info.CRC for info in archive.infolist()):
                check_sums(archive)
    elif head == _ZIP:
        raise RefusedError("it is damaged: its end is missing")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RefusedError(_refusal(str(error))) from None  # torch's text advises to load the file unsafely
    except Exception as error:  # reading arbitrary bytes as a pickle, torch raises almost anything
        if head == _ZIP or isinstance(error, MemoryError):
            raise
        # The old format is a series of pickles. Torch's messages about other files are not helpful.
        pickled = head.startswith(pickle.PROTO)
        raise RefusedError("it is damaged or incomplete" if pickled else "torch.save did not write it") from error
    _check_tensors(content)
    return content


def read_safetensors(path: Path) -> dict[str, Any]:
    """Read the tensors of a .safetensors file, on the CPU. The format has only numbers and no checksums.

    Before the library makes a tensor, it compares the header and the type, shape and place of each tensor with the size
    of the file.

    Raises:
        RefusedError: the file is damaged or has another format. The message contains the library's reason.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # Read into memory, since a mapped file could still change. Sorted, since the library's order varies.
        return dict(sorted(load(path.read_bytes()).items()))
    except KeyError as error:
        raise RefusedError(f"it has tensors of type {error}, which torch lacks") from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise RefusedError(f"it is damaged or no safetensors file: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Return the reason of a reading error in one line, or the error's type. Advice to read unsafely is left out."""
    line = (str(error).splitlines() or [""])[0].strip()
    return type(error).__name__ if not line or "weights_only" in line else line


def _refusal(text: str) -> str:
    """Return what torch refused, without its advice to execute the file."""
    name = re.search(r"(?:GLOBAL|class|type) ([\w.]+\.[\w.]+)", text)
    fault = f"it names {name[1]}, which is code" if name else "it is no pickle of tensors and plain containers"
    return f"{fault}; nothing in it was executed"


def _check_tensors(content: object) -> None:
    """Check the size of every tensor. A tensor of stride 0 may claim any size, and all its elements are read later."""
    import torch

    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_meta:
            size = value.numel() * value.element_size()
            if size > max(SMALL, value.untyped_storage().nbytes()):
                raise RefusedError("a tensor in it claims to be larger than its data")
