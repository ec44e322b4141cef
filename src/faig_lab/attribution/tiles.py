"""An image cut into tiles whose gradients add up to the whole image's.

The loss is a sum over pixels. Each tile computes the loss of its own part of the image, its core, from an input that
is larger by what the network sees around it; at the image's edges it ends where the image ends.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from faig_lab.attribution.receptive_field import Reach
from faig_lab.errors import UserError


@dataclass(frozen=True)
class Span:
    """One tile along one side, in LR pixels: it reads [start, stop) and answers for [low, high) of them."""

    start: int
    stop: int
    low: int
    high: int


@dataclass(frozen=True)
class Tile:
    """A part of an image (…, H, W).

    Attributes:
        rows: along H.
        columns: along W.
        scale: HR pixels per LR pixel.
    """

    rows: Span
    columns: Span
    scale: int

    def input(self, lr: Tensor) -> Tensor:
        """What the network reads: LR (…, H, W) → (…, h, w)."""
        return lr[..., self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]

    def core_of_output(self, output: Tensor) -> Tensor:
        """The part of the tile's own output that it answers for."""
        rows, columns, s = self.rows, self.columns, self.scale
        return output[
            ...,
            s * (rows.low - rows.start) : s * (rows.high - rows.start),
            s * (columns.low - columns.start) : s * (columns.high - columns.start),
        ]

    def core_of_image(self, hr: Tensor) -> Tensor:
        """The same part of the whole HR image."""
        s = self.scale
        return hr[..., s * self.rows.low : s * self.rows.high, s * self.columns.low : s * self.columns.high]


def whole(height: int, width: int, scale: int) -> tuple[Tile, ...]:
    """The image as one tile."""
    return (Tile(Span(0, height, 0, height), Span(0, width, 0, width), scale),)


def cut(height: int, width: int, scale: int, reach: Reach, most: float) -> tuple[Tile, ...]:
    """The grid of tiles with the least overlap, none of which reads more than so many LR pixels.

    Args:
        height: of the image, in LR pixels.
        width: likewise.
        scale: HR pixels per LR pixel.
        reach: how far the network looks.
        most: LR pixels that a tile may read.

    Returns:
        Tiles whose cores cover the image, each pixel once.

    Raises:
        UserError: not even the smallest tiles are small enough.
    """
    found: tuple[int, list[Span], list[Span]] | None = None
    for rows in _grids(height, reach):
        tallest = max(span.stop - span.start for span in rows)
        columns = next((c for c in _grids(width, reach) if _widest(c) * tallest <= most), None)
        if columns is None:
            continue
        work = sum(s.stop - s.start for s in rows) * sum(s.stop - s.start for s in columns)
        if found is None or work < found[0]:
            found = work, rows, columns
    if found is None:
        side = smallest_side(reach)
        needed = min(height, side) * min(width, side)
        raise UserError(
            f"attribution.memory: too little for this network, whose tiles read {side}×{side} LR pixels at least: "
            f"{math.ceil(10 * needed / most) / 10:g} times as much would do"
        )
    return tuple(Tile(row, column, scale) for row in found[1] for column in found[2])


def quarters(height: int, width: int, scale: int, reach: Reach) -> tuple[Tile, ...]:
    """The image in two tiles along each side: what cutting has to be compared with the whole image for."""
    rows, columns = (
        _spans(side, math.ceil(side / 2 / reach.period) * reach.period, _margin(reach)) for side in (height, width)
    )
    return tuple(Tile(row, column, scale) for row in rows for column in columns)


def smallest_side(reach: Reach) -> int:
    """LR pixels that the smallest tile reads along a side, away from the image's edges."""
    return 2 * _margin(reach) + reach.period


def _grids(side: int, reach: Reach) -> Iterator[list[Span]]:
    """A side cut into 1, 2, 3, … tiles of about equal size."""
    sizes: set[int] = set()
    for count in range(1, math.ceil(side / reach.period) + 1):
        size = math.ceil(side / count / reach.period) * reach.period
        if size not in sizes:
            sizes.add(size)
            yield _spans(side, size, _margin(reach))


def _spans(side: int, size: int, margin: int) -> list[Span]:
    return [
        Span(max(0, low - margin), min(side, low + size + margin), low, min(side, low + size))
        for low in range(0, side, size)
    ]


def _margin(reach: Reach) -> int:
    return math.ceil(reach.radius / reach.period) * reach.period


def _widest(spans: list[Span]) -> int:
    return max(span.stop - span.start for span in spans)
