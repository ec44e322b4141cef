"""Networks on held-out images: PSNR, squared distances, and example pictures of the restored images."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from faig_lab.attribution import Attribution, discovered
from faig_lab.data import CLEAN, PairedImage
from faig_lab.evaluation.intervals import Floats, number_or_none
from faig_lab.filters import State, first_floating, mask
from faig_lab.metrics import (
    CPU,
    EditSums,
    as_image,
    batches,
    bicubic,
    edit_sums,
    gradient_map,
    isolation,
    map_difference,
    psnr,
    removed_share,
    restore,
)

MOST_BYTES = 2**28
"""Bytes that the outputs of one network for one input may take to stay on a GPU. An evaluator keeps the outputs of two
networks for every input."""


def measure(function: Callable[..., Iterable[Tensor]], *images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Measure every image on a device.

    Args:
        function: batches (n, …) of images, one for each list → (n,) for each measure.
        images: lists of images (…, H, W) of one length, at least 1. Their sizes may be mixed, and the lists may be on
            different devices. Images at one position belong together and have one height and width.
        device: where the function computes.

    Returns:
        (images,) of each measure, on the CPU.
    """
    order: list[int] = []
    parts: list[list[Tensor]] = []
    for positions, stacks in _stacks(images, device):
        order += positions
        parts.append([values.cpu() for values in function(*stacks)])
    back = torch.tensor(order).argsort()
    return [torch.cat(values)[back] for values in zip(*parts, strict=True)]


def convert(function: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> list[Tensor]:
    """Convert every image on the device of the images.

    Args:
        function: batch (n, …) of images → the converted images (n, …).
        images: (…, H, W) each, on one device. Their sizes may be mixed.

    Returns:
        The converted images in the order of `images`.
    """
    converted: dict[int, Tensor] = {}
    for positions, (stack,) in _stacks([images], images[0].device) if images else ():
        converted.update(zip(positions, function(stack), strict=True))
    return [converted[i] for i in range(len(images))]


def _stacks(images: Sequence[Sequence[Tensor]], device: torch.device) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Yield the positions of a batch, and its images of every list as one tensor on the device."""
    shapes = [image.shape for image in images[-1]]
    if wrong := [len(each) for each in images if len(each) != len(shapes)]:
        raise ValueError(f"{wrong[0]} images, not {len(shapes)}")
    for positions in batches(shapes, device):
        batch = [[each[i] for i in positions] for each in images]
        stacks = [torch.stack(some) if len(some) > 1 else some[0][None] for some in batch]  # one image is not copied
        # In one order of memory, so that sums round alike in batches of any number.
        yield positions, [stack.contiguous().to(device) for stack in stacks]


class Ends(NamedTuple):
    """Outputs of baseline and target on the held-out images with one input.

    Attributes:
        baseline: (images,) PSNR in dB.
        target: the same.
        baseline_outputs: the baseline's outputs (3, H, W), clipped to [0, 1] and not rounded.
        target_outputs: the same of the target.
    """

    baseline: Tensor
    target: Tensor
    baseline_outputs: list[Tensor]
    target_outputs: list[Tensor]


class Evaluation(NamedTuple):
    """The effect of an intervention on the held-out images with one input.

    Attributes:
        psnrs: (images,) dB.
        removed: removed share, not clipped; None where there is nothing to remove, and for clean and mixed input.
        output_difference: mean over images; None for clean and mixed input.
        sums: (images,) each: energy, movement towards the baseline, and whole movement of the outputs.
    """

    psnrs: Tensor
    removed: float | None
    output_difference: float | None
    sums: EditSums[Tensor]

    def row(self) -> dict[str, object]:
        """The cells of a table: means over images."""
        return {"psnr": mean(self.psnrs), "removed": self.removed, "output_difference": self.output_difference}


@dataclass(frozen=True)
class Evaluator:
    """Held-out images and the two networks that bound what an intervention can do.

    Images are restored and measured where the target's weights are, in batches of images of one size. Restored images
    are on the device `storage`, and all numbers are on the CPU.

    Args:
        network: the module; its own weights do not matter.
        baseline: θ̄ on the device to compute on.
        target: θ.
        images: held-out images.
        scale: pixels left out of PSNR on each side; the squared distances of an edit run over all pixels.
        autocast: lower precision for the networks, or None.
    """

    network: nn.Module
    baseline: State
    target: State
    images: tuple[PairedImage, ...]
    scale: int
    autocast: torch.dtype | None = None
    _ends: dict[str, Ends] = field(default_factory=dict, init=False, repr=False, compare=False)
    _maps: dict[str, list[Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def device(self) -> torch.device:
        """Where images are restored and measured: the device of the target's weights."""
        return first_floating(self.target.values()).device

    @cached_property
    def storage(self) -> torch.device:
        """Where restored images are: `device` if one network's outputs for one input are small, else the CPU."""
        size = torch.float32.itemsize * sum(image.hr.numel() for image in self.images)
        return self.device if size <= MOST_BYTES else CPU

    @cached_property
    def _placed(self) -> tuple[PairedImage, ...]:
        """The held-out images on the device `storage`, which they are copied to once."""

        def placed(image: PairedImage) -> PairedImage:
            lr = {name: values.to(self.storage) for name, values in image.lr.items()}
            return replace(image, hr=image.hr.to(self.storage), lr=lr)

        return self.images if self.storage == CPU else tuple(map(placed, self.images))

    def measure(self, function: Callable[..., Iterable[Tensor]], *images: Sequence[Tensor]) -> list[Tensor]:
        """Measure every held-out image on `device` in batches of one size.

        Args:
            function: batches (n, …) of images, their ground truth last → (n,) for each measure.
            images: lists of (…, H, W) for every held-out image, e.g. outputs of a network.

        Returns:
            (images,) of each measure, on the CPU.
        """
        return measure(function, *images, [image.hr for image in self._placed], device=self.device)

    def restore(self, state: State, degradation: str) -> list[Tensor]:
        """Raw outputs (3, H, W) for every held-out image."""
        return restore(self.network, state, self._placed, degradation, self.autocast, device=self.storage)

    def upscaled(self, degradation: str) -> list[Tensor]:
        """Bicubic upscaling (3, H, W) of every held-out image, not clipped."""
        return convert(lambda lr: bicubic(lr, self.scale), [image.lr[degradation] for image in self._placed])

    def outputs(self, state: State, degradation: str) -> list[Tensor]:
        """Restored held-out images (3, H, W), clipped and rounded to 8 bits; those of the target are computed once."""
        known = state is self.target and degradation in self._ends
        return convert(as_image, self._ends[degradation].target_outputs if known else self.restore(state, degradation))

    def psnrs(self, outputs: Sequence[Tensor]) -> Tensor:
        """(images,) PSNR of each restored held-out image (dB)."""
        (psnrs,) = self.measure(lambda output, hr: [psnr(output, hr, self.scale)], outputs)
        return psnrs

    def psnr(self, outputs: Sequence[Tensor]) -> float:
        """PSNR per image, then the mean (dB)."""
        return mean(self.psnrs(outputs))

    @property
    def scenes(self) -> tuple[str, ...]:
        """(images,) names of the scenes; images of one scene are not independent."""
        return tuple(image.scene or image.name for image in self.images)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that every held-out image has: clean, the degradations, and mixed ones."""
        return tuple(self.images[0].lr)

    def ends(self, degradation: str) -> Ends:
        """Outputs of both networks on the held-out images with one input; computed once."""
        if degradation not in self._ends:
            baseline, target = (
                convert(lambda output: output.clamp(0, 1), self.restore(state, degradation))
                for state in (self.baseline, self.target)
            )
            psnrs = [self.psnrs(convert(as_image, outputs)) for outputs in (baseline, target)]
            self._ends[degradation] = Ends(psnrs[0], psnrs[1], baseline, target)
        return self._ends[degradation]

    def maps(self, degradation: str) -> list[Tensor]:
        """(1, H, W) gradient maps of the target's outputs; computed once."""
        if degradation not in self._maps:
            outputs = self.ends(degradation).target_outputs
            self._maps[degradation] = convert(lambda output: gradient_map(as_image(output)), outputs)
        return self._maps[degradation]

    def bounds(self, degradation: str) -> tuple[float, float]:
        """PSNR of baseline and target in dB, means over images."""
        ends = self.ends(degradation)
        return mean(ends.baseline), mean(ends.target)

    def removed(self, psnr: float, degradation: str) -> float | None:
        """Removed share of a network with this mean PSNR (dB), not clipped; None where there is nothing to remove."""
        baseline, target = self.bounds(degradation)
        return removed_share(target, psnr, baseline)

    def effect(self, state: State, name: str) -> Evaluation:
        """Effect of an intervention on any input, clean and mixed included: PSNR and the sums of the edit."""
        return self.effect_of(self.raw(state, name), name)

    def effect_of(self, outputs: Sequence[Tensor], name: str, *, function: bool = False) -> Evaluation:
        """As `effect`, for held-out images that a network has restored.

        Args:
            outputs: raw outputs (3, H, W).
            name: the input.
            function: measure what is removed of the function, too; the input is a degradation.
        """
        ends, maps = self.ends(name), [self.maps(name)] if function else []

        def measures(raw: Tensor, baseline: Tensor, target: Tensor, *maps_and_hr: Tensor) -> list[Tensor]:
            (*target_maps, hr), image = maps_and_hr, as_image(raw)
            differences = [map_difference(gradient_map(image), target_map) for target_map in target_maps]
            return [psnr(image, hr, self.scale), *edit_sums(raw, baseline, target), *differences]

        values = self.measure(measures, outputs, ends.baseline_outputs, ends.target_outputs, *maps)
        psnrs, sums, differences = values[0], EditSums(*values[1:4]), values[4:]
        if not function:
            return Evaluation(psnrs, None, None, sums)
        return Evaluation(psnrs, self.removed(mean(psnrs), name), float(differences[0].mean()), sums)

    def effects(self, state: State) -> dict[str, Evaluation]:
        """Effect of an intervention on every input that is not mixed."""
        return {name: self.effect(state, name) for name in self.inputs if "+" not in name}

    def raw(self, state: State, name: str) -> list[Tensor]:
        """Outputs (3, H, W) that are not rounded; those of the target are computed once."""
        return self.ends(name).target_outputs if state is self.target else self.restore(state, name)

    def evaluate(self, state: State, degradation: str) -> Evaluation:
        """Effect of an intervention on the restoration of one degradation."""
        return self.effect_of(self.raw(state, degradation), degradation, function=True)


def pooled(effect: Evaluation) -> EditSums[Floats]:
    """Add up the sums of an intervention over all held-out images; an energy of 0 becomes NaN."""
    return undivided(EditSums(*(values.double().sum().numpy() for values in effect.sums)))


def undivided(sums: EditSums[Floats]) -> EditSums[Floats]:
    """Replace an energy of 0 by NaN, since the energy is a divisor."""
    return sums._replace(energy=np.where(sums.energy > 0, sums.energy, np.nan))


def isolation_of(effects: Mapping[str, Evaluation], masked: str) -> float | None:
    """Isolation of a masked network, pooled over the held-out images (method.md §9); None where it is not defined.

    Args:
        effects: the effect of masking by input: the degradations, and clean input where there is any.
        masked: the degradation whose filters are masked.
    """
    sums = {name: pooled(effect) for name, effect in effects.items()}
    others = [sums[name] for name in sums if name not in (masked, CLEAN)]
    return number_or_none(isolation(sums[masked], others, sums.get(CLEAN)))


def mean(psnrs: Tensor) -> float:
    """Return the mean over images, in double precision."""
    return float(psnrs.double().mean())


_COLOUR = 15 / 255  # “slightly colourful” in the survey of Hasler and Süsstrunk


@dataclass(frozen=True)
class Example:
    """One held-out image with one degradation.

    Attributes:
        image: its name.
        degradation: of the input.
        input: (3, h, w) the degraded LR.
        truth: (3, H, W) the ground truth.
        restored: "baseline", "target", or the degradation whose filters are masked → (3, H, W) in [0, 1], on the CPU.
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
        restored: network → (3, H, W) in [0, 1], on any device.
        border: pixels left out of PSNR on each side.
    """
    restored = {name: output.cpu() for name, output in restored.items()}
    values = {name: float(psnr(output[None], image.hr[None], border)) for name, output in restored.items()}
    return Example(image.name, degradation, image.lr[degradation], image.hr, restored, values)
