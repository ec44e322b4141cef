"""Images on disk → HR patches for training, and paired images for probe and held-out."""

from faig_lab.data.degradations.blurs import (
    AnisotropicGaussianBlur,
    GaussianBlur,
    MotionBlur,
    Resize,
    Sinc,
    clipped_kernels,
)
from faig_lab.data.degradations.draws import sample_rng
from faig_lab.data.degradations.noises import JPEG, GaussianNoise, PoissonNoise
from faig_lab.data.degradations.pipeline import CLEAN, Composed, Degradation, Downsample, Part, sharpened
from faig_lab.data.div2k import Archive, Div2k
from faig_lab.data.evaluation import PairedImage, StudyData
from faig_lab.data.patches import (
    Batch,
    DegradedBatch,
    PatchDataset,
    PatchesOnDevice,
    StepSampler,
    applied,
    bytes_on_device,
    cut,
    degrade,
    patch_loader,
)
from faig_lab.data.photographs import Photograph
from faig_lab.data.sources import EmbeddedPhotographs, FolderPhotographs, PairedFolders

__all__ = [
    "CLEAN",
    "JPEG",
    "AnisotropicGaussianBlur",
    "Archive",
    "Batch",
    "Composed",
    "Degradation",
    "DegradedBatch",
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
    "PatchesOnDevice",
    "Photograph",
    "PoissonNoise",
    "Resize",
    "Sinc",
    "StepSampler",
    "StudyData",
    "applied",
    "bytes_on_device",
    "clipped_kernels",
    "cut",
    "degrade",
    "patch_loader",
    "sample_rng",
    "sharpened",
]
