"""Photographs decoded once into memory-mapped arrays, so that a crop reads its own pixels and nothing else.

A prepared folder holds one plain .npy per photograph, named after the image's file, a fingerprint of where it came
from (place, size and time of change, or checksum) and the sha256 of the image file. The names are the index: a file
is there completely or not at all, a changed image gets a new one, and deleting the folder costs only the decoding.
"""

import contextlib
import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from filelock import FileLock, Timeout

from faig_lab.data.images import declared_size, decode_image
from faig_lab.data.photographs import Photograph
from faig_lab.data.samples import Pixels
from faig_lab.errors import UserError
from faig_lab.files import atomic_write
from faig_lab.resources import require_space

log = logging.getLogger(__name__)

_NAME = re.compile(r".+-(?P<origin>[0-9a-f]{16})-(?P<sha256>[0-9a-f]{64})\.npy")


@dataclass(frozen=True)
class Encoded:
    """An image file, on disk or in an archive.

    Args:
        name: of the photograph.
        path: for messages; its stem gets into the prepared file's name.
        origin: where it is and what tells its versions apart.
        open: opens its bytes.
    """

    name: str
    path: Path
    origin: str
    open: Callable[[], IO[bytes]]

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits that stand for the origin."""
        return hashlib.sha256(self.origin.encode(errors="surrogateescape")).hexdigest()[:16]


def encoded_file(path: Path, name: str) -> Encoded:
    """An image file on disk, told from its next version by size and time of change.

    Raises:
        UserError: it cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return Encoded(name, path, f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}", lambda: path.open("rb"))


def prepare(images: Sequence[Encoded], folder: Path, key: str) -> tuple[Path, ...]:
    """Decode what is not in `folder` yet.

    What is decoded stays, whatever ends the preparation; another process that needs the folder waits.

    Args:
        images: any number.
        folder: the prepared folder; made if need be.
        key: the setting that names it.

    Returns:
        The prepared file of each image.

    Raises:
        UserError: an image is damaged, or the disk is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready = _ready(folder)
    if all(image.fingerprint in ready for image in images):  # without the lock: the folder may be for reading only
        return tuple(ready[image.fingerprint] for image in images)
    with _alone(folder):
        ready = _ready(folder)  # again: another process may have been at work
        missing = [image for image in images if image.fingerprint not in ready]
        if missing:
            log.info("preparing %d images in %s", len(missing), folder)
            require_space(folder, sum(map(_decoded_size, missing)), key, f"{len(missing)} decoded images")
        for image in missing:
            ready[image.fingerprint] = _decode(image, folder)
    return tuple(ready[image.fingerprint] for image in images)


def open_prepared(path: Path, name: str) -> Photograph:
    """A photograph whose pixels stay on disk until they are read.

    Raises:
        UserError: the file is missing or damaged.
    """
    found = _NAME.fullmatch(path.name)
    try:
        pixels: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: a damaged prepared image ({error}); delete it to have it decoded anew") from error
    if found is None or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: no prepared image; delete it to have it decoded anew")
    return Photograph(name, name, pixels, found["sha256"])


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it goes with the process."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being prepared by another run; waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _ready(folder: Path) -> dict[str, Path]:
    """What the folder holds, by fingerprint of origin."""
    found = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    return {match["origin"]: path for path, match in found if match and not path.name.startswith(".")}


def _decode(image: Encoded, folder: Path) -> Path:
    """Decode one image into its file."""
    with image.open() as file:
        data = file.read()
    pixels = decode_image(data, image.path)
    stem = re.sub(r"[^\w-]", "_", image.path.stem, flags=re.ASCII)[:80] or "image"
    path = folder / f"{stem}-{image.fingerprint}-{hashlib.sha256(data).hexdigest()}.npy"
    with atomic_write(path) as temporary, temporary.open("wb") as out:
        np.save(out, pixels, allow_pickle=False)
    return path


def _decoded_size(image: Encoded) -> int:
    """Bytes of the decoded image, from its header; 0 for one that the decoding will have to judge."""
    try:
        with image.open() as file:
            return 3 * math.prod(declared_size(file.read()))
    except Exception:  # Decoders raise anything on damaged bytes.
        return 0
