"""The library: the functions and classes that `import faig_lab` offers to other programs.

The library attributes a pair of networks on tensors, masks or modulates the discovered filters, reads and writes
weights, and opens a finished run. It is a thin layer over `attribution`, `filters` and `metrics`.
"""

from faig_lab.api.results import Isolation, Result, Run, Scores, open_run
from faig_lab.api.scoring import attribute
from faig_lab.api.weights import load_weights, mask, modulate, save_weights
from faig_lab.attribution import AbsoluteError, Adaptive, Charbonnier, Problem, SquaredError, methods, quadrature
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, spandrel_network
from faig_lab.metrics import psnr, removed_share
from faig_lab.networks import SRCNNStyle, SRResNet

__all__ = [
    "AbsoluteError",
    "Adaptive",
    "Charbonnier",
    "FilterLayout",
    "Isolation",
    "Problem",
    "Result",
    "Run",
    "SRCNNStyle",
    "SRResNet",
    "Scores",
    "SquaredError",
    "UserError",
    "attribute",
    "load_weights",
    "mask",
    "methods",
    "modulate",
    "open_run",
    "psnr",
    "quadrature",
    "removed_share",
    "save_weights",
    "spandrel_network",
]
