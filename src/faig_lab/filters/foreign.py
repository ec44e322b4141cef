"""Networks that spandrel knows: a weights file determines architecture, scale and size. No code in a file is executed.

The reader of `weights` takes the tensors from the file. spandrel gets only names and tensors.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faig_lab.errors import UserError
from faig_lab.files import reason, weights_file
from faig_lab.filters.checkpoints import PREFIXES
from faig_lab.filters.functional import State
from faig_lab.filters.weights import objection, read_weights, shown_shape
from faig_lab.networks.adapted import Adapted, Contract, adapted

log = logging.getLogger(__name__)

INSTALL = 'pip install "faig_lab[spandrel]"'
"""The command that installs spandrel with the torchvision that it needs."""

_PURPOSES = ("SR", "Restoration")


@dataclass(frozen=True)
class Detected:
    """The network that spandrel detects in a weights file.

    Attributes:
        architecture: spandrel's name of the architecture, e.g. SwinIR.
        tags: spandrel's words for the size of the network, e.g. 64nf (64 features).
        network: the network with the weights of the file, adapted to RGB images of any size.
        hyperparameters: the arguments of the network's class.
    """

    architecture: str
    tags: tuple[str, ...]
    network: Adapted
    hyperparameters: Mapping[str, Any]

    @property
    def scale(self) -> int:
        """Return the upscaling factor."""
        return self.network.contract.scale

    @property
    def title(self) -> str:
        """Return architecture and size in words."""
        return ", ".join((f"{self.architecture} ×{self.scale}", *self.tags))


def spandrel_network(scale: int | None = None, architecture: str | None = None, file: str | None = None) -> nn.Module:
    """A network that spandrel detects in a weights file, with fresh weights.

    Args:
        scale: upscaling factor; None: the factor of the file.
        architecture: spandrel's name of the architecture; None: the architecture of the file.
        file: weights file. Only architecture and size are taken from the file.

    Raises:
        UserError: spandrel is not installed, the file cannot be read, or it holds another network.
    """
    if file is None:
        raise UserError("network: spandrel reads the architecture from a weights file, and none is given (file)")
    found = detect(weights_file(file), "network.file")
    for name, wanted in (("scale", scale), ("architecture", architecture)):
        if wanted not in (None, getattr(found, name)):
            raise UserError(f"network.{name}: {wanted}, but {file} holds a {found.title}")
    return adapted(found.network.kind(**found.hyperparameters), found.network.contract)


def detect(path: Path, key: str = "weights") -> Detected:
    """Let spandrel detect the network of a weights file.

    Args:
        path: a file of any of the formats of `read_weights`.
        key: the setting to name in errors.

    Raises:
        UserError: spandrel is not installed, the file is no weights file, spandrel does not know its network, or the
            network takes more than an image. The message is one line.
    """
    spandrel(key)  # before the file is read
    if not path.is_file():
        read_weights(path, key)  # raises the error
    status = path.stat()
    return _detect(path.resolve(), key, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _detect(path: Path, key: str, changed: int, size: int) -> Detected:
    """Detect the network once for each content of a file. Time and size of the file stand for its content."""
    state = read_weights(path, key)
    for name, value in state.items():
        fault = objection(value, torch.float32 if value.is_floating_point() else value.dtype)
        if fault is not None:
            raise UserError(f"{key}: {path}: {name} {fault}")
    with torch.random.fork_rng(devices=[]):  # building a network does not change the caller's random numbers
        return describe(state, f"{key}: {path}")


def describe(state: State, place: str) -> Detected:
    """Let spandrel detect the network of weights.

    Args:
        state: weights in the names of a file.
        place: key and file, for errors.

    Raises:
        UserError: see `detect`.
    """
    found = _descriptor(state, place)
    name = str(found.architecture.name)
    if getattr(found, "purpose", None) not in _PURPOSES:
        raise UserError(
            f"{place} holds a {name} ({found.purpose}), which does not map an image of any size to an image"
        )
    hyperparameters = getattr(found.model, "hyperparameters", None)
    if not isinstance(hyperparameters, Mapping):
        raise UserError(f"{place} holds a {name}, whose class does not record its arguments; use spandrel 0.4 or newer")
    contract = Contract(
        int(found.scale),
        (int(found.input_channels), int(found.output_channels)),
        found.size_requirements.get_padding,
        # `found` itself would clip to [0, 1], which cuts gradients, and runs without gradients.
        found._call_fn,
        translated,
    )
    try:
        network = adapted(found.model, contract)
    except ValueError as error:
        raise UserError(f"{place} holds a {name} that {error}") from error
    return Detected(name, tuple(map(str, found.tags)), network, dict(hyperparameters))


def translated(state: State, place: str) -> dict[str, Tensor]:
    """Return weights under the names of spandrel's class of their architecture; `place` names the file in errors."""
    return dict(_descriptor(state, place).model.state_dict())


def _descriptor(state: State, place: str) -> Any:
    """Return spandrel's descriptor of weights. The fewest possible prefixes are removed from their names."""
    library = spandrel(place.partition(":")[0])
    candidate = dict(state)
    prefix: str | None = ""
    while prefix is not None:
        candidate = {name.removeprefix(prefix): value for name, value in candidate.items()}
        try:
            return library.ModelLoader().load_from_state_dict(dict(candidate))
        except library.UnsupportedModelError:
            prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in candidate)), None)
        except Exception as error:  # of any kind, from a class whose arguments were read from other weights
            what = f"{type(error).__name__}: {reason(error)}"
            raise UserError(f"{place}: spandrel cannot build its network ({what})") from error
    first = next(iter(state))
    raise UserError(
        f"{place}: spandrel knows no architecture with these names ({first} {shown_shape(state[first])} is the first); "
        "name the class of the network by network._target_"
    )


def spandrel(key: str) -> Any:
    """Import spandrel.

    Raises:
        UserError: it is not installed, or cannot be imported.
    """
    try:
        return import_module("spandrel")
    except ModuleNotFoundError as error:
        missing = error.name or "spandrel"
        raise UserError(f"{key}: {missing} is not installed, which network=spandrel needs: {INSTALL}") from error
    except Exception as error:  # a torchvision that was built for another torch
        raise UserError(
            f"{key}: spandrel cannot be imported ({reason(error)}); torchvision must fit torch "
            f"{torch.__version__}: {INSTALL}"
        ) from error


def difference(first: Detected, second: Detected) -> str | None:
    """Return the difference of two files' networks as text after the name of the first file; None for one network.

    In the text {other} stands for the second file.
    """
    titles = f"holds a {first.title}, and {{other}} a {second.title}"
    if (first.architecture, first.scale) != (second.architecture, second.scale):
        return titles
    own, other = first.network.state_dict(), second.network.state_dict()
    for name in own:
        if name not in other:
            return f"has {name}, and {{other}} has not"
        if own[name].shape != other[name].shape:
            return f"has {name} of {shown_shape(own[name])}, and {{other}} of {shown_shape(other[name])}"
    alone = next((name for name in other if name not in own), None)
    if alone is not None:
        return f"lacks {alone} of {{other}}"
    same = repr((first.tags, first.hyperparameters)) == repr((second.tags, second.hyperparameters))
    return None if same else titles
