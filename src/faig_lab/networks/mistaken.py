"""What lies in the place of a weights file after a download that went wrong."""

from pathlib import Path

_LONGEST_POINTER = 1024  # bytes; the specification of Git LFS promises less
_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def mistaken_for_weights(path: Path) -> str | None:
    """What a file or folder is, in words that follow its name, and what to do; None where it may be weights.

    Told are a folder, an empty file, a web page (or the XML in which a file server says no), and the pointers that Git
    LFS and git-annex leave in place of large files.
    """
    if path.is_dir():
        files = sorted(entry.name for entry in path.iterdir() if entry.suffix in _SUFFIXES)
        return (
            f"is a folder; name a file in it: {', '.join(files[:5])}" if files else "is a folder without weights files"
        )
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_LONGEST_POINTER)
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip().lower()
    if not head:
        return "is empty; download it again"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<error", b"<!--")):
        return "is a web page, not weights; download the file itself (its raw or direct link)"
    if text.startswith((b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")):
        return "is a Git LFS pointer, not the weights; run git lfs pull, or download the file itself"
    if b"/annex/objects/" in text.splitlines()[0]:
        return "is a git-annex pointer, not the weights; run git annex get, or download the file itself"
    return None
