"""Isolation on tensors: how near any weights come to the ideal edit (method.md §9). No ground truth is needed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faig_lab.api.inputs import Images, checked_images
from faig_lab.api.weights import choice
from faig_lab.data import CLEAN
from faig_lab.errors import UserError
from faig_lab.filters import State, evaluate, first_floating
from faig_lab.metrics import EditSums, back, edit_sums, isolation, off, side


@dataclass(frozen=True)
class Isolation:
    """The isolation of an edit and its parts; all are squared distances in units of the masked degradation's energy.

    Attributes:
        isolation: 1 is the ideal edit, 0 is as without masking, below 0 is harm.
        own_left: distance to the baseline's output on the masked degradation, 0 if the function is gone.
        side_effects: input → movement away from the target, for every input but the masked degradation.
        back: input → how far the output went back to the baseline: 0 like the target, 1 like the baseline. NaN where
            baseline and target agree on the input.
        off: input → movement that leads nowhere, in units of the input's own energy; NaN as for `back`.
    """

    isolation: float
    own_left: float
    side_effects: dict[str, float]
    back: dict[str, float]
    off: dict[str, float]


def isolation_of(
    network: nn.Module, *, baseline: State, target: State, masked: State, degradation: str, images: Mapping[str, Images]
) -> Isolation:
    """Compute the isolation of masked weights, pooled over all images, pixels and channels.

    Args:
        network: the module; its own weights do not matter.
        baseline: θ̄.
        target: θ, whose device is computed on.
        masked: the weights to judge.
        degradation: the masked one, a key of `images`.
        images: input → LR images in [0, 1]: the degradations, and `clean` where there is clean input. An input with a
            `+` in its name is mixed: it has `back`, `off` and a side effect, and does not enter isolation.

    Raises:
        UserError: there is no such degradation among the images, an image does not fit, or baseline and target agree
            on the masked degradation.
    """
    choice(degradation, tuple(name for name in images if name != CLEAN and "+" not in name), "degradation")
    sums = {
        name: _sums(network, (masked, baseline, target), checked_images(given, f"images[{name!r}]"))
        for name, given in images.items()
    }
    own = sums[degradation]
    if not own.energy > 0:
        raise UserError(f"images[{degradation!r}]: baseline and target give the same output, so nothing can be removed")
    others = [sums[name] for name in sums if name not in (degradation, CLEAN) and "+" not in name]
    return Isolation(
        isolation=float(isolation(own, others, sums.get(CLEAN))),
        own_left=float((own.energy - 2 * own.along + own.moved) / own.energy),
        side_effects={name: float(side(found, own)) for name, found in sums.items() if name != degradation},
        back={name: float(back(found)) for name, found in sums.items()},
        off={name: float(off(found)) for name, found in sums.items()},
    )


@torch.no_grad()
def _sums(network: nn.Module, states: tuple[State, State, State], images: list[Tensor]) -> EditSums[Tensor]:
    """Sums over all images; the order of the states is masked, baseline, target."""
    like = first_floating(states[2].values())
    placed = [{name: value.to(like.device) for name, value in state.items()} for state in states]
    total = EditSums(*(torch.zeros((), dtype=torch.float64) for _ in EditSums._fields))
    for image in images:
        outputs = (evaluate(network, state, image[None].to(like)) for state in placed)
        total = EditSums(*(a + b.sum().cpu() for a, b in zip(total, edit_sums(*outputs), strict=True)))
    return total
