"""Interventions on chosen filters: pure functions from states to states. No network is changed in place.

"Filter" stands for the unit of the layout: weights, channels or layers work in the same way.

`mask` and `modulate` move filters of the target to or beyond the baseline. A sparse patch has the weights of some
filters of the target, which replace the weights of the baseline. A patch is a file of kilobytes instead of a whole
network. The file names the network and the baseline it belongs to. It is refused for any other network or baseline.
"""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faig_lab.errors import UserError
from faig_lab.files import atomic_write, read_arrays
from faig_lab.filters.functional import State, state_fingerprint
from faig_lab.filters.layout import FilterLayout, Layer
from faig_lab.filters.weights import objection
from faig_lab.granularity import UNITS


def mask(target: State, baseline: State, layout: FilterLayout, filters: Tensor) -> dict[str, Tensor]:
    """Set the given filters of the target back to the baseline's values (not to zero).

    Everything else, biases included, stays the target's, bit for bit.

    Args:
        target: θ.
        baseline: θ̄.
        layout: the filters of the network.
        filters: flat indices; an empty tensor gives the target itself.
    """
    chosen = layout.mask(filters)
    return {
        name: torch.where(chosen[name].to(value.device), baseline[name], value) if name in chosen else value
        for name, value in target.items()
    }


def modulate(
    target: State,
    baseline: State,
    layout: FilterLayout,
    filters: Tensor | Sequence[Tensor],
    strength: float | Sequence[float],
) -> dict[str, Tensor]:
    """Set the given filters to θ̄ + λ(θ − θ̄); λ = 0 is `mask` and λ = 1 the target, both bit for bit.

    Everything else, biases included, stays the target's, bit for bit.

    Args:
        target: θ.
        baseline: θ̄.
        layout: the filters of the network.
        filters: flat indices, or several sets of them.
        strength: λ, any finite number: one λ for all sets, or one for each set.

    Raises:
        ValueError: a λ is not finite, the numbers of λ and sets differ, or a filter would get two different λ.
    """
    sets = [filters] if isinstance(filters, Tensor) else list(filters)
    strengths = list(strength) if isinstance(strength, Sequence) else [strength] * len(sets)
    per_filter = torch.full((len(layout),), torch.nan, dtype=torch.float64)
    for chosen, value in zip(sets, strengths, strict=True):
        if not math.isfinite(value):
            raise ValueError(f"a strength must be finite, not {value}")
        before = per_filter[chosen]
        shared = int((~before.isnan() & (before != value)).sum())
        if shared:
            raise ValueError(f"{shared} filters are in two sets that are to have different strengths")
        per_filter[chosen] = float(value)
    state = dict(target)
    for name, lambdas in layout.scatter(per_filter.nan_to_num(1.0)).items():
        if name in state:
            start, end, lambdas = baseline[name], state[name], lambdas.to(state[name].device)
            moved = start + lambdas.to(end.dtype) * (end - start)
            # For λ = 0 and 1 the endpoint itself is used, since the sum may round.
            state[name] = torch.where(lambdas == 1, end, torch.where(lambdas == 0, start, moved))
    return state


@dataclass(frozen=True, eq=False)
class Patch:
    """Indices and values of filters.

    Attributes:
        name: what the patch adds, e.g. the name of a degradation.
        layout: the filters of the network that the patch belongs to.
        baseline: fingerprint of the weights that the patch belongs to.
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

    def by_layer(self) -> Iterator[tuple[Layer, Tensor, Tensor]]:
        """Yield a layer, the positions of its filters in the layer, and their values (filters, weights per filter)."""
        rest = self.values
        for layer, offset in zip(self.layout.layers, self.layout.offsets, strict=False):
            filters = self.filters[(self.filters >= offset) & (self.filters < offset + layer.units)]
            size = layer.weights // layer.units
            values, rest = rest[: len(filters) * size], rest[len(filters) * size :]
            if len(filters):
                yield layer, filters - offset, values.view(-1, size)


def make_patch(
    target: State, baseline: State, layout: FilterLayout, filters: Tensor, *, name: str = "", rest: bool = False
) -> Patch:
    """Cut the given filters out of the target.

    Args:
        target: θ.
        baseline: θ̄, the weights that the patch belongs to.
        layout: the filters of the network.
        filters: flat indices, in any order.
        name: what the patch adds.
        rest: also include the target's other parameters. Biases belong to no filter, so a patch of all filters gives
            the target only with them.
    """
    ordered = torch.unique(filters.cpu())
    chosen = torch.zeros(len(layout), dtype=torch.bool)
    chosen[ordered] = True
    inside = torch.split(chosen, [layer.units for layer in layout.layers])
    values = [x.rows(target[x.name].cpu())[rows].flatten() for x, rows in zip(layout.layers, inside, strict=True)]
    named = {name for layer in layout.layers for name in layer.names}
    others = {n: v.cpu() for n, v in target.items() if n not in named} if rest else {}
    return Patch(name, layout, state_fingerprint(baseline), ordered, torch.cat(values), others)


def apply_patches(baseline: State, *patches: Patch) -> dict[str, Tensor]:
    """Apply patches to the baseline. Their order does not matter.

    Raises:
        UserError: a patch belongs to other weights, or two patches set one filter to different values.
    """
    state = {n: v.clone(memory_format=torch.contiguous_format) for n, v in baseline.items()}
    expected = state_fingerprint(baseline)
    owner: dict[str, Tensor] = {}  # which patch, counted from 1, has set each filter
    for number, patch in enumerate(patches, start=1):
        if patch.baseline != expected:
            raise UserError(f"patch {patch.name}: is for the baseline {patch.baseline}, not for {expected}")
        for layer, where, values in patch.by_layer():
            filters = layer.rows(state[layer.name]).clone()
            by = owner.setdefault(layer.name, torch.zeros(len(filters), dtype=torch.int32))
            where, values = where.to(filters.device), values.to(filters)
            clash = (by[where.cpu()] > 0) & (filters[where] != values).any(1).cpu()
            if clash.any():
                other = patches[int(by[where.cpu()][clash][0]) - 1].name
                units = f"{int(clash.sum())} {UNITS[layer.granularity]} of {layer.name}"
                raise UserError(
                    f"patch {patch.name}: sets {units} to other values than patch {other}; use one of the two, or "
                    "smaller patches"
                )
            filters[where], by[where.cpu()] = values, number
            state |= dict.fromkeys(layer.names, layer.joined(filters).contiguous())
        for name, value in patch.rest.items():
            value = value.to(baseline[name])
            if not (torch.equal(state[name], baseline[name]) or torch.equal(state[name], value)):
                raise UserError(f"patch {patch.name}: sets {name} to other values than the patch before it")
            state[name] = value.clone()
    return state


def patch_bytes(patch: Patch) -> bytes:
    """Return the content of a patch file (.npz). The same patch gives the same bytes."""
    file = io.BytesIO()
    parts = {"layers": patch.layout.layers, "others": patch.layout.others}
    about = {"name": patch.name, "baseline": patch.baseline, **{k: [asdict(x) for x in v] for k, v in parts.items()}}
    np.savez_compressed(
        file,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        filters=patch.filters.numpy().astype(np.uint32),
        values=patch.values.numpy(),
        **{f"rest/{name}": value.numpy() for name, value in patch.rest.items()},  # type: ignore[arg-type]  # read as allow_pickle
    )
    return file.getvalue()


def save_patch(path: Path, patch: Patch) -> None:
    """Write a patch to an .npz file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(patch_bytes(patch))


def load_patch(path: Path, baseline: State, layout: FilterLayout, key: str = "patch") -> Patch:
    """Read a patch and check that it belongs to the given network and baseline.

    Args:
        path: the file.
        baseline: θ̄ that the patch will be applied to.
        layout: the filters of the network.
        key: the name of the patch in errors.

    Raises:
        UserError: the file does not exist, is no patch, is damaged, or belongs to another network or baseline.
    """
    try:
        patch = _patch_of(read_arrays(path.read_bytes()))
    except FileNotFoundError as error:
        raise UserError(f"{key}: no file {path}") from error
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{key}: {path} is damaged or no patch ({' '.join(str(error).split())})") from error
    if patch.layout != layout:
        raise UserError(f"{key}: {path} is for another network: {_difference(patch.layout, layout)}")
    if patch.baseline != state_fingerprint(baseline):
        raise UserError(f"{key}: {path} is for another baseline of this network ({patch.baseline})")
    if any(name not in baseline or value.shape != baseline[name].shape for name, value in patch.rest.items()):
        raise UserError(f"{key}: {path} is damaged: its biases are not those of this network")
    given = {layer.name: values for layer, _, values in patch.by_layer()} | patch.rest
    for name, value in given.items():
        fault = objection(value, baseline[name].dtype)
        if fault is not None:
            raise UserError(f"{key}: {path}: {name} {fault}")
    return patch


def _patch_of(content: Mapping[str, NDArray[Any]]) -> Patch:
    """Return the patch in the arrays of a file. Raises ValueError, KeyError or TypeError if they are no patch."""
    about = json.loads(content["about"].tobytes())
    tuples = ("names", "shape")
    layers, others = (
        tuple(Layer(**{**row, **{field: tuple(row[field]) for field in tuples}}) for row in about[key])
        for key in ("layers", "others")
    )
    layout = FilterLayout(layers, others)
    filters = torch.from_numpy(content["filters"].astype(np.int64))
    values = torch.from_numpy(content["values"])
    if filters.ndim != 1 or not (filters.diff() > 0).all() or (len(filters) and int(filters[-1]) >= len(layout)):
        raise ValueError("its indices are not ascending or not of its network")
    if values.shape != (int(layout.weights_per_unit()[filters].sum()),):
        raise ValueError("its values are too few or too many")
    rest = {n.removeprefix("rest/"): torch.from_numpy(v) for n, v in content.items() if n.startswith("rest/")}
    return Patch(str(about["name"]), layout, str(about["baseline"]), filters, values, rest)


def _difference(given: FilterLayout, expected: FilterLayout) -> str:
    """Return the first difference between two layouts."""
    if given.granularity != expected.granularity:
        return f"it holds {UNITS[given.granularity]}, not {UNITS[expected.granularity]}"
    for theirs, ours in zip(given.layers, expected.layers, strict=False):
        if (theirs.name, theirs.shape) != (ours.name, ours.shape):
            shapes = ["×".join(map(str, x.shape)) for x in (theirs, ours)]
            return f"its {theirs.name} is {shapes[0]}, this network's {ours.name} is {shapes[1]}"
    if len(given.layers) != len(expected.layers):
        return f"it has {len(given.layers)} ranked parameters, this network {len(expected.layers)}"
    return "its groups, its tied parameters or its unranked parameters are different"
