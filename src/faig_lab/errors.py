"""Errors for the user, the errors of a lack of memory, and the exception of a process that is asked to end."""

import re
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn


class UserError(Exception):
    """Invalid input. The message is one line with the key or file and a remedy.

    The command line prints only the message and exits with a status other than 0.
    """


class InputError(UserError, ValueError):
    """An invalid argument of a function of the library.

    The library knows no settings. So the message names the function's argument, and other arguments in backticks. The
    command line replaces the arguments by its keys (`faig_lab.config.messages.with_keys`).

    Args:
        argument: the name of the argument.
        message: the fault of the argument and the nearest valid value, in one line.
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(f"{argument}: {message}")
        self.argument, self.message = argument, message

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        """Pickle the error by its two parts, as worker processes need."""
        return type(self), (self.argument, self.message)


class Terminated(BaseException):
    """The process was asked to end (SIGTERM). The signal becomes an exception, so that files and processes are closed.

    The last note of the exception is the setting that continues the work: `resume=FOLDER`. KeyboardInterrupt has
    the same note.
    """


def note_way_on(error: BaseException, key: str, folder: Path) -> None:
    """Add the note `key=folder` to an exception: the setting that continues the interrupted work."""
    here = Path.cwd()
    near = folder.relative_to(here) if folder.is_relative_to(here) else folder
    error.add_note(shlex.quote(f"{key}={near}"))


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception. Only the main thread can do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated("terminated (SIGTERM)")


_MEMORY = re.compile(r"out of memory|DefaultCPUAllocator: .*(?:can't|not enough).*memory|ALLOC_FAILED", re.IGNORECASE)


def lacks_memory(error: Exception) -> bool:
    """Return whether an exception reports a lack of memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(_MEMORY.search(str(error))))
