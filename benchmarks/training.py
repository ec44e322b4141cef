"""Training steps a second against a plain loop, and what bfloat16 does to the quality.

    pip install opencv-python-headless        # only the plain loop needs it
    python benchmarks/training.py --csv training.csv

The plain loop is written as super-resolution trainers commonly are: the dataset degrades the whole photograph with
OpenCV and crops afterwards, the network computes in float32 and NCHW. Ours is the study's own training: crops first,
degraded as a batch with real pixels around them. Both train the full SRResNet on the embedded photographs with the
same batch and patch, in turns of some steps each, the first of which are not counted; data loading is part of a step.
`--quality N` also trains the small network for N steps in float32 and in bfloat16 and compares their PSNR.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from faig_lab.build import make, make_degradation, make_loop, make_module, make_network
from faig_lab.config import Settings, check, compose
from faig_lab.data import PatchDataset, StudyData
from faig_lab.training import Trained, fit

SETTINGS = ("experiment=blur_noise", "training.batch_size=16", "training.patch_size=64")
WARM_UP = 3


class WholeImages(Dataset[tuple[Tensor, Tensor]]):
    """Degrade a whole photograph with OpenCV, then crop: the common way."""

    def __init__(self, photographs: list[NDArray[np.uint8]], patch: int, length: int) -> None:
        self.photographs, self.patch, self.length = photographs, patch, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import cv2

        random = np.random.default_rng(index)
        hr = self.photographs[random.integers(len(self.photographs))].astype(np.float32) / 255
        hr = hr[: hr.shape[0] // 2 * 2, : hr.shape[1] // 2 * 2]
        lr = cv2.GaussianBlur(hr, (21, 21), 2.0) if random.random() < 0.5 else hr
        lr = cv2.resize(lr, (hr.shape[1] // 2, hr.shape[0] // 2), interpolation=cv2.INTER_CUBIC)
        if random.random() < 0.5:
            lr = lr + random.normal(0, 0.1, lr.shape).astype(np.float32)
        lr = np.round(np.clip(lr, 0, 1) * 255) / 255
        small = self.patch // 2
        top, left = (int(random.integers(side - small + 1)) for side in lr.shape[:2])
        hr = hr[2 * top : 2 * top + self.patch, 2 * left : 2 * left + self.patch]
        return _tensor(lr[top : top + small, left : left + small]), _tensor(hr)


def _tensor(pixels: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32))


class Clock(pl.Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *arguments: object, **more: object) -> None:
        self.ends.append(time.perf_counter())


def plain(settings: Settings, data: StudyData, steps: int, workers: int) -> list[float]:
    """Seconds of each step of the plain loop."""
    network = make_network(settings)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.9, 0.99))
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    size, patch = settings.training.batch_size, settings.training.patch_size
    images = WholeImages([photograph.pixels for photograph in data.train], patch, size * (steps + WARM_UP))
    ends = []
    for lr, hr in DataLoader(images, batch_size=size, num_workers=workers):
        optimizer.zero_grad()
        loss = (network(lr) - hr).abs().mean()
        loss.backward()
        optimizer.step()
        for name, value in network.named_parameters():
            average[name].mul_(0.999).add_(value.detach(), alpha=0.001)
        loss.item()
        ends.append(time.perf_counter())
    return _differences(ends)


def ours(settings: Settings, data: StudyData, steps: int) -> list[float]:
    """Seconds of each step of the study's own training."""
    clock = Clock()
    _train(settings, data, steps + WARM_UP, clock)
    return _differences(clock.ends)


def _train(settings: Settings, data: StudyData, steps: int, *callbacks: pl.Callback) -> Trained:
    degradation = make_degradation(settings)
    phase = settings.training.target.model_copy(update={"iterations": steps, "restart_every": steps})
    training = settings.training.model_copy(update={"target": phase, "validate_every": steps})
    settings = settings.model_copy(update={"training": training})
    patches = PatchDataset(data.train, training.patch_size, degradation.margin, settings.seed, "target")
    module = make_module(settings, "target", degradation, None)
    validation = data.probe if not callbacks else data.probe[:1]
    return fit(module, patches, validation, make_loop(settings), publish=lambda trained: None, callbacks=callbacks)


def _differences(ends: list[float]) -> list[float]:
    return [b - a for a, b in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]


def speed(steps: int, repeats: int, workers: int) -> Iterator[dict[str, object]]:
    """Steps a second of both, in turns."""
    settings = check(compose([*SETTINGS, "network=srresnet"]))
    single = check(compose([*SETTINGS, "network=srresnet", "trainer.precision=32-true"]))
    data = make(settings.data).load(make_degradation(settings), settings.seed)
    taken: dict[str, list[float]] = {"plain": [], "ours, float32": [], "ours": []}
    for _ in range(repeats):
        taken["plain"] += plain(settings, data, steps, workers)
        taken["ours, float32"] += ours(single, data, steps)
        taken["ours"] += ours(settings, data, steps)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    for name, value in medians.items():
        ratio = medians["plain"] / value
        yield {"what": name, "seconds a step": f"{value:.4f}", "ratio": f"{ratio:.2f}"}


def quality(steps: int) -> Iterator[dict[str, object]]:
    """Validation PSNR after equal steps in both precisions."""
    for precision in ("32-true", "auto"):
        settings = check(compose([*SETTINGS, f"trainer.precision={precision}"]))
        data = make(settings.data).load(make_degradation(settings), settings.seed)
        last = _train(settings, data, steps).history[-1]
        yield {"what": f"PSNR after {steps} steps, {precision}"} | {
            name: f"{value:.3f}" for name, value in last.items() if name.startswith("psnr/")
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="counted steps of a turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--workers", type=int, default=0, help="of the plain loop's loader")
    parser.add_argument("--quality", type=int, default=0, metavar="N", help="compare PSNR after N steps")
    parser.add_argument("--csv", type=Path)
    given = parser.parse_args()
    rows = []
    for row in [*speed(given.steps, given.repeats, given.workers), *(quality(given.quality) if given.quality else ())]:
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if given.csv is not None:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(k for row in rows for k in row)), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
