"""What methods cost, so that their costs can be read side by side."""

from typing import NamedTuple


class Cost(NamedTuple):
    """What a computation took, over all images, degradations and processes.

    Attributes:
        passes: forward and backward passes of the network, each of one input image or crop. Passes without gradients
            are not counted.
        lr_pixels: LR pixels that went through the network in these passes: crops may be smaller than images.
        seconds: elapsed time; processes are added up. What an interrupted run had computed before may be left out.
    """

    passes: int
    lr_pixels: int
    seconds: float
