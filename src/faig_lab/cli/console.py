"""Terminal and log: messages, warnings of libraries, and names that are not valid UTF-8."""

import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from faig_lab.errors import UserError
from faig_lab.files import text_of

log = logging.getLogger(__name__)


class LogFile(logging.FileHandler):
    """A log file. On a full disk the file loses lines, and the console shows no traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Ignore a line that could not be written. Report any other error as usual."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def check_text(arguments: Sequence[str]) -> None:
    """Refuse arguments and a working folder that cannot be written as text.

    Python represents bytes that its locale cannot read by surrogates, which a UTF-8 file cannot contain.

    Raises:
        UserError: names the argument and a remedy.
    """
    for argument in (*arguments, str(Path.cwd())):
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            encoding = sys.getfilesystemencoding()
            remedy = "rename the file or folder" if encoding == "utf-8" else "set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
            raise UserError(f"{text_of(argument)}: not a name in {encoding}, as Python reads it; {remedy}")


def print_anything() -> None:
    r"""Let stdout and stderr print `\u2212` if their encoding has no minus sign, so that the run continues."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Console(logging.Formatter):
    """The format of console messages: the message only, with a prefix for warnings."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, with the prefix `warning: ` at that level."""
        text = super().format(record)
        return f"warning: {text}" if record.levelno == logging.WARNING else text


@contextmanager
def logged_warnings() -> Iterator[None]:
    """Log the warnings of libraries in one line. Python would print a path and a line of source code.

    Lightning replaces `warnings.formatwarning` when it is imported, so `warnings.showwarning` is replaced here.
    """

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        text = f"{' '.join(str(message).split())} ({category.__name__}, {Path(filename).name}:{lineno})"
        if logging.getLogger().handlers:
            log.warning("%s", text)
        else:
            print(f"warning: {text}", file=sys.stderr)

    before = warnings.showwarning
    warnings.showwarning = show  # type: ignore[assignment]  # *_ stands for two parameters
    try:
        yield
    finally:
        warnings.showwarning = before
