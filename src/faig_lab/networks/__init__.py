"""Networks, the layout of their filters, and their files."""

from faig_lab.networks.layout import FilterAddress, FilterLayout, Layer
from faig_lab.networks.srcnn_style import SRCNNStyle
from faig_lab.networks.srresnet import SRResNet
from faig_lab.networks.weights import load_weights, save_weights

__all__ = ["FilterAddress", "FilterLayout", "Layer", "SRCNNStyle", "SRResNet", "load_weights", "save_weights"]
