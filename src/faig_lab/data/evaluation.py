"""The data of a study, and how photographs become the paired images of probe and held-out.

Every data source returns `StudyData`: photographs to train on, images to attribute on, held-out images to evaluate on.
Paired images are crops at fixed, detailed places, then degraded. They do not depend on the run's seed: runs with
different seeds are attributed and evaluated on the same pixels.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faig_lab.data.degradations.draws import sample_rng
from faig_lab.data.degradations.pipeline import CLEAN, Degradation, without_border
from faig_lab.data.images import Pixels, to_tensor
from faig_lab.data.patches import cut
from faig_lab.data.photographs import Photograph
from faig_lab.errors import InputError, UserError


@dataclass(frozen=True, eq=False)
class PairedImage:
    """One ground truth with its inputs.

    Args:
        name: unique among the images of its set; its name in tables, and the seed of its noise.
        hr: (3, scale·h, scale·w), float32 in [0, 1].
        lr: input's name → (3, h, w), float32 in [0, 1]; "clean" is always among the inputs.
        scene: what it shows; images of one scene, such as crops of one photograph, are not independent of each
            other. None if the set has no other image of its scene.

    Raises:
        ValueError: shapes do not fit or "clean" is missing.
    """

    name: str
    hr: Tensor
    lr: dict[str, Tensor]
    scene: str | None = None

    def __post_init__(self) -> None:
        if CLEAN not in self.lr:
            raise ValueError(f"{self.name}: no {CLEAN!r} among the inputs {sorted(self.lr)}")
        height, width = self.lr[CLEAN].shape[-2:]
        expected = (3, self.scale * height, self.scale * width)
        if self.scale < 1 or tuple(self.hr.shape) != expected:
            raise ValueError(f"{self.name}: HR {tuple(self.hr.shape)} is no multiple of LR {height}×{width}")
        for name, lr in self.lr.items():
            if tuple(lr.shape) != (3, height, width):
                raise ValueError(f"{self.name}: input {name} is {tuple(lr.shape)}, not {(3, height, width)}")

    @property
    def scale(self) -> int:
        """HR pixels per LR pixel."""
        return int(self.hr.shape[-2]) // int(self.lr[CLEAN].shape[-2])


@dataclass(frozen=True, eq=False)
class StudyData:
    """The data of one study.

    Args:
        train: photographs to cut patches from; empty if the source has none.
        probe: the images that attribution is computed on; never empty.
        held_out: the images that interventions are evaluated on; never empty.
        degradations: the discriminated degradations, e.g. ("blur", "noise"); each image has an input for each of
            them, and may have more inputs ("clean", and "blur+noise" for all together).
        notes: sentences that the report must contain.

    Raises:
        ValueError: a set is empty, holds a name twice, or one of its images lacks a degradation.
    """

    train: tuple[Photograph, ...]
    probe: tuple[PairedImage, ...]
    held_out: tuple[PairedImage, ...]
    degradations: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind, images in (("probe", self.probe), ("held-out", self.held_out)):
            if not images:
                raise ValueError(f"there is no {kind} image")
            if len({image.name for image in images}) < len(images):
                raise ValueError(f"two {kind} images have one name")
            if len({(image.scale, *image.lr) for image in images}) > 1:
                raise ValueError(f"the {kind} images differ in scale or inputs")
            missing = set(self.degradations) - set(images[0].lr)
            if missing:
                raise ValueError(f"the {kind} images have no input for {sorted(missing)}")


EVALUATION_SEED = 0
"""The seed of the noise of probe and held-out images in every run, whatever the run's own seed."""

_SMALLEST_CROP = 16
_CANDIDATES_PER_AXIS = 16
_BATCH_PIXELS = 2**23  # HR pixels degraded at once: 8 million, 100 MB in float32, bound the memory of photographs.


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a photograph: `size` (h, w) HR pixels, multiples of the scale, from (top, left)."""

    name: str
    pixels: Pixels
    top: int
    left: int
    size: tuple[int, int]
    scene: str | None = None


@dataclass(frozen=True, kw_only=True)
class Crops:
    """The crops of probe and held-out images, which all sources of photographs have in common.

    Args:
        probe_crop: side of the probe crops in HR pixels, cut to a multiple of the scale; None: the whole image.
            An image that is smaller is used whole.
        probe_crops: number of crops per image; fewer if no more fit without overlap.
        test_crop: the same for held-out images.
        test_crops: the same for held-out images.

    Raises:
        InputError: a crop is smaller than 16 pixels, or a number of crops is less than 1.
    """

    probe_crop: int | None = 128
    probe_crops: int = 2
    test_crop: int | None = 192
    test_crops: int = 2

    def __post_init__(self) -> None:
        for kind, crop, crops in (
            ("probe", self.probe_crop, self.probe_crops),
            ("test", self.test_crop, self.test_crops),
        ):
            if crop is not None and crop < _SMALLEST_CROP:
                raise InputError(f"{kind}_crop", f"{crop} HR pixels is too small; at least {_SMALLEST_CROP}, or `None`")
            if crops < 1:
                raise InputError(f"{kind}_crops", f"{crops} crops per image; at least 1")

    def study(
        self,
        train: Iterable[Photograph],
        probe: Iterable[Photograph],
        held_out: Iterable[Photograph],
        degradation: Degradation,
    ) -> StudyData:
        """Cut and degrade the images of probe and held-out.

        Raises:
            UserError: a crop or a photograph has no LR pixel.
        """
        return StudyData(
            train=tuple(train),
            probe=paired_images(tuple(probe), degradation, crop=self.probe_crop, crops=self.probe_crops),
            held_out=paired_images(tuple(held_out), degradation, crop=self.test_crop, crops=self.test_crops),
            degradations=tuple(degradation.parts),
        )


def paired_images(
    photographs: Sequence[Photograph], degradation: Degradation, *, crop: int | None, crops: int
) -> tuple[PairedImage, ...]:
    """Cut each photograph's most detailed regions and degrade them in every way of `degradation.inputs()`.

    Args:
        photographs: with different names.
        degradation: has the scale and the inputs.
        crop: side of the square crops in HR pixels, cut to a multiple of the scale; None: the whole photograph.
        crops: number of crops per photograph; fewer if no more fit without overlap.

    Raises:
        UserError: a crop or a photograph has no LR pixel.
    """
    regions, scale = [], degradation.scale
    for photo in photographs:
        # A photograph that is smaller than the crop is used whole along that axis.
        sides = [min(side, side if crop is None else crop) // scale * scale for side in photo.pixels.shape[:2]]
        size = sides[0], sides[1]
        if min(size) == 0:
            shape = f"{photo.pixels.shape[1]}×{photo.pixels.shape[0]}"
            raise UserError(f"{photo.name}: a crop of {crop} from {shape} pixels has no LR pixel at scale {scale}")
        if crop is None:
            regions.append(Region(photo.name, photo.pixels, 0, 0, size, photo.scene))
            continue
        for top, left in detailed_places(photo.pixels, size, count=crops, step=scale):
            name = f"{photo.name}_x{left}_y{top}"
            regions.append(Region(name, photo.pixels, top, left, size, photo.scene))
    return degrade_regions(regions, degradation, degradation.inputs())


def degrade_regions(
    regions: Sequence[Region], degradation: Degradation, inputs: Mapping[str, frozenset[str]]
) -> tuple[PairedImage, ...]:
    """Cut the regions with the margin that `degradation` needs, and degrade regions of one size as a batch.

    The randomness of a sample is a function of (region's name, input's name) alone.

    Args:
        regions: with different names.
        degradation: the way from HR to LR.
        inputs: input's name → the parts to apply.

    Returns:
        One image per region, in the order of the regions.
    """
    margin = degradation.margin
    groups: dict[tuple[int, int], list[Region]] = defaultdict(list)
    for region in regions:
        groups[region.size].append(region)
    images: dict[str, PairedImage] = {}
    for (height, width), group in groups.items():
        at_once = max(1, _BATCH_PIXELS // ((height + 2 * margin) * (width + 2 * margin)))
        for start in range(0, len(group), at_once):
            images |= {image.name: image for image in _batch(group[start : start + at_once], degradation, inputs)}
    return tuple(images[region.name] for region in regions)


def _batch(
    regions: Sequence[Region], degradation: Degradation, inputs: Mapping[str, frozenset[str]]
) -> list[PairedImage]:
    """Degrade regions of one size together. The memory of the batch is free when the function returns."""
    margin = degradation.margin
    patches = torch.stack([to_tensor(cut(r.pixels, r.top, r.left, r.size, margin)) for r in regions])
    degraded = {}
    for name, parts in inputs.items():
        rngs = [sample_rng(EVALUATION_SEED, f"evaluation/{region.name}/{name}") for region in regions]
        degraded[name] = degradation.apply(patches, [parts] * len(regions), rngs)
    images = []
    for i, region in enumerate(regions):
        # Copies, so that an image does not keep the memory of its whole batch.
        lr = {name: tensor[i].clone() for name, tensor in degraded.items()}
        hr = without_border(patches[i], margin).clone()
        images.append(PairedImage(region.name, hr, lr, region.scene))
    return images


def detailed_places(pixels: Pixels, size: tuple[int, int], *, count: int, step: int) -> list[tuple[int, int]]:
    """Find where a photograph has most detail: up to `count` (top, left) of rectangles that do not overlap.

    Candidates lie on an even grid. From each candidate as the first choice, further candidates are added greedily by
    their mean gradient magnitude. The set with the most rectangles wins; among equally many, the set with the largest
    total. A plain tiling of the photograph is one of the sets, so that as many rectangles are found as fit side by
    side. The result is deterministic.

    Args:
        pixels: (H, W, 3).
        size: (h, w), no larger than the photograph.
        count: number of rectangles to find, at least 1.
        step: top and left are multiples of it.

    Returns:
        Places, the most detailed first; fewer than `count` if no more fit.
    """
    height, width = pixels.shape[:2]
    tiling = _grid(pixels, size, (height // size[0], width // size[1]), step)
    places = np.concatenate([tiling, _grid(pixels, size, (_CANDIDATES_PER_AXIS,) * 2, step)])
    detail = _mean_gradient(pixels, places, size)
    order = np.argsort(-detail, kind="stable")
    tiles = np.flatnonzero(order < len(tiling))
    places, detail = places[order], detail[order]
    apart = (np.abs(places[:, None] - places[None]) >= np.array(size)).any(axis=-1)
    choices = []
    for first in range(len(places)):
        chosen, free = [first], apart[first].copy()
        while len(chosen) < count and free.any():  # the earliest of those that overlap no chosen place
            chosen.append(int(free.argmax()))
            free &= apart[chosen[-1]]
        choices.append(chosen)
    choices.append([int(i) for i in tiles[:count]])
    best = max(choices, key=lambda chosen: (len(chosen), float(detail[chosen].sum())))
    return [(int(places[i, 0]), int(places[i, 1])) for i in sorted(best)]


def _grid(pixels: Pixels, size: tuple[int, int], counts: tuple[int, int], step: int) -> NDArray[np.intp]:
    """Return evenly spaced (top, left), multiples of `step`, at most `counts` of them along the axes: (n, 2)."""
    axes = []
    for axis in (0, 1):
        even = np.linspace(0, (pixels.shape[axis] - size[axis]) // step, counts[axis])
        axes.append(np.unique(np.round(even).astype(np.intp)) * step)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def _mean_gradient(pixels: Pixels, places: NDArray[np.intp], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the mean gradient magnitude of the grey image in each rectangle, by an integral image."""
    grey = pixels.mean(axis=2) if min(pixels.shape[:2]) > 1 else np.zeros((2, 2))
    magnitude = np.hypot(*np.gradient(grey))
    integral = np.pad(magnitude.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    (top, left), (bottom, right) = places.T, (places + np.array(size)).T
    total = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return np.asarray(total / (size[0] * size[1]))
