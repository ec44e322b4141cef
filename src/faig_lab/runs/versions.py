"""Versions of the packages on which the numbers depend."""

import platform
from importlib.metadata import version

import torch

import faig_lab


def versions() -> dict[str, str]:
    """Return the versions of the packages on which the numbers depend."""
    packages = ("pytorch-lightning", "kornia", "torchmetrics", "numpy")
    return {
        "python": platform.python_version(),
        "faig_lab": faig_lab.__version__,
        "torch": str(torch.__version__),
        **{p: version(p) for p in packages},
    }
