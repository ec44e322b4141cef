"""Pictures of what masking does: the same held-out image, restored by every network of the study."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from faig_lab.analysis.interventions import mask
from faig_lab.analysis.masking import Judge
from faig_lab.attribution import Attribution, discovered
from faig_lab.training import psnr


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


def examples(
    judge: Judge, attribution: Attribution, method: str, percent: float, positions: Sequence[int]
) -> list[Example]:
    """Restore held-out images with baseline, target and the target with each discovered set masked.

    Args:
        judge: held-out images and networks.
        attribution: the scores.
        method: whose scores choose the filters (its first draw).
        percent: how many.
        positions: which of the held-out images.
    """
    states = {"baseline": judge.baseline, "target": judge.target}
    for name, scores in zip(attribution.degradations, attribution.scores[method][0], strict=True):
        filters = discovered(scores, percent)
        states[name] = mask(judge.target, judge.baseline, attribution.layout, filters)
    found = []
    for degradation in attribution.degradations:
        outputs = {name: judge.outputs(state, degradation) for name, state in states.items()}
        for position in positions:
            image = judge.images[position]
            restored = {name: images[position] for name, images in outputs.items()}
            values = {n: float(psnr(o[None], image.hr[None], judge.scale)) for n, o in restored.items()}
            found.append(Example(image.name, degradation, image.lr[degradation], image.hr, restored, values))
    return found
