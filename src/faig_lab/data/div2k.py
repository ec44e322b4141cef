"""The data source DIV2K: downloaded, checked and prepared once, then read crop by crop.

Agustsson and Timofte, NTIRE 2017 challenge on single image super-resolution: 800 photographs to train on and 100
for validation, most of them 2040 pixels wide.

The download of an archive is continued where it broke off, checked, and put in its place when it is complete. Received
bytes are kept beside the file as `<name>.part`, whatever ends the download. The next attempt, or the next run, requests
the rest (HTTP Range).
"""

import hashlib
import http.client
import json
import logging
import ssl
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from filelock import FileLock

from faig_lab.data.degradations.pipeline import Degradation
from faig_lab.data.evaluation import Crops, StudyData
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
from faig_lab.errors import InputError, UserError
from faig_lab.files import RefusedError, check_unpacked, gigabytes, require_space, write_json

log = logging.getLogger(__name__)

_CHUNK = 2**20
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 5  # in a row without a new byte
_TRY_AGAIN = {408, 429, 500, 502, 503, 504}
# The exceptions of a broken connection. A full disk is an OSError as well, but none of these.
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


@dataclass(frozen=True)
class Archive:
    """One of DIV2K's zip files.

    Args:
        file: its name on the server and in the root folder.
        images: the number of images in it.
        sha256: in hexadecimal; None: the sha256 of the first download is recorded and required from then on.
        size: in bytes; None: the size that the server reports.
    """

    file: str
    images: int
    sha256: str | None = None
    size: int | None = None

    @property
    def stem(self) -> str:
        """The name without .zip, which is also the name of the folder that the archive unpacks to."""
        return self.file.removesuffix(".zip")


@dataclass(frozen=True)
class Div2k(Crops):
    """DIV2K: the training images to train on, the validation images as probe and held-out.

    The first validation images, in the order of their names, are the probe; the next ones are held out.

    Args:
        root: folder of the archives and of the images prepared from them. An archive, or a folder of its name with
            its images, that already lies here is used instead of downloading.
        base_url: the address of the folder of archives on the server.
        train: the training images; None where both weights are given.
        valid: the validation images.
        probe_images: number of validation images in the probe.
        test_images: number of validation images that are held out; None: all others.
        probe_dir: a folder of images to attribute on instead.
        test_dir: a folder of held-out images instead.

    Raises:
        InputError: as `Crops`; or an archive's name is no plain file name, or a number of images is out of range.
    """

    root: str | Path
    base_url: str
    train: Archive | None
    valid: Archive
    probe_images: int = 20
    test_images: int | None = None
    probe_dir: str | Path | None = None
    test_dir: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument, archive in (("train", self.train), ("valid", self.valid)):
            if archive is None:
                continue
            if archive.file != Path(archive.file).name or not archive.file.endswith(".zip"):
                raise InputError(f"{argument}.file", f"must be the name of a .zip without folders, not {archive.file}")
            if archive.images < 1:
                raise InputError(f"{argument}.images", f"must be at least 1, not {archive.images}")
        used = 0 if self.probe_dir is not None else self.probe_images
        if self.probe_images < 1 or (self.probe_dir is None and used > self.valid.images - 1):
            raise InputError("probe_images", f"must be from 1 to {self.valid.images - 1}, not {self.probe_images}")
        left = self.valid.images - used
        if self.test_images is not None and not 1 <= self.test_images <= left:
            raise InputError(
                "test_images",
                f"must be from 1 to {left}, not {self.test_images}: "
                f"{used} of the {self.valid.images} validation images are the probe",
            )

    def load(self, degradation: Degradation, seed: int) -> StudyData:
        """Download and prepare missing images, and degrade probe and held-out; the same for every `seed`.

        Raises:
            InputError: the server has another archive or cannot be reached, or the disk is too small.
            UserError: an archive or an image is damaged, or two of the sets hold the same image.
        """
        train = self._photographs(self.train, "train") if self.train is not None else {}
        probe, held_out = (
            None if folder is None else read_photographs(list_images(folder, argument))
            for argument, folder in (("probe_dir", self.probe_dir), ("test_dir", self.test_dir))
        )
        if probe is None or held_out is None:
            valid = list(self._photographs(self.valid, "valid").items())
            first = self.probe_images if probe is None else 0
            last = None if self.test_images is None else first + self.test_images
            probe = dict(valid[:first]) if probe is None else probe
            held_out = dict(valid[first:last]) if held_out is None else held_out
        check_disjoint(train, probe, held_out)
        return self.study(train.values(), probe.values(), held_out.values(), degradation)

    def _photographs(self, archive: Archive, argument: str) -> dict[Path, Photograph]:
        """Return the images of an archive, memory-mapped, by their paths in messages."""
        root = Path(self.root).expanduser()
        prepared = root / "prepared"
        index = prepared / f"{archive.stem}.json"
        files = _indexed(index, archive)  # without the lock: the root may be read-only
        if files is None:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{archive.stem}.lock"):
                files = _indexed(index, archive)  # another run may have written the index meanwhile
                if files is None:
                    digest, files = self._prepare(archive, argument, prepared)
                    write_json(index, {"sha256": digest, "photographs": files})
        return {root / archive.stem / n: open_prepared(prepared / f, Path(n).stem) for n, f in files.items()}

    def _prepare(self, archive: Archive, argument: str, prepared: Path) -> tuple[str | None, dict[str, str]]:
        """Decode the images of the unpacked folder or of the archive.

        Returns:
            The archive's sha256 (None for a folder), and image's name → name of its prepared file.
        """
        root = Path(self.root).expanduser()
        place, digest = root / archive.stem, None
        with ExitStack() as stack:
            if place.is_dir():
                images = [encoded_file(path, path.name) for path in list_images(place, "root")]
            else:
                place = root / archive.file
                address = f"{self.base_url.rstrip('/')}/{archive.file}"
                digest = download(RemoteFile(address, archive.sha256, archive.size, argument), place)
                images = _members(stack.enter_context(_opened(place)), place)
            if len(images) != archive.images:
                raise InputError(
                    f"{argument}.images",
                    f"{place} holds {len(images)} images, expected {archive.images}; "
                    f"delete it to download it again, or correct `{argument}.images`",
                )
            files = prepare(images, prepared, "root")
        if digest is not None:
            log.info("%s is prepared in %s and may be deleted", place, prepared)
        return digest, {image.name: file.name for image, file in zip(images, files, strict=True)}


def _indexed(index: Path, archive: Archive) -> dict[str, str] | None:
    """Read the index; None if it belongs to another archive or one of its files is missing."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        digest, files = content["sha256"], dict(content["photographs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = len(files) == archive.images and (digest is None or archive.sha256 in (None, digest))
    return files if same and all((index.parent / file).is_file() for file in files.values()) else None


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; damage becomes a UserError."""
    try:
        with zipfile.ZipFile(path) as content:
            check_unpacked(content, path.stat().st_size)
            yield content
    except RefusedError as error:
        raise UserError(f"{path}: {error}; get another copy") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: a damaged archive ({error}); delete it to download it again") from error


def _members(content: zipfile.ZipFile, path: Path) -> list[Encoded]:
    """Return the images of an archive, sorted by name. No file is ever written under a name from inside it."""
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
            partial(content.read, info),
        )
        for name, info in sorted(images.items())
    ]


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Args:
        url: http or https.
        sha256: of its bytes, in hexadecimal; None: the sha256 of the first download is recorded and required from
            then on.
        size: in bytes; None: the size that the server reports.
        argument: the caller's argument that describes the file, for messages: `<argument>.sha256`, `<argument>.size`.
    """

    url: str
    sha256: str | None = None
    size: int | None = None
    argument: str = "remote"


class _BrokenTransferError(Exception):
    """The transfer ended early; the received bytes are kept."""


def download(remote: RemoteFile, path: Path, pause: float = 1.0) -> str:
    """Download a file to `path`, unless it exists, and check it.

    A transfer that breaks off is continued after a pause. The pause doubles with each attempt, and the fifth attempt in
    a row without a new byte is the last. If the server ignores Range, the transfer starts from the beginning.

    Args:
        remote: the file to download.
        path: its place; no other file of the folder is touched, except `<name>.part`, `.rejected` and `.sha256`.
        pause: seconds before the second attempt.

    Returns:
        The sha256 of the file.

    Raises:
        InputError: the server has no such file or cannot be reached, the disk is too small, or size or sha256 differ
            from the expected ones. A complete file with a wrong sha256 is kept as `<name>.rejected`. The error names
            `remote.argument`, or the caller's arguments `base_url` or `root`.
    """
    if not remote.url.startswith(("http://", "https://")):
        raise InputError(remote.argument, f"{remote.url} is no http or https address")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        return _check(path, path, remote)
    partial = path.with_name(f"{path.name}.part")
    _transfer(remote, partial, pause)
    digest = _check(partial, path, remote)
    if remote.sha256 is None:
        path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    partial.replace(path)
    return digest


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(file: Path, path: Path, remote: RemoteFile) -> str:
    """Check size and sha256 of `file`, which is at `path` or is the partial file, and return the sha256.

    A wrong partial file is renamed, or every further run would find it again.
    """
    size, digest, record = file.stat().st_size, sha256(file), path.with_name(f"{path.name}.sha256")
    expected = remote.sha256
    if expected is None and record.is_file():
        expected = record.read_text(encoding="utf-8").split()[0]
    if remote.size not in (None, size):
        name, wrong, right = "size", f"{size} bytes", f"{remote.size} bytes"
    elif expected not in (None, digest):
        name, wrong, right = "sha256", digest, f"{expected}"
    else:
        return digest
    remedy = "delete it"
    if file != path:
        kept = file.replace(path.with_name(f"{path.name}.rejected"))
        remedy = f"it is kept as {kept.name}; start again"
    argument = f"{remote.argument}.{name}"
    raise InputError(
        argument,
        f"{path}: expected {right}, found {wrong}; {remedy} to download it again, or correct `{argument}`",
    )


def _transfer(remote: RemoteFile, partial: Path, pause: float) -> None:
    """Complete `partial`, over as many connections as are necessary."""
    failures, wait, length = 0, pause, _length(partial)
    while True:
        try:
            _connect(remote, partial)
            return
        except (_BrokenTransferError, *_BROKEN) as error:
            reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        before, length = length, _length(partial)
        if length > before:
            failures, wait = 0, pause
        failures += 1
        if failures == _ATTEMPTS:
            raise InputError(
                remote.argument,
                f"{remote.url}: {reason}, {_ATTEMPTS} times in a row; {gigabytes(length)} "
                f"are kept in {partial}: start again later to continue, or set `base_url` to a mirror",
            )
        log.info("%s: %s; trying again in %.0f s", remote.url, reason, wait)
        time.sleep(wait)
        wait *= 2


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _connect(remote: RemoteFile, partial: Path) -> None:
    """Open one connection, request the missing bytes and append them."""
    present = _length(partial)
    if present and present == remote.size:
        return
    request = urllib.request.Request(remote.url, headers={"User-Agent": "faig-lab"})
    if present:
        request.add_header("Range", f"bytes={present}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            _receive(response, remote, partial, present)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the server has no bytes after the present ones
            if error.headers.get("Content-Range", "").rpartition("/")[2] == str(present):
                return
            partial.unlink()
            raise _BrokenTransferError("the partial file belongs to another file") from error
        reason = f"the server says {error.code} {error.reason}"
        if error.code not in _TRY_AGAIN:
            raise InputError("base_url", f"{remote.url}: {reason}; give another base_url") from error
        raise _BrokenTransferError(reason) from error


def _receive(response: http.client.HTTPResponse, remote: RemoteFile, partial: Path, present: int) -> None:
    """Append the body of one response to the present bytes, or replace them if the server sends the whole file."""
    sent = response.headers.get("Content-Range", "")  # bytes first-last/total
    continued = response.status == 206 and sent.startswith(f"bytes {present}-")
    if response.status == 206 and not continued:
        partial.unlink(missing_ok=True)  # the next attempt requests the whole file
        raise _BrokenTransferError("the server sent another part than was requested")
    done = present if continued else 0
    declared = sent.rpartition("/")[2] if continued else response.headers.get("Content-Length", "")
    total = int(declared) if declared.isdigit() else None
    if remote.size is not None and total not in (None, remote.size):
        argument = f"{remote.argument}.size"
        raise InputError(
            argument,
            f"{remote.url}: the server has {total} bytes, expected {remote.size}; "
            f"set `base_url` to another mirror, or correct `{argument}`",
        )
    total = total or remote.size
    if total is not None:
        require_space(partial.parent, total - done, "root", partial.name.removesuffix(".part"))
    tenths = -1  # of the file, each of which writes a line to the log
    with partial.open("ab" if continued else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            if total and done * 10 // total > tenths:
                tenths = done * 10 // total
                log.info("downloading %s: %s of %s", remote.url, gigabytes(done), gigabytes(total))
    if total is not None and done < total:
        raise _BrokenTransferError(f"the line broke off at {gigabytes(done)} of {gigabytes(total)}")
