"""What the field does: the published attribution, and training as common super-resolution trainers do it.

Nothing here uses faig_lab's code for either, beside the network's class and the order of the filters.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from faig_lab.data import PairedImage
from faig_lab.data.images import Pixels
from faig_lab.filters import FilterLayout, State, first_floating


def scores(
    build: Callable[[], nn.Module],
    baseline: State,
    target: State,
    probe: Sequence[PairedImage],
    degradations: Sequence[str],
    layout: FilterLayout,
    points: int,
) -> Tensor:
    """(K, F) discriminative scores as the published scripts compute them, one script for each degradation.

    Each takes the images with its own degradation and with the others, so every integral is computed by each of them.
    """
    device = first_floating(target.values()).device
    found = []
    for own in degradations:
        total = torch.zeros(len(layout), dtype=torch.float64)
        for image in probe:
            hr, others = image.hr[None].to(device), [name for name in degradations if name != own]
            total += single(build, baseline, target, image.lr[own][None].to(device), hr, layout, points)
            for other in others:
                lr = image.lr[other][None].to(device)
                total -= single(build, baseline, target, lr, hr, layout, points) / len(others)
        found.append(total / len(probe))
    return torch.stack(found)


def single(
    build: Callable[[], nn.Module],
    baseline: State,
    target: State,
    lr: Tensor,
    hr: Tensor,
    layout: FilterLayout,
    points: int,
) -> Tensor:
    """(F,) FAIG of one input: from the target on, at each point a network is built and loaded."""
    names = [layer.name for layer in layout.layers]
    total = {name: torch.zeros_like(target[name]) for name in names}
    for k in range(points):
        share = k / points
        network = build()
        network.load_state_dict({n: share * baseline[n] + (1 - share) * target[n] for n in target})
        network = network.to(lr.device)
        network.zero_grad()
        nn.functional.mse_loss(network(lr), hr, reduction="sum").backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        for name in names:
            gradient = gradients[name]
            assert gradient is not None
            total[name] += gradient
    attributions = {name: (total[name] * (target[name] - baseline[name]) / points).abs() for name in names}
    return layout.gather(attributions).double().cpu()


class WholeImages(Dataset[tuple[Tensor, Tensor]]):
    """Degrade a whole photograph with OpenCV, then crop: the common way.

    The photographs are in memory, decoded; common trainers decode the file for every sample.

    Args:
        photographs: (H, W, 3), uint8.
        patch: HR pixels.
        length: samples.
    """

    def __init__(self, photographs: Sequence[Pixels], patch: int, length: int) -> None:
        self.photographs, self.patch, self.length = photographs, patch, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import cv2

        random = np.random.default_rng(index)
        hr = self.photographs[int(random.integers(len(self.photographs)))].astype(np.float32) / 255
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


def train(network: nn.Module, images: WholeImages, batch: int, workers: int) -> list[float]:
    """Train in float32 and NCHW with Adam and averaged weights; when each step ended, on `time.perf_counter`."""
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.9, 0.99))
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    ends = []
    # Forked, OpenCV's threads would be waited for in a process that does not have them.
    context = "spawn" if workers else None
    for lr, hr in DataLoader(images, batch_size=batch, num_workers=workers, multiprocessing_context=context):
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(network(lr.to(device)), hr.to(device))
        loss.backward()
        optimizer.step()
        for name, value in network.named_parameters():
            average[name].mul_(0.999).add_(value.detach(), alpha=0.001)
        loss.item()  # for the log
        ends.append(time.perf_counter())
    return ends
