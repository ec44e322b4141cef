"""Names of filters: layer × out × in ↔ flat index."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


def _shape_of(module: _ConvNd | nn.Linear) -> tuple[int, int, tuple[int, ...]]:
    """First axis, second axis and kernel of a weight; a linear layer's kernel has no side."""
    first, second, *kernel = module.weight.shape
    return first, second, tuple(kernel)


class FilterAddress(NamedTuple):
    """Where a filter sits: weight name, then the two indices of its slice."""

    layer: str
    out: int
    in_: int


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer: its weight's name and shape.

    `out` and `in_` are the first and second axis of the weight; for a transposed convolution the first one is
    the input's. The `kernel` of a linear layer is empty.
    """

    name: str
    out: int
    in_: int
    kernel: tuple[int, ...]

    @property
    def filters(self) -> int:
        """How many k×k slices the weight has."""
        return self.out * self.in_


@dataclass(frozen=True)
class FilterLayout:
    """The table of all filters of a network, in state-dict order, then out, then in.

    A filter is one slice K[o, i] of a convolution weight (out, in, *kernel). Any kernel size and number of
    dimensions, groups, dilation and transposed convolutions are covered: groups only make `in` smaller. A linear
    layer counts as a 1×1 convolution: out × in filters of one weight.
    """

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, network: nn.Module) -> "FilterLayout":
        """Read the layout of a network's convolutions and linear layers.

        Raises:
            ValueError: the network has neither.
        """
        layers = tuple(
            Layer(f"{name}.weight" if name else "weight", *_shape_of(module))
            for name, module in network.named_modules()
            if isinstance(module, _ConvNd | nn.Linear)
        )
        if not layers:
            raise ValueError("the network has no convolution and no linear layer, so it has no filters")
        order = {name: position for position, name in enumerate(network.state_dict())}
        return cls(tuple(sorted(layers, key=lambda layer: order[layer.name])))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First flat index of each layer, and the number of filters at the end."""
        offsets = [0]
        for layer in self.layers:
            offsets.append(offsets[-1] + layer.filters)
        return tuple(offsets)

    def __len__(self) -> int:
        return self.offsets[-1]

    def index(self, layer: str, out: int, in_: int) -> int:
        """The flat index of a filter.

        Raises:
            KeyError: no such layer. IndexError: `out` or `in_` out of range.
        """
        for offset, candidate in zip(self.offsets, self.layers, strict=False):
            if candidate.name == layer:
                if not (0 <= out < candidate.out and 0 <= in_ < candidate.in_):
                    raise IndexError(f"{layer} is {candidate.out}×{candidate.in_}, it has no filter {out}, {in_}")
                return offset + out * candidate.in_ + in_
        raise KeyError(layer)

    def address(self, index: int) -> FilterAddress:
        """The filter at a flat index. Raises IndexError out of range."""
        if not 0 <= index < len(self):
            raise IndexError(f"the layout has {len(self)} filters, no {index}")
        which = bisect_right(self.offsets, index) - 1
        out, in_ = divmod(index - self.offsets[which], self.layers[which].in_)
        return FilterAddress(self.layers[which].name, out, in_)

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Sum each filter's weights: tensors shaped like the weights, by name → (filters,).

        Extra names (biases, say) are passed over.
        """
        slices = [tensors[layer.name].view(layer.out, layer.in_, *(layer.kernel or (1,))) for layer in self.layers]
        return torch.cat([weights.flatten(2).sum(2).flatten() for weights in slices])

    def scatter(self, values: Tensor) -> dict[str, Tensor]:
        """(filters,) → one tensor (out, in, 1, …) per layer, which broadcasts against the weight."""
        if values.shape != (len(self),):
            raise ValueError(f"expected ({len(self)},) values, not {tuple(values.shape)}")
        return {
            layer.name: part.view(layer.out, layer.in_, *(1 for _ in layer.kernel))
            for layer, part in zip(self.layers, torch.split(values, [x.filters for x in self.layers]), strict=True)
        }

    def mask(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """Flat indices → boolean tensors that broadcast against the weights."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), dtype=torch.long)] = True
        return self.scatter(chosen)

    def layer_of(self) -> Tensor:
        """(filters,) position of each filter's layer."""
        counts = torch.tensor([layer.filters for layer in self.layers])
        return torch.repeat_interleave(torch.arange(len(self.layers)), counts)

    def describe(self) -> dict[str, Any]:
        """The layout as plain data: what `attribution/layout.json` holds."""
        rows = [
            {
                "name": layer.name,
                "out": layer.out,
                "in": layer.in_,
                "kernel": list(layer.kernel),
                "offset": offset,
            }
            for offset, layer in zip(self.offsets, self.layers, strict=False)
        ]
        return {
            "filters": len(self),
            "order": "layers as in the state dict, then out, then in",
            "layers": rows,
        }

    def weights_per_filter(self) -> Tensor:
        """(filters,) how many weights each filter has (the product of its kernel's sides)."""
        return torch.cat([torch.full((x.filters,), math.prod(x.kernel)) for x in self.layers])
