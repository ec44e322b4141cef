"""Shortcuts that must change nothing but rounding, compared once with the plain way before they are used."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from faig_lab.attribution.receptive_field import Reach
from faig_lab.attribution.tiles import quarters, smallest_side

SINGLE, LOWER = 1e-3, 0.05
"""Largest relative difference of gradients at several points at once: in single precision and above, and below it."""

_LARGEST = 256
"""LR side of the image that is restored as a whole to compare tiles with, at most, unless a tile needs more."""

log = logging.getLogger(__name__)

AGREES: WeakKeyDictionary[nn.Module, dict[str, bool]] = WeakKeyDictionary()
"""Whether several points at once agree with one by one, by network."""

T = TypeVar("T")

Gradients = Sequence[Mapping[str, Tensor]]
"""∂L/∂γ by parameter at each of some points."""


def remembered(
    known: WeakKeyDictionary[nn.Module, dict[str, T]], network: nn.Module, key: str, find: Callable[[], T]
) -> T:
    """A finding about a network, looked for once for each key."""
    found = known.setdefault(network, {})
    if key not in found:
        found[key] = find()
    return found[key]


def points_agree(
    at_once: Callable[[], Gradients], one_by_one: Gradients, weights: Mapping[str, Tensor], bound: float
) -> bool:
    """Whether gradients at several points at once are those of one point after the other; a warning if not.

    PyTorch evaluates networks with different weights at once by grouped convolutions. On processors without
    instructions for bfloat16 or float16, oneDNN has a plain implementation of their backward pass. It gives a wrong
    gradient of the weights in these precisions if the input holds one image whose stride along the images is not the
    size of an image, which `vmap` makes of images in channels last (torch 2.13). Other devices may have other faults,
    so the gradients themselves are compared:

        def image(*shape): return torch.randn(shape, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
        x = image(1, 6, 30, 30)
        x = x.as_strided(x.shape, (6, *x.stride()[1:]))  # 6 in place of 5400: the same image
        torch.ops.aten.convolution_backward(  # its second result is off by 140 % with ONEDNN_MAX_CPU_ISA=AVX2
            image(1, 6, 30, 30), x, image(6, 3, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 2, [True] * 3)

    Args:
        at_once: evaluates the gradients at several points at once. A network may refuse that.
        one_by_one: gradients at the same points.
        weights: θ − θ̄ by parameter; the measure is Σ|(g − g')(θ − θ̄)| / Σ|g'(θ − θ̄)|.
        bound: the largest difference that passes.
    """
    size = sum(_weighted(point, weights) for point in one_by_one)
    if not math.isfinite(size):
        return False
    try:
        together = at_once()
    except RuntimeError as error:
        why = f"{len(one_by_one)} points cannot be evaluated at once ({' '.join(str(error).split())[:200]})"
    else:
        apart = sum(
            _weighted({name: value - plain[name] for name, value in point.items()}, weights)
            for point, plain in zip(together, one_by_one, strict=True)
        )
        if apart <= bound * size:
            return True
        wrong = apart / size if size else math.inf
        why = f"gradients at {len(one_by_one)} points at once are wrong by {100 * wrong:.1f} %"
    log.warning("attribution.together: %s; the points are evaluated one after the other", why)
    return False


def difference_of_tiles(run: Callable[[Tensor], Tensor], lr: Tensor, scale: int, reach: Reach, most: float) -> float:
    """How far the output of tiles is from the output of the whole image: ‖tiles − whole‖ / ‖whole‖.

    The receptive field is measured by a pixel that is not a number. This does not show what wraps round the image's
    edges (circular padding, `torch.roll`), depends on the position in the image (coordinates, `align_corners`), or
    compares (`(x > 0) * y`). So random pixels are restored once as a whole and in tiles.

    Args:
        run: LR → SR.
        lr: an image (N, 3, H, W): its size, precision and device count.
        scale: HR pixels per LR pixel.
        reach: the measured receptive field.
        most: LR pixels that can be evaluated at once.
    """
    side = max(smallest_side(reach), min(math.isqrt(int(most)), 2 * smallest_side(reach), _LARGEST))
    height, width = (min(length, math.ceil(side / reach.period) * reach.period) for length in lr.shape[-2:])
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)).to(lr)
    with torch.no_grad():
        whole = run(image)
        pieces = [(tile, run(tile.input(image))) for tile in quarters(height, width, scale, reach)]
    wrong = sum(float((t.core_of_output(y) - t.core_of_image(whole)).double().square().sum()) for t, y in pieces)
    size = float(whole.double().square().sum())
    return math.sqrt(wrong / size) if size else 0.0


def bound_of_tiles(dtype: torch.dtype) -> float:
    """The largest difference of tiles that is rounding."""
    return max(100 * torch.finfo(dtype).eps, 1e-9)


def _weighted(gradients: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> float:
    """Σ|g (θ − θ̄)| over all parameters; not a number if one of them is not."""
    return float(torch.stack([(g * weights[name]).abs().double().sum() for name, g in gradients.items()]).sum())
