"""The unsharp mask with which Real-ESRGAN sharpens its ground truth."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_REACH = 25
"""Half of the kernel of 51 pixels, which Real-ESRGAN's radius of 50 becomes."""
_SIGMA = 8.0
"""HR pixels; what cv2.getGaussianKernel(51, 0) takes: 0.3 · (25 − 1) + 0.8."""
_WEIGHT = 0.5
_THRESHOLD = 10 / 255


def sharpened(images: Tensor) -> Tensor:
    """Return images sharpened by Real-ESRGAN's unsharp mask (`USMSharp`, Wang et al., ICCVW 2021).

    With G the Gaussian blur of σ = 8 HR pixels in 51 taps, the sharpened image is s = clip(x + ½ (x − Gx), 0, 1). The
    soft mask m = G[|x − Gx| > 10/255] selects edges: the result is m s + (1 − m) x. Each channel has its own mask.

    Args:
        images: (N, C, H, W) in [0, 1]; the border is reflected, as often as a small image needs it.

    Returns:
        The same shape, in [0, 1].
    """
    residual = images - _blurred(images)
    soft_mask = _blurred((residual.abs() > _THRESHOLD).to(images.dtype))
    sharp = (images + _WEIGHT * residual).clamp(0, 1)
    return soft_mask * sharp + (1 - soft_mask) * images


def _blurred(images: Tensor) -> Tensor:
    """Blur (N, C, H, W) by the Gaussian, row by row and column by column."""
    place = torch.arange(-_REACH, _REACH + 1, device=images.device, dtype=torch.float32).to(images.dtype)
    kernel = torch.exp(-place.square() / (2 * _SIGMA**2))
    kernel = kernel / kernel.sum()
    count, channels, height, width = images.shape
    rows, columns = (torch.from_numpy(_reflected(length)).to(images.device) for length in (height, width))
    flat = images.reshape(count * channels, 1, height, width)
    flat = F.conv2d(flat[:, :, rows], kernel[None, None, :, None])
    flat = F.conv2d(flat[..., columns], kernel[None, None, None, :])
    return flat.reshape(images.shape)


def _reflected(length: int) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    """Return the indices of a line that is reflected at both ends, without repeating the border pixel."""
    index = np.arange(length, dtype=np.intp)
    return np.pad(index, _REACH, mode="reflect" if length > 1 else "edge")
