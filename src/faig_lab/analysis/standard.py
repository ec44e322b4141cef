"""The analysis of every run: masking at several percents, specificity, and where the filters sit."""

from faig_lab.analysis.headline import masking_metrics
from faig_lab.analysis.masking import distribution, masked_networks, masking, specificity
from faig_lab.analysis.subject import Findings, Subject


def masking_study(subject: Subject) -> Findings:
    """Tables `masking`, `specificity` and `distribution`, and the removed shares as metrics."""
    percents, attribution = subject.percents, subject.attribution
    with subject.bar("masking", masked_networks(attribution, percents)) as advance:
        rows = masking(subject.judge, attribution, percents, advance)
    tables = {
        "masking": rows,
        "specificity": specificity(rows),
        "distribution": distribution(attribution, percents),
    }
    return Findings(tables, masking_metrics(rows))
