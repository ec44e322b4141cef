"""Weights that the user gave, tried out before any work."""

import torch
from torch import Tensor, nn

from faig_lab.data import PairedImage
from faig_lab.errors import UserError

_TRIED = 128
"""LR side of the part of an image that given weights are tried on."""


@torch.no_grad()
def check_restores(network: nn.Module, state: dict[str, Tensor], image: PairedImage, weights: str) -> None:
    """Restore a part of an image once: weights can be finite and still too large to compute with.

    Args:
        network: what the weights are for; it is left with them.
        state: the weights.
        image: a probe image.
        weights: the setting and the file, for the message.

    Raises:
        UserError: the output is not finite.
    """
    network.eval().load_state_dict(state)
    like = next(value for value in network.state_dict().values() if value.is_floating_point())
    for name, lr in image.lr.items():
        output = network(lr[None, :, :_TRIED, :_TRIED].to(like))
        if isinstance(output, Tensor) and not torch.isfinite(output).all():
            largest = max(float(value.abs().max()) for value in state.values() if value.is_floating_point())
            raise UserError(
                f"{weights}: the network's output on the {name} input of {image.name} is not finite; the largest "
                f"weight is {largest:.3g}"
            )
