"""Units of attribution: what the parameters of a network are cut into ↔ flat index."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

from faig_lab.filters.functional import tied
from faig_lab.filters.heads import head_blocks
from faig_lab.granularity import UNITS, Granularity

# A kernel is read as (group, first channel within it, second channel within it, place in the kernel): the axes that
# tell its units apart. Of a transposed convolution the first channel is the input's.
_AXES: dict[str, tuple[int, ...]] = {
    "weight": (0, 1, 2, 3),
    "filter": (0, 1, 2),
    "output_channel": (0, 1),
    "input_channel": (0, 2),
    "head": (0, 1),
    "layer": (),
}
_TRANSPOSED = _AXES | {"output_channel": (0, 2), "input_channel": (0, 1), "head": (0, 2)}
# Any other parameter is read as (1, entries of its first axis, 1, all the rest).
_OTHER = {"weight": (0, 1, 2, 3), "layer": ()}


@dataclass(frozen=True)
class Layer:
    """One parameter and how it is cut into units, which have all the same number of weights.

    Attributes:
        names: of the parameter; several if it is tied. The first is the one that counts.
        shape: of the parameter: of a kernel (out, in / groups, …), if transposed (in, out / groups, …).
        granularity: what a unit is.
        kernel: the weight of a convolution or linear layer, or else any other parameter, a bias say.
        groups: of the convolution.
        transposed: a transposed convolution.
        heads: blocks of rows that are a unit each at "head", see `head_blocks`; 0: output channels are the units.
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
        """The first name."""
        return self.names[0]

    @cached_property
    def units(self) -> int:
        """How many units there are."""
        return math.prod(self._sizes[axis] for axis in self._axes)

    @cached_property
    def weights(self) -> int:
        """How many weights there are, in all units together."""
        return math.prod(self.shape)

    @cached_property
    def places(self) -> tuple[int, ...]:
        """The shape of the units' places, see `UnitAddress.place`."""
        if self.granularity == "weight":
            return self.shape
        if self.kernel and self.granularity == "filter":
            return self.shape[:2]
        return () if self.granularity == "layer" or not self.shape else (self.units,)

    def rows(self, values: Tensor) -> Tensor:
        """A tensor shaped like the parameter → (units, weights of each)."""
        return values.reshape(self._sizes).permute(self._order).reshape(self.units, -1)

    def joined(self, rows: Tensor) -> Tensor:
        """The inverse of `rows`: (units, weights of each) → a tensor shaped like the parameter."""
        parts = rows.reshape([self._sizes[axis] for axis in self._order])
        return parts.permute(np.argsort(self._order).tolist()).reshape(self.shape)

    def spread(self, values: Tensor) -> Tensor:
        """(units,) → a tensor that broadcasts against the parameter: for every weight the value of its unit."""
        sizes = [size if axis in self._axes else 1 for axis, size in enumerate(self._sizes)]
        group, first, second, _ = self._sizes
        whole = values.reshape(sizes).expand(group, first, second, sizes[3])
        rest = self.shape[2:] if self.kernel else self.shape[1:]
        inner = rest if sizes[3] > 1 else [1] * len(rest)
        return whole.reshape([*self.shape[: len(self.shape) - len(rest)], *inner])

    @cached_property
    def _sizes(self) -> tuple[int, int, int, int]:
        if not self.kernel:
            first = self.shape[0] if self.shape else 1
            return 1, first, 1, math.prod(self.shape[1:])
        first, second, *kernel = self.shape
        if self._in_heads:
            return self.heads, first // self.heads, second, math.prod(kernel)
        return self.groups, first // self.groups, second, math.prod(kernel)

    @cached_property
    def _axes(self) -> tuple[int, ...]:
        if not self.kernel:
            return _OTHER.get(self.granularity, (0, 1))
        if self._in_heads:
            return (0,)
        return (_TRANSPOSED if self.transposed else _AXES)[self.granularity]

    @property
    def _in_heads(self) -> bool:
        return self.granularity == "head" and self.heads > 0

    @cached_property
    def _order(self) -> tuple[int, ...]:
        """The axes that tell units apart, then the others."""
        return (*self._axes, *(axis for axis in range(4) if axis not in self._axes))

    def describe(self) -> dict[str, Any]:
        """The layer as plain data."""
        row: dict[str, Any] = {"name": self.name}
        if self.kernel:
            row |= {"out": self.shape[0], "in": self.shape[1], "kernel": list(self.shape[2:])}
            row |= {"groups": self.groups, "transposed": self.transposed}
        else:
            row |= {"shape": list(self.shape)}
        return row | {"tied_with": list(self.names[1:]), "units": self.units}


_ORDER = {
    "weight": "layers as in the state dict, then place in the weight, row by row",
    "filter": "layers as in the state dict, then out, then in",
    "output_channel": "layers as in the state dict, then output channel",
    "input_channel": "layers as in the state dict, then input channel",
    "head": "layers as in the state dict, then head of query, key and value; in other layers output channel",
    "layer": "layers as in the state dict",
}

_LEFT_OUT = "_parameters_without_units"
"""Attribute of a network: names of parameters that take no part in its output, such as merged copies of others."""

# The weights of an attention that linear layers would hold; torch applies them as such.
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


class UnitAddress(NamedTuple):
    """Where a unit sits.

    Attributes:
        layer: the parameter's name.
        place: of a filter the first two indices of the weight (out and in, for most layers), of a weight all of
            them, of a channel its number, of a layer nothing. Of a parameter that is no kernel: of a weight all
            indices, of a layer nothing, else the first index.
    """

    layer: str
    place: tuple[int, ...]


@dataclass(frozen=True)
class FilterLayout:
    """The table of all units of a network, in state-dict order, then in the order of the weight's axes.

    A filter is one slice K[o, i] of a convolution weight (out, in, *kernel). Any kernel size and number of
    dimensions, groups, dilation and transposed convolutions are covered: groups only make `in` smaller. A linear
    layer counts as a 1×1 convolution: out × in filters of one weight. So do the projections inside of
    `nn.MultiheadAttention`. Channels are the layer's own, counted over all
    groups. A parameter that several modules share is there once, cut as the first of them has it.

    Attributes:
        layers: the parameters whose units are ranked: they have the indices 0 … len(layout) − 1.
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
            granularity: what a unit of a convolution or linear layer is. Of every other parameter a unit is a single
                weight at "weight", the whole at "layer", and else an entry of its first axis, e.g. one bias.
            rank_others: rank the units of parameters that are no kernels as well.

        Raises:
            ValueError: the network has neither convolution nor linear layer, or one whose weight is no parameter.
        """
        cut = _parameters(network, granularity)
        if not any(layer.kernel for layer in cut):
            raise ValueError("the network has no convolution and no linear layer, so it has no filters")
        left_out: frozenset[str] = getattr(network, _LEFT_OUT, frozenset())
        ranked = [(layer.kernel or rank_others) and layer.name not in left_out for layer in cut]
        return cls(tuple(compress(cut, ranked)), tuple(compress(cut, (not each for each in ranked))))

    @property
    def granularity(self) -> Granularity:
        """What a unit is."""
        return self.layers[0].granularity

    @property
    def word(self) -> str:
        """What the units are called, in the plural."""
        ranked = all(layer.kernel for layer in self.layers)
        return UNITS[self.granularity] if ranked else f"{UNITS[self.granularity]} and other parameters"

    @property
    def undivided(self) -> bool:
        """Whether every layer is one unit, so that no unit could lie elsewhere in its layer."""
        return all(layer.units == 1 for layer in self.layers)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First flat index of each layer, and the number of units at the end."""
        offsets = [0]
        for layer in self.layers:
            offsets.append(offsets[-1] + layer.units)
        return tuple(offsets)

    def __len__(self) -> int:
        return self.offsets[-1]

    def index(self, layer: str, *place: int) -> int:
        """The flat index of a unit by its layer and place, see `UnitAddress`.

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
        """The unit at a flat index. Raises IndexError out of range."""
        if not 0 <= index < len(self):
            raise IndexError(f"the layout has {len(self)} {UNITS[self.granularity]}, no {index}")
        which = bisect_right(self.offsets, index) - 1
        layer, inside = self.layers[which], index - self.offsets[which]
        return UnitAddress(layer.name, tuple(map(int, np.unravel_index(inside, layer.places))) if layer.places else ())

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Sum each unit's weights: tensors shaped like the parameters, by name → (units,).

        Names of parameters that are not ranked (biases, say) are passed over.
        """
        return torch.cat([layer.rows(tensors[layer.name]).sum(1) for layer in self.layers])

    def scatter(self, values: Tensor) -> dict[str, Tensor]:
        """(units,) → for every name of every ranked parameter a tensor that broadcasts against it."""
        if values.shape != (len(self),):
            raise ValueError(f"expected ({len(self)},) values, not {tuple(values.shape)}")
        parts = torch.split(values, [layer.units for layer in self.layers])
        spread = [(layer, layer.spread(part)) for layer, part in zip(self.layers, parts, strict=True)]
        return {name: part for layer, part in spread for name in layer.names}

    def mask(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """Flat indices → boolean tensors that broadcast against the parameters."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), dtype=torch.long)] = True
        return self.scatter(chosen)

    def layer_of(self) -> Tensor:
        """(units,) position of each unit's layer."""
        counts = torch.tensor([layer.units for layer in self.layers])
        return torch.repeat_interleave(torch.arange(len(self.layers)), counts)

    def count_by_layer(self, units: Tensor) -> Tensor:
        """Flat indices → (layers,) the number of these units in each layer."""
        return torch.bincount(self.layer_of()[units], minlength=len(self.layers))

    def weights_per_unit(self) -> Tensor:
        """(units,) number of weights of each unit: for a filter the product of the sides of its kernel."""
        return torch.cat([torch.full((layer.units,), layer.weights // layer.units) for layer in self.layers])

    def describe(self) -> dict[str, Any]:
        """The layout as plain data: what `attribution/layout.json` holds. `filters` is the number of units."""
        return {
            "granularity": self.granularity,
            "filters": len(self),
            "order": _ORDER[self.granularity],
            "layers": [
                layer.describe() | {"offset": offset} for offset, layer in zip(self.offsets, self.layers, strict=False)
            ],
            "not_ranked": [layer.describe() for layer in self.others],
        }


def leave_out(network: nn.Module, names: Iterable[str]) -> None:
    """Let these parameters of a network have no units in its layouts; copies of the network keep that."""
    setattr(network, _LEFT_OUT, frozenset(names))


def _parameters(network: nn.Module, granularity: Granularity) -> list[Layer]:
    """Every floating parameter once, cut into units, in the order of the state dict."""
    modules, heads = _modules(network), head_blocks(network)
    order = {name: position for position, name in enumerate(network.state_dict())}
    further: dict[str, list[str]] = {}
    for name, owner in tied(network).items():
        further.setdefault(owner, []).append(name)
    found = []
    for name, parameter in sorted(network.named_parameters(), key=lambda item: order.get(item[0], len(order))):
        if not parameter.numel() or not parameter.is_floating_point():
            continue
        layer = Layer((name, *further.get(name, ())), tuple(parameter.shape), granularity, kernel=False)
        module = modules.get(id(parameter))
        if isinstance(module, _ConvNd):
            transposed = isinstance(module, _ConvTransposeNd)
            layer = replace(layer, kernel=True, groups=module.groups, transposed=transposed)
        if isinstance(module, nn.Linear | nn.MultiheadAttention):
            layer = replace(layer, kernel=True)
        found.append(replace(layer, heads=heads.get(id(parameter), 0)) if layer.kernel else layer)
    return found


def _modules(network: nn.Module) -> dict[int, nn.Module]:
    """The first convolution, linear layer or attention of every weight, by the weight's id."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(
                f"{name} has no shape before its first input; give its layer all its channels, or evaluate the network "
                "once"
            )
    found: dict[int, nn.Module] = {}
    for name, module in network.named_modules():
        if isinstance(module, _ConvNd | nn.Linear):
            weight = module._parameters.get("weight")
            where = f"{name}.weight" if name else "weight"
            if weight is None:
                raise ValueError(
                    f"{where} is no parameter but computed from others (weight or spectral norm?); fold it in with "
                    "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.remove_weight_norm"
                )
            found.setdefault(id(weight), module)
        if isinstance(module, nn.MultiheadAttention):
            own = (module._parameters.get(key) for key in _PROJECTIONS)
            found |= {id(weight): module for weight in own if weight is not None}
    return found
