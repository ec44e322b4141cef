"""Parameters and buffers that a network holds under more than one name."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.func import functional_call

Value = TypeVar("Value")


def tied(network: nn.Module) -> dict[str, str]:
    """Further names of parameters and buffers that a network holds more than once → the name that counts."""
    first: dict[int, str] = {}
    found = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    owners = [(name, first.setdefault(id(tensor), name)) for name, tensor in found]
    return {name: owner for name, owner in owners if name != owner}


def evaluate(network: nn.Module, state: Mapping[str, Tensor], batch: Tensor) -> Tensor:
    """The network's output with the weights of a state; the network itself is not changed.

    Of a tied parameter the value under the name that counts is used.
    """
    further = tied(network)
    owners = {place: further.get(place, place) for place in _places(network)}
    own = {place: state[owner] for place, owner in owners.items() if owner in state}
    # Tied here: where one module has two names, torch's own tying leaves the new weights in the network.
    output: Tensor = functional_call(network, own, (batch,), tie_weights=False)
    return output


def under_every_name(network: nn.Module, values: Mapping[str, Value]) -> dict[str, Value]:
    """Values by parameter, with each tied parameter's value under all of its names."""
    further = tied(network)
    known = {further.get(name, name): value for name, value in values.items()}
    return known | {name: known[owner] for name, owner in further.items() if owner in known}


def _places(network: nn.Module) -> Iterator[str]:
    """Where parameters and buffers are: every module once, under its first name."""
    for name, module in network.named_modules():
        for own in (module._parameters, module._buffers):
            yield from (f"{name}.{key}" if name else key for key, value in own.items() if value is not None)
