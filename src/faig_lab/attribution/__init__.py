"""Which filters do which job: the path integral over weights and the scores made of it."""

from faig_lab.attribution.adaptive import Adaptive
from faig_lab.attribution.compute import CompileMode, Compute, full_precision
from faig_lab.attribution.costs import Cost
from faig_lab.attribution.kept import Kept
from faig_lab.attribution.methods import Method, Problem
from faig_lab.attribution.path import LossPath, PathIntegral, completeness_gap, integrate
from faig_lab.attribution.probe import ProbeIntegral, integrate_probe
from faig_lab.attribution.quadrature import RULES, Rule, quadrature
from faig_lab.attribution.run import Attribution, attribute, load_attribution, save_attribution
from faig_lab.attribution.scores import (
    Contrast,
    contrast,
    count_of,
    discovered,
    faig_scores,
    ranking,
    signed_share_scores,
)
from faig_lab.attribution.soundness import LARGEST_GAP, check_different, gap_warnings

__all__ = [
    "LARGEST_GAP",
    "RULES",
    "Adaptive",
    "Attribution",
    "CompileMode",
    "Compute",
    "Contrast",
    "Cost",
    "Kept",
    "LossPath",
    "Method",
    "PathIntegral",
    "ProbeIntegral",
    "Problem",
    "Rule",
    "attribute",
    "check_different",
    "completeness_gap",
    "contrast",
    "count_of",
    "discovered",
    "faig_scores",
    "full_precision",
    "gap_warnings",
    "integrate",
    "integrate_probe",
    "load_attribution",
    "quadrature",
    "ranking",
    "save_attribution",
    "signed_share_scores",
]
