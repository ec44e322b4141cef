"""Checks of a network before any work: the form of its output, and whether it can be differentiated."""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from faig_lab.errors import UserError
from faig_lab.filters.functional import State, evaluate, under_every_name
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
        UserError: the output has no gradient, the backward pass fails, or the gradients are those of other weights.
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
            remedy = "if it overwrites its activations in this mode, let it make new tensors"
            if "heckpoint" in str(error):
                remedy = "switch checkpointing off"
            raise UserError(
                f"network: {kind} cannot be differentiated in evaluation mode ({_line(error)}); {remedy}"
            ) from error
    wrong = _wrong_with_other_weights(network, state, lr[..., :_SIDE, :_SIDE])
    if wrong > _ROUNDING:
        raise UserError(
            f"network: {kind} has other gradients with weights that it is given than with the same weights as its own "
            f"(difference {100 * wrong:.2g} %): it computes activations again (checkpointing) or keeps weights in "
            "another place; switch that off"
        )


_ROUNDING = 1e-3
"""Relative difference of gradients that is rounding."""


def _wrong_with_other_weights(network: nn.Module, state: State, lr: Tensor) -> float:
    """Σ|g − g'| / Σ|g'| of the gradients g at weights that the network is given, and g' at its own of the same values.

    The weights are not those of the network, as at the points of a path. A network that cannot be copied is not tried.
    """
    try:
        own = copy.deepcopy(network)
    except (RuntimeError, TypeError):
        return 0.0
    names = [name for name, parameter in network.named_parameters() if parameter.is_floating_point()]
    generator = torch.Generator().manual_seed(0)
    moved = dict(state)
    for name in names:
        noise = torch.randn(state[name].shape, generator=generator).to(state[name])
        moved[name] = state[name].detach() + 0.5 * (state[name].detach().abs().mean() + 0.01) * noise
    moved = under_every_name(network, moved)
    own.load_state_dict(moved, strict=False)
    leaves = {name: moved[name].clone().requires_grad_() for name in names}
    parameters = dict(own.named_parameters())
    for name in names:
        parameters[name].requires_grad_()
    given = _gradients(lambda: evaluate(network, {**moved, **leaves}, lr), list(leaves.values()), lr.device)
    expected = _gradients(lambda: own(lr.clone()), [parameters[name] for name in names], lr.device)
    size = sum(float(gradient.abs().sum()) for gradient in expected)
    apart = sum(float((one - two).abs().sum()) for one, two in zip(given, expected, strict=True))
    return apart / size if math.isfinite(size) and size else 0.0


def _gradients(restore: Callable[[], Tensor], leaves: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Gradients of the sum of an output; a network that draws random numbers draws the same each time."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        output = restore().float().sum()
        return list(torch.autograd.grad(output, leaves, allow_unused=True, materialize_grads=True))


def _line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
