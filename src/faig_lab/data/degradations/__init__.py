"""Degradations: the steps from HR to LR (method.md §2).

HR patch with a margin ─ parts of domain "hr" (blurs) ─► downsample ─► parts of domain "lr" (noises, JPEG) ─► 8 bits.
Every step works on a batch on the batch's device. Randomness comes from one NumPy generator per sample, so a degraded
sample is the same in any batch and for any number of workers or ranks. A severity is a number, or a range [low, high]
from which each sample draws its value.
"""

from faig_lab.data.degradations.blurs import AnisotropicGaussianBlur, GaussianBlur, MotionBlur
from faig_lab.data.degradations.noises import JPEG, GaussianNoise, PoissonNoise
from faig_lab.data.degradations.pipeline import CLEAN, Degradation, Downsample, Part, sample_rng

__all__ = [
    "CLEAN",
    "JPEG",
    "AnisotropicGaussianBlur",
    "Degradation",
    "Downsample",
    "GaussianBlur",
    "GaussianNoise",
    "MotionBlur",
    "Part",
    "PoissonNoise",
    "sample_rng",
]
