"""Modules that compute the same function in two ways: training mode keeps the gradients that evaluation mode cuts off.

Some convolutions merge their kernels in evaluation mode (re-parameterisation: SPAN), or overwrite their input there
(PLKSR). Their output is the same in both modes. In evaluation mode the gradients of the merged kernels are missing, or
there is no backward pass. `differentiable` finds such modules by their output, and keeps them in training mode.
"""

import logging
import types
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from faig_lab.filters.functional import evaluate
from faig_lab.filters.layout import leave_out
from faig_lab.resources import lacks_memory

log = logging.getLogger(__name__)

_SIDE = 32  # LR pixels of the random image that both modes are tried on
_SAME = 1e-4  # relative difference of the outputs of the two modes that is rounding


def differentiable(network: nn.Module) -> nn.Module:
    """Keep the modules in training mode whose evaluation mode cuts off gradients of the same function.

    A kind of module is a candidate if its code reads `self.training` and is not torch's own: batch norm and dropout
    are other functions in training mode. Candidates stay in training mode, whatever `eval()` says, if the network's
    output is the same there and some parameter gets its gradient there alone. Parameters that take no part in the
    output then (merged copies) are no units for `FilterLayout.of`.

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


def _chosen(network: nn.Module, kinds: list[type[nn.Module]]) -> list[type[nn.Module]]:
    """The kinds that have to stay in training mode; none where evaluation mode has all gradients."""
    lr = _image(network)
    if not _cut_off(network, lr):
        return []
    reference, same = _output(network, lr), []
    for kind in kinds:
        _set(network, kind, training=True)
        # Twice, since training mode may be random.
        if all(_equal(_output(network, lr), reference) for _ in range(2)):
            same.append(kind)
        else:
            _set(network, kind, training=False)
    return same if same and not _cut_off(network, lr) else []


def _cut_off(network: nn.Module, lr: Tensor) -> bool:
    """Whether there is no backward pass, or a parameter changes the output and has no part in the backward pass."""
    silent = _without_gradient(network, lr)
    if silent is None:
        return True
    state = _copied(network)
    moved = {name: value + 0.1 * (1 + value.abs()) if name in silent else value for name, value in state.items()}
    with torch.no_grad():
        return bool(silent) and not _equal(evaluate(network, moved, lr), evaluate(network, state, lr))


def _without_gradient(network: nn.Module, lr: Tensor) -> list[str] | None:
    """Parameters that are in no backward pass; None if there is no backward pass."""
    names = [name for name, parameter in network.named_parameters() if parameter.is_floating_point()]
    state = _copied(network)
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
    """Whether the code of a class that is not torch's own reads `self.training` after the constructor."""
    return not kind.__module__.startswith("torch.") and any("training" in code.co_names for code in _codes(kind))


def _codes(kind: type[nn.Module]) -> Iterator[types.CodeType]:
    for parent in kind.__mro__:
        if parent is nn.Module or parent.__module__.startswith("torch."):
            continue
        for name, function in vars(parent).items():
            if isinstance(function, types.FunctionType) and name != "__init__":
                yield function.__code__


def _always(kind: type[nn.Module]) -> Callable[[nn.Module, bool], nn.Module]:
    """The method `train` of a kind that stays in training mode; its children follow the mode as before."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        kind.train(self, mode)
        self.training = True
        return self

    return train


def _set(network: nn.Module, kind: type[nn.Module], *, training: bool) -> None:
    for module in network.modules():
        if type(module) is kind:
            module.training = training


def _image(network: nn.Module) -> Tensor:
    parameter = next(parameter for parameter in network.parameters() if parameter.is_floating_point())
    return torch.rand(1, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0)).to(parameter)


def _copied(network: nn.Module) -> dict[str, Tensor]:
    """The network's weights; a forward may assign other values to them."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def _output(network: nn.Module, lr: Tensor) -> Tensor:
    return evaluate(network, _copied(network), lr)


def _equal(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).norm() <= _SAME * second.norm())
