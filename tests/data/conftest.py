from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from faig_lab.data import Degradation, Downsample, GaussianBlur, GaussianNoise

SaveImage = Callable[..., Path]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def images(rng: np.random.Generator) -> Tensor:
    """Four images of 40×36 random pixels."""
    return torch.from_numpy(rng.random((4, 3, 40, 36), dtype=np.float32))


@pytest.fixture
def degradation() -> Degradation:
    """Blur and noise at ×2, not quantised so that differences show."""
    parts = {"blur": GaussianBlur(sigma=1.0, kernel_size=7), "noise": GaussianNoise(sigma=0.1)}
    return Degradation(parts, Downsample(), scale=2, quantise=False)


@pytest.fixture
def save_image(rng: np.random.Generator) -> SaveImage:
    """Write a random photograph of (height, width), or the given pixels, and return its path."""

    def save(path: Path, height: int = 24, width: int = 32, pixels: NDArray[np.uint8] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return save
