"""Download of one large file: continued where it broke off, checked, and in its place only when it is whole.

What has arrived lies beside it as `<name>.part`, whatever ends the download; the next attempt, or the next run,
asks for the rest (HTTP Range).
"""

import hashlib
import http.client
import logging
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

from faig_lab.errors import UserError
from faig_lab.resources import gigabytes, require_space

log = logging.getLogger(__name__)

_CHUNK = 2**20
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 5  # in a row without a new byte
_TRY_AGAIN = {408, 429, 500, 502, 503, 504}
# What a broken line looks like from here; a full disk is an OSError too, and is not one of these.
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Args:
        url: http or https.
        sha256: of its bytes, in hexadecimal; None: whatever comes first is recorded and asked for from then on.
        size: in bytes; None: what the server says.
        key: the setting that describes it, for messages: `<key>.sha256`, `<key>.size`.
    """

    url: str
    sha256: str | None = None
    size: int | None = None
    key: str = "data"


class _LineBrokenError(Exception):
    """The transfer ended early; what has arrived is kept."""


def download(remote: RemoteFile, path: Path, pause: float = 1.0) -> str:
    """Bring a file to `path`, unless it is there, and check it.

    A transfer that breaks off is continued after a pause that doubles, until five attempts in a row brought not
    one byte. A server that ignores Range starts it anew.

    Args:
        remote: what to download.
        path: where to; the rest of its folder is left alone, except `<name>.part`, `.rejected` and `.sha256`.
        pause: seconds before the second attempt.

    Returns:
        The sha256 of the file.

    Raises:
        UserError: the server has no such file or cannot be reached, the disk is too small, or size or sha256 are
            not those expected; a file that arrived whole and wrong is kept as `<name>.rejected`.
    """
    if not remote.url.startswith(("http://", "https://")):
        raise UserError(f"{remote.key}: {remote.url} is no http or https address")
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
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(found: Path, path: Path, remote: RemoteFile) -> str:
    """The sha256 of `found`, which is at `path` or on its way there.

    One on its way is put aside if it is wrong, or every further run would meet it again.
    """
    size = found.stat().st_size
    digest = sha256(found)
    expected = remote.sha256 or _recorded(path)
    if remote.size not in (None, size):
        name, wrong, wanted = "size", f"{size} bytes", f"{remote.size} bytes"
    elif expected not in (None, digest):
        name, wrong, wanted = "sha256", digest, f"{expected}"
    else:
        return digest
    remedy = "delete it"
    if found != path:
        kept = found.replace(_beside(path, ".rejected"))
        remedy = f"it is kept as {kept.name}; start again"
    raise UserError(
        f"{remote.key}.{name}: {path}: expected {wanted}, found {wrong}; {remedy} to download it anew, "
        f"or correct {remote.key}.{name}"
    )


def _recorded(path: Path) -> str | None:
    """The sha256 of the first download, where none was known."""
    record = _beside(path, ".sha256")
    return record.read_text(encoding="utf-8").split()[0] if record.is_file() else None


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _transfer(remote: RemoteFile, partial: Path, pause: float) -> None:
    """Fill `partial` to its end, over as many connections as it takes."""
    failures, wait = 0, pause
    while True:
        before = _length(partial)
        try:
            _connect(remote, partial)
            return
        except (_LineBrokenError, *_BROKEN) as error:
            reason = _reason(error, remote)
        if _length(partial) > before:
            failures, wait = 0, pause
        failures += 1
        if failures == _ATTEMPTS:
            raise UserError(
                f"{remote.key}: {remote.url}: {reason}, {_ATTEMPTS} times in a row; {gigabytes(_length(partial))} "
                f"are kept in {partial}: start again later to continue, or set data.base_url to a mirror"
            )
        log.info("%s: %s; trying again in %.0f s", remote.url, reason, wait)
        time.sleep(wait)
        wait *= 2


def _connect(remote: RemoteFile, partial: Path) -> None:
    """One connection: ask for what is missing and append it."""
    have = _length(partial)
    if have and have == remote.size:
        return
    request = urllib.request.Request(remote.url, headers={"User-Agent": "faig-lab"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            _receive(response, remote, partial, have)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:
            raise
        _out_of_range(error, partial, have)


def _out_of_range(error: urllib.error.HTTPError, partial: Path, have: int) -> None:
    """The server has nothing after what is here: it is all of it, or it is another file."""
    if _total(error.headers) != have:
        partial.unlink()
        raise _LineBrokenError("the partial file is not of this one") from error


def _receive(response: http.client.HTTPResponse, remote: RemoteFile, partial: Path, have: int) -> None:
    """Write the body of one response behind what is there, or from the start if that is what the server sends."""
    continued = response.status == 206 and _first(response.headers) == have
    if response.status == 206 and not continued:
        partial.unlink(missing_ok=True)  # without a Range the next attempt gets all of it
        raise _LineBrokenError("the server sent another part than was asked for")
    start = have if continued else 0
    total = _total(response.headers) if continued else _number(response.headers.get("Content-Length", ""))
    if remote.size is not None and total not in (None, remote.size):
        raise UserError(
            f"{remote.key}.size: {remote.url}: the server has {total} bytes, expected {remote.size}; "
            f"set data.base_url to another mirror, or correct {remote.key}.size"
        )
    total = total or remote.size
    if total is not None:
        require_space(partial.parent, total - start, "data.root", partial.name.removesuffix(".part"))
    with partial.open("ab" if continued else "wb") as file:
        for chunk in _chunks(response, _Progress(remote.url, start, total)):
            file.write(chunk)
    if total is not None and _length(partial) < total:
        raise _LineBrokenError(f"the line broke off at {gigabytes(_length(partial))} of {gigabytes(total)}")


def _chunks(response: http.client.HTTPResponse, progress: "_Progress") -> Iterator[bytes]:
    while chunk := response.read(_CHUNK):
        progress.add(len(chunk))
        yield chunk


@dataclass
class _Progress:
    """A line of the log for every tenth of the file."""

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
    """Why a connection failed.

    Raises:
        UserError: it is not worth another attempt.
    """
    if isinstance(error, urllib.error.HTTPError):
        if error.code not in _TRY_AGAIN:
            raise UserError(
                f"data.base_url: {remote.url}: the server says {error.code} {error.reason}; give another base_url"
            ) from error
        return f"the server says {error.code} {error.reason}"
    text = " ".join(str(getattr(error, "reason", None) or error).split())
    return text or type(error).__name__


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _first(headers: Message) -> int | None:
    """The first byte of `Content-Range: bytes first-last/total`."""
    return _number(headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0])


def _total(headers: Message) -> int | None:
    """The total of `Content-Range: bytes first-last/total`."""
    return _number(headers.get("Content-Range", "").rpartition("/")[2])


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
