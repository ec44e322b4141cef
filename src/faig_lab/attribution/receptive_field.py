"""How far a network looks: what cutting an image into tiles has to know, measured on the network itself.

Nothing here reads a network's layers: one pixel that is not a number spreads to exactly the output that depends on
it, through any operation, whatever the weights. (An implementation that spreads it further makes tiles larger, not
wrong.)
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faig_lab.filters import State, evaluate, first_floating

PERIODS = (1, 2, 4, 8, 16)
_SIDES = (64, 128, 256, 512)


@dataclass(frozen=True)
class Reach:
    """What an output pixel depends on.

    Attributes:
        radius: in LR pixels: the output of an LR pixel depends on no input pixel that is further away, along rows or
            columns.
        period: the network treats LR pixels alike that are a multiple of this apart: 1 for plain convolutions, the
            overall stride of a network that scales down and up again, the window of a local attention.
    """

    radius: int
    period: int


def reach(network: nn.Module, state: State, scale: int) -> Reach | None:
    """Measure a network's reach; some forward passes on inputs of 64² to 512² LR pixels.

    Args:
        network: any module of LR (1, 3, h, w) → SR (1, 3, sh, sw).
        state: its weights; their values play no part.
        scale: s.

    Returns:
        None for a network without a bounded reach (global pooling or attention, say) or of a period above 16.
    """
    first = first_floating(state.values())
    for side in _SIDES:
        # A pixel near the middle with the phase of the corner, and those a period further.
        prints = {d: _footprint(network, state, scale, side, side // 2 + d, first) for d in (0, *PERIODS)}
        if None in prints.values():
            continue
        # An overall stride shows at every distance that is no multiple of it, so the larger powers have to agree, too.
        alike = {p for p in PERIODS if prints[p] == prints[0]}
        period = next((p for p in PERIODS if {q for q in PERIODS if q >= p} <= alike), None)
        if period is None:
            return None
        phases = [_footprint(network, state, scale, side, side // 2 + phase, first) for phase in range(period)]
        if None not in phases:
            return Reach(max(max(found) for found in phases if found is not None), period)
    return None


def _footprint(
    network: nn.Module, state: State, scale: int, side: int, place: int, like: Tensor
) -> tuple[int, int, int, int] | None:
    """How far up, down, left and right an input pixel is seen, in LR pixels; None if up to the input's edge."""
    lr = torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device)
    lr[..., place, place] = torch.nan
    # cuDNN may compute a convolution by Fourier transform, where one pixel reaches everywhere.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        seen = evaluate(network, state, lr)[0].isnan().any(0)
    far: list[int] = []
    for over in (1, 0):
        touched = seen.any(over).nonzero().flatten()
        if not len(touched):  # a pixel that nothing depends on
            return 0, 0, 0, 0
        low, high = int(touched.min()) // scale, int(touched.max()) // scale
        if low <= 0 or high >= side - 1:
            return None
        far += [place - low, high - place]
    return far[0], far[1], far[2], far[3]
