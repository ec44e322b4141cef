"""Pictures of what masking does: a held-out image, restored by every network of the study; and of which image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from faig_lab.attribution import Attribution, discovered
from faig_lab.data import PairedImage
from faig_lab.evaluation.evaluator import Evaluator
from faig_lab.filters import mask
from faig_lab.metrics import psnr

_COLOUR = 15 / 255  # “slightly colourful” to the viewers whom Hasler and Süsstrunk asked


@dataclass(frozen=True)
class Example:
    """One held-out image with one degradation.

    Attributes:
        image: its name.
        degradation: of the input.
        input: (3, h, w) the degraded LR.
        truth: (3, H, W) the ground truth.
        restored: "baseline", "target", or the degradation whose filters are masked → (3, H, W) in [0, 1].
        psnr: the same keys → dB.
    """

    image: str
    degradation: str
    input: Tensor
    truth: Tensor
    restored: dict[str, Tensor]
    psnr: dict[str, float]


def images_to_show(images: Sequence[PairedImage]) -> list[int]:
    """Which images a report shows: the first colour photograph, and another one, the first or the middle one of all.

    The choice looks at the ground truth alone, never at what a network makes of it.

    Args:
        images: the held-out images, at least one.

    Returns:
        One or two positions, that of the colour photograph first; the first image stands in for it where all are grey.
    """
    first = next((k for k, image in enumerate(images) if colourfulness(image.hr) >= _COLOUR), 0)
    others = [position for position in (0, len(images) // 2) if position != first]
    return [first, *others[:1]]


def colourfulness(image: Tensor) -> float:
    """How much colour a picture has: 0 for grey, about 0.4 for what viewers call extremely colourful.

    Hasler and Süsstrunk, *Measuring colourfulness in natural images*, 2003, equation 6, over 255.

    Args:
        image: (3, H, W) in [0, 1].
    """
    red, green, blue = image.double()
    opponents = torch.stack([(red - green).flatten(), ((red + green) / 2 - blue).flatten()])
    return float(opponents.std(dim=1, correction=0).norm() + 0.3 * opponents.mean(dim=1).norm())


def examples(
    evaluator: Evaluator, attribution: Attribution, method: str, percent: float, positions: Sequence[int]
) -> list[Example]:
    """Restore held-out images with baseline, target and the target with each discovered set masked.

    Args:
        evaluator: held-out images and networks.
        attribution: the scores.
        method: whose scores choose the filters (its first draw).
        percent: how many.
        positions: which of the held-out images.
    """
    states = {"baseline": evaluator.baseline, "target": evaluator.target}
    for name, scores in zip(attribution.degradations, attribution.scores[method][0], strict=True):
        filters = discovered(scores, percent)
        states[name] = mask(evaluator.target, evaluator.baseline, attribution.layout, filters)
    shown = replace(evaluator, images=tuple(evaluator.images[position] for position in positions))
    found = []
    for degradation in attribution.degradations:
        outputs = {name: shown.outputs(state, degradation) for name, state in states.items()}
        for position, image in enumerate(shown.images):
            restored = {name: images[position] for name, images in outputs.items()}
            values = {n: float(psnr(o[None], image.hr[None], evaluator.scale)) for n, o in restored.items()}
            found.append(Example(image.name, degradation, image.lr[degradation], image.hr, restored, values))
    return found
