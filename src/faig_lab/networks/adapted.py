"""Adapters for networks of other libraries: RGB images of any size in, RGB images of `scale` times the size out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faig_lab.errors import lacks_memory

CHANNELS = ((3, 3), (1, 1), (4, 4), (4, 3))
"""Channels of input and output that can be adapted to RGB."""


@dataclass(frozen=True)
class Contract:
    """The form of the input and the output of a network.

    Attributes:
        scale: s.
        channels: channels of input and output, one of `CHANNELS`. A network with one channel restores each colour as an
            image. A fourth channel is opacity: it is 1 in the input, and it is removed from the output.
        padding: (width, height) of an input → numbers of columns and rows to add.
        call: (network, image (1, C, H, W) in [0, 1]) → image (1, C', sH, sW).
        translated: (weights in the names of a file, the file for errors) → weights in the names of the network.
    """

    scale: int
    channels: tuple[int, int]
    padding: Callable[[int, int], tuple[int, int]]
    call: Callable[[Any, Tensor], Tensor]
    translated: Callable[[Mapping[str, Tensor], str], dict[str, Tensor]]


class Adapted(nn.Module):
    """LR (N, 3, H, W) in [0, 1] → SR (N, 3, sH, sW), not clipped, by a network with a contract of its own.

    `adapted` makes instances. An instance is also an instance of the network's own class. It has the name of that class
    and the network's own parameter names, so other programs that know the network can read its weights files. The
    images of a batch are restored one by one, since the contract is about one image. In training mode a batch is
    restored at once if the network can do that.
    """

    kind: type[nn.Module]
    contract: Contract

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) → (N, 3, sH, sW)."""
        if self.training and len(lr) > 1:  # batch norm needs the batch
            try:
                return self._restored(lr)
            except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
                if lacks_memory(error):
                    raise
        return torch.cat([self._restored(image) for image in torch.split(lr, 1)])

    def _restored(self, image: Tensor) -> Tensor:
        taken, returned = self.contract.channels
        height, width = (self.contract.scale * side for side in image.shape[-2:])
        padded = _padded(image, self.contract.padding)
        if taken == 1:
            output = torch.cat([self._called(colour) for colour in torch.split(padded, 1, dim=1)], dim=1)
        elif taken == 4:
            output = self._called(torch.cat([padded, torch.ones_like(padded[:, :1])], dim=1))
        else:
            output = self._called(padded)
        return output[:, : 3 if returned == 4 else None, :height, :width]

    def _called(self, image: Tensor) -> Tensor:
        return self.contract.call(_Own(self), image)


class _Own:
    """The adapted network with the forward pass of its own class, for the `call` of its contract."""

    def __init__(self, network: Adapted) -> None:
        self._network = network

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call the forward pass of the network's own class."""
        return self._network.kind.forward(self._network, *arguments, **named)

    forward = __call__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def adapted(network: nn.Module, contract: Contract) -> Adapted:
    """Give a network the forward pass of `Adapted`, and return the same object.

    Raises:
        ValueError: the channels cannot be adapted to RGB.
    """
    if contract.channels not in CHANNELS:
        taken, returned = contract.channels
        raise ValueError(f"takes {taken} and returns {returned} channels; expected 3 (RGB), 1 or 4")
    kind = type(network)
    own = type(kind.__name__, (Adapted, kind), {"__module__": kind.__module__, "kind": kind, "contract": contract})
    network.__class__ = own
    return cast("Adapted", network)


def _padded(image: Tensor, padding: Callable[[int, int], tuple[int, int]]) -> Tensor:
    """Return the image with columns and rows added at its end: reflected as far as possible, the rest repeated."""
    height, width = image.shape[-2:]
    columns, rows = padding(width, height)
    if not columns and not rows:
        return image
    reflected = min(columns, width - 1), min(rows, height - 1)
    image = F.pad(image, (0, reflected[0], 0, reflected[1]), mode="reflect")
    return F.pad(image, (0, columns - reflected[0], 0, rows - reflected[1]), mode="replicate")
