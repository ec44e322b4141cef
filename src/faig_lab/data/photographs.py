"""Photographs: in memory, embedded in two packages, or decoded once into memory-mapped files.

The embedded photographs lie inside the wheels of scikit-image and scikit-learn. Nothing is downloaded and neither
package is imported: the files are located beside the packages' modules and checked by hash. The table `SIDES` says
which scene is trained on, probed or held out; to move a scene, edit its line.

A prepared folder holds one plain .npy for each photograph. The name of the .npy contains the name of the image's file,
a fingerprint of the origin (place, size and time of change, or checksum) and the sha256 of the image's file. These
names are the index: a .npy is complete or absent, and a changed image gets a new name. Deleting the folder costs only
the decoding.
"""

import hashlib
import importlib.metadata
import importlib.util
import itertools
import logging
import math
import mmap
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from faig_lab.data.images import Pixels, declared_size, decode_image, read_bytes
from faig_lab.errors import InputError, UserError
from faig_lab.files import atomic_write, require_space, text_of

log = logging.getLogger(__name__)

_NAME = re.compile(r".+-(?P<origin>[0-9a-f]{16})-(?P<sha256>[0-9a-f]{64})\.npy")

Side = Literal["train", "probe", "held_out"]


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photograph in memory, or mapped from a prepared file.

    Args:
        name: its name in tables and figures.
        scene: what it shows; two photographs of one scene are never on two sides of a split.
        pixels: (H, W, 3) RGB, uint8 or uint16.
        sha256: of the image file's bytes, in hexadecimal.
    """

    name: str
    scene: str
    pixels: Pixels
    sha256: str

    def __reduce__(self) -> tuple[Any, ...]:
        """Send a mapped photograph to another process as the name of its file: numpy would send all pixels."""
        if isinstance(self.pixels, np.memmap) and isinstance(self.pixels.base, mmap.mmap):
            return _mapped, (self.name, self.scene, self.pixels.filename, self.sha256)
        return Photograph, (self.name, self.scene, self.pixels, self.sha256)


@dataclass(frozen=True)
class EmbeddedFile:
    """The place of an embedded photograph: `path` inside `module`, which `package` installs."""

    scene: str
    module: str
    path: str
    sha256: str

    @property
    def package(self) -> str:
        """The name of the package that installs the module."""
        return {"skimage": "scikit-image", "sklearn": "scikit-learn"}[self.module]

    @property
    def name(self) -> str:
        """The file's name without its extension."""
        return Path(self.path).stem


SIDES: Mapping[str, Side] = MappingProxyType(
    {
        "astronaut": "train",
        "brick": "train",
        "china": "train",
        "coins": "train",
        "grass": "train",
        "gravel": "train",
        "motorcycle": "train",
        "flower": "probe",
        "rocket": "probe",
        "camera": "held_out",
        "chelsea": "held_out",
        "coffee": "held_out",
    }
)
"""Scene → its side of the split. Microscopy, astronomy, drawings and text are left out."""


_FILES = """
astronaut skimage data/astronaut.png 88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5
brick skimage data/brick.png 7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf
camera skimage data/camera.png b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a
chelsea skimage data/chelsea.png 596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb
coffee skimage data/coffee.png cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7
coins skimage data/coins.png f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba
grass skimage data/grass.png b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89
gravel skimage data/gravel.png c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12
motorcycle skimage data/motorcycle_left.png db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179
motorcycle skimage data/motorcycle_right.png 5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797
rocket skimage data/rocket.jpg c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c
china sklearn datasets/images/china.jpg 8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29
flower sklearn datasets/images/flower.jpg a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638
"""
FILES = tuple(EmbeddedFile(*line.split()) for line in _FILES.strip().splitlines())
"""The embedded photographs: scene, module, path inside the module, sha256."""


def embedded_photographs(side: Side) -> tuple[Photograph, ...]:
    """Read the embedded photographs of one side of the split, in the order of `FILES`.

    Raises:
        InputError: a package or file is missing, or a file is not the one that this split was made for.
    """
    return tuple(_read_embedded(file) for file in FILES if SIDES[file.scene] == side)


def read_photograph(path: Path, name: str) -> Photograph:
    """Read a user's image file as a photograph that is its own scene.

    Raises:
        UserError: as `images.read_image`.
    """
    data = read_bytes(path)
    return Photograph(name, name, decode_image(data, path), hashlib.sha256(data).hexdigest())


def read_photographs(paths: Sequence[Path]) -> dict[Path, Photograph]:
    """Read the images of a folder into memory: path → photograph.

    Raises:
        UserError: as `images.read_image`.
    """
    return {path: read_photograph(path, name) for path, name in photograph_names(paths).items()}


def photograph_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Name the images of a folder: the file's name without extension if that is unique, else with extension."""
    stems = Counter(path.stem for path in paths)
    return {path: text_of(path.stem if stems[path.stem] == 1 else path.name) for path in paths}


def check_disjoint(*sets: dict[Path, Photograph]) -> None:
    """Make sure that no two of the sets have a file with the same content.

    Raises:
        UserError: two files have the same content; the message names both.
    """
    for some, others in itertools.combinations(sets, 2):
        known = {photograph.sha256: path for path, photograph in some.items()}
        for path, photograph in others.items():
            if photograph.sha256 in known:
                raise UserError(f"{path}: the same image as {known[photograph.sha256]}; keep it in one of the folders")


def _mapped(name: str, scene: str, path: Path, sha256: str) -> Photograph:
    """Open a photograph whose pixels are exactly those of a .npy."""
    return Photograph(name, scene, np.load(path, mmap_mode="r", allow_pickle=False), sha256)


def _read_embedded(file: EmbeddedFile) -> Photograph:
    remedy = f"reinstall it (pip install --force-reinstall {file.package}) or use `FolderPhotographs`"
    spec = importlib.util.find_spec(file.module)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(file.package, f"not installed, and {file.path} is one of its photographs; {remedy}")
    path = Path(spec.submodule_search_locations[0]) / file.path
    try:
        version = importlib.metadata.version(file.package)
    except importlib.metadata.PackageNotFoundError:
        version = "(version unknown)"
    source = f"{file.path} of {file.package} {version}"
    if not path.is_file():
        raise InputError(source, f"the file is missing; {remedy}")
    photograph = read_photograph(path, file.name)
    if photograph.sha256 != file.sha256:
        raise InputError(source, f"not the photograph this split was made for (sha256 differs); {remedy}")
    return Photograph(file.name, file.scene, photograph.pixels, photograph.sha256)


@dataclass(frozen=True)
class Encoded:
    """An image file, on disk or in an archive.

    Args:
        name: of the photograph.
        path: for messages; its stem becomes part of the prepared file's name.
        origin: the place of the file, and what changes with its content.
        read: returns the bytes of the file.
    """

    name: str
    path: Path
    origin: str
    read: Callable[[], bytes]

    @property
    def fingerprint(self) -> str:
        """The origin as sixteen hex digits."""
        return hashlib.sha256(self.origin.encode(errors="surrogateescape")).hexdigest()[:16]


def encoded_file(path: Path, name: str) -> Encoded:
    """Describe an image file on disk; its origin changes with its size and its time of change.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return Encoded(name, path, f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}", path.read_bytes)


def prepare(images: Sequence[Encoded], folder: Path, argument: str) -> tuple[Path, ...]:
    """Decode the images that are not in `folder` yet.

    Decoded images stay if the preparation breaks off. Another process that needs the folder waits.

    Args:
        images: any number.
        folder: the prepared folder; created if it does not exist.
        argument: the caller's argument that names the folder, for messages.

    Returns:
        The prepared file of each image.

    Raises:
        UserError: an image is damaged.
        InputError: the disk is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared = _prepared_files(folder)
    if all(image.fingerprint in prepared for image in images):  # without the lock: the folder may be read-only
        return tuple(prepared[image.fingerprint] for image in images)
    lock = FileLock(folder / ".lock")  # the system releases it when the process ends
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log.info("%s is being prepared by another run; waiting for it", folder)
        held = lock.acquire()
    with held:
        prepared = _prepared_files(folder)  # again: another process may have prepared images meanwhile
        missing = [image for image in images if image.fingerprint not in prepared]
        if missing:
            log.info("preparing %d images in %s", len(missing), folder)
            require_space(folder, sum(map(_decoded_size, missing)), argument, f"{len(missing)} decoded images")
        for image in missing:
            data = image.read()
            pixels = decode_image(data, image.path)
            stem = re.sub(r"[^\w-]", "_", image.path.stem, flags=re.ASCII)[:80] or "image"
            path = folder / f"{stem}-{image.fingerprint}-{hashlib.sha256(data).hexdigest()}.npy"
            with atomic_write(path) as temporary, temporary.open("wb") as out:
                np.save(out, pixels, allow_pickle=False)
            prepared[image.fingerprint] = path
    return tuple(prepared[image.fingerprint] for image in images)


def open_prepared(path: Path, name: str) -> Photograph:
    """Open a photograph whose pixels stay on disk until they are read.

    Raises:
        UserError: the file is missing or damaged.
    """
    match = _NAME.fullmatch(path.name)
    try:
        pixels: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: a damaged prepared image ({error}); delete it to have it decoded again") from error
    if match is None or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: not a prepared image; delete it to have it decoded again")
    return Photograph(name, name, pixels, match["sha256"])


def _prepared_files(folder: Path) -> dict[str, Path]:
    """Return the prepared files of a folder: fingerprint of the origin → file."""
    matches = ((path, _NAME.fullmatch(path.name)) for path in folder.iterdir())
    return {match["origin"]: path for path, match in matches if match and not path.name.startswith(".")}


def _decoded_size(image: Encoded) -> int:
    """Return the bytes of the decoded image, from its header; 0 if the header is damaged, which decoding reports."""
    try:
        return 3 * math.prod(declared_size(image.read()))
    except Exception:  # Decoders may raise any exception on damaged bytes.
        return 0
