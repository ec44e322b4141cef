"""Where the discovered filters sit."""

import math
from collections.abc import Sequence
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import Attribution, count_of
from faig_lab.evaluation.comparison import compare
from faig_lab.evaluation.curves import Resampling
from faig_lab.evaluation.isolation import Isolation, isolation_metrics
from faig_lab.evaluation.masking import (
    TableRow,
    comparison_metrics,
    masked_networks,
    masking,
    masking_metrics,
    rankings,
)
from faig_lab.filters import FilterLayout
from faig_lab.studies.context import StudyContext, StudyResult


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


def masking_study(context: StudyContext, resamples: Annotated[int, Field(ge=2)] = 1000) -> StudyResult:
    """Mask the discovered filters of every method and compare what goes, with intervals over scenes.

    Args:
        context: what is analysed.
        resamples: of the bootstrap.

    Returns:
        Tables `isolation`, `isolation_methods` (means over the masked sets), `side_effects`, `masking`, `specificity`,
        `comparison` (means over the masked sets), `comparison_paired` (against the run's method; none with a single
        method), `distribution` and `depth`; isolation with its parts, removed shares, harm, specificities and depths as
        metrics.
    """
    percents, attribution = context.percents, context.attribution
    with context.bar("masking", masked_networks(attribution, percents)) as advance:
        masked = masking(context.evaluator, attribution, percents, advance, mixed_at=(context.headline,))
    how = Resampling(context.problem.seed, resamples)
    compared, isolation = compare(masked, context.method, how), Isolation(masked, len(attribution.layout), how)
    tables = {
        "isolation": isolation.sets(),
        "isolation_methods": isolation.methods(),
        "side_effects": isolation.side_effects(),
        "masking": masked.rows,
        "specificity": compared.sets,
        "comparison": compared.methods,
        "distribution": distribution(attribution, percents),
        "depth": depth(attribution, percents),
    }
    if compared.paired:
        tables["comparison_paired"] = compared.paired
    metrics = isolation_metrics(tables["isolation"], tables["side_effects"]) | masking_metrics(masked.rows)
    metrics |= comparison_metrics(compared.methods, context.headline)
    metrics |= depth_metrics(tables["depth"], context.headline)
    return StudyResult(tables, metrics)
