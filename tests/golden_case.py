"""The small golden case of tests/golden as tensors."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from faig_lab.data import PairedImage
from faig_lab.data.photographs import embedded_photographs
from faig_lab.filters import load_weights
from faig_lab.networks import SRResNet

FOLDER = Path(__file__).parent / "golden"
NAMES = ("astronaut", "chelsea", "coffee", "rocket")
DEGRADATIONS = ("blur", "noise")


def network() -> SRResNet:
    """The architecture of the golden pair."""
    return SRResNet(scale=2, features=16, blocks=2)


def states(dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Baseline and target."""
    pair = [load_weights(FOLDER / f"{name}.pth", network()) for name in ("baseline", "target")]
    baseline, target = ({n: v.to(dtype) for n, v in state.items()} for state in pair)
    return baseline, target


@cache
def probe() -> tuple[PairedImage, ...]:
    """The four images in [0, 1], in single precision as images are read."""
    photographs = {p.name: p for side in ("train", "probe", "held_out") for p in embedded_photographs(side)}
    images = []
    with np.load(FOLDER / "inputs.npz") as stored:
        for name in NAMES:
            top, left, height, width = stored[f"{name}/place"]
            pixels = photographs[name].pixels[top : top + height, left : left + width].copy()
            hr = torch.from_numpy(pixels).permute(2, 0, 1).float()
            mean = torch.floor(F.avg_pool2d(hr, 2) + 0.5)
            lr = {
                kind: (mean + torch.from_numpy(stored[f"{name}/{kind}"].astype(np.float32)).permute(2, 0, 1)) / 255
                for kind in ("clean", *DEGRADATIONS)
            }
            images.append(PairedImage(name, hr / 255, lr))
    return tuple(images)


def golden(key: str) -> np.ndarray:
    """One array of the reference values."""
    with np.load(FOLDER / "scores_float64.npz") as scores:
        return scores[key]
