"""What the discovered filters do: interventions on weights, judged on held-out images."""

from faig_lab.analysis.examples import Example, examples
from faig_lab.analysis.headline import headline_metrics
from faig_lab.analysis.interventions import mask, removed_share
from faig_lab.analysis.masking import (
    Judge,
    distribution,
    masked_networks,
    masking,
    restoration,
    specificity,
)
from faig_lab.analysis.output_difference import gradient_map, output_difference

__all__ = [
    "Example",
    "Judge",
    "distribution",
    "examples",
    "gradient_map",
    "headline_metrics",
    "mask",
    "masked_networks",
    "masking",
    "output_difference",
    "removed_share",
    "restoration",
    "specificity",
]
