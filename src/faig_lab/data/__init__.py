"""Images on disk → HR patches and paired sets."""

from faig_lab.data.degradations import (
    CLEAN,
    JPEG,
    AnisotropicGaussianBlur,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    Part,
    PoissonNoise,
    sample_rng,
)
from faig_lab.data.div2k import Archive, Div2k
from faig_lab.data.evaluation import PairedImage, StudyData
from faig_lab.data.patches import Batch, PatchDataset, StepSampler, cut, degrade, patch_loader, suffered
from faig_lab.data.photographs import Photograph
from faig_lab.data.sources import EmbeddedPhotographs, FolderPhotographs, PairedFolders

__all__ = [
    "CLEAN",
    "JPEG",
    "AnisotropicGaussianBlur",
    "Archive",
    "Batch",
    "Degradation",
    "Div2k",
    "Downsample",
    "EmbeddedPhotographs",
    "FolderPhotographs",
    "GaussianBlur",
    "GaussianNoise",
    "MotionBlur",
    "PairedFolders",
    "PairedImage",
    "Part",
    "PatchDataset",
    "Photograph",
    "PoissonNoise",
    "StepSampler",
    "StudyData",
    "cut",
    "degrade",
    "patch_loader",
    "sample_rng",
    "suffered",
]
