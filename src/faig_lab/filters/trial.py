"""A network tried out before any work: what it returns, and whether it can be differentiated."""

import torch
from torch import Tensor, nn

from faig_lab.errors import UserError
from faig_lab.filters.functional import State, evaluate
from faig_lab.resources import lacks_memory

_SIDE = 64
"""LR pixels of the part of an image that the gradient is tried on."""


def try_output(network: nn.Module, state: State, lr: Tensor) -> Tensor:
    """One forward pass without gradients.

    Args:
        network: the module, in evaluation mode.
        state: its weights.
        lr: (N, 3, H, W).

    Returns:
        What the network makes of it: (N, 3, H', W').

    Raises:
        UserError: it fails, or it returns something else than one tensor of RGB images.
    """
    kind = type(network).__name__
    try:
        with torch.no_grad():
            output = evaluate(network, state, lr)
    except Exception as error:  # whatever a network of the user's has against this image
        if isinstance(error, UserError) or lacks_memory(error):
            raise
        raise UserError(f"network: {kind} fails on LR {tuple(lr.shape)}: {_line(error)}") from error
    if not isinstance(output, Tensor):
        found = type(output).__name__
        raise UserError(f"network: {kind} returns a {found}; expected one tensor, SR (N, 3, sH, sW): wrap the network")
    if output.ndim != 4 or output.shape[:2] != (len(lr), 3) or not output.is_floating_point():
        raise UserError(
            f"network: {kind} makes {output.dtype} {tuple(output.shape)} of LR {tuple(lr.shape)}; "
            f"expected RGB images in floating numbers, ({len(lr)}, 3, sH, sW)"
        )
    return output


def try_gradient(network: nn.Module, state: State, lr: Tensor) -> None:
    """One forward and one backward pass to all parameters, on a corner of an image that the network can restore.

    A network that cannot restore so small an image is not tried.

    Args:
        network: the module, in evaluation mode.
        state: its weights.
        lr: (N, 3, H, W).

    Raises:
        UserError: the output has no gradient, or the backward pass fails.
    """
    kind, parameters = type(network).__name__, dict(network.named_parameters())
    trial = {n: v.detach().requires_grad_(n in parameters and v.is_floating_point()) for n, v in state.items()}
    with torch.enable_grad():
        try:
            output = evaluate(network, trial, lr[..., :_SIDE, :_SIDE])
        except Exception as error:
            if lacks_memory(error):
                raise
            return
        if not output.requires_grad:
            raise UserError(
                f"network: the output of {kind} has no gradient: its forward runs under torch.no_grad or "
                "torch.inference_mode, or detaches"
            )
        try:
            leaves = [value for value in trial.values() if value.requires_grad]
            torch.autograd.grad(output.float().sum(), leaves, allow_unused=True)
        except RuntimeError as error:
            if lacks_memory(error):
                raise
            raise UserError(
                f"network: {kind} cannot be differentiated in evaluation mode ({_line(error)}); if it writes into its "
                "activations there, let it make new ones"
            ) from error


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
