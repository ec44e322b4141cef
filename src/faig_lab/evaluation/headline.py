"""The flat headline numbers of a run: what metrics.json and W&B hold."""

from collections.abc import Sequence
from typing import cast

from faig_lab.evaluation.evaluator import Evaluator
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import clipped, harm
from faig_lab.metrics import METRICS, bicubic, quality


def restoration_metrics(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """`psnr/<network>/<degradation>`, likewise psnr_y and ssim: means over held-out images.

    Args:
        rows: of `restoration`.
    """
    metrics: dict[str, float | None] = {}
    for metric in METRICS:
        metrics |= means(rows, metric, ("network", "degradation"))
    return metrics


def masking_metrics(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """`removed/<method>/<percent>/<masked>/<degradation>`, `harm/…` and `output_difference/…`: means over draws.

    Args:
        rows: of `masking`, whose removed shares are not clipped.

    Returns:
        The removed share of each draw is clipped to [0, 1], and its excess over 1 is harm. None where it is not
        defined.
    """
    keys = ("method", "percent", "masked", "degradation")
    raw = cast("list[float | None]", [row["removed"] for row in rows])
    shares = [row | {"removed": clipped(s), "harm": harm(s)} for row, s in zip(rows, raw, strict=True)]
    removed, excess = means(shares, "removed", keys), means(shares, "harm", keys)
    return removed | excess | means(rows, "output_difference", keys)


def comparison_metrics(rows: Sequence[TableRow], percent: float) -> dict[str, float | None]:
    """`specificity/<method>/<percent>` and the ends of its interval, `specificity_low/…` and `specificity_high/…`.

    Args:
        rows: of the table `comparison`.
        percent: the one that is told.
    """
    columns = ("specificity", "specificity_low", "specificity_high")
    here = [row for row in rows if row["percent"] == percent]
    return {key: value for column in columns for key, value in means(here, column, ("method", "percent")).items()}


def means(rows: Sequence[TableRow], value: str, keys: Sequence[str]) -> dict[str, float | None]:
    """`<value>/<key>/<key>…` → mean of `value` over all rows that share the keys; None where one is missing."""
    groups: dict[str, list[object]] = {}
    for row in rows:
        parts = [f"{row[key]:g}" if key == "percent" else str(row[key]) for key in keys]
        groups.setdefault("/".join([value, *parts]), []).append(row[value])
    return {name: None if None in values else sum(values) / len(values) for name, values in groups.items()}  # type: ignore[arg-type]


def restoration(evaluator: Evaluator) -> list[TableRow]:
    """Quality of bicubic upscaling, baseline and target on every held-out image with every input."""
    rows: list[TableRow] = []
    for degradation in evaluator.images[0].lr:
        ends = evaluator.ends(degradation)
        outputs = {
            "bicubic": [bicubic(image.lr[degradation][None], evaluator.scale)[0] for image in evaluator.images],
            "baseline": ends.baseline_outputs,
            "target": ends.target_outputs,
        }
        for name, results in outputs.items():
            for image, output in zip(evaluator.images, results, strict=True):
                values = quality(output[None], image.hr[None], evaluator.scale)
                row = {"network": name, "degradation": degradation, "image": image.name}
                rows.append(row | {metric: float(value) for metric, value in values.items()})
    return rows
