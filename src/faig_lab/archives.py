"""Reading what somebody else may have packed: tensors and arrays, after their declared sizes have been looked at.

Nothing in such a file is executed, and a small file that claims to hold gigabytes is refused before it is unpacked.
"""

import io
import math
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
