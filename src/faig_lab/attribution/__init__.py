"""The filters that carry each function of a network: the path integral over weights, and the scores of filters.

Start with the module `path`: it has points, weights, gradients, sum and completeness on one page.
"""

from faig_lab.attribution.cache import ALONE, ResultCache, Shard
from faig_lab.attribution.compute import CompileMode, Compute, full_precision
from faig_lab.attribution.losses import AbsoluteError, Charbonnier, Loss, SquaredError, Truth
from faig_lab.attribution.mask_training import learned_mask
from faig_lab.attribution.methods import (
    Method,
    faig,
    faig_reference,
    faig_shares,
    fisher,
    input_gradients,
    isolation_integral,
    isolation_share,
    iterated_isolation,
    random_filters,
    share_given_clean,
    share_per_change,
    signed_share,
    signed_sum,
    taylor,
    weight_change,
    weight_change_absolute,
)
from faig_lab.attribution.one_unit import OneUnit
from faig_lab.attribution.path import LossPath, PathIntegral, completeness_gap, integrate
from faig_lab.attribution.probe import Cost, ProbeIntegral, Problem, Progress, integrate_probe
from faig_lab.attribution.quadrature import RULES, Adaptive, Rule, quadrature
from faig_lab.attribution.run import (
    LARGEST_GAP,
    Attribution,
    attribute,
    check_different,
    gap_warnings,
    load_attribution,
    save_attribution,
)
from faig_lab.attribution.scores import (
    Contrast,
    contrast,
    count_of,
    discovered,
    faig_scores,
    ranking,
    share_metrics,
    share_rows,
    signed_share_scores,
)
from faig_lab.attribution.weight_paths import STRAIGHT, PathSpec, profile, train_middle

__all__ = [
    "ALONE",
    "LARGEST_GAP",
    "RULES",
    "STRAIGHT",
    "AbsoluteError",
    "Adaptive",
    "Attribution",
    "Charbonnier",
    "CompileMode",
    "Compute",
    "Contrast",
    "Cost",
    "Loss",
    "LossPath",
    "Method",
    "OneUnit",
    "PathIntegral",
    "PathSpec",
    "ProbeIntegral",
    "Problem",
    "Progress",
    "ResultCache",
    "Rule",
    "Shard",
    "SquaredError",
    "Truth",
    "attribute",
    "check_different",
    "completeness_gap",
    "contrast",
    "count_of",
    "discovered",
    "faig",
    "faig_reference",
    "faig_scores",
    "faig_shares",
    "fisher",
    "full_precision",
    "gap_warnings",
    "input_gradients",
    "integrate",
    "integrate_probe",
    "isolation_integral",
    "isolation_share",
    "iterated_isolation",
    "learned_mask",
    "load_attribution",
    "profile",
    "quadrature",
    "random_filters",
    "ranking",
    "save_attribution",
    "share_given_clean",
    "share_metrics",
    "share_per_change",
    "share_rows",
    "signed_share",
    "signed_share_scores",
    "signed_sum",
    "taylor",
    "train_middle",
    "weight_change",
    "weight_change_absolute",
]
