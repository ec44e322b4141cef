"""Super-resolution networks."""

from faig_lab.networks.srcnn_style import SRCNNStyle
from faig_lab.networks.srresnet import SRResNet
from faig_lab.networks.two_branch import SECOND_BRANCH, Predicting, TwoBranchSRResNet

__all__ = ["SECOND_BRANCH", "Predicting", "SRCNNStyle", "SRResNet", "TwoBranchSRResNet"]
