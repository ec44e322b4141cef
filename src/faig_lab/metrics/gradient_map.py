"""The authors' measure of what masking changes: the difference of gradient maps (method.md §5)."""

import torch.nn.functional as F
from torch import Tensor


def gradient_map(images: Tensor) -> Tensor:
    """Gradient magnitude of the grey image: central differences with zero padding, √(dx² + dy² + 1e-6).

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


def output_difference(masked: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the gradient maps, ×1000.

    Args:
        masked: output of the masked network (N, 3, H, W), in [0, 1].
        target: output of the target, the same shape.

    Returns:
        (N,), 0 for equal outputs.
    """
    return map_difference(gradient_map(masked), gradient_map(target))


def map_difference(masked: Tensor, target: Tensor) -> Tensor:
    """`output_difference` of two gradient maps (N, 1, H, W)."""
    return (masked - target).square().mean((1, 2, 3)) * 1000
