"""A sparse patch: the weights of some filters, to be put onto the baseline that they were trained from.

A file of kilobytes instead of a whole network. It says which network and which baseline it fits, and is refused
by all others.
"""

import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faig_lab.errors import UserError
from faig_lab.files import atomic_write
from faig_lab.networks.layout import FilterLayout, Layer
from faig_lab.networks.weights import state_fingerprint

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Patch:
    """Indices and values of filters.

    Attributes:
        name: what it adds, e.g. the degradation.
        layout: the filters of the network that it is for.
        baseline: fingerprint of the weights that it is for.
        filters: (n,) flat indices, ascending, on the CPU.
        values: (Σ weights of these filters,) one filter after the other.
        rest: parameters that belong to no filter (biases, say), by name; may be empty.
    """

    name: str
    layout: FilterLayout
    baseline: str
    filters: Tensor
    values: Tensor
    rest: dict[str, Tensor] = field(default_factory=dict)

    def by_layer(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Weight's name, positions of the filters within it, and their values (filters, weights of each)."""
        taken = 0
        for layer, offset in zip(self.layout.layers, self.layout.offsets, strict=False):
            inside = (self.filters >= offset) & (self.filters < offset + layer.filters)
            count, size = int(inside.sum()), int(np.prod(layer.kernel, dtype=int))
            if count:
                values = self.values[taken : taken + count * size].view(count, size)
                yield layer.name, self.filters[inside] - offset, values
            taken += count * size


def make_patch(
    target: State, baseline: State, layout: FilterLayout, filters: Tensor, name: str = "", rest: bool = False
) -> Patch:
    """Cut the given filters out of the target.

    Args:
        target: θ.
        baseline: θ̄, which the patch will fit.
        layout: the filters of the network.
        filters: flat indices, in any order.
        name: what the patch adds.
        rest: take the target's other parameters along. Biases belong to no filter, so without them a patch of all
            filters is not the target.
    """
    ordered = torch.unique(filters.cpu())
    chosen = layout.mask(ordered)
    cut = [target[x.name].cpu()[chosen[x.name].expand(target[x.name].shape)] for x in layout.layers]
    others = {n: v.cpu() for n, v in target.items() if n not in chosen} if rest else {}
    return Patch(name, layout, state_fingerprint(baseline), ordered, torch.cat(cut), others)


def apply_patches(baseline: State, *patches: Patch) -> dict[str, Tensor]:
    """Put patches onto the baseline; the order does not matter.

    Raises:
        UserError: a patch is for other weights, or two patches set one filter to different values.
    """
    state = {n: v.clone(memory_format=torch.contiguous_format) for n, v in baseline.items()}
    fits = state_fingerprint(baseline)
    owner: dict[str, Tensor] = {}  # which patch, counted from 1, has set each filter
    for number, patch in enumerate(patches, start=1):
        if patch.baseline != fits:
            raise UserError(f"patch {patch.name}: is for the baseline {patch.baseline}, not for {fits}")
        for name, where, values in patch.by_layer():
            filters = state[name].view(-1, values.shape[1])
            by = owner.setdefault(name, torch.zeros(len(filters), dtype=torch.int32))
            where, values = where.to(filters.device), values.to(filters)
            clash = (by[where.cpu()] > 0) & (filters[where] != values).any(1).cpu()
            if clash.any():
                other = patches[int(by[where.cpu()][clash][0]) - 1].name
                raise UserError(
                    f"patch {patch.name}: sets {int(clash.sum())} filters of {name} to other values than patch "
                    f"{other}; use one of the two, or patches with fewer filters"
                )
            filters[where], by[where.cpu()] = values, number
        _apply_rest(state, baseline, patch)
    return state


def _apply_rest(state: dict[str, Tensor], baseline: State, patch: Patch) -> None:
    for name, value in patch.rest.items():
        value = value.to(baseline[name])
        if not (torch.equal(state[name], baseline[name]) or torch.equal(state[name], value)):
            raise UserError(f"patch {patch.name}: sets {name} to other values than the patch before it")
        state[name] = value.clone()


def patch_bytes(patch: Patch) -> bytes:
    """The content of a patch file, an .npz; the same patch gives the same bytes."""
    file = io.BytesIO()
    layers = [[layer.name, layer.out, layer.in_, list(layer.kernel)] for layer in patch.layout.layers]
    np.savez_compressed(
        file,
        about=np.frombuffer(
            json.dumps({"name": patch.name, "baseline": patch.baseline, "layers": layers}).encode(), np.uint8
        ),
        filters=patch.filters.numpy().astype(np.uint32),
        values=patch.values.numpy(),
        **{f"rest/{name}": value.numpy() for name, value in patch.rest.items()},  # type: ignore[arg-type]
    )
    return file.getvalue()


def save_patch(path: Path, patch: Patch) -> None:
    """Write a patch to an .npz file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(patch_bytes(patch))


def load_patch(path: Path, baseline: State, layout: FilterLayout, key: str = "patch") -> Patch:
    """Read a patch and make sure that it fits.

    Args:
        path: the file.
        baseline: θ̄ that it is to be put onto.
        layout: the filters of the network.
        key: what to call it in errors.

    Raises:
        UserError: no such file, not a patch, damaged, or for another network or baseline.
    """
    try:
        patch = _patch_of(_arrays(path.read_bytes()))
    except FileNotFoundError as error:
        raise UserError(f"{key}: no file {path}") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, BadZipFile, zlib.error) as error:
        raise UserError(f"{key}: {path} is damaged or no patch ({' '.join(str(error).split())})") from error
    if patch.layout != layout:
        raise UserError(f"{key}: {path} is for another network: {_difference(patch.layout, layout)}")
    if patch.baseline != state_fingerprint(baseline):
        raise UserError(f"{key}: {path} is for another baseline of this network ({patch.baseline})")
    if any(name not in baseline or value.shape != baseline[name].shape for name, value in patch.rest.items()):
        raise UserError(f"{key}: {path} is damaged: its biases are not those of this network")
    return patch


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz, after its checksums have been compared."""
    with ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} is wrong")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _patch_of(content: Mapping[str, NDArray[Any]]) -> Patch:
    """Raises ValueError, KeyError or TypeError where the arrays are no patch."""
    about = json.loads(content["about"].tobytes())
    layout = FilterLayout(tuple(Layer(name, out, in_, tuple(kernel)) for name, out, in_, kernel in about["layers"]))
    filters = torch.from_numpy(content["filters"].astype(np.int64))
    values = torch.from_numpy(content["values"])
    if filters.ndim != 1 or not (filters.diff() > 0).all() or (len(filters) and int(filters[-1]) >= len(layout)):
        raise ValueError("its indices are not ascending or not of its network")
    if values.shape != (int(layout.weights_per_filter()[filters].sum()),) or not torch.isfinite(values).all():
        raise ValueError("its values are too few, too many or not finite")
    rest = {n.removeprefix("rest/"): torch.from_numpy(v) for n, v in content.items() if n.startswith("rest/")}
    return Patch(str(about["name"]), layout, str(about["baseline"]), filters, values, rest)


def _difference(found: FilterLayout, expected: FilterLayout) -> str:
    """The first way in which two layouts differ."""
    for theirs, ours in zip(found.layers, expected.layers, strict=False):
        if theirs != ours:
            shapes = ["×".join(map(str, (x.out, x.in_, *x.kernel))) for x in (theirs, ours)]
            return f"its {theirs.name} is {shapes[0]}, this network's {ours.name} is {shapes[1]}"
    return f"it has {len(found.layers)} layers with filters, this network {len(expected.layers)}"
