"""Downloads against a local server: continued where they broke off, and in place only when whole and right."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from file_server import FileServer, serving

from faig_lab.data.div2k import RemoteFile, download
from faig_lab.errors import UserError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        server.files["a.zip"] = CONTENT
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    return tmp_path / "new" / "a.zip"


def remote(server: FileServer, sha256: str | None = SHA256, size: int | None = len(CONTENT)) -> RemoteFile:
    return RemoteFile(f"{server.url}/a.zip", sha256, size, "train")


def arrives(remote: RemoteFile, path: Path) -> None:
    """The file is downloaded, whole and alone."""
    assert download(remote, path, pause=0) == SHA256
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir() if entry.suffix != ".sha256"] == ["a.zip"]


def ranges(server: FileServer) -> list[str | None]:
    return [asked for _, asked in server.requests]


def refusal(remote: RemoteFile, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        download(remote, path, pause=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_arrives_and_is_not_downloaded_again(server: FileServer, path: Path) -> None:
    path.parent.rmdir()
    for _ in range(2):
        arrives(remote(server), path)
        assert ranges(server) == [None]


@pytest.mark.parametrize(
    ("broken", "asked"),
    [
        ([1_200_000, 0, 700_000], [None, "bytes=1200000-", "bytes=1200000-", "bytes=1900000-"]),
        ([200_000] * 14, [None, *(f"bytes={200_000 * n}-" for n in range(1, 15))]),  # not counted if something arrives
    ],
)
def test_a_broken_line_is_continued_at_the_byte_where_it_broke(
    server: FileServer, path: Path, broken: list[int], asked: list[str | None]
) -> None:
    server.broken = broken
    arrives(remote(server), path)
    assert ranges(server) == asked


def test_after_five_attempts_without_a_byte_the_part_is_kept_for_the_next_run(server: FileServer, path: Path) -> None:
    server.broken = [1_000_000, *[0] * 5]
    message = refusal(remote(server), path)
    assert message.startswith(f"train: {server.url}/a.zip: the line broke off at 1.00 MB of 3.00 MB, 5 times")
    assert f"1.00 MB are kept in {path}.part: start again later to continue" in message
    assert (path.parent / "a.zip.part").read_bytes() == CONTENT[:1_000_000]
    arrives(remote(server), path)
    assert server.requests[-1] == ("a.zip", "bytes=1000000-")


def test_the_pauses_double_and_start_anew_after_progress(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("faig_lab.data.div2k.time", SimpleNamespace(sleep=pauses.append))
    server.broken = [0, 0, 0, 1_000_000, 0]
    download(remote(server), path)
    assert pauses == [1, 2, 4, 1, 2]


def test_an_interrupted_download_goes_on(server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    server.broken = [1_500_000]
    with monkeypatch.context() as patch:
        patch.setattr("faig_lab.data.div2k.time", SimpleNamespace(sleep=interrupt))
        with pytest.raises(KeyboardInterrupt):
            download(remote(server), path)
    arrives(remote(server), path)
    assert ranges(server) == [None, "bytes=1500000-"]


@pytest.mark.parametrize(
    ("fault", "size", "asked"),
    [
        ({"ranges": False}, len(CONTENT), [None, "bytes=1200000-"]),  # starts anew
        ({"ranges": False}, None, [None, "bytes=1200000-"]),
        ({"wrong_part": True}, len(CONTENT), [None, "bytes=1200000-", None]),  # is asked for all
        ({"lengths": False}, len(CONTENT), [None, "bytes=1200000-"]),  # held to the size that is known
    ],
)
def test_servers_that_ignore_range_send_another_part_or_tell_no_length(
    server: FileServer, path: Path, fault: dict[str, bool], size: int | None, asked: list[str | None]
) -> None:
    vars(server).update(fault, broken=[1_200_000])
    arrives(remote(server, size=size), path)
    assert ranges(server) == asked


@pytest.mark.parametrize("size", [len(CONTENT), None])
@pytest.mark.parametrize("more", [b"", b"more"])
def test_a_part_that_is_whole_is_only_checked_and_one_too_long_is_of_another_file(
    server: FileServer, path: Path, size: int | None, more: bytes
) -> None:
    path.with_name("a.zip.part").write_bytes(CONTENT + more)
    arrives(remote(server, size=size), path)
    length = len(CONTENT + more)
    assert ranges(server) == ([] if size == length else [f"bytes={length}-", *([None] if more else [])])


def test_wrong_bytes_name_file_expected_and_found_and_are_put_aside(server: FileServer, path: Path) -> None:
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    server.files["a.zip"] = wrong
    found = hashlib.sha256(wrong).hexdigest()
    assert refusal(remote(server), path) == (
        f"train.sha256: {path}: expected {SHA256}, found {found}; it is kept as a.zip.rejected; "
        "start again to download it again, or correct `train.sha256`"
    )
    (kept,) = path.parent.iterdir()
    assert kept.name == "a.zip.rejected"
    kept.unlink()
    server.files["a.zip"] = CONTENT
    arrives(remote(server), path)


def test_a_wrong_file_that_is_there_is_left_alone(server: FileServer, path: Path) -> None:
    path.write_bytes(b"mine")
    assert f"train.size: {path}: expected 3000000 bytes, found 4 bytes; delete it" in refusal(remote(server), path)
    assert f"{path}: expected {SHA256}, found" in refusal(remote(server, size=None), path)
    assert path.read_bytes() == b"mine"


def test_without_a_checksum_that_of_the_first_download_counts(server: FileServer, path: Path) -> None:
    unknown = remote(server, sha256=None, size=None)
    arrives(unknown, path)
    assert (path.parent / "a.zip.sha256").read_text() == f"{SHA256}  a.zip\n"
    path.write_bytes(CONTENT[:-1])
    assert f"train.sha256: {path}: expected {SHA256}, found " in refusal(unknown, path)
    path.unlink()
    server.files["a.zip"] = CONTENT[:-1]
    assert f"train.sha256: {path}: expected {SHA256}, found " in refusal(unknown, path)


def test_another_size_or_no_file_is_noticed_before_the_download(server: FileServer, path: Path) -> None:
    server.files["a.zip"] = b"<html>the file has moved</html>"
    message = refusal(remote(server), path)
    assert message.startswith(f"train.size: {server.url}/a.zip: the server has 31 bytes, expected 3000000; ")
    del server.files["a.zip"]
    missing = f"base_url: {server.url}/a.zip: the server says 404 Not Found; give another base_url"
    assert refusal(remote(server), path) == missing
    assert len(server.requests) == 2  # each is no reason to try again
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(server: FileServer, path: Path, status: int) -> None:
    server.refusals = [status] * 3
    arrives(remote(server), path)
    assert len(server.requests) == 4


def test_a_server_that_is_not_there_or_does_not_stop_being_busy(path: Path) -> None:
    with serving() as server:
        gone = remote(server)
        server.refusals = [503] * 5
        assert f"{gone.url}: the server says 503 " in refusal(gone, path)
    message = refusal(gone, path)
    assert message.startswith(f"train: {gone.url}: ")
    assert "refused" in message
    assert "5 times in a row; 0.00 MB are kept" in message


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/a.zip", "a.zip"])
def test_only_http(url: str, path: Path) -> None:
    assert refusal(RemoteFile(url, argument="train"), path) == f"train: {url} is no http or https address"


def test_a_disk_that_is_too_small_is_noticed_before_the_download(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=2_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    server.broken = [1_000_000]
    assert refusal(remote(server), path) == (
        f"root: a.zip takes 3.00 MB and {path.parent} has 2.50 MB free; "
        "free some space, or set `root` to a folder on another disk"
    )
    free.free = 3_000_000
    arrives(remote(server), path)
