"""A reader who follows `faig_lab.attribute` to the network meets few functions."""

import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

import faig_lab

PACKAGE = str(Path(faig_lab.__file__).parent)
MOST = 8


class Watched(nn.Module):
    """One convolution; each forward notes the functions of the project that are on the stack, the outermost first."""

    seen: list[list[str]] = []  # noqa: RUF012 - of the class, since `attribute` copies the network

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, lr):
        self.seen.append([frame.name for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)])
        return self.layer(lr)


@pytest.mark.parametrize("rule", [faig_lab.quadrature("midpoint", 2), faig_lab.Adaptive(5, 0.5, 50)], ids=["2", "5"])
@pytest.mark.parametrize("name", ["faig", "signed_share", "taylor", "input_gradients"])
def test_few_functions_lie_between_the_library_and_the_network(name, rule):
    network = Watched()
    baseline = network.state_dict()
    target = {name: 1.1 * value for name, value in baseline.items()}
    images = {kind: (torch.rand(1, 3, 8, 8), torch.ones(1, 3, 8, 8)) for kind in ("blur", "noise")}
    Watched.seen.clear()
    faig_lab.attribute(network, baseline, target, images, rule=rule, methods={name: getattr(faig_lab.methods, name)})
    passes = [stack for stack in Watched.seen if "integrate_probe" in stack]
    points = 5 if isinstance(rule, faig_lab.Adaptive) else 2
    # Midpoints visit neither end of the path, and Taylor's one point is an end; the losses there take a forward each.
    gradients, ends = {"taylor": (1, 1), "input_gradients": (points, 0)}.get(name, (points, 2 if points == 2 else 0))
    assert sum("gradient" in stack for stack in passes) == 2 * gradients
    assert len(passes) == 2 * (gradients + ends)
    for stack in passes:
        assert len(stack) <= MOST, f"{len(stack)} functions: {' → '.join(stack)}"
        assert (stack[0], stack[-1]) == ("attribute", "evaluate")
