"""Units of attribution (filters, weights, channels, layers) and their flat index."""

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

from faig_lab.filters.functional import tied
from faig_lab.granularity import UNITS, Granularity

# A kernel has four axes here: group, first channel within the group, second channel within the group, position in the
# kernel. Each granularity has the axes that distinguish its units. The first channel of a transposed convolution is the
# input channel.
_AXES: dict[str, tuple[int, ...]] = {
    "weight": (0, 1, 2, 3),
    "filter": (0, 1, 2),
    "output_channel": (0, 1),
    "input_channel": (0, 2),
    "head": (0, 1),
    "layer": (),
}
_TRANSPOSED = _AXES | {"output_channel": (0, 2), "input_channel": (0, 1), "head": (0, 2)}
# Any other parameter has the axes 1, entries of its first axis, 1, all the rest.
_OTHER = {"weight": (0, 1, 2, 3), "layer": ()}


@dataclass(frozen=True)
class Layer:
    """One parameter and its division into units. All units have the same number of weights.

    Attributes:
        names: names of the parameter, several if it is tied. States hold its value under the first name.
        shape: shape of the parameter. A kernel has (out, in / groups, …), a transposed one (in, out / groups, …).
        granularity: the kind of unit.
        kernel: True for the weight of a convolution or linear layer, False for any other parameter, e.g. a bias.
        groups: groups of the convolution.
        transposed: True for a transposed convolution.
        heads: blocks of rows that are a unit each at "head", see `head_blocks`; 0: the units are output channels.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    granularity: Granularity = "filter"
    kernel: bool = True
    groups: int = 1
    transposed: bool = False
    heads: int = 0

    @property
    def name(self) -> str:
        """Return the first name."""
        return self.names[0]

    @cached_property
    def units(self) -> int:
        """Return the number of units."""
        return math.prod(self._sizes[axis] for axis in self._axes)

    @cached_property
    def weights(self) -> int:
        """Return the number of weights of all units together."""
        return math.prod(self.shape)

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Return the number of units along each index of `UnitAddress.place`."""
        if self.granularity == "weight":
            return self.shape
        if self.kernel and self.granularity == "filter":
            return self.shape[:2]
        return () if self.granularity == "layer" or not self.shape else (self.units,)

    def rows(self, values: Tensor) -> Tensor:
        """Return a tensor with the parameter's shape as (units, weights per unit)."""
        return values.reshape(self._sizes).permute(self._order).reshape(self.units, -1)

    def joined(self, rows: Tensor) -> Tensor:
        """Return (units, weights per unit) as a tensor with the parameter's shape: the inverse of `rows`."""
        parts = rows.reshape([self._sizes[axis] for axis in self._order])
        return parts.permute(np.argsort(self._order).tolist()).reshape(self.shape)

    def expand(self, values: Tensor) -> Tensor:
        """Return (units,) values as a tensor that broadcasts to the parameter: each weight gets its unit's value."""
        sizes = [size if axis in self._axes else 1 for axis, size in enumerate(self._sizes)]
        whole = values.reshape(sizes).expand(*self._sizes[:3], sizes[3])
        rest = self.shape[2:] if self.kernel else self.shape[1:]
        inner = rest if sizes[3] > 1 else [1] * len(rest)
        return whole.reshape([*self.shape[: len(self.shape) - len(rest)], *inner])

    @cached_property
    def _sizes(self) -> tuple[int, int, int, int]:
        if not self.kernel:
            return 1, self.shape[0] if self.shape else 1, 1, math.prod(self.shape[1:])
        first, second, *kernel = self.shape
        groups = self.heads if self.heads and self.granularity == "head" else self.groups
        return groups, first // groups, second, math.prod(kernel)

    @cached_property
    def _axes(self) -> tuple[int, ...]:
        if not self.kernel:
            return _OTHER.get(self.granularity, (0, 1))
        if self.heads and self.granularity == "head":
            return (0,)
        return (_TRANSPOSED if self.transposed else _AXES)[self.granularity]

    @cached_property
    def _order(self) -> tuple[int, ...]:
        """Return the axes that distinguish units, then the others."""
        return (*self._axes, *(axis for axis in range(4) if axis not in self._axes))

    def describe(self) -> dict[str, Any]:
        """Return the layer as plain data."""
        form: dict[str, Any] = {"shape": list(self.shape)}
        if self.kernel:
            form = {"out": self.shape[0], "in": self.shape[1], "kernel": list(self.shape[2:])}
            form |= {"groups": self.groups, "transposed": self.transposed}
        return {"name": self.name, **form, "tied_with": list(self.names[1:]), "units": self.units}


_ORDER = {
    "weight": ", then place in the weight, row by row",
    "filter": ", then out, then in",
    "output_channel": ", then output channel",
    "input_channel": ", then input channel",
    "head": ", then head of query, key and value; in other layers output channel",
    "layer": "",
}

_LEFT_OUT = "_parameters_without_units"
"""Attribute of a network: names of parameters that take no part in its output, such as merged copies of others."""

_PROJECTIONS = {"in_proj_weight": 3, "q_proj_weight": 1, "k_proj_weight": 1, "v_proj_weight": 1}
"""Weights of `nn.MultiheadAttention`, applied as linear layers → how many of query, key and value each makes."""


class UnitAddress(NamedTuple):
    """The position of a unit in a network.

    Attributes:
        layer: the parameter's name.
        place: indices within the parameter. In a kernel, a filter has the first two (for most layers out and in), a
            weight has all, a channel has its number, a layer has none. In any other parameter, a weight has all, a
            layer has none, and every other unit has the first index.
    """

    layer: str
    place: tuple[int, ...]


@dataclass(frozen=True)
class FilterLayout:
    """The table of all units of a network, in state-dict order, then in the order of the weight's axes.

    A filter is one slice K[o, i] of a convolution weight (out, in, *kernel). Any kernel size and number of
    dimensions, groups, dilation and transposed convolutions are covered: groups only make `in` smaller. A linear
    layer counts as a 1×1 convolution: out × in filters of one weight. So do the projections inside of
    `nn.MultiheadAttention`. Channels are counted over all groups of their layer. A parameter that several modules share
    is listed once, and divided as the first module uses it.

    Attributes:
        layers: the parameters whose units are ranked. The units have the indices 0 … len(layout) − 1.
        others: the parameters whose units are not ranked: those that are no kernels unless they are ranked, and those
            that are left out (`leave_out`).
    """

    layers: tuple[Layer, ...]
    others: tuple[Layer, ...] = ()

    @classmethod
    def of(cls, network: nn.Module, granularity: Granularity = "filter", rank_others: bool = False) -> "FilterLayout":
        """Read the layout of a network's parameters.

        Args:
            network: any module.
            granularity: the kind of unit in convolutions and linear layers. In any other parameter a unit is a single
                weight at "weight", the whole parameter at "layer", and otherwise an entry of its first axis, e.g. one
                bias.
            rank_others: also rank the units of parameters that are no kernels.

        Raises:
            ValueError: the network has no convolution and no linear layer, or the weight of one is no parameter.
        """
        parameters = _parameters(network, granularity)
        if not any(layer.kernel for layer in parameters):
            raise ValueError("the network has no convolution and no linear layer, so it has no filters")
        left_out: frozenset[str] = getattr(network, _LEFT_OUT, frozenset())
        ranked: list[Layer] = []
        others: list[Layer] = []
        for layer in parameters:
            chosen = (layer.kernel or rank_others) and layer.name not in left_out
            (ranked if chosen else others).append(layer)
        return cls(tuple(ranked), tuple(others))

    @property
    def granularity(self) -> Granularity:
        """Return the kind of unit."""
        return self.layers[0].granularity

    @property
    def word(self) -> str:
        """Return the name of the units in the plural, e.g. "filters"."""
        ranked = all(layer.kernel for layer in self.layers)
        return UNITS[self.granularity] if ranked else f"{UNITS[self.granularity]} and other parameters"

    @property
    def undivided(self) -> bool:
        """Return whether every layer is a single unit."""
        return all(layer.units == 1 for layer in self.layers)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Return the first flat index of each layer, and the number of units at the end."""
        offsets = [0]
        for layer in self.layers:
            offsets.append(offsets[-1] + layer.units)
        return tuple(offsets)

    def __len__(self) -> int:
        return self.offsets[-1]

    def index(self, layer: str, *place: int) -> int:
        """Return the flat index of a unit from its layer and place, see `UnitAddress`.

        Raises:
            KeyError: no such layer. IndexError: `place` out of range.
        """
        for offset, candidate in zip(self.offsets, self.layers, strict=False):
            if layer in candidate.names:
                sizes = candidate.places
                if len(place) != len(sizes) or not all(0 <= i < size for i, size in zip(place, sizes, strict=True)):
                    shown = "×".join(map(str, sizes)) or "one unit"
                    raise IndexError(f"{layer} is {shown}, it has no {self.granularity} {', '.join(map(str, place))}")
                return offset + (int(np.ravel_multi_index(place, sizes)) if sizes else 0)
        raise KeyError(layer)

    def address(self, index: int) -> UnitAddress:
        """Return the address of the unit at a flat index. Raises IndexError if the index is out of range."""
        if not 0 <= index < len(self):
            raise IndexError(f"the layout has {len(self)} {UNITS[self.granularity]}, no {index}")
        which = bisect_right(self.offsets, index) - 1
        layer, inside = self.layers[which], index - self.offsets[which]
        return UnitAddress(layer.name, tuple(map(int, np.unravel_index(inside, layer.places))) if layer.places else ())

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return (units,) the sum over each unit's weights of tensors that have the parameters' names and shapes.

        Parameters that are not ranked (e.g. biases) are ignored.
        """
        return torch.cat([layer.rows(tensors[layer.name]).sum(1) for layer in self.layers])

    def scatter(self, values: Tensor) -> dict[str, Tensor]:
        """Return (units,) values as tensors that broadcast to the ranked parameters, by each of their names."""
        if values.shape != (len(self),):
            raise ValueError(f"expected ({len(self)},) values, not {tuple(values.shape)}")
        parts = torch.split(values, [layer.units for layer in self.layers])
        tensors: dict[str, Tensor] = {}
        for layer, part in zip(self.layers, parts, strict=True):
            tensors |= dict.fromkeys(layer.names, layer.expand(part))
        return tensors

    def mask(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """Return flat indices as boolean tensors that broadcast to the ranked parameters, by name."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), dtype=torch.long)] = True
        return self.scatter(chosen)

    def layer_of(self) -> Tensor:
        """Return (units,) the position of each unit's layer in `layers`."""
        counts = torch.tensor([layer.units for layer in self.layers])
        return torch.repeat_interleave(torch.arange(len(self.layers)), counts)

    def count_by_layer(self, units: Tensor) -> Tensor:
        """Return (layers,) the number of the given units in each layer. `units` are flat indices."""
        return torch.bincount(self.layer_of()[units], minlength=len(self.layers))

    def weights_per_unit(self) -> Tensor:
        """Return (units,) the number of weights of each unit. For a filter it is the area of its kernel."""
        return torch.cat([torch.full((layer.units,), layer.weights // layer.units) for layer in self.layers])

    def describe(self) -> dict[str, Any]:
        """Return the layout as plain data, as in `attribution/layout.json`. `filters` is the number of units."""
        return {
            "granularity": self.granularity,
            "filters": len(self),
            "order": f"layers as in the state dict{_ORDER[self.granularity]}",
            "layers": [
                layer.describe() | {"offset": offset} for offset, layer in zip(self.offsets, self.layers, strict=False)
            ],
            "not_ranked": [layer.describe() for layer in self.others],
        }


def leave_out(network: nn.Module, names: Iterable[str]) -> None:
    """Let these parameters of a network have no units in its layouts; copies of the network keep that."""
    setattr(network, _LEFT_OUT, frozenset(names))


def _parameters(network: nn.Module, granularity: Granularity) -> list[Layer]:
    """Return every floating-point parameter once, divided into units, in the order of the state dict."""
    modules, heads = _users(network), head_blocks(network)
    order = {name: position for position, name in enumerate(network.state_dict())}
    further: dict[str, list[str]] = {}
    for name, owner in tied(network).items():
        further.setdefault(owner, []).append(name)
    layers = []
    for name, parameter in sorted(network.named_parameters(), key=lambda item: order.get(item[0], len(order))):
        if not parameter.numel() or not parameter.is_floating_point():
            continue
        module = modules.get(id(parameter))
        layer = Layer(
            (name, *further.get(name, ())),
            tuple(parameter.shape),
            granularity,
            kernel=module is not None,
            groups=module.groups if isinstance(module, _ConvNd) else 1,
            transposed=isinstance(module, _ConvTransposeNd),
            heads=heads.get(id(parameter), 0),
        )
        layers.append(layer)
    return layers


def _users(network: nn.Module) -> dict[int, nn.Module]:
    """Return the first convolution, linear layer or attention that uses each weight, by the weight's id."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"{name} has no shape before its first input; give its layer all its channels, or evaluate the network "
                "once"
            )
    users: dict[int, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, _ConvNd | nn.Linear):
            weight = module._parameters.get("weight")
            if weight is None:
                where = f"{name}.weight" if name else "weight"
                raise ValueError(
                    f"{where} is no parameter but computed from others (weight or spectral norm?); fold it in "
                    "with torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.remove_weight_norm"
                )
            users.setdefault(id(weight), module)
        if isinstance(module, nn.MultiheadAttention):
            weights = (module._parameters.get(key) for key in _PROJECTIONS)
            users |= {id(weight): module for weight in weights if weight is not None}
    return users


_PROJECTION_NAME = re.compile(r"(?:to_|w)?(qkv|qk|kv|q|k|v)(?:_proj|_linear|_conv)?")
"""Names of the layers that make queries, keys and values."""

_HEAD_COUNTS = ("num_heads", "heads", "n_heads", "nhead", "nh")
"""Names of the attribute in which an attention keeps the number of its heads."""


def head_blocks(network: nn.Module) -> dict[int, int]:
    """Return the id of the weight of every projection of an attention → the number of its blocks of rows.

    A projection makes queries, keys, values, or several of them, one after the other. Each of these has one block of
    consecutive output channels for each head.
    """
    blocks_of: dict[int, int] = {}
    for module in network.modules():
        counts = (getattr(module, name, None) for name in _HEAD_COUNTS)
        heads = next((count for count in counts if type(count) is int and count > 0), None)
        if heads is None:
            continue
        for name, parts in _PROJECTIONS.items():
            weight = module._parameters.get(name)
            if isinstance(module, nn.MultiheadAttention) and weight is not None:
                blocks_of[id(weight)] = parts * heads
        for name, layer in module.named_children():
            match = _PROJECTION_NAME.fullmatch(name)
            if match is None or not isinstance(layer, nn.Linear | _ConvNd):
                continue
            blocks = len(match[1]) * heads
            if layer.weight.shape[0] % blocks == 0:
                blocks_of[id(layer.weight)] = blocks
    return blocks_of
