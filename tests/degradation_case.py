"""Every kind of degradation, with fixed severities and with ranges, and generators for samples."""

from typing import Any

import numpy as np

from faig_lab.data import (
    JPEG,
    AnisotropicGaussianBlur,
    Composed,
    GaussianBlur,
    GaussianNoise,
    MotionBlur,
    PoissonNoise,
    Resize,
    Sinc,
    sample_rng,
)

SEVERITIES = ("sigma", "sigma_x", "sigma_y", "length", "cutoff", "factor", "peak", "quality", "shift")
CLEAN, BLUR, NOISE = frozenset[str](), frozenset({"blur"}), frozenset({"noise"})
BOTH = BLUR | NOISE

HR_NOISE = GaussianNoise(sigma=0.1, domain="hr")
HR_BLUR = GaussianBlur(sigma=1.5, kernel_size=9)
BLURS: list[Any] = [
    HR_BLUR,
    GaussianBlur(sigma=(0.5, 3.0), kernel_size=9),
    AnisotropicGaussianBlur(sigma_x=2.5, sigma_y=0.7, kernel_size=9),
    AnisotropicGaussianBlur(sigma_x=(1, 3), sigma_y=(0.5, 1), angle=(20, 60), kernel_size=9),
    MotionBlur(length=9),
    MotionBlur(length=(3, 9), angle=30.0),
]
"""Kernels of 9×9."""
LINEAR: list[Any] = [
    Sinc(cutoff=1.2, kernel_size=9),
    Sinc(cutoff=(1.05, 3.14), kernel_size=13, domain="lr"),
    Resize(),
    Resize(factor=(0.3, 1.5), enlarged=0.5, antialias=False, domain="lr"),
    Resize(factor=0.5, kernels=["bicubic"]),
]
"""Other linear filters; their results are clipped to [0, 1]."""
PARTS: list[Any] = [
    *BLURS,
    *LINEAR,
    GaussianNoise(sigma=0.1),
    GaussianNoise(sigma=(0.05, 0.2)),
    GaussianNoise(sigma=(0.05, 0.2), grey=0.5),
    PoissonNoise(peak=30),
    PoissonNoise(peak=(10, 100)),
    PoissonNoise(peak=(10, 100), grey=0.5),
    JPEG(quality=40),
    JPEG(quality=(5, 95)),
    JPEG(quality=(30, 95), shift=(0, 15)),
    JPEG(quality=40, domain="hr"),
    Composed({"a": HR_BLUR, "b": HR_NOISE}),
    Composed({"a": HR_BLUR, "b": HR_NOISE}, choose="one"),
]
RANGED: list[Any] = [part for part in PARTS if any(isinstance(vars(part).get(name), tuple) for name in SEVERITIES)]
"""Parts whose severity differs between samples."""


def generators(count: int, stream: str = "test", seed: int = 3) -> list[np.random.Generator]:
    """The generators of samples 0 … count − 1."""
    return [sample_rng(seed, stream, number) for number in range(count)]
