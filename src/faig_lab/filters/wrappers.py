"""The dicts that training code puts around the weights in a checkpoint."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from faig_lab.filters.functional import State

AVERAGED = ("params_ema", "params-ema", "state_dict_ema", "ema")
"""Keys of averaged weights. They are preferred, since the averaged weights are attributed."""

WRAPPERS = (*AVERAGED, "params", "state_dict", "model_state_dict", "model", "net", "netG", "generator")
"""Keys of weights, the preferred keys first. Sources: BasicSR, Lightning, timm, KAIR and common usage."""

_DEPTH = 2  # the largest number of nested wrappers


@dataclass(frozen=True)
class Wrapped:
    """One set of weights in a file.

    Attributes:
        keys: the keys that lead to the weights, the outermost first; empty for a flat dict.
        state: at least one tensor, by name.
    """

    keys: tuple[str, ...]
    state: State

    @property
    def title(self) -> str:
        """Return the keys in one word, e.g. `model.params_ema`; empty for a flat dict."""
        return ".".join(self.keys)

    @property
    def _rank(self) -> tuple[bool, int, list[int]]:
        """Return the sort key: averaged weights first, then fewer wrappers, then the order of `WRAPPERS`."""
        return not set(self.keys) & set(AVERAGED), len(self.keys), [WRAPPERS.index(key) for key in self.keys]


def unwrap(content: object) -> list[Wrapped]:
    """Find every dict of tensors in the content of a file. The dict that is used comes first.

    Args:
        content: tensors in plain containers.

    Raises:
        ValueError: the averaged weights are a list without names, or are not tensors alone. Other weights of the file
            are not used in their place, since they are another θ.
    """
    if isinstance(content, Mapping):
        _check_named(content, (), _DEPTH)
    return sorted(_found(content, ()), key=lambda wrapped: wrapped._rank)


def _found(content: object, keys: tuple[str, ...]) -> Iterator[Wrapped]:
    if not isinstance(content, Mapping):
        return
    state = {str(name): value for name, value in content.items()}
    if state and all(isinstance(value, Tensor) for value in state.values()):
        yield Wrapped(keys, state)
    elif len(keys) < _DEPTH:
        for key in WRAPPERS:
            yield from _found(content.get(key), (*keys, key))


def _check_named(content: Mapping[Any, Any], keys: tuple[str, ...], depth: int) -> None:
    """Raise ValueError if a place where weights are searched holds averaged weights in a form that is not read."""
    _refuse_list(content.get("shadow_params"), (*keys, "shadow_params"))
    for key in AVERAGED:
        _refuse_list(content.get(key), (*keys, key))
    for key in WRAPPERS if depth else ():
        if isinstance(content.get(key), Mapping):
            _check_named(content[key], (*keys, key), depth - 1)
    for key in AVERAGED:
        _refuse_mixture(content.get(key), (*keys, key))


def _refuse_list(value: object, keys: tuple[str, ...]) -> None:
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
        raise ValueError(
            f"{'.'.join(keys)} holds the averaged weights as a list of {len(value)} tensors without names; copy them "
            "into the network with the code that wrote the file, and save its state_dict()"
        )


def _refuse_mixture(value: object, keys: tuple[str, ...]) -> None:
    """Raise ValueError for a dict that holds tensors in a form that is not read."""
    if not isinstance(value, Mapping) or next(_found(value, keys), None) is not None:
        return
    other = next((name for name, item in value.items() if not isinstance(item, Tensor)), None)
    if any(_holds_tensors(item) for item in value.values()):
        raise ValueError(
            f"{'.'.join(keys)} holds averaged weights in an unknown form: {other} in it is no tensor; save the "
            "averaged weights as a dict of tensors"
        )


def _holds_tensors(value: object) -> bool:
    inner = value.values() if isinstance(value, Mapping) else ()
    return isinstance(value, Tensor) or any(isinstance(item, Tensor) for item in inner)
