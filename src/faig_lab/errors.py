"""The one error that is meant for the user."""


class UserError(Exception):
    """Input that cannot be worked with; the message is one line that names the key or file and what to do.

    The command line prints the message alone and exits with a status other than 0.
    """
