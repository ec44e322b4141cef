"""What the discovered filters do: interventions on weights, judged on held-out images."""

from faig_lab.analysis.boundary import boundary
from faig_lab.analysis.branches import branches
from faig_lab.analysis.comparison import compare, specificity
from faig_lab.analysis.curves import curves
from faig_lab.analysis.depth import depth, depth_metrics
from faig_lab.analysis.distribution import distribution
from faig_lab.analysis.examples import Example, examples, images_to_show
from faig_lab.analysis.headline import comparison_metrics, masking_metrics, restoration_metrics
from faig_lab.analysis.interventions import mask, modulate, removed_share
from faig_lab.analysis.judge import Judge
from faig_lab.analysis.masking import masked_networks, masking
from faig_lab.analysis.modulation import modulation
from faig_lab.analysis.output_difference import gradient_map, output_difference
from faig_lab.analysis.patches import patches
from faig_lab.analysis.planted import planted
from faig_lab.analysis.prediction import prediction
from faig_lab.analysis.restoration import restoration
from faig_lab.analysis.retraining import retraining
from faig_lab.analysis.sanity import sanity
from faig_lab.analysis.stability import compare_scores, stability
from faig_lab.analysis.standard import masking_study
from faig_lab.analysis.subject import Analysis, Findings, Subject

__all__ = [
    "Analysis",
    "Example",
    "Findings",
    "Judge",
    "Subject",
    "boundary",
    "branches",
    "compare",
    "compare_scores",
    "comparison_metrics",
    "curves",
    "depth",
    "depth_metrics",
    "distribution",
    "examples",
    "gradient_map",
    "images_to_show",
    "mask",
    "masked_networks",
    "masking",
    "masking_metrics",
    "masking_study",
    "modulate",
    "modulation",
    "output_difference",
    "patches",
    "planted",
    "prediction",
    "removed_share",
    "restoration",
    "restoration_metrics",
    "retraining",
    "sanity",
    "specificity",
    "stability",
]
