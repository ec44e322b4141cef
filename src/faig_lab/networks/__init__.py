"""Super-resolution networks."""

from faig_lab.networks.srcnn_style import SRCNNStyle
from faig_lab.networks.srresnet import SRResNet
from faig_lab.networks.two_branch import SECOND_BRANCH, Predicting, TwoBranchSRResNet
from faig_lab.networks.upconv7 import UpConv7

__all__ = ["SECOND_BRANCH", "Predicting", "SRCNNStyle", "SRResNet", "TwoBranchSRResNet", "UpConv7"]
