"""Names in files that others wrote: wrappers put prefixes in front of a network's names."""

from collections.abc import Collection, Iterator, Sequence

PREFIXES = ("network.", "module.", "_orig_mod.")
"""Of a Lightning checkpoint of ours, of `torch.nn.DataParallel`, of `torch.compile`."""

_LAYERS = 4  # prefixes on one name, one within the other


def own_names(names: Sequence[str], expected: Collection[str]) -> list[str]:
    """The names of a file with as few prefixes removed as make them the network's.

    A part of a network may itself be called `network` or `module`, so a prefix is removed only where the names do not
    fit with it.

    Args:
        names: in the file, all different.
        expected: the network's.

    Returns:
        The new name of each, all different. If no removal makes them the network's, those that fit best; of equally
        good ones, those with the fewest prefixes left.
    """
    wanted = set(expected)
    layers = [[tuple(names)]]
    for _ in range(_LAYERS):
        found = (shorter for candidate in layers[-1] for shorter in _shorter(candidate))
        layers.append([candidate for candidate in dict.fromkeys(found) if len(set(candidate)) == len(candidate)])
    candidates = dict.fromkeys(candidate for layer in layers for candidate in layer)
    for candidate in candidates:
        if set(candidate) == wanted:
            return list(candidate)
    # Reversed, since `max` takes the first of equals: where nothing fits, prefixes would only hide what does not.
    return list(max(reversed(candidates), key=lambda x: len(wanted.intersection(x))))


def _shorter(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The names with one prefix less, where they have it; `torch.compile` also puts its own in front of parts."""
    for prefix in PREFIXES:
        yield tuple(name.removeprefix(prefix) for name in names)
    yield tuple(name.replace("._orig_mod.", ".") for name in names)
