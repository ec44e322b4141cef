"""Tiles of an image, whose gradients add up to the gradients of the whole image, and the receptive field for them.

The receptive field is measured, not computed from the layers: one input pixel is not a number (NaN), and every output
that depends on this pixel becomes NaN, through any operation and with any weights. An implementation that spreads NaN
further makes the tiles larger, but not wrong.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from faig_lab.errors import InputError
from faig_lab.filters import State, evaluate, first_floating

PERIODS = (1, 2, 4, 8, 16)
_SIDES = (64, 128, 256, 512)


@dataclass(frozen=True)
class ReceptiveField:
    """The input pixels that an output pixel depends on.

    Attributes:
        radius: in LR pixels. The output at an LR pixel depends on no input pixel further away, along rows or columns.
        period: in LR pixels. The network treats two LR pixels in the same way if their distance is a multiple of the
            period. The period is 1 for plain convolutions, the overall stride of a network that scales down and up
            again, or the window of a local attention.
    """

    radius: int
    period: int

    @property
    def margin(self) -> int:
        """LR pixels around the core of a tile: the radius, rounded up to a multiple of the period."""
        return math.ceil(self.radius / self.period) * self.period

    @property
    def smallest_tile(self) -> int:
        """LR pixels that the smallest tile reads along a side, away from the image's edges."""
        return 2 * self.margin + self.period


def measure_receptive_field(
    network: nn.Module, state: State, scale: int, *, sides: Sequence[int] = _SIDES
) -> ReceptiveField | None:
    """Measure a network's receptive field by a few forward passes on square inputs.

    Args:
        network: any module of LR (1, 3, h, w) → SR (1, 3, sh, sw).
        state: its weights; their values do not affect the result.
        scale: s.
        sides: sides of the inputs in LR pixels, ascending. A field of half the last side or more is not found.

    Returns:
        The receptive field. None if the field is unbounded (e.g. global pooling or attention) or has a period above 16.
    """
    first = first_floating(state.values())
    for side in sides:
        # A pixel near the middle with the phase of the corner, and the pixels at a distance of each possible period.
        prints = {d: _footprint(network, state, scale, side, side // 2 + d, first) for d in (0, *PERIODS)}
        if None in prints.values():
            continue
        # Footprints differ at distances that are no multiple of the overall stride, so larger powers must agree too.
        alike = {p for p in PERIODS if prints[p] == prints[0]}
        period = next((p for p in PERIODS if {q for q in PERIODS if q >= p} <= alike), None)
        if period is None:
            return None
        phases = [_footprint(network, state, scale, side, side // 2 + phase, first) for phase in range(period)]
        if None not in phases:
            return ReceptiveField(max(max(found) for found in phases if found is not None), period)
    return None


def _footprint(
    network: nn.Module, state: State, scale: int, side: int, place: int, like: Tensor
) -> tuple[int, int, int, int] | None:
    """Return how far the effect of an input pixel reaches up, down, left and right, in LR pixels.

    The result is None if the effect reaches the edge of the input.
    """
    lr = torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device)
    lr[..., place, place] = torch.nan
    # cuDNN may compute a convolution by Fourier transform, in which one pixel affects all outputs.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        seen = evaluate(network, state, lr)[0].isnan().any(0)
    far: list[int] = []
    for over in (1, 0):
        touched = seen.any(over).nonzero().flatten()
        if not len(touched):  # no output depends on this pixel
            return 0, 0, 0, 0
        low, high = int(touched.min()) // scale, int(touched.max()) // scale
        if low <= 0 or high >= side - 1:
            return None
        far += [place - low, high - place]
    return far[0], far[1], far[2], far[3]


_LARGEST = 256
"""Largest LR side of the image that is restored as a whole for the comparison with tiles, unless a tile needs more."""

T = TypeVar("T")

_FACTS: WeakKeyDictionary[nn.Module, dict[Hashable, object]] = WeakKeyDictionary()
"""By network: the measured values of `remembered`."""


@dataclass(frozen=True)
class Span:
    """A tile along one side of the image, in LR pixels. The tile reads [start, stop), and its core is [low, high)."""

    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True)
class Tile:
    """A part of an image (…, H, W).

    Attributes:
        rows: the tile along H.
        columns: the tile along W.
        scale: HR pixels per LR pixel along a side.
    """

    rows: Span
    columns: Span
    scale: int

    def input(self, lr: Tensor) -> Tensor:
        """Return the part that the network reads: LR (…, H, W) → (…, h, w)."""
        return lr[..., self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]

    def core_of_output(self, output: Tensor) -> Tensor:
        """Return the core of the tile's own output: the part that belongs to no other tile."""
        rows, columns, s = self.rows, self.columns, self.scale
        return output[
            ...,
            s * (rows.low - rows.start) : s * (rows.high - rows.start),
            s * (columns.low - columns.start) : s * (columns.high - columns.start),
        ]

    def core_of_image(self, hr: Tensor) -> Tensor:
        """Return the core of the whole HR image."""
        s = self.scale
        return hr[..., s * self.rows.low : s * self.rows.high, s * self.columns.low : s * self.columns.high]


class TileSum:
    """The value of a function and its gradients, added up over the tiles of an image."""

    def __init__(self) -> None:
        self.value, self.gradients = torch.zeros(()), list[Tensor]()
        self._count = 0

    def add(self, value: Tensor, gradients: Sequence[Tensor] = ()) -> None:
        """Add one tile."""
        if self._count == 0:
            self.value, self.gradients = value, list(gradients)
        else:
            self.value = self.value + value
            self.gradients = [total + part for total, part in zip(self.gradients, gradients, strict=True)]
        self._count += 1


def whole(height: int, width: int, scale: int) -> tuple[Tile, ...]:
    """Return the image as one tile."""
    return (Tile(Span(0, height, 0, height), Span(0, width, 0, width), scale),)


def cut(height: int, width: int, scale: int, receptive_field: ReceptiveField, most: float) -> tuple[Tile, ...]:
    """Return the grid of tiles with the least overlap, in which no tile reads more than `most` LR pixels.

    Args:
        height: height of the image in LR pixels.
        width: width of the image in LR pixels.
        scale: HR pixels per LR pixel along a side.
        receptive_field: the receptive field of the network.
        most: the largest number of LR pixels that a tile may read.

    Returns:
        Tiles whose cores cover each pixel of the image once.

    Raises:
        InputError: the smallest tiles are too large.
    """
    best: tuple[int, list[Span], list[Span]] | None = None
    for rows in _grids(height, receptive_field):
        tallest, grids = max(span.stop - span.start for span in rows), _grids(width, receptive_field)
        columns = next((grid for grid in grids if max(s.stop - s.start for s in grid) * tallest <= most), None)
        if columns is None:
            continue
        work = sum(s.stop - s.start for s in rows) * sum(s.stop - s.start for s in columns)
        if best is None or work < best[0]:
            best = work, rows, columns
    if best is None:
        side = receptive_field.smallest_tile
        needed = min(height, side) * min(width, side)
        raise InputError(
            "memory",
            f"too little for this network, whose tiles read at least {side}×{side} LR pixels each: "
            f"{math.ceil(10 * needed / most) / 10:g} times as much is needed",
        )
    return tuple(Tile(row, column, scale) for row in best[1] for column in best[2])


def difference_of_tiles(
    run: Callable[[Tensor], Tensor], lr: Tensor, scale: int, receptive_field: ReceptiveField, most: float
) -> float:
    """Compute the relative difference of the output of tiles from the whole image's: ‖tiles − whole‖ / ‖whole‖.

    The receptive field is measured by a pixel that is not a number. The measurement misses operations that wrap round
    the image's edges (circular padding, `torch.roll`), that depend on the position in the image (coordinates,
    `align_corners`), or that compare (`(x > 0) * y`). So a random image is restored once as a whole and in tiles.

    Args:
        run: LR → SR.
        lr: an image (N, 3, H, W); only its size, precision and device are used.
        scale: HR pixels per LR pixel along a side.
        receptive_field: the measured receptive field of the network.
        most: the largest number of LR pixels that can be evaluated at once.
    """
    period, smallest = receptive_field.period, receptive_field.smallest_tile
    side = max(smallest, min(math.isqrt(int(most)), 2 * smallest, _LARGEST))
    height, width = (min(length, math.ceil(side / period) * period) for length in lr.shape[-2:])
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).to(lr)
    # Two tiles along each side.
    rows, columns = (
        _spans(length, math.ceil(length / 2 / period) * period, receptive_field.margin) for length in (height, width)
    )
    tiles = [Tile(row, column, scale) for row in rows for column in columns]
    with torch.no_grad():
        restored = run(image)
        pieces = [(tile, run(tile.input(image))) for tile in tiles]
    wrong = sum(float((t.core_of_output(y) - t.core_of_image(restored)).double().square().sum()) for t, y in pieces)
    size = float(restored.double().square().sum())
    return math.sqrt(wrong / size) if size else 0.0


def bound_of_tiles(dtype: torch.dtype) -> float:
    """Return the largest relative difference of tiles that rounding explains."""
    return max(100 * torch.finfo(dtype).eps, 1e-9)


def remembered(network: nn.Module, key: Hashable, measure: Callable[[], T]) -> T:
    """Return a measured value of a network. The value is measured once for each key."""
    facts = _FACTS.setdefault(network, {})
    if key not in facts:
        facts[key] = measure()
    return cast("T", facts[key])


def _grids(side: int, receptive_field: ReceptiveField) -> Iterator[list[Span]]:
    """Yield divisions of a side into 1, 2, 3, … tiles of about equal size."""
    sizes: set[int] = set()
    for count in range(1, math.ceil(side / receptive_field.period) + 1):
        size = math.ceil(side / count / receptive_field.period) * receptive_field.period
        if size not in sizes:
            sizes.add(size)
            yield _spans(side, size, receptive_field.margin)


def _spans(side: int, size: int, margin: int) -> list[Span]:
    return [
        Span(max(0, low - margin), min(side, low + size + margin), low, min(side, low + size))
        for low in range(0, side, size)
    ]
