"""The analysis of every run: masking at several percents, the methods compared, and where the filters sit."""

from typing import Annotated

from pydantic import Field

from faig_lab.analysis.comparison import compare
from faig_lab.analysis.curve_tables import Resampling
from faig_lab.analysis.depth import depth, depth_metrics
from faig_lab.analysis.distribution import distribution
from faig_lab.analysis.headline import comparison_metrics, masking_metrics
from faig_lab.analysis.masking import masked_networks, masking
from faig_lab.analysis.subject import Findings, Subject


def masking_study(subject: Subject, resamples: Annotated[int, Field(ge=2)] = 1000) -> Findings:
    """Mask the discovered filters of every method and compare what goes, with bootstrap intervals over photographs.

    Args:
        subject: what is analysed.
        resamples: of the bootstrap.

    Returns:
        Tables `masking`, `specificity`, `comparison` (means over the masked sets), `comparison_paired` (against the
        run's method; none with a single method), `distribution` and `depth`; removed shares, specificities and depths
        as metrics.
    """
    percents, attribution = subject.percents, subject.attribution
    with subject.bar("masking", masked_networks(attribution, percents)) as advance:
        masked = masking(subject.judge, attribution, percents, advance)
    compared = compare(masked, subject.method, Resampling(subject.problem.seed, resamples))
    tables = {
        "masking": masked.rows,
        "specificity": compared.sets,
        "comparison": compared.methods,
        "distribution": distribution(attribution, percents),
        "depth": depth(attribution, percents),
    }
    if compared.paired:
        tables["comparison_paired"] = compared.paired
    metrics = masking_metrics(masked.rows) | comparison_metrics(compared.methods, subject.headline)
    metrics |= depth_metrics(tables["depth"], subject.headline)
    return Findings(tables, metrics)
