"""A network on trial before any work: the mode in which it has gradients, the form of its output, its gradients.

Some modules compute the same function in two ways, and cut off the gradients in evaluation mode. Some convolutions
merge their kernels there (re-parameterisation: SPAN), or overwrite their input (PLKSR). Their output is the same in
both modes. In evaluation mode the gradients of the merged kernels are missing, or there is no backward pass.
`differentiable` finds such modules by their output, and keeps them in training mode.
"""

import copy
import logging
import math
import types
from collections.abc import Callable

import torch
from torch import Tensor, nn

from faig_lab.errors import UserError, lacks_memory
from faig_lab.files import reason
from faig_lab.filters.functional import State, evaluate, first_floating, trainable, under_every_name
from faig_lab.filters.layout import leave_out

log = logging.getLogger(__name__)

_SIDE = 32
"""Side in LR pixels of the random image that both modes are tried on."""

_SAME = 1e-4
"""Relative difference of the outputs of the two modes that is rounding."""

_CORNER = 64
"""Side in LR pixels of the part of an image that the gradient is checked on."""

_ROUNDING = 1e-3
"""Relative difference of gradients that is rounding."""


def differentiable(network: nn.Module) -> nn.Module:
    """Keep the modules in training mode whose evaluation mode cuts off gradients of the same function.

    A class of modules is a candidate if its code reads `self.training`, and if the class is not torch's own: batch norm
    and dropout are other functions in training mode. Candidates stay in training mode, even after `eval()`, under two
    conditions: the network's output is the same in both modes, and some parameter has a gradient in training mode
    alone. Parameters that then have no effect on the output (merged copies) are no units for `FilterLayout.of`.

    Args:
        network: any module; its weights stay as they are.

    Returns:
        The network itself.
    """
    kinds = sorted({type(m) for m in network.modules() if _reads_training(type(m))}, key=lambda kind: kind.__name__)
    if not kinds:
        return network
    before = network.training
    try:
        chosen = _chosen(network.eval(), kinds)
    except Exception as error:  # of any kind, from the network; the network is tried again on a real image
        if lacks_memory(error):
            raise
        log.debug("modes of %s: not tried (%s)", type(network).__name__, error)
        chosen = []
    for module in [module for module in network.modules() if type(module) in chosen]:
        kind = type(module)
        own = {"__module__": kind.__module__, "train": _always(kind)}
        module.__class__ = type(kind.__name__, (kind,), own)
    if chosen:
        leave_out(network, _without_gradient(network, _image(network)) or [])
        names = ", ".join(kind.__name__ for kind in chosen)
        log.debug("%s: %s stay in training mode, the same function with gradients", type(network).__name__, names)
    return network.train(before)


@torch.no_grad()
def _chosen(network: nn.Module, kinds: list[type[nn.Module]]) -> list[type[nn.Module]]:
    """Return the classes that must stay in training mode; none if evaluation mode has all gradients."""
    lr = _image(network)
    if not _cut_off(network, lr):
        return []
    reference, same = evaluate(network, _copied(network), lr), []
    for kind in kinds:
        modules = [module for module in network.modules() if type(module) is kind]
        for module in modules:
            module.training = True
        # Twice, since training mode may be random.
        if all(_equal(evaluate(network, _copied(network), lr), reference) for _ in range(2)):
            same.append(kind)
        else:
            for module in modules:
                module.training = False
    return same if same and not _cut_off(network, lr) else []


def _cut_off(network: nn.Module, lr: Tensor) -> bool:
    """Return whether there is no backward pass, or a parameter changes the output and has no gradient."""
    silent = _without_gradient(network, lr)
    if silent is None:
        return True
    state = _copied(network)
    moved = {name: value + 0.1 * (1 + value.abs()) if name in silent else value for name, value in state.items()}
    return bool(silent) and not _equal(evaluate(network, moved, lr), evaluate(network, state, lr))


def _without_gradient(network: nn.Module, lr: Tensor) -> list[str] | None:
    """Return the names of parameters without a gradient; None if there is no backward pass."""
    names, state = trainable(network), _copied(network)
    leaves = {name: state[name].requires_grad_() for name in names}
    with torch.enable_grad():
        try:
            output = evaluate(network, {**state, **leaves}, lr)
            gradients = torch.autograd.grad(output.float().sum(), list(leaves.values()), allow_unused=True)
        except RuntimeError as error:
            if lacks_memory(error):
                raise
            return None
    return [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]


def _reads_training(kind: type[nn.Module]) -> bool:
    """Return whether a class is not torch's own, and its code reads `self.training` outside of the constructor."""
    if kind.__module__.startswith("torch."):
        return False
    own = [parent for parent in kind.__mro__ if not parent.__module__.startswith("torch.")]
    methods = [method for parent in own for name, method in vars(parent).items() if name != "__init__"]
    return any("training" in method.__code__.co_names for method in methods if isinstance(method, types.FunctionType))


def _always(kind: type[nn.Module]) -> Callable[[nn.Module, bool], nn.Module]:
    """Return the method `train` of a class that stays in training mode. The mode of its children changes as before."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        kind.train(self, mode)
        self.training = True
        return self

    return train


def _image(network: nn.Module) -> Tensor:
    image = torch.rand(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    return image.to(first_floating(network.parameters()))


def _copied(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the network's weights, since a forward pass may assign other values to them."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _equal(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).norm() <= _SAME * second.norm())


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
        raise UserError(f"network: {kind} fails on LR {tuple(lr.shape)}: {reason(error)[:200]}") from error
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

    If the network cannot restore an image of this size, nothing is checked.

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
            output = evaluate(network, trial, lr[..., :_CORNER, :_CORNER])
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
                f"network: {kind} cannot be differentiated in evaluation mode ({reason(error)[:200]}); {remedy}"
            ) from error
    wrong = _wrong_with_other_weights(network, state, lr[..., :_CORNER, :_CORNER])
    if wrong > _ROUNDING:
        raise UserError(
            f"network: {kind} has other gradients with weights that it is given than with the same weights as its own "
            f"(difference {100 * wrong:.2g} %): it computes activations again (checkpointing) or keeps weights in "
            "another place; switch that off"
        )


def _wrong_with_other_weights(network: nn.Module, state: State, lr: Tensor) -> float:
    """Compute Σ|g − g'| / Σ|g'| with the gradients g for weights that are passed to the network, and g' for its own.

    Both have the same values, which differ from the network's present weights, as at the points of a path. The result
    is 0 for a network that cannot be copied.
    """
    try:
        own = copy.deepcopy(network)
    except (RuntimeError, TypeError):
        return 0.0
    names = trainable(network)
    generator = torch.Generator().manual_seed(0)
    moved = dict(state)
    for name in names:
        noise = torch.randn(state[name].shape, generator=generator).to(state[name])
        moved[name] = state[name].detach() + 0.5 * (state[name].detach().abs().mean() + 0.01) * noise
    moved = under_every_name(network, moved)
    own.load_state_dict(moved, strict=False)
    leaves = {name: moved[name].clone().requires_grad_() for name in names}
    parameters = dict(own.named_parameters())
    passes: tuple[tuple[Callable[[], Tensor], list[Tensor]], ...] = (
        (lambda: evaluate(network, {**moved, **leaves}, lr), list(leaves.values())),
        (lambda: own(lr.clone()), [parameters[name].requires_grad_() for name in names]),
    )
    gradients = []
    for restore, weights in passes:
        # A network that draws random numbers draws the same each time.
        with torch.random.fork_rng([lr.device] if lr.device.type == "cuda" else []), torch.enable_grad():
            torch.manual_seed(0)
            output = restore().float().sum()
            gradients.append(torch.autograd.grad(output, weights, allow_unused=True, materialize_grads=True))
    size = sum(float(expected.abs().sum()) for expected in gradients[1])
    apart = sum(float((given - expected).abs().sum()) for given, expected in zip(*gradients, strict=True))
    return apart / size if math.isfinite(size) and size else 0.0
