"""Networks, the layout of their filters, and their files."""

from faig_lab.networks.layout import FilterAddress, FilterLayout, Layer
from faig_lab.networks.patch import Patch, apply_patches, load_patch, make_patch, patch_bytes, save_patch
from faig_lab.networks.srcnn_style import SRCNNStyle
from faig_lab.networks.srresnet import SRResNet
from faig_lab.networks.weights import EXPORTS, export_weights, load_weights, save_weights, snapshot, state_fingerprint

__all__ = [
    "EXPORTS",
    "FilterAddress",
    "FilterLayout",
    "Layer",
    "Patch",
    "SRCNNStyle",
    "SRResNet",
    "apply_patches",
    "export_weights",
    "load_patch",
    "load_weights",
    "make_patch",
    "patch_bytes",
    "save_patch",
    "save_weights",
    "snapshot",
    "state_fingerprint",
]
