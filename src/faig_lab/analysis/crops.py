"""Crops of paired images without their ground truth: what a prediction has to do with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from faig_lab.data import CLEAN, PairedImage


@dataclass(frozen=True, eq=False)
class Crop:
    """The inputs of one part of an image. There is no ground truth in it, so nothing that predicts can see one."""

    image: str
    inputs: dict[str, Tensor]


def cut_crops(images: Sequence[PairedImage], crop: int, *, overlapping: bool) -> list[Crop]:
    """Cut the inputs of images into square crops, spread evenly over each image.

    Args:
        images: with their inputs at hand, so nothing is degraded anew.
        crop: side in HR pixels, cut down to a multiple of the scale; a smaller image is used whole along that axis.
        overlapping: as many as cover the image; else as many as fit side by side.
    """
    crops = []
    for image in images:
        height, width = image.lr[CLEAN].shape[-2:]
        size = (min(height, crop // image.scale), min(width, crop // image.scale))
        crops += [
            Crop(image.name, {n: lr[:, y : y + size[0], x : x + size[1]] for n, lr in image.lr.items()})
            for y in _places(height, size[0], overlapping)
            for x in _places(width, size[1], overlapping)
        ]
    return crops


def spread(crops: Sequence[Crop], most: int) -> list[Crop]:
    """At most `most` of them, evenly spread."""
    chosen = np.unique(np.linspace(0, len(crops) - 1, min(most, len(crops))).round().astype(int))
    return [crops[i] for i in chosen]


def _places(length: int, size: int, overlapping: bool) -> list[int]:
    count = -(-length // size) if overlapping else length // size
    return [int(place) for place in np.linspace(0, length - size, count).round()]
