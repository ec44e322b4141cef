"""Measures of an output, pure functions of images: PSNR, SSIM, gradient maps, isolation, removed share.

Isolation measures how close a masked network is to the ideal edit (method.md §9). The ideal edit gives the baseline's
output on the masked degradation D, and the target's output on every other input. All formulas of isolation need only
three sums over pixels and channels for each input, with the outputs y_b of the baseline, y_t of the target and y_m of
the masked network clipped to [0, 1]:

    energy = Σ ‖y_t − y_b‖²        along = Σ ⟨y_m − y_t, y_b − y_t⟩        moved = Σ ‖y_m − y_t‖²

The sums add up over images, so the numbers of any set of images come from the sums of the images. The functions of
sums accept NumPy arrays and tensors alike, and tensors keep their gradients.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from faig_lab.data import PairedImage
from faig_lab.filters import State, evaluate, first_floating

Numbers = TypeVar("Numbers", Tensor, NDArray[np.float64])

PSNR_CEILING = 100.0
"""dB reported for a perfect image."""

SSIM_WINDOW = 11
"""Side of SSIM's window in pixels. An image without its border must be at least as large."""

METRICS = ("psnr", "psnr_y", "ssim")
"""The measures of `quality`: PSNR on RGB (dB), PSNR on Y (dB), SSIM on Y."""

CPU = torch.device("cpu")

_CPU_PIXELS = 2**17
"""HR pixels computed at once on a CPU. 2**18 is 15 % slower, since it does not fit into the caches."""

_GPU_PIXELS = 2**22
"""HR pixels computed at once on a GPU: some gigabytes for a network of 64 channels."""


def gradient_map(images: Tensor) -> Tensor:
    """Compute the gradient magnitude of the grey image: central differences with zero padding, √(dx² + dy² + 1e-6).

    Args:
        images: (N, 3, H, W) RGB in [0, 1].

    Returns:
        (N, 1, H, W). Grey is the BT.601 luma 0.299 R + 0.587 G + 0.114 B; the authors' "grey" map is that of
        the blue channel (method.md §8).
    """
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = F.pad((images * weights).sum(1, keepdim=True), (1, 1, 1, 1))
    dx = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    dy = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    return (dx.square() + dy.square() + 1e-6).sqrt()


def map_difference(masked: Tensor, target: Tensor) -> Tensor:
    """Compute the output difference: the mean squared difference of the gradient maps, ×1000.

    Args:
        masked: `gradient_map` of the masked network's outputs (N, 1, H, W).
        target: `gradient_map` of the target's outputs, the same shape.

    Returns:
        (N,), 0 for equal outputs.
    """
    return (masked - target).square().mean((1, 2, 3)) * 1000


def as_image(output: Tensor) -> Tensor:
    """Clip a network's output to [0, 1] and round it to 8 bits."""
    return (output.float().clamp(0, 1) * 255).round() / 255


def luma(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) RGB in [0, 1] → (N, 1, H, W) BT.601 luma in [16/255, 235/255]."""
    weights = rgb.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return ((rgb * weights).sum(1, keepdim=True) + 16) / 255


def psnr(image: Tensor, hr: Tensor, border: int = 0) -> Tensor:
    """Compute the peak signal-to-noise ratio of each image, in dB.

    Args:
        image: (N, C, H, W) in [0, 1].
        hr: ground truth, the same shape.
        border: pixels left out on each side.

    Returns:
        (N,), at most PSNR_CEILING.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio  # imports SciPy: a second

    values = peak_signal_noise_ratio(
        _inside(image, border), _inside(hr, border), data_range=1.0, dim=(1, 2, 3), reduction="none"
    )
    return values.clamp_max(PSNR_CEILING)


def ssim(image: Tensor, hr: Tensor) -> Tensor:
    """Compute the structural similarity of each image (Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Proc. 2004).

    The window is an 11×11 Gaussian of σ = 1.5 with the sum 1, the constants are 0.01² and 0.03². The mean is taken over
    the places where the whole window lies inside the image, as in MATLAB's ssim, BasicSR and scikit-image.

    Args:
        image: (N, 1, H, W) in [0, 1].
        hr: ground truth, the same shape.

    Returns:
        (N,) in [−1, 1], in the precision of `image`; computed in double precision.

    Raises:
        ValueError: H or W is less than SSIM_WINDOW.
    """
    height, width = image.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW}×{SSIM_WINDOW} pixels, not {height}×{width}")
    a, b = image.double(), hr.double()
    offsets = torch.arange(SSIM_WINDOW, dtype=a.dtype, device=a.device) - SSIM_WINDOW // 2
    window = torch.softmax(-offsets.square() / (2 * 1.5**2), 0)
    moments = torch.cat([a, b, a * a, b * b, a * b])
    moments = F.conv2d(F.conv2d(moments, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    mean_a, mean_b, square_a, square_b, product = moments.chunk(5)
    variances, covariance = square_a - mean_a**2 + square_b - mean_b**2, product - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return similarity.mean((1, 2, 3)).to(image.dtype)


def quality(output: Tensor, hr: Tensor, border: int) -> dict[str, Tensor]:
    """Compute all METRICS for each output of a batch.

    Args:
        output: (N, 3, H, W) from a network, not clipped.
        hr: ground truth (N, 3, H, W) in [0, 1].
        border: pixels left out on each side, usually the scale.

    Returns:
        Each metric's name → (N,).
    """
    image = as_image(output)
    y, y_hr = _inside(luma(image), border), _inside(luma(hr), border)
    return {"psnr": psnr(image, hr, border), "psnr_y": psnr(y, y_hr), "ssim": ssim(y, y_hr)}


def bicubic(lr: Tensor, scale: int) -> Tensor:
    """Upscale by bicubic interpolation, the reference for a network.

    The kernel is Keys' with a = −0.5, as in MATLAB's imresize and in Pillow. Torch uses a = −0.5 with antialiasing and
    a = −0.75 without; antialiasing changes nothing else when an image is upscaled. At the border the weights of the
    kernel inside the image are normalised, as in Pillow. MATLAB mirrors the image at the border.

    Args:
        lr: (N, 3, H, W).
        scale: factor, > 0.

    Returns:
        (N, 3, scale·H, scale·W), not clipped.
    """
    if scale == 1:
        return lr
    return F.interpolate(lr, scale_factor=float(scale), mode="bicubic", align_corners=False, antialias=True)


@torch.no_grad()
def restore(
    network: nn.Module,
    state: State,
    images: Sequence[PairedImage],
    degradation: str,
    autocast: torch.dtype | None = None,
    *,
    device: torch.device = CPU,
) -> list[Tensor]:
    """Restore one LR of every image with given weights. Images of the same size are restored in batches.

    Args:
        network: the module; its own weights do not matter.
        state: weights to use, on the device to compute on.
        images: paired images.
        degradation: key of the LR in each image's `lr`.
        autocast: lower precision for the network's operations, or None.
        device: where the outputs are stored. The network computes on the device of the weights.

    Returns:
        Raw outputs (3, sH, sW) in the order of `images`, on `device`.
    """
    reference = first_floating(state.values())
    outputs: dict[int, Tensor] = {}
    shapes = [(*image.lr[degradation].shape, *image.hr.shape) for image in images]
    for positions in batches(shapes, reference.device):
        batch = torch.stack([images[i].lr[degradation] for i in positions]).to(reference)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast(reference.device.type, autocast, enabled=autocast is not None):
            result = evaluate(network, state, batch).to(reference.dtype).to(device)
        outputs.update(zip(positions, result, strict=True))
    return [outputs[i] for i in range(len(images))]


def batches(shapes: Iterable[tuple[int, ...]], device: torch.device) -> Iterator[list[int]]:
    """Divide images into batches of one shape that fit into a CPU's caches or a GPU's memory.

    Args:
        shapes: the shape of each image. The last two numbers are height and width in HR pixels.
        device: where a batch is computed.

    Yields:
        The positions of the images of a batch, ascending.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for position, shape in enumerate(shapes):
        groups.setdefault(tuple(shape), []).append(position)
    most = _CPU_PIXELS if device.type == "cpu" else _GPU_PIXELS
    for (*_, height, width), group in groups.items():
        at_once = max(1, most // (height * width))
        yield from (group[start : start + at_once] for start in range(0, len(group), at_once))


def _inside(image: Tensor, border: int) -> Tensor:
    """Return the image without its border."""
    return image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]


class EditSums(NamedTuple, Generic[Numbers]):
    """The three sums of one input, for one image or for any number of images added up.

    Attributes:
        energy: Σ ‖y_t − y_b‖², the energy of the difference between target and baseline.
        along: Σ ⟨y_m − y_t, y_b − y_t⟩, the movement in the direction of the baseline.
        moved: Σ ‖y_m − y_t‖², the whole movement.
    """

    energy: Numbers
    along: Numbers
    moved: Numbers


def edit_sums(masked: Tensor, baseline: Tensor, target: Tensor) -> EditSums[Tensor]:
    """Compute the three sums of one input for each image.

    Args:
        masked: (N, C, H, W) output of the masked network, not clipped.
        baseline: output of the baseline, the same shape.
        target: output of the target, the same shape.

    Returns:
        (N,) float64 for each sum.
    """
    y_m, y_b, y_t = (output.clamp(0, 1).double().flatten(1) for output in (masked, baseline, target))
    edit, ideal = y_m - y_t, y_b - y_t
    return EditSums(ideal.square().sum(1), (edit * ideal).sum(1), edit.square().sum(1))


def back(sums: EditSums[Numbers]) -> Numbers:
    """Compute how far the output moved back to the baseline: 0 is the target's output, 1 is the baseline's."""
    return sums.along / sums.energy


def off(sums: EditSums[Numbers]) -> Numbers:
    """Compute the movement orthogonal to target − baseline, ≥ 0: squared, in units of the input's own energy."""
    return (sums.moved - sums.along * sums.along / sums.energy) / sums.energy


def side(other: EditSums[Numbers], own: EditSums[Numbers]) -> Numbers:
    """Compute the movement on an input that should not change, in units of the energy of the masked degradation."""
    return other.moved / own.energy


def isolation(
    own: EditSums[Numbers], others: Sequence[EditSums[Numbers]], clean: EditSums[Numbers] | None = None
) -> Numbers:
    """Compute 1 − [Σ ‖y_m − y_b‖² / E_D + mean side effect on the other degradations + side effect on clean input].

    The unchanged target gives exactly 0, the ideal edit exactly 1, and a broken network a negative number.

    Args:
        own: sums on the masked degradation D; its energy must not be 0.
        others: sums on each of the other degradations; their side effects are averaged.
        clean: sums on clean input; None if there is no clean input.
    """
    # Σ ‖y_m − y_b‖² = moved − 2 along + energy: with this form an unchanged network gives 0 to the last bit.
    result = (2 * own.along - own.moved) / own.energy
    if others:
        result = result - sum(side(other, own) for other in others) / len(others)
    return result if clean is None else result - side(clean, own)


def removed_share(target: float, masked: float, baseline: float) -> float | None:
    """Compute R = (PSNR(target) − PSNR(masked)) / (PSNR(target) − PSNR(baseline)); 0 = untouched, 1 = removed.

    Returns:
        The share; None where target and baseline restore equally well, so that there is nothing to remove.
    """
    gain = target - baseline
    return (target - masked) / gain if abs(gain) > 1e-6 else None


def clipped(share: float | None) -> float | None:
    """Clip a removed share to [0, 1], as every mean takes it; None where the share is not defined."""
    return None if share is None else min(max(share, 0.0), 1.0)
