"""What the service process of wandb prints, and where it puts copies of files."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def silence() -> Iterator[None]:
    """Start the service of wandb without a terminal.

    The service inherits stderr. It writes its log there if it cannot write to the cache folder.
    """
    with suppress(ValueError, OSError):
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@contextmanager
def staged_in(folder: Path | None) -> Iterator[None]:
    """Let the copies of an offline run's tables lie in a folder, unless the user has named a folder."""
    if folder is None or "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder.absolute())
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]
