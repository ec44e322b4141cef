"""What every data source hands over: photographs to train on, images to attribute on, images to judge on."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faig_lab.data.degradations import CLEAN, Degradation, sample_rng
from faig_lab.data.images import Pixels, to_tensor
from faig_lab.data.patches import cut
from faig_lab.data.photographs import Photograph
from faig_lab.errors import UserError


@dataclass(frozen=True, eq=False)
class PairedImage:
    """One ground truth with its inputs.

    Args:
        name: unique among the images of its set; names it in tables and seeds its noise.
        hr: (3, scale·h, scale·w), float32 in [0, 1].
        lr: input's name → (3, h, w), float32 in [0, 1]; always holds "clean".
        scene: what it shows; images of one scene, such as crops of one photograph, are not independent of each
            other. None where the image is all there is of its scene.

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
        train: photographs to cut patches from; empty where the source has none.
        probe: what attribution is computed on; never empty.
        held_out: what interventions are judged on; never empty.
        degradations: the discriminated ones, e.g. ("blur", "noise"); each image's `lr` holds them all, and
            may hold more ("clean", and "blur+noise" for all together).
        notes: sentences that the report must say.

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
"""Seeds the noise of probe and held-out images in every run, whatever the run's own seed."""

_SMALLEST_CROP = 16
_CANDIDATES_PER_AXIS = 16
_BATCH_PIXELS = 2**23  # Bounds the memory of whole photographs: 8 million HR pixels, 100 MB in float32.


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a photograph: `size` (h, w) HR pixels, multiples of the scale, from (top, left)."""

    name: str
    pixels: Pixels
    top: int
    left: int
    size: tuple[int, int]
    scene: str | None = None


def check_crops(kind: str, crop: int | None, crops: int) -> None:
    """Refuse crops that nothing can be seen in.

    Args:
        kind: "probe" or "test", as the settings call it.
        crop: side in HR pixels; None: the whole image.
        crops: how many per image.

    Raises:
        UserError: the crop is smaller than 16 pixels, or there is not one per image.
    """
    if crop is not None and crop < _SMALLEST_CROP:
        raise UserError(f"data.{kind}_crop: {crop} HR pixels is too small; at least {_SMALLEST_CROP}, or null")
    if crops < 1:
        raise UserError(f"data.{kind}_crops: {crops} crops per image; at least 1")


def paired_images(
    photographs: Sequence[Photograph], degradation: Degradation, crop: int | None, crops: int
) -> tuple[PairedImage, ...]:
    """Cut each photograph's most detailed regions and degrade them in every way of `degradation.inputs()`.

    Args:
        photographs: with different names.
        degradation: brings the scale and the inputs.
        crop: side of the square crops in HR pixels, cut down to a multiple of the scale; None: all of each.
        crops: how many per photograph; fewer where no more fit without overlap.

    Raises:
        UserError: crop or photograph has not one LR pixel.
    """
    regions = [region for photo in photographs for region in _regions(photo, crop, crops, degradation.scale)]
    return degrade_regions(regions, degradation, degradation.inputs())


def degrade_regions(
    regions: Sequence[Region], degradation: Degradation, inputs: Mapping[str, frozenset[str]]
) -> tuple[PairedImage, ...]:
    """Cut the regions with the margin that degradation needs and degrade them, as a batch per size.

    The randomness of a sample is a function of (region's name, input's name) alone.

    Args:
        regions: with different names.
        degradation: what is done.
        inputs: input's name → the parts applied.

    Returns:
        One image per region, in their order.
    """
    images = {
        image.name: image
        for batch in _batches(regions, degradation.margin)
        for image in _degrade_batch(batch, degradation, inputs)
    }
    return tuple(images[region.name] for region in regions)


def detailed_places(pixels: Pixels, size: tuple[int, int], count: int, step: int) -> list[tuple[int, int]]:
    """Find where a photograph has most detail: up to `count` (top, left) of rectangles that do not overlap.

    Among an even grid of candidates the total of the mean gradient magnitude is made large, greedily from
    each possible first choice; a set of more rectangles goes before one of fewer, and a plain tiling of the
    photograph is one of the sets, so that as many are found as fit side by side. Deterministic.

    Args:
        pixels: (H, W, 3).
        size: (h, w), no larger than the photograph.
        count: how many are wanted, at least 1.
        step: places are multiples of it.

    Returns:
        Places with the most detailed first; fewer than `count` where no more fit.
    """
    height, width = pixels.shape[:2]
    tiling = _grid(pixels, size, (height // size[0], width // size[1]), step)
    places = np.concatenate([tiling, _grid(pixels, size, (_CANDIDATES_PER_AXIS,) * 2, step)])
    detail = _mean_gradient(pixels, places, size)
    order = np.argsort(-detail, kind="stable")
    tiles = np.flatnonzero(order < len(tiling))
    places, detail = places[order], detail[order]
    apart = (np.abs(places[:, None] - places[None]) >= np.array(size)).any(axis=-1)
    choices = [_greedy(first, apart, count) for first in range(len(places))]
    choices.append([int(i) for i in tiles[:count]])
    best = max(choices, key=lambda chosen: (len(chosen), float(detail[chosen].sum())))
    return [(int(places[i, 0]), int(places[i, 1])) for i in sorted(best)]


def _regions(photo: Photograph, crop: int | None, crops: int, scale: int) -> list[Region]:
    """The regions of one photograph; one smaller than the crop is used whole along that axis."""
    height, width = (
        min(length, length if crop is None else crop) // scale * scale for length in photo.pixels.shape[:2]
    )
    if min(height, width) == 0:
        shape = f"{photo.pixels.shape[1]}×{photo.pixels.shape[0]}"
        raise UserError(f"{photo.name}: a crop of {crop} from {shape} pixels has no LR pixel at scale {scale}")
    if crop is None:
        return [Region(photo.name, photo.pixels, 0, 0, (height, width), photo.scene)]
    places = detailed_places(photo.pixels, (height, width), crops, scale)
    return [
        Region(f"{photo.name}_x{left}_y{top}", photo.pixels, top, left, (height, width), photo.scene)
        for top, left in places
    ]


def _grid(pixels: Pixels, size: tuple[int, int], counts: tuple[int, int], step: int) -> NDArray[np.intp]:
    """Evenly spread (top, left), multiples of `step`, at most `counts` of them along the axes: (n, 2)."""
    axes = []
    for axis in (0, 1):
        even = np.linspace(0, (pixels.shape[axis] - size[axis]) // step, counts[axis])
        axes.append(np.unique(np.round(even).astype(np.intp)) * step)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def _mean_gradient(pixels: Pixels, places: NDArray[np.intp], size: tuple[int, int]) -> NDArray[np.float64]:
    """The mean gradient magnitude of the grey image in each rectangle, by an integral image."""
    grey = pixels.mean(axis=2) if min(pixels.shape[:2]) > 1 else np.zeros((2, 2))
    magnitude = np.hypot(*np.gradient(grey))
    integral = np.pad(magnitude.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    (top, left), (bottom, right) = places.T, (places + np.array(size)).T
    total = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return np.asarray(total / (size[0] * size[1]))


def _greedy(first: int, apart: NDArray[np.bool_], count: int) -> list[int]:
    """Take `first`, then the earliest candidates that overlap none taken, up to `count`."""
    chosen = [first]
    free = apart[first].copy()
    while len(chosen) < count and free.any():
        chosen.append(int(free.argmax()))
        free &= apart[chosen[-1]]
    return chosen


def _batches(regions: Sequence[Region], margin: int) -> Iterator[list[Region]]:
    """Regions of one size, as many at once as the memory bound allows."""
    groups: dict[tuple[int, int], list[Region]] = defaultdict(list)
    for region in regions:
        groups[region.size].append(region)
    for (height, width), group in groups.items():
        at_once = max(1, _BATCH_PIXELS // ((height + 2 * margin) * (width + 2 * margin)))
        for start in range(0, len(group), at_once):
            yield group[start : start + at_once]


def _degrade_batch(
    regions: Sequence[Region], degradation: Degradation, inputs: Mapping[str, frozenset[str]]
) -> Iterator[PairedImage]:
    """Regions of one size, degraded together."""
    margin, size = degradation.margin, regions[0].size
    patches = torch.stack([to_tensor(cut(r.pixels, r.top, r.left, r.size, margin)) for r in regions])
    degraded = {}
    for name, parts in inputs.items():
        rngs = [sample_rng(EVALUATION_SEED, f"evaluation/{region.name}/{name}") for region in regions]
        degraded[name] = degradation.apply(patches, [parts] * len(regions), rngs)
    for i, region in enumerate(regions):
        # Copies, so that an image does not keep the memory of its whole batch.
        hr = patches[i, :, margin : margin + size[0], margin : margin + size[1]].clone()
        yield PairedImage(region.name, hr, {name: lr[i].clone() for name, lr in degraded.items()}, region.scene)
