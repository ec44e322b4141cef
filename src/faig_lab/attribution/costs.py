"""What methods cost, so that their costs can be read side by side."""

from typing import NamedTuple


class Cost(NamedTuple):
    """What a computation took, over all images, degradations and processes.

    Attributes:
        passes: forward and backward passes of the network, each of one input image or crop. Passes without gradients
            are not counted.
        lr_pixels: LR pixels that went through the network in these passes: crops may be smaller than images.
        seconds: elapsed time, of the path integral the first process's and of a learned mask that of all processes
            together. What an interrupted run had computed before may be left out.
    """

    passes: int
    lr_pixels: int
    seconds: float

    def plus(self, other: "Cost") -> "Cost":
        """The cost of both."""
        return Cost(self.passes + other.passes, self.lr_pixels + other.lr_pixels, self.seconds + other.seconds)

    def counts(self) -> dict[str, int]:
        """The numbers that are the same in every run: all but the seconds."""
        return {"passes": self.passes, "lr_pixels": self.lr_pixels}
