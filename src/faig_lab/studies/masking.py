"""Masking of the discovered filters of every method, and their places in the network."""

import math
from collections.abc import Sequence
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import Attribution, count_of
from faig_lab.evaluation.comparison import compare, isolation_metrics, isolations
from faig_lab.evaluation.intervals import Resampling
from faig_lab.evaluation.masking import (
    TableRow,
    comparison_metrics,
    masked_networks,
    masking,
    masking_metrics,
    means,
    rankings,
)
from faig_lab.filters import FilterLayout
from faig_lab.runs.tables import Rows, frame
from faig_lab.studies.context import StudyContext, StudyResult


def distribution(attribution: Attribution, percents: Sequence[float]) -> list[TableRow]:
    """Count the discovered filters of each layer for every method and degradation.

    Methods with several draws are left out, since their distribution follows the sizes of the layers.

    Returns:
        Rows of method, degradation, percent, layer, depth, filters, discovered, share.
    """
    layout = attribution.layout
    rows: list[TableRow] = []
    for method, _, degradation, order in rankings(attribution):
        if len(attribution.scores[method]) == 1:
            for percent in percents:
                row: TableRow = {"method": method, "degradation": degradation, "percent": percent}
                filters = order[: count_of(percent, len(layout))]
                rows += [row | cells for cells in layer_rows(layout, filters, "discovered")]
    return rows


def layer_rows(layout: FilterLayout, filters: Tensor, column: str) -> list[TableRow]:
    """Return layer, depth, filters (of the layer), the number of the given filters in a column, and their share.

    Args:
        layout: the filters of the network.
        filters: flat indices.
        column: name of the column of the numbers.
    """
    return [
        {
            "layer": layer.name.removesuffix(".weight"),
            "depth": depth,
            "filters": layer.units,
            column: count,
            "share": count / layer.units,
        }
        for depth, (layer, count) in enumerate(zip(layout.layers, layout.count_by_layer(filters).tolist(), strict=True))
    ]


PARTS = ("first_third", "middle_third", "last_third", "last_convolution", "entropy")
"""The numbers of a row of the table `depth`."""


def depth(attribution: Attribution, percents: Sequence[float]) -> pd.DataFrame:
    """Measure the depth of the discovered filters of every method and degradation.

    The layers are the L convolutions and linear layers in the order of the state dict; all layers count alike. Layer
    l = 0 … L − 1 is in the third that contains its middle (l + 1/2) / L. A ranked parameter that is no kernel (e.g. a
    bias) counts as the layer before it.

    Returns:
        Rows of method, degradation, percent, and, as the mean over the method's draws: `first_third`, `middle_third`,
        `last_third` (share of the discovered filters, they add up to 1), `last_convolution` (share in the last layer,
        which is in the last third as well), `entropy` (−Σ p_l ln p_l / ln L with the share p_l of the discovered
        filters in layer l: 0 = all in one layer, 1 = equally many in each). None where no filter is discovered;
        `entropy` is None for a single layer.
    """
    kernels = torch.tensor([layer.kernel for layer in attribution.layout.layers])
    layer_of = (kernels.cumsum(0) - 1).clamp_min(0)[attribution.layout.layer_of()]  # among the kernels
    draws: list[TableRow] = []
    for method, _, degradation, order in rankings(attribution):
        for percent in percents:
            chosen = order[: count_of(percent, len(attribution.layout))]
            counts = torch.bincount(layer_of[chosen], minlength=int(kernels.sum()))
            place = {"method": method, "degradation": degradation, "percent": percent}
            draws.append(place | dict(zip(PARTS, _parts(counts), strict=True)))
    numbers = frame(draws).astype(dict.fromkeys(PARTS, float))
    return numbers.groupby(["method", "degradation", "percent"], sort=False, as_index=False).mean()


def depth_metrics(rows: pd.DataFrame, percent: float) -> dict[str, float | None]:
    """Return `depth/<method>/<percent>/<degradation>/<part>` for each of PARTS.

    Args:
        rows: of `depth`.
        percent: the percent of the metrics.
    """
    return means(rows[rows["percent"] == percent], PARTS, "depth/{method}/{percent:g}/{degradation}/{column}")


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


def masking_study(context: StudyContext, resamples: Annotated[int, Field(ge=2)] = 1000) -> StudyResult:
    """Mask the discovered filters of every method and compare the methods, with intervals over scenes.

    Args:
        context: networks, attribution and images.
        resamples: of the bootstrap.

    Returns:
        Tables `isolation`, `isolation_methods` (means over the masked sets), `side_effects`, `masking`, `specificity`,
        `comparison` (means over the masked sets), `comparison_paired` (against the run's method; absent with a
        single method), `distribution` and `depth`. The metrics are isolation with its parts, removed shares, harm,
        specificities and depths.
    """
    percents, attribution = context.percents, context.attribution
    with context.bar("masking", masked_networks(attribution, percents)) as advance:
        masked = masking(context.evaluator, attribution, percents, advance, mixed_at=(context.headline,))
    how = Resampling(context.problem.seed, resamples)
    compared, isolation = compare(masked, context.method, how), isolations(masked, len(attribution.layout), how)
    tables: dict[str, Rows] = {
        "isolation": isolation.sets,
        "isolation_methods": isolation.methods,
        "side_effects": isolation.side_effects,
        "masking": masked.rows,
        "specificity": compared.sets,
        "comparison": compared.methods,
        "distribution": distribution(attribution, percents),
        "depth": depth(attribution, percents),
    }
    if not compared.paired.empty:
        tables["comparison_paired"] = compared.paired
    metrics = isolation_metrics(frame(tables["isolation"]), frame(tables["side_effects"]))
    metrics |= masking_metrics(masked.rows)
    metrics |= comparison_metrics(compared.methods, context.headline)
    metrics |= depth_metrics(frame(tables["depth"]), context.headline)
    return StudyResult(tables, metrics)
