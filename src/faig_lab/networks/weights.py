"""Weights files: ours, safetensors, Lightning checkpoints, the authors' format. Nothing in a file is executed."""

import difflib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from faig_lab.archives import read_safetensors, read_tensors, reason
from faig_lab.errors import UserError
from faig_lab.files import write_safetensors, write_tensors, write_text
from faig_lab.networks.mistaken import mistaken_for_weights
from faig_lab.networks.prefixes import own_names
from faig_lab.networks.tied import State, tied
from faig_lab.networks.values import as_stored, objection

EMA_KEYS = ("params_ema", "params")
"""The authors' (BasicSR's) keys; the averaged weights come first, since they are what is attributed."""

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


def state_fingerprint(state: State) -> str:
    """A fingerprint of weights: names, shapes, precision and every bit."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


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
    """Read the weights of `network` from a file in any of the four formats.

    The formats are: a flat dict of tensors (ours), safetensors (known by the suffix), a Lightning checkpoint of our
    SRModule (its `state_dict`, which holds the averaged weights), and the authors' dict with `params_ema` (preferred)
    or `params`. The prefixes `network.`, `module.` and `_orig_mod.` are removed where the names do not fit with them.

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
    state, expected = read_weights(path, key), network.state_dict()
    state = dict(zip(own_names(list(state), expected), state.values(), strict=True))
    _compare(state, network, path, key)
    return {name: as_stored(state[name], value.dtype) for name, value in expected.items()}


def read_weights(path: Path, key: str = "weights") -> dict[str, Tensor]:
    """Read a weights file in any of the four formats as it is, names with it, for no network in particular.

    Raises:
        UserError: not a file, or not weights.
    """
    return _state_of(_read(path, key), path, key)


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


def _state_of(content: Any, path: Path, key: str) -> dict[str, Tensor]:
    """Find the dict of tensors in one of the formats."""
    if isinstance(content, dict):
        for name in (*EMA_KEYS, "state_dict"):
            if isinstance(content.get(name), dict):
                content = content[name]
                break
        state = {str(name): value for name, value in content.items()}
        if state and all(isinstance(value, Tensor) for value in state.values()):
            return state
    raise UserError(
        f"{key}: {path} holds no weights; expected a dict of tensors, a Lightning checkpoint with state_dict, "
        "or the authors' dict with params_ema or params"
    )


def _compare(state: State, network: nn.Module, path: Path, key: str) -> None:
    """Refuse weights that do not fit, saying how."""
    expected = network.state_dict()
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    what = type(network).__name__
    if missing or unknown:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has unknown {_some(unknown)}"] * bool(unknown)
        raise UserError(f"{key}: {path} is not for this {what}: it {' and '.join(parts)}; see the network settings")
    for name, value in expected.items():
        fault = objection(state[name], value.dtype)  # first, since a nested tensor has no shape
        if fault is not None:
            raise UserError(f"{key}: {path}: {name} {fault}")
        if state[name].shape != value.shape:
            raise UserError(
                f"{key}: {path} is not for this {what}: {name} is {_shape(state[name])} in the file and "
                f"{_shape(value)} in the network; check network.scale and the network's size"
            )
    for name, owner in tied(network).items():
        if state[name].dtype != state[owner].dtype or not torch.equal(state[name], state[owner]):
            raise UserError(f"{key}: {path} is not for this {what}: {name} and {owner} are one weight in the network")


def _some(names: list[str]) -> str:
    """The first few names and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a scalar"
