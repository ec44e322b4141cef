"""The analysis of every run: masking at several percents, isolation and removed shares, and where the filters sit."""

from typing import Annotated

from pydantic import Field

from faig_lab.analysis.comparison import compare
from faig_lab.analysis.curve_tables import Resampling
from faig_lab.analysis.depth import depth, depth_metrics
from faig_lab.analysis.distribution import distribution
from faig_lab.analysis.headline import comparison_metrics, masking_metrics
from faig_lab.analysis.isolation import Isolation, isolation_metrics
from faig_lab.analysis.masking import masked_networks, masking
from faig_lab.analysis.subject import Findings, Subject


def masking_study(subject: Subject, resamples: Annotated[int, Field(ge=2)] = 1000) -> Findings:
    """Mask the discovered filters of every method and compare what goes, with intervals over scenes.

    Args:
        subject: what is analysed.
        resamples: of the bootstrap.

    Returns:
        Tables `isolation`, `isolation_methods` (means over the masked sets), `side_effects`, `masking`, `specificity`,
        `comparison` (means over the masked sets), `comparison_paired` (against the run's method; none with a single
        method), `distribution` and `depth`; isolation with its parts, removed shares, harm, specificities and depths as
        metrics.
    """
    percents, attribution = subject.percents, subject.attribution
    with subject.bar("masking", masked_networks(attribution, percents)) as advance:
        masked = masking(subject.judge, attribution, percents, advance, mixed_at=(subject.headline,))
    how = Resampling(subject.problem.seed, resamples)
    compared, isolation = compare(masked, subject.method, how), Isolation(masked, len(attribution.layout), how)
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
    metrics |= comparison_metrics(compared.methods, subject.headline)
    metrics |= depth_metrics(tables["depth"], subject.headline)
    return Findings(tables, metrics)
