"""The Lightning callback that attributes a target as soon as it is trained."""

from collections.abc import Callable

import pytorch_lightning as pl
from torch import nn

from faig_lab.attribution.run import Attribution
from faig_lab.filters import State, snapshot


class AttributionCallback(pl.Callback):
    """Attribute the filters of the network that was just fitted.

    It runs at the end of `fit`, after the weight averaging has put the EMA weights into the module: these are
    the θ that is attributed. The work itself is a function of θ, the same one that serves weights from a file.

    Args:
        attribute: θ → attribution.

    Attributes:
        result: what `attribute` returned, None before the end of `fit`.
    """

    def __init__(self, attribute: Callable[[State], Attribution]) -> None:
        self.attribute = attribute
        self.result: Attribution | None = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attribute the module's network on its device."""
        assert isinstance(pl_module.network, nn.Module)
        self.result = self.attribute(snapshot(pl_module.network))
