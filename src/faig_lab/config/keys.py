"""From the arguments of the library to the keys of the command line.

The library raises `InputError`, which names an argument. The command line calls the library inside `with_keys`, so that
its user reads the key of the setting that the argument comes from.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
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
"""Arguments of the attribution → keys of the command line."""

_MENTION = re.compile(r"`([\w.+]+)`")
_YAML = {"None": "null"}


def keys_below(node: str, arguments: Iterable[str]) -> dict[str, str]:
    """Return the keys of a node's arguments: argument → `node.argument`."""
    return {argument: f"{node}.{argument}" for argument in arguments}


@contextmanager
def with_keys(keys: Mapping[str, str]) -> Iterator[None]:
    """Replace arguments by keys in every `InputError` that is raised inside. The function is also a decorator.

    Contexts can be nested: the innermost context that has a key for the argument translates.

    Args:
        keys: argument → key, or another name on the command line. An argument without a key keeps its name. A part of
            an argument, such as `train.size`, gets the key of `train`.

    Raises:
        UserError: `<key>: <message>`.
        InputError: the argument has no key.
    """
    try:
        yield
    except InputError as error:
        key, message = _key(error.argument, keys), in_keys(error.message, keys)
        raise (InputError(error.argument, message) if key is None else UserError(f"{key}: {message}")) from error


def in_keys(text: str, keys: Mapping[str, str]) -> str:
    """Replace each argument that the text names in backticks by its key.

    Args:
        text: a message or a warning of the library.
        keys: argument → key. Other words in backticks stay unchanged. `None` becomes YAML's null.
    """
    return _MENTION.sub(lambda mention: _key(mention[1], {**_YAML, **keys}) or mention[0], text)


def _key(argument: str, keys: Mapping[str, str]) -> str | None:
    """Return the key of an argument or of its part, such as `train.size`; None if the argument has no key."""
    name, dot, part = argument.partition(".")
    return f"{keys[name]}{dot}{part}" if name in keys else None
