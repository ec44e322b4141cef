"""What every data source hands over: photographs to train on, images to attribute on, images to judge on."""

from dataclasses import dataclass

from torch import Tensor

from faig_lab.data.degradations.pipeline import CLEAN
from faig_lab.data.photographs import Photograph


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
