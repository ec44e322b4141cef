"""How deep in the network the discovered filters sit, read as in the authors' figure (method.md §5).

Deblurring and denoising filters have nearly the same mean layer there and differ in how they spread. So the parts of
the network are counted: its thirds, its last convolution, and how evenly the filters are spread over the layers.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from faig_lab.analysis.masking import TableRow, rankings
from faig_lab.attribution import Attribution, count_of
from faig_lab.networks import FilterLayout

PARTS = ("first_third", "middle_third", "last_third", "last_convolution", "entropy")
"""The numbers of a row of the table `depth`."""


def depth(attribution: Attribution, percents: Sequence[float]) -> list[TableRow]:
    """Where the discovered filters of every method and degradation sit.

    The layers are the L convolutions and linear layers in the order of the state dict, counted alike whatever their
    size. Layer l = 0 … L − 1 is in the third in which its middle (l + 1/2) / L lies. A ranked parameter that is no
    kernel (a bias, say) counts as the layer before it.

    Returns:
        Rows of method, degradation, percent, and, as the mean over the method's draws: `first_third`, `middle_third`,
        `last_third` (share of the discovered filters, they add up to 1), `last_convolution` (share in the last layer,
        which is in the last third as well), `entropy` (−Σ p_l ln p_l / ln L with the share p_l of the discovered
        filters in layer l: 0 = all in one layer, 1 = equally many in each). None where no filter is discovered;
        `entropy` is None for a single layer.
    """
    layer_of, count = _layers(attribution.layout)
    found: dict[tuple[str, str, float], list[list[float | None]]] = {}
    for method, _, degradation, order in rankings(attribution):
        for percent in percents:
            chosen = order[: count_of(percent, len(attribution.layout))]
            counts = torch.bincount(layer_of[chosen], minlength=count)
            found.setdefault((method, degradation, percent), []).append(_parts(counts))
    return [
        {"method": method, "degradation": degradation, "percent": percent}
        | {part: _mean(values) for part, values in zip(PARTS, zip(*draws, strict=True), strict=True)}
        for (method, degradation, percent), draws in found.items()
    ]


def depth_metrics(rows: Sequence[TableRow], percent: float) -> dict[str, float | None]:
    """`depth/<method>/<percent>/<degradation>/<part>` for each of PARTS.

    Args:
        rows: of `depth`.
        percent: the one that is told.
    """
    return {
        f"depth/{row['method']}/{percent:g}/{row['degradation']}/{part}": cast("float | None", row[part])
        for row in rows
        if row["percent"] == percent
        for part in PARTS
    }


def _layers(layout: FilterLayout) -> tuple[Tensor, int]:
    """(F,) the layer of each unit among the kernels, and how many kernels there are."""
    kernels = torch.tensor([layer.kernel for layer in layout.layers])
    position = (kernels.cumsum(0) - 1).clamp_min(0)
    return position[layout.layer_of()], int(kernels.sum())


def _parts(counts: Tensor) -> list[float | None]:
    """(L,) discovered filters of each layer → PARTS."""
    layers, total = len(counts), int(counts.sum())
    if not total:
        return [None] * len(PARTS)
    shares = (counts.double() / total).tolist()
    thirds = [0.0, 0.0, 0.0]
    for layer, share in enumerate(shares):
        thirds[(6 * layer + 3) // (2 * layers)] += share
    nats = math.fsum(share * math.log(1 / share) for share in shares if share)
    return [*thirds, shares[-1], nats / math.log(layers) if layers > 1 else None]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
