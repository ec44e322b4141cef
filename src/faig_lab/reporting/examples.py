"""From examples (tensors) to the picture grids of the report (arrays with titles)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from faig_lab.analysis import Example
from faig_lab.reporting.pictures import (
    BASELINE,
    TARGET,
    TRUTH,
    PictureRow,
    Pictures,
    Tile,
    input_title,
    masked_title,
)


def picture_grids(examples: Sequence[Example], percent: float) -> list[Pictures]:
    """One grid per degradation: input, baseline, target, target with each set masked, ground truth.

    Args:
        examples: of `analysis.examples`.
        percent: how many filters are masked in them.
    """
    grids: dict[str, list[PictureRow]] = {}
    for example in examples:
        titles = {"baseline": BASELINE, "target": TARGET}
        tiles = {input_title(example.degradation): Tile(as_array(example.input))}
        for name, image in example.restored.items():
            title = titles.get(name) or masked_title(name, percent)
            tiles[title] = Tile(as_array(image), example.psnr[name])
        tiles[TRUTH] = Tile(as_array(example.truth))
        grids.setdefault(example.degradation, []).append(PictureRow(example.image, tiles))
    return [Pictures(degradation, rows) for degradation, rows in grids.items()]


def as_array(image: Tensor) -> NDArray[np.float32]:
    """(3, H, W) → (H, W, 3) in [0, 1]."""
    return image.clamp(0, 1).permute(1, 2, 0).contiguous().cpu().numpy()
