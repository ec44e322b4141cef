"""From the arguments of the library to the keys of the command line.

The library raises `InputError`, which names an argument. The command line calls the library inside `with_keys`, so that
its user reads the key of the setting that the argument comes from.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from faig_lab.errors import InputError, UserError

ATTRIBUTION: Mapping[str, str] = {
    "folder": "run",
    "granularity": "attribution.granularity",
    "images": "data.probe_crop",
    "memory": "attribution.memory",
    "methods": "attribution.methods",
    "path": "attribution.path",
    "precision": "attribution.precision",
    "rank_others": "attribution.rank_other_parameters",
    "rule": "attribution.points",
}
"""Arguments of the attribution → what the command line's user sets."""

_MENTION = re.compile(r"`(\w+)`")


@contextmanager
def with_keys(keys: Mapping[str, str]) -> Iterator[None]:
    """Put keys in the place of arguments in every `InputError` that is raised inside; also a decorator.

    Contexts can be nested: the innermost context translates.

    Args:
        keys: argument → key, or whatever the command line calls the argument. An argument without a key keeps its name.

    Raises:
        UserError: `<key>: <message>`.
    """
    try:
        yield
    except InputError as error:
        key = keys.get(error.argument, error.argument)
        raise UserError(f"{key}: {in_keys(error.message, keys)}") from error


def in_keys(text: str, keys: Mapping[str, str]) -> str:
    """Replace each argument that the text names in backticks by its key.

    Args:
        text: a message or a warning of the library.
        keys: argument → key. Words in backticks that are not in it stay as they are.
    """
    return _MENTION.sub(lambda mention: keys.get(mention[1], mention[0]), text)
