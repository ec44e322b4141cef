"""Images on disk → HR patches and paired sets."""

from faig_lab.data.degradations.blurs import AnisotropicGaussianBlur, GaussianBlur, MotionBlur
from faig_lab.data.degradations.downsample import Downsample
from faig_lab.data.degradations.jpeg import JPEG
from faig_lab.data.degradations.noises import GaussianNoise, PoissonNoise
from faig_lab.data.degradations.pipeline import CLEAN, Degradation, Part, sample_rng
from faig_lab.data.div2k import Archive, Div2k
from faig_lab.data.paired import PairedFolders
from faig_lab.data.patches import Batch, PatchDataset, StepSampler, cut, degrade, patch_loader, suffered
from faig_lab.data.photographs import Photograph
from faig_lab.data.sources import EmbeddedPhotographs, FolderPhotographs
from faig_lab.data.study import PairedImage, StudyData

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
