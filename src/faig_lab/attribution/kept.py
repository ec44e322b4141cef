"""Results that a run keeps until it is done, so that one that was killed does not compute them again.

Each is a file of tensors and plain values that is there completely or not at all, and is read with
`weights_only=True`: nothing in it is executed.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from faig_lab.archives import read_tensors
from faig_lab.files import atomic_write

log = logging.getLogger(__name__)

T = TypeVar("T")


class Kept:
    """Results by name: taken from a file where there is one, else computed and written.

    Two runs may share a folder, since equal names stand for equal results. A file that cannot be read or written
    costs time and nothing else: the result is computed.

    Args:
        folder: where; None keeps nothing.

    Attributes:
        recalled: how many results were taken from files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder, self.recalled = folder, 0
        self._complained = False

    def __call__(self, name: str, compute: Callable[[], T]) -> T:
        """The result `name`, by `compute` if it is not there.

        Args:
            name: part of a file's name; it must stand for everything that determines the result and is not
                determined by the folder.
            compute: returns tensors and plain values in dicts and lists.
        """
        if self.folder is None:
            return compute()
        path = self.folder / f"{name}.pt"
        if path.is_file():
            try:
                result: T = read_tensors(path)
            except Exception as error:  # reading arbitrary bytes as a pickle, torch raises almost anything
                log.warning("%s cannot be read (%s): computed again", path, type(error).__name__)
            else:
                self.recalled += 1
                return result
        result = compute()
        try:
            with atomic_write(path) as temporary:
                torch.save(result, temporary)
        except (OSError, RuntimeError) as error:  # torch says a full disk by a RuntimeError
            level = logging.DEBUG if self._complained else logging.WARNING  # there may be hundreds of results
            log.log(level, "not kept for a resumption: %s (%s)", path, " ".join(str(error).split()))
            self._complained = True
        return result

    def discard(self) -> None:
        """Remove everything: the run is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
