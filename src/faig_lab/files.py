"""Files: atomic writes, names that may become a file's, and safe reading of archives of unknown origin."""

import io
import json
import math
import os
import pickle
import re
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
"""What a name looks like that becomes a file or a part of its name: one letter, digit or _, then also . and -."""

PRETRAINED = Path(__file__).with_name("pretrained")
"""The folder of the weights that the package ships; its README says where they come from."""

PACKAGE = "package:"
"""What the name of such weights begins with, in place of a path that differs from one installation to the next."""

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


def weights_file(name: str | Path, key: str = "weights") -> Path:
    """The file that a weights setting names: a path, or `package:NAME` for a file that faig_lab ships.

    Args:
        name: as it was given; `~` is the user's own folder.
        key: the configuration key to name in errors.

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


def write_safetensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write contiguous tensors that own their memory in the safetensors format, atomically."""
    from safetensors.torch import save

    content = save(dict(tensors), metadata={"format": "pt"})
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


SMALL = 100_000_000
"""Bytes that every archive may unpack to."""

RATIO = 100
"""Times its own size that a larger one may unpack to. Weights and photographs hardly shrink; zeros do, 1000 times."""


_ZIP = b"PK\x03\x04"


class RefusedError(ValueError):
    """A file that is not unpacked or not read; says why in one line."""


def check_unpacked(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive that unpacks to far more than it has bytes, by the sizes that it declares.

    Args:
        archive: opened; nothing of it is unpacked. (Python reads no more of a member than is declared.)
        size: of its file in bytes.

    Raises:
        RefusedError: it declares too much.
    """
    declared = sum(info.file_size for info in archive.infolist())
    if declared > max(SMALL, RATIO * size):
        raise RefusedError(f"its {size:,} bytes would unpack to {declared:,}; it was not unpacked")


def check_sums(archive: zipfile.ZipFile) -> None:
    """Compare every member with its checksum, since torch does not and one flipped bit changes a weight.

    Args:
        archive: opened, and found to unpack to a size that can be read.

    Raises:
        RefusedError: a member is not what was written.
    """
    try:
        damaged = archive.testzip()
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise RefusedError(f"it is damaged: {reason(error)}") from None
    if damaged is not None:
        raise RefusedError(f"it is damaged: the checksum of {damaged} is wrong")


def read_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz, after declared sizes and checksums have been compared.

    Raises:
        RefusedError: it declares too much, or an array claims to be larger than its data.
        OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error: it is damaged or no .npz of plain arrays.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_unpacked(archive, len(content))
        check_sums(archive)
        for info in archive.infolist():
            _check_array(archive, info)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _check_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Numpy reserves what the header of an array claims before it reads the data."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > info.file_size:
        raise RefusedError(f"{info.filename} claims to be larger than its data")


def read_tensors(path: Path) -> Any:
    """What `torch.save` wrote: tensors in plain containers, on the CPU. Nothing in the file is executed.

    Checksums are compared. Files from before torch 1.6 are no archives and have none.

    Raises:
        RefusedError: it holds something else, which is named, declares too much, or has a wrong checksum.
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
        raise RefusedError(_refusal(str(error))) from None  # whose text tells the reader to load it unsafely
    except Exception as error:  # reading arbitrary bytes as a pickle, torch raises almost anything
        if head == _ZIP or isinstance(error, MemoryError):
            raise
        # The old format is a series of pickles; what torch says of the bytes of anything else helps nobody.
        pickled = head.startswith(pickle.PROTO)
        raise RefusedError("it is damaged or incomplete" if pickled else "torch.save did not write it") from error
    _check_tensors(content)
    return content


def read_safetensors(path: Path) -> dict[str, Any]:
    """The tensors of a .safetensors file, on the CPU. The format holds numbers alone, without checksums.

    The library compares the length of the header and every tensor's type, shape and place with the bytes that are
    there, before it makes a tensor.

    Raises:
        RefusedError: it is damaged or something else; the library's word for the fault follows.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # Into memory, since a mapped file could still change; sorted, since the library's order is another every time.
        return dict(sorted(load(path.read_bytes()).items()))
    except KeyError as error:
        raise RefusedError(f"it has tensors of type {error}, which torch lacks") from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise RefusedError(f"it is damaged or no safetensors file: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an error of reading says, in one line; some say nothing, and none gives advice."""
    line = (str(error).splitlines() or [""])[0].strip()
    return type(error).__name__ if not line or "weights_only" in line else line


def _refusal(text: str) -> str:
    """What torch refused, without its advice to execute the file."""
    found = re.search(r"(?:GLOBAL|class|type) ([\w.]+\.[\w.]+)", text)
    what = f"it names {found[1]}, which is code" if found else "it is no pickle of tensors and plain containers"
    return f"{what}; nothing in it was executed"


def _check_tensors(content: object) -> None:
    """A tensor of stride 0 may claim any size; what is read is looked at element by element."""
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
