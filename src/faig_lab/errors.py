"""The error that is meant for the user, and the one that ends a run from outside."""

import shlex
from pathlib import Path


class UserError(Exception):
    """Input that cannot be worked with; the message is one line that names the key or file and what to do.

    The command line prints the message alone and exits with a status other than 0.
    """


class InputError(UserError, ValueError):
    """An argument that a function of the library cannot work with.

    The library knows no settings. So the message names the function's argument, and other arguments in backticks. The
    command line puts its keys in their place (`faig_lab.config.keys.with_keys`).

    Args:
        argument: the name of the argument.
        message: what is wrong with the argument, and the nearest value that would do; one line.
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(f"{argument}: {message}")
        self.argument, self.message = argument, message

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, str]]:
        """Pickle the error by its two parts, as worker processes need."""
        return type(self), (self.argument, self.message)


class Terminated(BaseException):
    """The process was asked to end (SIGTERM): an exception, so that everything is closed on the way out.

    Its last note, like that of KeyboardInterrupt, is what continues the work, for the command line: `resume=FOLDER`.
    """


def note_way_on(error: BaseException, key: str, folder: Path) -> None:
    """Note on an exception that `key=folder` continues the work that it ends."""
    here = Path.cwd()
    near = folder.relative_to(here) if folder.is_relative_to(here) else folder
    error.add_note(shlex.quote(f"{key}={near}"))
