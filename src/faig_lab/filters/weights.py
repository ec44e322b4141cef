"""Weights files: ours, safetensors, checkpoints of other training code, ncnn. No code in a file is executed."""

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
from faig_lab.filters.checkpoints import BIN, WRAPPERS, ncnn_files, own_names, read_ncnn, unwrap
from faig_lab.filters.functional import State, tied
from faig_lab.networks.adapted import Adapted

log = logging.getLogger(__name__)

_LONGEST_POINTER = 1024  # bytes; Git LFS specifies that its pointers are shorter
_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", BIN)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def mistaken_for_weights(path: Path) -> str | None:
    """Return what a file or folder is and what to do, to follow its name in a message; None if it may be weights.

    Recognised are a folder, an empty file, a web page, the XML error of a file server, and the pointers that Git LFS
    and git-annex leave in place of large files.
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
    """Return why a tensor cannot replace a network's tensor of type `dtype`, to follow its name in a message.

    Floating numbers can have any precision if `dtype` can hold their values. Integers and booleans (counters, indices)
    can have any integer type that converts to `dtype` without a change.

    Returns:
        None if the tensor can be used.
    """
    kind = None
    if value.is_nested:
        kind = "a nested tensor"
    elif value.is_meta and type(value) in (Tensor, torch.nn.Parameter):  # a subclass may hold values elsewhere
        kind = "a meta tensor, which has a shape and no values"
    elif value.is_quantized:
        kind = f"quantised ({value.dtype})"
    elif value.layout is not torch.strided:
        kind = f"sparse ({value.layout})" if "sparse" in str(value.layout) else f"of layout {value.layout}"
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
    """Return floating numbers unchanged, in their own precision, and integers and booleans in the network's type."""
    return value if dtype.is_floating_point or dtype.is_complex else value.to(dtype)


SAFETENSORS = ".safetensors"

EXPORTS = (".pt", ".pth", SAFETENSORS)
"""Suffixes of the formats that can be written: ours, the authors' and safetensors."""


def save_weights(path: Path, state: State, description: Mapping[str, Any]) -> None:
    """Write weights to `path` and their description to a .yaml beside it, both atomically.

    The suffix selects the format. The description is written first, so that a weights file always has one.

    Args:
        path: .pt is a flat dict of tensors, .safetensors is tensors by name. .pth is the authors'
            `{"params": …, "params_ema": …}`; both entries are the same.
        state: parameters by name; they are copied to the CPU, each with its own memory.
        description: plain data: the network with its scale and size, how it was trained, and which θ it is.

    Raises:
        UserError: another suffix.
    """
    if path.suffix not in EXPORTS:
        raise UserError(f"{path}: the suffix must be .pt (our format), .pth (the authors' format) or .safetensors")
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    write_text(path.with_suffix(".yaml"), OmegaConf.to_yaml(OmegaConf.create(dict(description))))
    if path.suffix == SAFETENSORS:
        write_safetensors(path, tensors)
    else:
        write_tensors(path, tensors if path.suffix == ".pt" else {"params": tensors, "params_ema": tensors})


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights on their device, contiguous as if read from a file.

    The memory format affects the last bits of a convolution, and `clone` keeps it by default.
    """
    return {n: v.detach().clone(memory_format=torch.contiguous_format) for n, v in network.state_dict().items()}


def load_weights(path: Path, network: nn.Module, key: str = "weights") -> dict[str, Tensor]:
    """Read the weights of `network` from a file of any of the formats.

    The formats are safetensors (recognised by the suffix), the two files of ncnn (`read_ncnn`), and files of
    `torch.save`: a flat dict of tensors (ours), a Lightning checkpoint of our SRModule (its `state_dict`, which holds
    the averaged weights), and dicts that hold the weights under a name of `WRAPPERS`. Averaged weights are preferred.
    If a file has several weights, the log names those that are used. If the names differ from the network's, the
    prefixes of `checkpoints.PREFIXES` are removed, and names of another naming of the same architecture are replaced
    (`checkpoints`). A network of `network=spandrel` gets the names that spandrel gives them.

    Args:
        path: the file.
        network: the network of the weights. It is not changed.
        key: the name of the weights in errors.

    Returns:
        Tensors on the CPU in the file's precision (integers and booleans in the network's type), in the order of the
        network's state dict.

    Raises:
        UserError: the file does not exist, is damaged or holds no weights; names, shapes or kinds of tensors differ
            from the network's; or values are not finite in the network's precision.
    """
    tensors, expected = read_weights(path, key), network.state_dict()
    try:
        names = own_names(list(tensors), expected)
    except ValueError as error:
        raise UserError(f"{key}: {path} {error}") from error
    if isinstance(network, Adapted) and set(names) != set(expected):
        tensors = network.contract.translated(tensors, f"{key}: {path}")
        names = list(tensors)
    in_file = dict(zip(names, tensors, strict=True))
    state = {name: tensors[in_file[name]] for name in names}
    _check_fit(state, network, in_file, f"{key}: {path}")
    return {name: as_stored(state[name], value.dtype) for name, value in expected.items()}


def read_weights(path: Path, key: str = "weights") -> dict[str, Tensor]:
    """Read a weights file of any of the formats, with the names in the file. No network is needed.

    Raises:
        UserError: the file does not exist or holds no weights.
    """
    weights = read_wrapped(path, key)
    taken, *others = weights
    if others:
        log.info("%s: %s: the weights of %s are taken; it also has %s", key, path, taken, ", ".join(others))
    return dict(weights[taken])


def read_wrapped(path: Path, key: str = "weights") -> dict[str, State]:
    """Read all weights of a file: the keys that lead to them → weights (`unwrap`). Those that are used come first.

    Raises:
        UserError: the file does not exist or holds no weights.
    """
    mistaken = mistaken_for_weights(path)
    if mistaken:
        raise UserError(f"{key}: {path} {mistaken}")
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1, cutoff=0.3)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise UserError(f"{key}: no file {path}{hint}")
    ncnn = ncnn_files(path)
    try:
        if ncnn is not None:
            content: Any = read_ncnn(*ncnn)
        else:
            content = read_safetensors(path) if path.suffix.lower() == SAFETENSORS else read_tensors(path)
    except Exception as error:  # torch raises almost any error for bytes that are no pickle
        raise UserError(f"{key}: {path} cannot be read as weights ({reason(error)})") from error
    try:
        weights = unwrap(content)
    except ValueError as error:
        raise UserError(f"{key}: {path}: {error}") from error
    if not weights:
        raise UserError(
            f"{key}: {path} holds no weights; expected a dict of tensors, alone or under one of {', '.join(WRAPPERS)}"
        )
    return weights


def _check_fit(state: State, network: nn.Module, in_file: Mapping[str, str], place: str) -> None:
    """Raise UserError if the weights do not fit the network. `in_file` has the file's name of each tensor."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in state]
    unknown = [in_file[name] for name in state if name not in expected]
    what = type(network).__name__
    if missing or unknown:
        parts = []
        for verb, names in (("lacks", missing), ("has unknown", unknown)):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts += [f"{verb} {', '.join(names[:3])}{more}"] if names else []
        raise UserError(f"{place} is not for this {what}: it {' and '.join(parts)}; see the network settings")
    for name, value in expected.items():
        called = name if in_file[name] == name else f"{in_file[name]} ({name} of the network)"
        fault = objection(state[name], value.dtype)  # before the shapes are compared, since a nested tensor has none
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


def shown_shape(tensor: Tensor) -> str:
    """Return a shape in words, e.g. 64×3×3×3."""
    return "×".join(map(str, tensor.shape)) or "a scalar"


def write_states(path: Path, states: Sequence[State]) -> None:
    """Write states to a file, atomically. The key of a tensor is `<number>/<name>`."""
    write_tensors(path, {f"{k}/{name}": value.cpu() for k, state in enumerate(states) for name, value in state.items()})


def read_states(path: Path, key: str) -> tuple[dict[str, Tensor], ...]:
    """Read a file of `write_states`. No code in the file is executed.

    Args:
        path: the file.
        key: the name of the file in errors.

    Raises:
        UserError: the file cannot be read or does not hold states.
    """
    try:
        content = read_tensors(path)
        states: dict[int, dict[str, Tensor]] = {}
        for place, value in content.items():
            number, name = place.split("/", 1)
            states.setdefault(int(number), {})[name] = value
        return tuple(states[k] for k in range(len(states)))
    except Exception as error:  # torch raises almost any error for bytes that are no pickle
        raise UserError(f"{key}: {path} cannot be read as states of a network ({reason(error)})") from error
