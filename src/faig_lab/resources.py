"""Disk and memory: checks for enough space, and the errors of a lack of space."""

import errno
import re
import shutil
from pathlib import Path

from faig_lab.errors import InputError

UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
"""The system's error numbers of a place that cannot be written to."""


_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator: .*(?:can't|not enough).*memory|ALLOC_FAILED", re.IGNORECASE)


def lacks_memory(error: Exception) -> bool:
    """Return whether an exception reports a lack of memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error))))


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
