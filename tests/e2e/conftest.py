"""Photographs of a user's own."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def folders(tmp_path):
    """Folders train, probe and test, each with two photographs of 68×60."""
    rng = np.random.default_rng(0)
    for side in ("train", "probe", "test"):
        for name in ("a", "b"):
            path = tmp_path / side / f"{side}_{name}.png"
            path.parent.mkdir(exist_ok=True)
            coarse = rng.integers(0, 256, (15, 17, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((68, 60), Image.Resampling.BICUBIC).save(path)
    return tmp_path


@pytest.fixture
def photographs(folders):
    """Settings of the folders of photographs."""
    return ["data=folder", *(f"data.{side}_dir={folders / side}" for side in ("train", "probe", "test"))]
