"""The Lightning callback that attributes a target as soon as it is trained."""

from collections.abc import Callable
from typing import Generic, TypeVar

import pytorch_lightning as pl
from torch import nn

from faig_lab.filters import State, snapshot

T = TypeVar("T")


class AttributionCallback(pl.Callback, Generic[T]):
    """Attribute the filters of the network that was just fitted, in any Trainer.

    The callback runs at the end of `fit`. At this time a weight averaging has put the averaged weights into the module,
    and these weights are the θ that is attributed. The attribution is a function of θ, so the same function can
    attribute weights from a file.

    Args:
        attribute: θ → attribution, for example a call of `faig_lab.attribute`.
        network: the name of the module's attribute that holds the network.

    Attributes:
        result: the return value of `attribute`; None before the end of `fit`.
    """

    def __init__(self, attribute: Callable[[State], T], network: str = "network") -> None:
        self.attribute, self.network = attribute, network
        self.result: T | None = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attribute the module's network on its device.

        Raises:
            TypeError: the module has no network in this attribute.
        """
        network = getattr(pl_module, self.network, None)
        if not isinstance(network, nn.Module):
            raise TypeError(f"network: {type(pl_module).__name__}.{self.network} is no network; name another attribute")
        self.result = self.attribute(snapshot(network))
