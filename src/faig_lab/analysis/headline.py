"""The flat headline numbers of a run: what metrics.json and W&B hold."""

from collections.abc import Mapping, Sequence

from faig_lab.analysis.masking import TableRow
from faig_lab.attribution import ProbeIntegral
from faig_lab.training import METRICS


def headline_metrics(tables: Mapping[str, Sequence[TableRow]], integral: ProbeIntegral) -> dict[str, float | None]:
    """Means over held-out images (and draws) under the keys that users script against.

    Args:
        tables: "restoration" and "masking", as `analysis` makes them.
        integral: for the completeness gap per degradation.

    Returns:
        `psnr/<network>/<degradation>` (likewise psnr_y, ssim), `completeness_gap/<degradation>`,
        `removed/<method>/<percent>/<masked>/<degradation>` and `output_difference/…` with the same tail; None
        where a removed share is not defined.
    """
    metrics: dict[str, float | None] = {}
    for metric in METRICS:
        metrics |= _means(tables["restoration"], metric, ("network", "degradation"))
    metrics |= {f"completeness_gap/{name}": integral.gap(name) for name in integral.degradations}
    for measure in ("removed", "output_difference"):
        metrics |= _means(tables["masking"], measure, ("method", "percent", "masked", "degradation"))
    return metrics


def _means(rows: Sequence[TableRow], value: str, keys: Sequence[str]) -> dict[str, float | None]:
    """`<value>/<key>/<key>…` → mean of `value` over all rows that share the keys; None where one is missing."""
    groups: dict[str, list[object]] = {}
    for row in rows:
        parts = [f"{row[key]:g}" if key == "percent" else str(row[key]) for key in keys]
        groups.setdefault("/".join([value, *parts]), []).append(row[value])
    return {name: None if None in values else sum(values) / len(values) for name, values in groups.items()}  # type: ignore[arg-type]
