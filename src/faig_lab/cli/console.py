"""What the terminal and the log show: messages, warnings of libraries, names that are no UTF-8."""

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
    """A log file; on a full disk it loses lines, without a traceback on the console for each of them."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Let go of a line that could not be written; any other fault is reported as usual."""
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


def check_text(arguments: Sequence[str]) -> None:
    """Refuse arguments, and a working folder, that cannot be written down as text.

    Python hides the bytes of a name that its locale cannot read in surrogates, which no UTF-8 file takes.

    Raises:
        UserError: names the argument and what makes it readable.
    """
    for argument in (*arguments, str(Path.cwd())):
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            encoding = sys.getfilesystemencoding()
            remedy = "rename the file or folder" if encoding == "utf-8" else "set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
            raise UserError(f"{text_of(argument)}: Python reads names as {encoding}, which this is not; {remedy}")


def print_anything() -> None:
    r"""Let stdout and stderr print `\u2212` where their encoding has no minus sign, instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Console(logging.Formatter):
    """What the console shows of a message: the message alone; a warning says that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The message, behind `warning: ` at that level."""
        text = super().format(record)
        return f"warning: {text}" if record.levelno == logging.WARNING else text


@contextmanager
def logged_warnings() -> Iterator[None]:
    """Log the warnings of libraries in one line, where Python would print a path and a line of source code.

    Lightning replaces `warnings.formatwarning` when it is imported, so `warnings.showwarning` is replaced here.
    """

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        text = f"{' '.join(str(message).split())} ({category.__name__}, {Path(filename).name}:{lineno})"
        if logging.getLogger().handlers:
            log.warning("%s", text)
        else:
            print(f"warning: {text}", file=sys.stderr)

    before = warnings.showwarning
    warnings.showwarning = show  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.showwarning = before
