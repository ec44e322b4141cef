"""Checkpoints of other training code: the dicts around the weights, and the names of the weights.

Names differ by the prefixes of wrappers, and by the naming of the same architecture.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
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


PREFIXES = ("network.", "module.", "_orig_mod.", "net.", "model.", "generator.")
"""Prefixes of our Lightning checkpoints, of `torch.nn.DataParallel`, of `torch.compile` and of other training code."""

_LAYERS = 4  # the largest number of prefixes on one name

ESRGAN, ESRGAN_OLD, BSRGAN = "ESRGAN (BasicSR's names)", "ESRGAN, old names", "BSRGAN"
SRRESNET, SRCNN_STYLE = "SRResNet", "SRCNN style"

_INNER = {
    ESRGAN: r"body\.\d+\.rdb\d\.conv\d\.",
    ESRGAN_OLD: r"model\.1\.sub\.\d+\.RDB\d\.conv\d\.0\.",
    BSRGAN: r"RRDB_trunk\.\d+\.RDB\d\.conv\d\.",
}
"""Naming → start of the names of its inner layers. One such name is enough to recognise the naming."""

_ALL = {
    SRRESNET: r"(conv_first|body\.\d+\.conv[12]|upconv[12]|conv_hr|conv_last)\.(weight|bias)$",
    SRCNN_STYLE: r"features\.\d+\.(weight|bias)$",
}
"""Naming → pattern that all of its names match."""

_RENAMINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    ESRGAN_OLD: (
        (r"model\.0\.", "conv_first."),
        (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
        (r"model\.1\.sub\.\d+\.(?=(weight|bias)$)", "conv_body."),
    ),
    BSRGAN: (
        (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
        (r"trunk_conv\.", "conv_body."),
        (r"upconv(\d)\.", r"conv_up\1."),
        (r"HRconv\.", "conv_hr."),
    ),
}
"""Naming → starts of its names as regular expressions, and BasicSR's names of the same layers.

Sources: xinntao/ESRGAN (`RRDBNet_arch.py` and `transer_RRDB_models.py`) and cszn/BSRGAN. The layers behind the blocks
of the old ESRGAN are in `_after_blocks`, since their numbers depend on the upscaling factor.
"""


def naming_of(names: Collection[str]) -> str | None:
    """Return the naming of names without prefixes: one of the constants above, or None."""
    for naming, inner in _INNER.items():
        if any(re.match(inner, name) for name in names):
            return naming
    return next((naming for naming, form in _ALL.items() if names and all(re.match(form, n) for n in names)), None)


def common_names(names: Sequence[str]) -> list[str]:
    """Return the names in BasicSR's naming if they follow another known naming, otherwise unchanged.

    Two names can become the same name. A caller that needs different names has to check this.
    """
    renamed = list(names)
    for naming, rows in _RENAMINGS.items():
        if any(re.match(_INNER[naming], name) for name in names):
            table = [*rows, *(_after_blocks(names) if naming == ESRGAN_OLD else ())]
            renamed = [_renamed(name, table) for name in renamed]
    return renamed


def _after_blocks(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return patterns and BasicSR's names for the layers behind the blocks of the old ESRGAN.

    The result is empty if the layers do not have the expected numbers.

    With n upsampling stages their convolutions are `model.3`, `model.6`, … `model.3n`. Conv_hr is `model.(3n + 2)`,
    and conv_last is `model.(3n + 4)`. Upsampling and activations have the numbers between them.
    """
    matches = (re.match(r"model\.(\d+)\.(weight|bias)$", name) for name in names)
    numbers = sorted({int(match[1]) for match in matches if match} - {0, 1})
    stages = len(numbers) - 2
    layers = [(3 * k, f"conv_up{k}") for k in range(1, stages + 1)]
    layers += [(3 * stages + 2, "conv_hr"), (3 * stages + 4, "conv_last")]
    if numbers != [number for number, _ in layers]:
        return []
    return [(rf"model\.{number}\.", f"{name}.") for number, name in layers]


def _renamed(name: str, rows: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in rows:
        new, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return new
    return name


def own_names(names: Sequence[str], expected: Collection[str]) -> list[str]:
    """Return the network's names for the tensors of a file.

    The smallest number of prefixes is removed with which the names are those of the network. A part of a network may
    itself be called `network` or `module`, so a prefix that the network has is kept. Names of another known naming are
    replaced if the new names are those of the network.

    Args:
        names: the names in the file, all different.
        expected: the network's names.

    Returns:
        The new name of each tensor, all different. If no form has exactly the network's names, the form with most of
        them is returned; among equally good forms, the form with the fewest prefixes left.

    Raises:
        ValueError: two names of the file stand for the same name of the network, in two namings.
    """
    wanted = set(expected)
    candidates = _without_prefixes(names)
    for candidate in candidates:
        if set(candidate) == wanted:
            return list(candidate)
    names_in_network = dict(zip(common_names(list(expected)), expected, strict=True))
    renamed = [tuple(names_in_network.get(name, name) for name in common_names(candidate)) for candidate in candidates]
    for candidate in renamed:
        if set(candidate) == wanted:
            _check_clash(names, candidate)
            return list(candidate)
    # Reversed, since `max` takes the first of equals. Prefixes in an error message would hide the names that differ.
    distinct = [candidate for candidate in reversed(renamed) if len(set(candidate)) == len(candidate)]
    return list(max([*reversed(candidates), *distinct], key=lambda x: len(wanted.intersection(x))))


def _check_clash(names: Sequence[str], renamed: Sequence[str]) -> None:
    """Raise ValueError if two names have become the same name."""
    twice = next((name for name, count in Counter(renamed).items() if count > 1), None)
    if twice is not None:
        both = [name for name, new in zip(names, renamed, strict=True) if new == twice]
        raise ValueError(f"holds {both[0]} and {both[1]}, which are both {twice} of the network")


def without_prefixes(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names without the prefixes that all names share, and these prefixes. No network is needed.

    A prefix that belongs to a known naming is kept: the names of the old ESRGAN start with `model.`.
    """
    left, removed = list(names), []
    while naming_of(left) is None:
        prefix = next((p for p in PREFIXES if left and all(name.startswith(p) for name in left)), None)
        if prefix is None:
            break
        left = [name.removeprefix(prefix) for name in left]
        removed.append(prefix)
    inner = [name.replace("._orig_mod.", ".") for name in left]
    if inner != left and len(set(inner)) == len(inner):
        left, removed = inner, [*removed, "_orig_mod."]
    return left, removed


def _without_prefixes(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the names with no prefix removed, one removed, and so on; only forms in which all names are different."""
    layers = [[tuple(names)]]
    for _ in range(_LAYERS):
        forms = (form for candidate in layers[-1] for form in _shorter(candidate))
        layers.append([candidate for candidate in dict.fromkeys(forms) if len(set(candidate)) == len(candidate)])
    return list(dict.fromkeys(candidate for layer in layers for candidate in layer))


def _shorter(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the names without each one of the prefixes. `torch.compile` also prefixes inner modules."""
    for prefix in PREFIXES:
        yield tuple(name.removeprefix(prefix) for name in names)
    yield tuple(name.replace("._orig_mod.", ".") for name in names)
