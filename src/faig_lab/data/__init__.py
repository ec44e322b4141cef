"""Images on disk → HR patches and paired sets."""

from faig_lab.data.degradations import (
    CLEAN,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    Part,
    sample_rng,
)
from faig_lab.data.patches import Batch, PatchDataset, StepSampler, cut, degrade, patch_loader
from faig_lab.data.photographs import Photograph
from faig_lab.data.sources import EmbeddedPhotographs, FolderPhotographs, PairedFolders
from faig_lab.data.study import PairedImage, StudyData

__all__ = [
    "CLEAN",
    "Batch",
    "Degradation",
    "Downsample",
    "EmbeddedPhotographs",
    "FolderPhotographs",
    "GaussianBlur",
    "GaussianNoise",
    "PairedFolders",
    "PairedImage",
    "Part",
    "PatchDataset",
    "Photograph",
    "StepSampler",
    "StudyData",
    "cut",
    "degrade",
    "patch_loader",
    "sample_rng",
]
