"""The data source for DIV2K: downloaded, checked and prepared once, then read crop by crop.

Agustsson and Timofte, NTIRE 2017 challenge on single image super-resolution: 800 photographs to train on and 100
for validation, most of them 2040 pixels wide.
"""

import json
import logging
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from filelock import FileLock

from faig_lab.archives import RefusedError, check_unpacked
from faig_lab.data.degradations import Degradation
from faig_lab.data.download import RemoteFile, download
from faig_lab.data.evaluation import StudyData, check_crops, paired_images
from faig_lab.data.images import EXTENSIONS, list_images
from faig_lab.data.photographs import (
    Encoded,
    Photograph,
    check_disjoint,
    encoded_file,
    open_prepared,
    prepare,
    read_photographs,
)
from faig_lab.errors import UserError
from faig_lab.files import write_json

log = logging.getLogger(__name__)

Photographs = dict[Path, Photograph]


@dataclass(frozen=True)
class Archive:
    """One of DIV2K's zip files.

    Args:
        file: its name on the server and in the root folder.
        images: how many it holds.
        sha256: in hexadecimal; None: that of the first download is recorded and asked for from then on.
        size: in bytes; None: what the server says.
    """

    file: str
    images: int
    sha256: str | None = None
    size: int | None = None

    @property
    def stem(self) -> str:
        """The name without .zip, which is also that of the folder it unpacks to."""
        return self.file.removesuffix(".zip")


@dataclass(frozen=True)
class Div2k:
    """DIV2K: the training images to train on, the validation images as probe and held-out.

    Of the validation images, in order of their names, the first are the probe and the next ones held out.

    Args:
        root: folder of the archives and of what is prepared from them. An archive, or a folder of its name with
            its images, that lies here already is taken instead of downloading.
        base_url: where the archives are.
        train: the training images; None where both weights are given.
        valid: the validation images.
        probe_images: how many of them are the probe.
        test_images: how many are held out; None: all others.
        probe_dir: a folder of images to attribute on instead.
        test_dir: a folder of held-out images instead.
        probe_crop: side of the probe crops in HR pixels, cut to a multiple of the scale; None: all of it.
        probe_crops: how many per image; fewer where no more fit without overlap.
        test_crop: the same for held-out images.
        test_crops: the same for held-out images.

    Raises:
        UserError: a crop is smaller than 16 pixels, an archive's name is no plain file name, or there is not one
            of something.
    """

    root: str | Path
    base_url: str
    train: Archive | None
    valid: Archive
    probe_images: int = 20
    test_images: int | None = None
    probe_dir: str | Path | None = None
    test_dir: str | Path | None = None
    probe_crop: int | None = 128
    probe_crops: int = 2
    test_crop: int | None = 192
    test_crops: int = 2

    def __post_init__(self) -> None:
        check_crops("probe", self.probe_crop, self.probe_crops)
        check_crops("test", self.test_crop, self.test_crops)
        for key, archive in (("data.train", self.train), ("data.valid", self.valid)):
            if archive is not None:
                _check_archive(archive, key)
        used = 0 if self.probe_dir is not None else self.probe_images
        if self.probe_images < 1 or (self.probe_dir is None and used > self.valid.images - 1):
            raise UserError(f"data.probe_images: must be from 1 to {self.valid.images - 1}, not {self.probe_images}")
        left = self.valid.images - used
        if self.test_images is not None and not 1 <= self.test_images <= left:
            raise UserError(
                f"data.test_images: must be from 1 to {left}, not {self.test_images}: "
                f"{used} of the {self.valid.images} validation images are the probe"
            )

    def load(self, degradation: Degradation, seed: int) -> StudyData:
        """Download and prepare what is missing, and degrade probe and held-out; the same for every `seed`.

        Raises:
            UserError: the server, an archive, an image or the disk cannot be worked with, or two of the sets
                hold the same image.
        """
        train = self._photographs(self.train, "data.train") if self.train is not None else {}
        probe, held_out = self._evaluation()
        for some, others in ((train, probe), (train, held_out), (probe, held_out)):
            check_disjoint(some, others)
        return StudyData(
            train=tuple(train.values()),
            probe=paired_images(tuple(probe.values()), degradation, self.probe_crop, self.probe_crops),
            held_out=paired_images(tuple(held_out.values()), degradation, self.test_crop, self.test_crops),
            degradations=tuple(degradation.parts),
        )

    def _evaluation(self) -> tuple[Photographs, Photographs]:
        """Probe and held-out: from folders, or their shares of the validation images."""
        folders = [
            None if folder is None else read_photographs(list_images(Path(folder).expanduser(), key))
            for key, folder in (("data.probe_dir", self.probe_dir), ("data.test_dir", self.test_dir))
        ]
        probe, held_out = folders
        if probe is not None and held_out is not None:
            return probe, held_out
        valid = list(self._photographs(self.valid, "data.valid").items())
        first = self.probe_images if probe is None else 0
        last = None if self.test_images is None else first + self.test_images
        return (
            dict(valid[:first]) if probe is None else probe,
            dict(valid[first:last]) if held_out is None else held_out,
        )

    def _photographs(self, archive: Archive, key: str) -> Photographs:
        """The images of an archive, mapped, by what messages call them."""
        root = Path(self.root).expanduser()
        prepared = root / "prepared"
        index = prepared / f"{archive.stem}.json"
        files = _indexed(index, archive)  # without the lock: the root may be for reading only
        if files is None:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{archive.stem}.lock"):
                files = _indexed(index, archive)  # another run may have made it while this one waited
                if files is None:
                    digest, files = self._prepare(archive, key, prepared)
                    write_json(index, {"sha256": digest, "photographs": files})
        return {root / archive.stem / n: open_prepared(prepared / f, Path(n).stem) for n, f in files.items()}

    def _prepare(self, archive: Archive, key: str, prepared: Path) -> tuple[str | None, dict[str, str]]:
        """Decode the images of the unpacked folder or of the archive: the archive's sha256, image → prepared file."""
        root = Path(self.root).expanduser()
        unpacked = root / archive.stem
        if unpacked.is_dir():
            paths = list_images(unpacked, "data.root")
            _check_count(len(paths), archive, key, unpacked)
            return None, _files([encoded_file(path, path.name) for path in paths], prepared)
        path = root / archive.file
        remote = RemoteFile(f"{self.base_url.rstrip('/')}/{archive.file}", archive.sha256, archive.size, key)
        digest = download(remote, path)
        with _opened(path) as content:
            images = _members(content, path)
            _check_count(len(images), archive, key, path)
            files = _files(images, prepared)
        log.info("%s is prepared in %s and may be deleted", path, prepared)
        return digest, files


def _check_archive(archive: Archive, key: str) -> None:
    """Refuse a name that leads elsewhere, and an archive of nothing."""
    if archive.file != Path(archive.file).name or not archive.file.endswith(".zip"):
        raise UserError(f"{key}.file: must be the name of a .zip without folders, not {archive.file}")
    if archive.images < 1:
        raise UserError(f"{key}.images: must be at least 1, not {archive.images}")


def _files(images: Sequence[Encoded], prepared: Path) -> dict[str, str]:
    """Image's name → name of its prepared file."""
    files = prepare(images, prepared, "data.root")
    return {image.name: file.name for image, file in zip(images, files, strict=True)}


def _indexed(index: Path, archive: Archive) -> dict[str, str] | None:
    """What the index says, if it is of this archive and all of its files are there."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        digest, files = content["sha256"], dict(content["photographs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = len(files) == archive.images and (digest is None or archive.sha256 in (None, digest))
    return files if same and all((index.parent / file).is_file() for file in files.values()) else None


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive, in which damage is a UserError."""
    try:
        with zipfile.ZipFile(path) as content:
            check_unpacked(content, path.stat().st_size)
            yield content
    except RefusedError as error:
        raise UserError(f"{path}: {error}; get another copy") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: a damaged archive ({error}); delete it to download it anew") from error


def _members(content: zipfile.ZipFile, path: Path) -> list[Encoded]:
    """The images of an archive by their file names; nothing is ever written under a name from inside it."""
    members = [info for info in content.infolist() if not info.is_dir()]
    for info in members:
        inside, windows = PurePosixPath(info.filename), PureWindowsPath(info.filename)
        if inside.is_absolute() or windows.anchor or ".." in windows.parts:
            raise UserError(f"{path}: {info.filename} leads out of the archive; it is not used, get another copy")
    images = {
        PurePosixPath(info.filename).name: info
        for info in members
        if PurePosixPath(info.filename).suffix.lower() in EXTENSIONS
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(info.filename).parts)
    }
    return [
        Encoded(
            name,
            path / info.filename,
            f"{path.name}/{info.filename}|{info.file_size}|{info.CRC}",
            partial(content.open, info),
        )
        for name, info in sorted(images.items())
    ]


def _check_count(found: int, archive: Archive, key: str, path: Path) -> None:
    if found != archive.images:
        raise UserError(
            f"{key}.images: {path} holds {found} images, expected {archive.images}; "
            f"delete it to download it anew, or correct {key}.images"
        )
