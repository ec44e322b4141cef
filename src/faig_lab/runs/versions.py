"""Versions of what the numbers depend on."""

import platform
from importlib.metadata import version

import torch

import faig_lab


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("pytorch-lightning", "kornia", "torchmetrics", "numpy")
    return {
        "python": platform.python_version(),
        "faig_lab": faig_lab.__version__,
        "torch": str(torch.__version__),
        **{p: version(p) for p in packages},
    }
