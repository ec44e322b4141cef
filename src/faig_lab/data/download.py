"""Download of one large file: continued where it broke off, checked, and put in its place when it is complete.

Received bytes are kept beside the file as `<name>.part`, whatever ends the download. The next attempt, or the next run,
requests the rest (HTTP Range).
"""

import hashlib
import http.client
import logging
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

from faig_lab.errors import InputError
from faig_lab.files import gigabytes, require_space

log = logging.getLogger(__name__)

_CHUNK = 2**20
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 5  # in a row without a new byte
_TRY_AGAIN = {408, 429, 500, 502, 503, 504}
# The exceptions of a broken connection. A full disk is an OSError as well, but none of these.
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


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
    partial = _beside(path, ".part")
    _transfer(remote, partial, pause)
    digest = _check(partial, path, remote)
    if remote.sha256 is None:
        _beside(path, ".sha256").write_text(f"{digest}  {path.name}\n", encoding="utf-8")
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
    size = file.stat().st_size
    digest = sha256(file)
    expected = remote.sha256 or _recorded(path)
    if remote.size not in (None, size):
        name, wrong, right = "size", f"{size} bytes", f"{remote.size} bytes"
    elif expected not in (None, digest):
        name, wrong, right = "sha256", digest, f"{expected}"
    else:
        return digest
    remedy = "delete it"
    if file != path:
        kept = file.replace(_beside(path, ".rejected"))
        remedy = f"it is kept as {kept.name}; start again"
    argument = f"{remote.argument}.{name}"
    raise InputError(
        argument,
        f"{path}: expected {right}, found {wrong}; {remedy} to download it again, or correct `{argument}`",
    )


def _recorded(path: Path) -> str | None:
    """Return the recorded sha256 of the first download; None if none was recorded."""
    record = _beside(path, ".sha256")
    return record.read_text(encoding="utf-8").split()[0] if record.is_file() else None


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _transfer(remote: RemoteFile, partial: Path, pause: float) -> None:
    """Complete `partial`, over as many connections as are necessary."""
    failures, wait = 0, pause
    while True:
        before = _length(partial)
        try:
            _connect(remote, partial)
            return
        except (_BrokenTransferError, *_BROKEN) as error:
            reason = _reason(error, remote)
        if _length(partial) > before:
            failures, wait = 0, pause
        failures += 1
        if failures == _ATTEMPTS:
            raise InputError(
                remote.argument,
                f"{remote.url}: {reason}, {_ATTEMPTS} times in a row; {gigabytes(_length(partial))} "
                f"are kept in {partial}: start again later to continue, or set `base_url` to a mirror",
            )
        log.info("%s: %s; trying again in %.0f s", remote.url, reason, wait)
        time.sleep(wait)
        wait *= 2


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
        if error.code != 416:
            raise
        _out_of_range(error, partial, present)


def _out_of_range(error: urllib.error.HTTPError, partial: Path, present: int) -> None:
    """Handle a server that has no bytes after the present ones: the file is complete, or it is another file."""
    if _total(error.headers) != present:
        partial.unlink()
        raise _BrokenTransferError("the partial file belongs to another file") from error


def _receive(response: http.client.HTTPResponse, remote: RemoteFile, partial: Path, present: int) -> None:
    """Append the body of one response to the present bytes, or replace them if the server sends the whole file."""
    continued = response.status == 206 and _first(response.headers) == present
    if response.status == 206 and not continued:
        partial.unlink(missing_ok=True)  # the next attempt requests the whole file
        raise _BrokenTransferError("the server sent another part than was requested")
    start = present if continued else 0
    total = _total(response.headers) if continued else _number(response.headers.get("Content-Length", ""))
    if remote.size is not None and total not in (None, remote.size):
        argument = f"{remote.argument}.size"
        raise InputError(
            argument,
            f"{remote.url}: the server has {total} bytes, expected {remote.size}; "
            f"set `base_url` to another mirror, or correct `{argument}`",
        )
    total = total or remote.size
    if total is not None:
        require_space(partial.parent, total - start, "root", partial.name.removesuffix(".part"))
    progress = _Progress(remote.url, start, total)
    with partial.open("ab" if continued else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            progress.add(len(chunk))
    if total is not None and _length(partial) < total:
        raise _BrokenTransferError(f"the line broke off at {gigabytes(_length(partial))} of {gigabytes(total)}")


@dataclass
class _Progress:
    """Writes a line to the log for every tenth of the file."""

    url: str
    done: int
    total: int | None
    tenths: int = field(default=-1)

    def add(self, count: int) -> None:
        self.done += count
        if self.total and self.done * 10 // self.total > self.tenths:
            self.tenths = self.done * 10 // self.total
            log.info("downloading %s: %s of %s", self.url, gigabytes(self.done), gigabytes(self.total))


def _reason(error: Exception, remote: RemoteFile) -> str:
    """Return the reason why a connection failed.

    Raises:
        InputError: another attempt would fail as well.
    """
    if isinstance(error, urllib.error.HTTPError):
        if error.code not in _TRY_AGAIN:
            raise InputError(
                "base_url", f"{remote.url}: the server says {error.code} {error.reason}; give another base_url"
            ) from error
        return f"the server says {error.code} {error.reason}"
    text = " ".join(str(getattr(error, "reason", None) or error).split())
    return text or type(error).__name__


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _first(headers: Message) -> int | None:
    """Read the first byte's number from `Content-Range: bytes first-last/total`."""
    return _number(headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0])


def _total(headers: Message) -> int | None:
    """Read the total from `Content-Range: bytes first-last/total`."""
    return _number(headers.get("Content-Range", "").rpartition("/")[2])


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
