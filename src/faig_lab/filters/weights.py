"""Weights files: ours, safetensors, checkpoints of other training code. Nothing in a file is executed."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from faig_lab.errors import UserError
from faig_lab.files import read_safetensors, read_tensors, reason, write_safetensors, write_tensors, write_text
from faig_lab.filters.functional import State, tied
from faig_lab.filters.naming import own_names
from faig_lab.filters.wrappers import WRAPPERS, Wrapped, unwrap
from faig_lab.networks.adapted import Adapted

log = logging.getLogger(__name__)

_LONGEST_POINTER = 1024  # bytes; the specification of Git LFS promises less
_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def mistaken_for_weights(path: Path) -> str | None:
    """What a file or folder is, in words that follow its name, and what to do; None where it may be weights.

    Told are a folder, an empty file, a web page (or the XML in which a file server says no), and the pointers that Git
    LFS and git-annex leave in place of large files.
    """
    if path.is_dir():
        files = sorted(entry.name for entry in path.iterdir() if entry.suffix in _SUFFIXES)
        return (
            f"is a folder; name a file in it: {', '.join(files[:5])}" if files else "is a folder without weights files"
        )
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(_LONGEST_POINTER)
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip().lower()
    if not head:
        return "is empty; download it again"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<error", b"<!--")):
        return "is a web page, not weights; download the file itself (its raw or direct link)"
    if text.startswith((b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")):
        return "is a Git LFS pointer, not the weights; run git lfs pull, or download the file itself"
    if b"/annex/objects/" in text.splitlines()[0]:
        return "is a git-annex pointer, not the weights; run git annex get, or download the file itself"
    return None


_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def objection(value: Tensor, dtype: torch.dtype) -> str | None:
    """Why a tensor cannot be used where a network holds one of type `dtype`, to follow the tensor's name.

    A floating number can be of any precision as long as `dtype` can hold it. Integers and truth values (counters,
    indices) can be of any such type that converts without a change.

    Returns:
        None if it can be used.
    """
    kind = _kind(value)
    if kind is not None:
        return f"is {kind}; expected an ordinary tensor of {dtype}"
    if dtype.is_floating_point:
        if value.dtype not in _FLOATS:
            return f"is {value.dtype}; expected floating numbers of 16 to 64 bits, as {dtype}"
        if not torch.isfinite(value).all():
            return "has values that are not finite"
        if not torch.isfinite(value.to(dtype)).all():
            return f"has values up to {float(value.abs().max()):.3g}, too large for {dtype}"
        return None
    if dtype.is_complex:
        if value.dtype != dtype:
            return f"is {value.dtype}; expected {dtype}"
        return None if torch.isfinite(value).all() else "has values that are not finite"
    if value.is_floating_point() or value.is_complex():
        return f"is {value.dtype}; expected {dtype}"
    if not torch.equal(value.to(dtype).to(value.dtype), value):
        return f"is {value.dtype} with values that {dtype} cannot hold"
    return None


def as_stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor itself if it holds floating numbers, which keep their precision; integers in the network's type."""
    return value if dtype.is_floating_point or dtype.is_complex else value.to(dtype)


def _kind(value: Tensor) -> str | None:
    """What a tensor is, if it is no ordinary tensor with one value per element; else None."""
    if value.is_nested:
        return "a nested tensor"
    if value.is_meta and type(value) in (Tensor, torch.nn.Parameter):  # a subclass may hold values of its own
        return "a meta tensor, which has a shape and no values"
    if value.is_quantized:
        return f"quantised ({value.dtype})"
    if value.layout is not torch.strided:
        return f"sparse ({value.layout})" if "sparse" in str(value.layout) else f"of layout {value.layout}"
    return None


SAFETENSORS = ".safetensors"

EXPORTS = (".pt", ".pth", SAFETENSORS)
"""Suffixes of the formats that can be written: ours, the authors' and safetensors."""


def save_weights(path: Path, state: State, description: Mapping[str, Any]) -> None:
    """Write tensors to `path` and their description to a .yaml beside it, both atomically.

    Args:
        path: ends in .pt.
        state: parameters by name; they are copied to the CPU.
        description: plain data: what network this is (so that weights never travel without scale and size),
            how it was trained, which θ it is.
    """
    _write(path, _plain(state), description)


def export_weights(path: Path, state: State, description: Mapping[str, Any]) -> None:
    """Write weights for others to use, with their description beside them; the suffix names the format.

    Args:
        path: .pt: a flat dict of tensors; .pth: the authors' `{"params": …, "params_ema": …}`, both the same;
            .safetensors: tensors by name.
        state: parameters by name.
        description: as for `save_weights`.

    Raises:
        UserError: another suffix.
    """
    if path.suffix not in EXPORTS:
        raise UserError(f"{path}: the suffix must be .pt (our format), .pth (the authors' format) or .safetensors")
    tensors = _plain(state)
    if path.suffix == SAFETENSORS:
        _describe(path, description)
        write_safetensors(path, tensors)
    else:
        _write(path, tensors if path.suffix == ".pt" else {"params": tensors, "params_ema": tensors}, description)


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights on their device, contiguous as a file would give them.

    The memory format decides the last bits of a convolution, and a copy keeps it unless told otherwise.
    """
    return {n: v.detach().clone(memory_format=torch.contiguous_format) for n, v in network.state_dict().items()}


def _write(path: Path, content: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Write the description first, so that weights are never without it."""
    _describe(path, description)
    write_tensors(path, content)


def _describe(path: Path, description: Mapping[str, Any]) -> None:
    write_text(path.with_suffix(".yaml"), OmegaConf.to_yaml(OmegaConf.create(dict(description))))


def _plain(state: State) -> dict[str, Tensor]:
    """Tensors that own their memory, on the CPU."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}


def load_weights(path: Path, network: nn.Module, key: str = "weights") -> dict[str, Tensor]:
    """Read the weights of `network` from a file of any of the formats.

    The formats are safetensors (known by the suffix) and what `torch.save` writes: a flat dict of tensors (ours), a
    Lightning checkpoint of our SRModule (its `state_dict`, which holds the averaged weights), and dicts that hold the
    weights under a name of `WRAPPERS`, averaged weights first. The log says which of several is taken. The prefixes of
    `naming.PREFIXES` are removed where the names do not fit with them, and names of another naming of the same
    architecture are replaced (`naming`). A network of `network=spandrel` gets the names that spandrel gives them.

    Args:
        path: the file.
        network: what the weights are for; it is not changed.
        key: the configuration key to name in errors.

    Returns:
        Tensors on the CPU in the file's precision (integers and truth values in the network's type), in the order of
        the network's own state dict.

    Raises:
        UserError: not a file, damaged, not weights, other names, shapes or kinds of tensors than the network's, or not
            finite in the network's precision.
    """
    found, expected = read_weights(path, key), network.state_dict()
    try:
        names = own_names(list(found), expected)
    except ValueError as error:
        raise UserError(f"{key}: {path} {error}") from error
    if isinstance(network, Adapted) and set(names) != set(expected):
        found = network.contract.translated(found, f"{key}: {path}")
        names = list(found)
    in_file = dict(zip(names, found, strict=True))
    state = {name: found[in_file[name]] for name in names}
    _compare(state, network, in_file, f"{key}: {path}")
    return {name: as_stored(state[name], value.dtype) for name, value in expected.items()}


def read_weights(path: Path, key: str = "weights") -> dict[str, Tensor]:
    """Read a weights file of any of the formats as it is, names with it, for no network in particular.

    Raises:
        UserError: not a file, or not weights.
    """
    found = read_wrapped(path, key)
    if len(found) > 1:
        others = ", ".join(one.title for one in found[1:])
        log.info("%s: %s: the weights of %s are taken; it also has %s", key, path, found[0].title, others)
    return dict(found[0].state)


def read_wrapped(path: Path, key: str = "weights") -> list[Wrapped]:
    """Read all weights of a file, each with the names that it stands under; first the weights that are taken.

    Raises:
        UserError: not a file, or not weights.
    """
    try:
        found = unwrap(_read(path, key))
    except ValueError as error:
        raise UserError(f"{key}: {path}: {error}") from error
    if not found:
        raise UserError(
            f"{key}: {path} holds no weights; expected a dict of tensors, alone or under one of {', '.join(WRAPPERS)}"
        )
    return found


def _read(path: Path, key: str) -> Any:
    """Read tensors and plain containers; anything else is refused."""
    mistaken = mistaken_for_weights(path)
    if mistaken:
        raise UserError(f"{key}: {path} {mistaken}")
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1, cutoff=0.3)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise UserError(f"{key}: no file {path}{hint}")
    try:
        return read_safetensors(path) if path.suffix.lower() == SAFETENSORS else read_tensors(path)
    except Exception as error:  # reading arbitrary bytes as a pickle, torch raises almost anything
        raise UserError(f"{key}: {path} cannot be read as weights ({reason(error)})") from error


def _compare(state: State, network: nn.Module, in_file: Mapping[str, str], place: str) -> None:
    """Refuse weights that do not fit, saying how; `in_file` has the file's name of each tensor."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in state]
    unknown = [in_file[name] for name in state if name not in expected]
    what = type(network).__name__
    if missing or unknown:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has unknown {_some(unknown)}"] * bool(unknown)
        raise UserError(f"{place} is not for this {what}: it {' and '.join(parts)}; see the network settings")
    for name, value in expected.items():
        called = name if in_file[name] == name else f"{in_file[name]} ({name} of the network)"
        fault = objection(state[name], value.dtype)  # first, since a nested tensor has no shape
        if fault is not None:
            raise UserError(f"{place}: {called} {fault}")
        if state[name].shape != value.shape:
            raise UserError(
                f"{place} is not for this {what}: {called} is {shown_shape(state[name])} in the file and "
                f"{shown_shape(value)} in the network; check scale and size of the network"
            )
    for name, owner in tied(network).items():
        if state[name].dtype != state[owner].dtype or not torch.equal(state[name], state[owner]):
            raise UserError(f"{place} is not for this {what}: {name} and {owner} are one weight in the network")


def _some(names: list[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def shown_shape(tensor: Tensor) -> str:
    """A shape in words: 64×3×3×3."""
    return "×".join(map(str, tensor.shape)) or "a scalar"


def write_states(path: Path, states: Sequence[State]) -> None:
    """Write states to a file, atomically; `<number>/<name>` is the key of a tensor."""
    write_tensors(path, {f"{k}/{name}": value.cpu() for k, state in enumerate(states) for name, value in state.items()})


def read_states(path: Path, key: str) -> tuple[dict[str, Tensor], ...]:
    """Read what `write_states` wrote; nothing in the file is executed.

    Args:
        path: the file.
        key: the setting that an error names.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        content = read_tensors(path)
        states: dict[int, dict[str, Tensor]] = {}
        for place, value in content.items():
            number, name = place.split("/", 1)
            states.setdefault(int(number), {})[name] = value
        return tuple(states[k] for k in range(len(states)))
    except Exception as error:  # reading arbitrary bytes as a pickle, torch raises almost anything
        raise UserError(f"{key}: {path} cannot be read as states of a network ({reason(error)})") from error
