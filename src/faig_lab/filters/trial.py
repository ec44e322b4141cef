"""Checks of a network before any work: the form of its output, and whether it can be differentiated."""

import torch
from torch import Tensor, nn

from faig_lab.errors import UserError
from faig_lab.filters.functional import State, evaluate
from faig_lab.resources import lacks_memory

_SIDE = 64
"""Side in LR pixels of the part of an image that the gradient is checked on."""


def try_output(network: nn.Module, state: State, lr: Tensor) -> Tensor:
    """Do one forward pass without gradients and check the output.

    Args:
        network: the module, in evaluation mode.
        state: its weights.
        lr: (N, 3, H, W).

    Returns:
        The network's output: (N, 3, H', W').

    Raises:
        UserError: the network fails, or its output is not a single tensor of RGB images.
    """
    kind = type(network).__name__
    try:
        with torch.no_grad():
            output = evaluate(network, state, lr)
    except Exception as error:  # a user's network can raise any error
        if isinstance(error, UserError) or lacks_memory(error):
            raise
        raise UserError(f"network: {kind} fails on LR {tuple(lr.shape)}: {_line(error)}") from error
    if not isinstance(output, Tensor):
        raise UserError(
            f"network: {kind} returns a {type(output).__name__}; expected one tensor, SR (N, 3, sH, sW): "
            "wrap the network"
        )
    if output.ndim != 4 or output.shape[:2] != (len(lr), 3) or not output.is_floating_point():
        raise UserError(
            f"network: {kind} makes {output.dtype} {tuple(output.shape)} of LR {tuple(lr.shape)}; "
            f"expected RGB images in floating numbers, ({len(lr)}, 3, sH, sW)"
        )
    return output


def try_gradient(network: nn.Module, state: State, lr: Tensor) -> None:
    """Do a forward and a backward pass to all parameters, on a corner of an image that the network can restore.

    If the network cannot restore so small an image, nothing is checked.

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
                f"network: {kind} cannot be differentiated in evaluation mode ({_line(error)}); if it overwrites its "
                "activations in this mode, let it make new tensors"
            ) from error


def _line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
