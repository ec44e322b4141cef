"""Example pictures: held-out images restored by every network of the study, and the choice of these images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from faig_lab.attribution import Attribution, discovered
from faig_lab.data import PairedImage
from faig_lab.evaluation.evaluator import Evaluator
from faig_lab.filters import mask
from faig_lab.metrics import psnr

_COLOUR = 15 / 255  # “slightly colourful” in the survey of Hasler and Süsstrunk


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
    """Choose the images of a report: the first colour photograph, and a second image (the first or the middle image).

    The choice depends on the ground truth alone, never on the output of a network.

    Args:
        images: the held-out images, at least one.

    Returns:
        One or two positions, that of the colour photograph first; where all images are grey, the first image.
    """
    first = next((k for k, image in enumerate(images) if colourfulness(image.hr) >= _COLOUR), 0)
    others = [position for position in (0, len(images) // 2) if position != first]
    return [first, *others[:1]]


def colourfulness(image: Tensor) -> float:
    """Measure the colour of a picture: 0 for grey, about 0.4 for "extremely colourful" in a survey of viewers.

    Hasler and Süsstrunk, *Measuring colourfulness in natural images*, 2003, equation 6, over 255.

    Args:
        image: (3, H, W) in [0, 1].
    """
    red, green, blue = image.double()
    opponents = torch.stack([(red - green).flatten(), ((red + green) / 2 - blue).flatten()])
    return float(opponents.std(dim=1, correction=0).norm() + 0.3 * opponents.mean(dim=1).norm())


def examples(
    evaluator: Evaluator, attribution: Attribution, method: str, *, percent: float, positions: Sequence[int]
) -> list[Example]:
    """Restore held-out images with baseline, target and the target with each discovered set masked.

    Args:
        evaluator: held-out images and networks.
        attribution: the scores.
        method: whose scores choose the filters (its first draw).
        percent: the percent of the filters.
        positions: positions among the held-out images.
    """
    states = {"baseline": evaluator.baseline, "target": evaluator.target}
    for name, scores in zip(attribution.degradations, attribution.scores[method][0], strict=True):
        filters = discovered(scores, percent)
        states[name] = mask(evaluator.target, evaluator.baseline, attribution.layout, filters)
    shown = replace(evaluator, images=tuple(evaluator.images[position] for position in positions))
    pictures = []
    for degradation in attribution.degradations:
        outputs = {name: shown.outputs(state, degradation) for name, state in states.items()}
        for position, image in enumerate(shown.images):
            restored = {name: images[position] for name, images in outputs.items()}
            pictures.append(example(image, degradation, restored, evaluator.scale))
    return pictures


def example(image: PairedImage, degradation: str, restored: dict[str, Tensor], border: int) -> Example:
    """Build the example of one image with one degradation.

    Args:
        image: the held-out image.
        degradation: of the input.
        restored: network → (3, H, W) in [0, 1].
        border: pixels left out of PSNR on each side.
    """
    values = {name: float(psnr(output[None], image.hr[None], border)) for name, output in restored.items()}
    return Example(image.name, degradation, image.lr[degradation], image.hr, restored, values)
