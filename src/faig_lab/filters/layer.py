"""One parameter of a network, and the units of attribution that it is cut into."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from faig_lab.granularity import Granularity

# A kernel is read as (group, first channel within it, second channel within it, place in the kernel): the axes that
# tell its units apart. Of a transposed convolution the first channel is the input's.
_AXES: dict[str, tuple[int, ...]] = {
    "weight": (0, 1, 2, 3),
    "filter": (0, 1, 2),
    "output_channel": (0, 1),
    "input_channel": (0, 2),
    "layer": (),
}
_TRANSPOSED = _AXES | {"output_channel": (0, 2), "input_channel": (0, 1)}
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
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    granularity: Granularity = "filter"
    kernel: bool = True
    groups: int = 1
    transposed: bool = False

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
        return self.groups, first // self.groups, second, math.prod(kernel)

    @cached_property
    def _axes(self) -> tuple[int, ...]:
        if not self.kernel:
            return _OTHER.get(self.granularity, (0, 1))
        return (_TRANSPOSED if self.transposed else _AXES)[self.granularity]

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
