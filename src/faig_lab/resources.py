"""Disk and memory: whether there is enough, and how a lack of them is recognised."""

import errno
import re
import shutil
from pathlib import Path

from faig_lab.errors import InputError

UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
"""The system's numbers for a place that cannot be written to."""


_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator: .*(?:can't|not enough).*memory|ALLOC_FAILED", re.IGNORECASE)


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
