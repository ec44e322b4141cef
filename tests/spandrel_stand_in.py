"""A library with spandrel's interface and two architectures, so that tests need neither spandrel nor torchvision."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn


class Toy(nn.Module):
    """Two convolutions, ×2, that take images of even sides alone; its class name is that of the architecture."""

    def __init__(self, *, features, upscale, channels=3):
        super().__init__()
        self.hyperparameters = {"features": features, "upscale": upscale, "channels": channels}
        self.upscale = upscale
        self.head = nn.Conv2d(channels, features, 3, padding=1)
        self.tail = nn.Conv2d(features, channels * upscale**2, 3, padding=1)

    def forward(self, image):
        assert len(image) == 1
        assert not [side for side in image.shape[-2:] if side % 2]
        return (F.pixel_shuffle(self.tail(torch.tanh(self.head(image))), self.upscale),)


class Other(Toy):
    """Another architecture of the same weights, told by a further one."""

    def __init__(self, **hyperparameters):
        super().__init__(**hyperparameters)
        self.other = nn.Parameter(torch.ones(1))


class UnsupportedModelError(Exception):
    """No architecture has these names."""


def _padding(width, height):
    return width % 2, height % 2


def load(state):
    """What spandrel's loader makes of a state dict; `first.` is a former name of `head.`."""
    state = {name.replace("first.", "head."): value for name, value in state.items()}
    if "head.weight" not in state:
        raise UnsupportedModelError
    features, channels = state["head.weight"].shape[:2]
    upscale = round((state["tail.weight"].shape[0] / channels) ** 0.5)
    kind = Other if "other" in state else Toy
    model = kind(features=features, upscale=upscale, channels=channels)
    purpose = "FaceSR" if upscale == 4 else "Restoration" if upscale == 1 else "SR"
    model.load_state_dict(state)
    return SimpleNamespace(
        model=model,
        architecture=SimpleNamespace(name=kind.__name__),
        tags=[f"{features}nf"],
        purpose=purpose,
        scale=upscale,
        input_channels=channels,
        output_channels=channels,
        size_requirements=SimpleNamespace(get_padding=_padding),
        _call_fn=lambda network, image: network(image)[0],
    )


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import spandrel` give the stand-in."""
    library = ModuleType("spandrel")
    library.UnsupportedModelError = UnsupportedModelError
    library.ModelLoader = lambda: SimpleNamespace(load_from_state_dict=load)
    monkeypatch.setitem(sys.modules, "spandrel", library)


def write(path, seed=0, kind=Toy, wrap=lambda state: state, **hyperparameters):
    """Write weights of a toy network; returns them."""
    torch.manual_seed(seed)
    state = kind(**({"features": 4, "upscale": 2} | hyperparameters)).state_dict()
    torch.save(wrap(state), path)
    return state
