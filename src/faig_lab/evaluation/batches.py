"""Functions of many images, computed in batches of images of one size."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from faig_lab.metrics import batches


def measure(function: Callable[..., Iterable[Tensor]], *images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Measure every image on a device.

    Args:
        function: batches (n, …) of images, one for each list → (n,) for each measure.
        images: lists of images (…, H, W) of one length, at least 1. Their sizes may be mixed, and the lists may be on
            different devices. Images at one position belong together and have one height and width.
        device: where the function computes.

    Returns:
        (images,) of each measure, on the CPU.
    """
    order: list[int] = []
    parts: list[list[Tensor]] = []
    for positions, stacks in _stacks(images, device):
        order += positions
        parts.append([values.cpu() for values in function(*stacks)])
    back = torch.tensor(order).argsort()
    return [torch.cat(values)[back] for values in zip(*parts, strict=True)]


def convert(function: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> list[Tensor]:
    """Convert every image on the device of the images.

    Args:
        function: batch (n, …) of images → the converted images (n, …).
        images: (…, H, W) each, on one device. Their sizes may be mixed.

    Returns:
        The converted images in the order of `images`.
    """
    converted: dict[int, Tensor] = {}
    for positions, (stack,) in _stacks([images], images[0].device) if images else ():
        converted.update(zip(positions, function(stack), strict=True))
    return [converted[i] for i in range(len(images))]


def _stacks(images: Sequence[Sequence[Tensor]], device: torch.device) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Yield the positions of a batch, and its images of every list as one tensor on the device."""
    shapes = [image.shape for image in images[-1]]
    if wrong := [len(each) for each in images if len(each) != len(shapes)]:
        raise ValueError(f"{wrong[0]} images, not {len(shapes)}")
    for positions in batches(shapes, device):
        yield positions, [_stack([each[i] for i in positions]).to(device) for each in images]


def _stack(images: Sequence[Tensor]) -> Tensor:
    """Stack images of one size in one order of memory, so that sums round alike in batches of any number."""
    return torch.stack(list(images)) if len(images) > 1 else images[0][None].contiguous()
