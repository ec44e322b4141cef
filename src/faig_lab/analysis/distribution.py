"""Where the discovered filters sit."""

from collections.abc import Sequence

import torch

from faig_lab.analysis.masking import TableRow, rankings
from faig_lab.attribution import Attribution, count_of
from faig_lab.networks import FilterLayout


def distribution(attribution: Attribution, percents: Sequence[float]) -> list[TableRow]:
    """How many filters of each layer are discovered, by every method and for every degradation.

    Methods with several draws are left out: their distribution is the layers' sizes.

    Returns:
        Rows of method, degradation, percent, layer, depth, filters, discovered, share.
    """
    layout: FilterLayout = attribution.layout
    layers = layout.layer_of()
    rows: list[TableRow] = []
    for method, draw, degradation, order in rankings(attribution):
        if draw or len(attribution.scores[method]) > 1:
            continue
        for percent in percents:
            chosen = order[: count_of(percent, len(layout))]
            counts = torch.bincount(layers[chosen], minlength=len(layout.layers)).tolist()
            for depth, (layer, count) in enumerate(zip(layout.layers, counts, strict=True)):
                rows.append(
                    {
                        "method": method,
                        "degradation": degradation,
                        "percent": percent,
                        "layer": layer.name.removesuffix(".weight"),
                        "depth": depth,
                        "filters": layer.units,
                        "discovered": count,
                        "share": count / layer.units,
                    }
                )
    return rows
