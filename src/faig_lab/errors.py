"""The error that is meant for the user, and the one that ends a run from outside."""


class UserError(Exception):
    """Input that cannot be worked with; the message is one line that names the key or file and what to do.

    The command line prints the message alone and exits with a status other than 0.
    """


class Terminated(BaseException):
    """The process was asked to end (SIGTERM): an exception, so that everything is closed on the way out."""
