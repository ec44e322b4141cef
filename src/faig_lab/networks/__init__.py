"""Networks, the layout of their filters, and their files."""

from faig_lab.networks.layer import Layer
from faig_lab.networks.layout import FilterLayout, UnitAddress
from faig_lab.networks.patch import Patch, apply_patches, load_patch, make_patch, patch_bytes, save_patch
from faig_lab.networks.sequences import read_states, write_states
from faig_lab.networks.srcnn_style import SRCNNStyle
from faig_lab.networks.srresnet import SRResNet
from faig_lab.networks.tied import State, evaluate, first_floating, tied, under_every_name
from faig_lab.networks.trial import try_gradient, try_output
from faig_lab.networks.two_branch import SECOND_BRANCH, TwoBranchSRResNet
from faig_lab.networks.values import as_stored, objection
from faig_lab.networks.weights import (
    EXPORTS,
    export_weights,
    load_weights,
    read_weights,
    save_weights,
    snapshot,
    state_fingerprint,
)

__all__ = [
    "EXPORTS",
    "SECOND_BRANCH",
    "FilterLayout",
    "Layer",
    "Patch",
    "SRCNNStyle",
    "SRResNet",
    "State",
    "TwoBranchSRResNet",
    "UnitAddress",
    "apply_patches",
    "as_stored",
    "evaluate",
    "export_weights",
    "first_floating",
    "load_patch",
    "load_weights",
    "make_patch",
    "objection",
    "patch_bytes",
    "read_states",
    "read_weights",
    "save_patch",
    "save_weights",
    "snapshot",
    "state_fingerprint",
    "tied",
    "try_gradient",
    "try_output",
    "under_every_name",
    "write_states",
]
