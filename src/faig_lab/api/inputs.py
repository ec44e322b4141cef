"""Images as tensors → the probe that attribution works on."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from faig_lab.data import CLEAN, Degradation, Downsample, PairedImage
from faig_lab.data.patches import cut
from faig_lab.errors import UserError

Images = Tensor | Sequence[Tensor]
"""(N, 3, H, W), (3, H, W), or a list of (3, H, W) whose sizes differ; values in [0, 1]."""

_BRIGHTEST = 2.0  # noise may leave [0, 1]; what is beyond this is in grey levels


def probe_of(images: Mapping[str, tuple[Images, Images]]) -> tuple[tuple[PairedImage, ...], tuple[str, ...]]:
    """The paired images, and the degradations among their inputs."""
    degradations = tuple(name for name in images if name != CLEAN)
    if not degradations:
        raise UserError('images: no degradation given; expected e.g. {"blur": (lr, hr), "noise": (lr, hr)}')
    pairs = {name: [checked_images(part, f"images[{name!r}]") for part in pair] for name, pair in images.items()}
    truth = pairs[degradations[0]][1]
    for name, (lr, hr) in pairs.items():
        if len(hr) != len(truth) or not all(map(torch.equal, hr, truth)):
            raise UserError(f"images[{name!r}]: its HR images are not those of {degradations[0]!r}, in the same order")
        if len(lr) != len(hr):
            raise UserError(f"images[{name!r}]: {len(lr)} LR images for {len(hr)} HR images")
    inputs = {name: lr for name, (lr, _) in pairs.items()}
    if CLEAN not in inputs:
        scales = [hr.shape[-2] // lr.shape[-2] for lr, hr in zip(inputs[degradations[0]], truth, strict=True)]
        inputs[CLEAN] = [_downsampled(hr, scale) for hr, scale in zip(truth, scales, strict=True)]
    try:
        probe = [
            PairedImage(f"image {i}", hr, {name: lr[i] for name, lr in inputs.items()}) for i, hr in enumerate(truth)
        ]
    except ValueError as error:
        raise UserError(f"images: {error}") from error
    return tuple(probe), degradations


def _downsampled(hr: Tensor, scale: int) -> Tensor:
    """HR, only downsampled and rounded to 8 bits, as the command line does it; of no use where sizes do not fit."""
    if scale < 1:
        return hr
    degradation = Degradation({}, Downsample(), scale)
    padded = cut(hr.movedim(0, -1).numpy(), 0, 0, (hr.shape[-2], hr.shape[-1]), degradation.margin)
    return degradation.apply(torch.from_numpy(padded).movedim(-1, 0)[None], [frozenset()], [])[0]


def checked_images(given: Images, what: str) -> list[Tensor]:
    """Check images and return them as (3, H, W) on the CPU: float64 if they are given so, else float32.

    Args:
        given: (N, 3, H, W), (3, H, W) or a list of (3, H, W) in [0, 1].
        what: where they stand, for messages.

    Raises:
        UserError: there is none, or one has another shape, type or range.
    """
    images = list(given if not isinstance(given, Tensor) or given.ndim == 4 else given[None])
    if not images:
        raise UserError(f"{what}: there is no image")
    for image in images:
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise UserError(f"{what}: expected (N, 3, H, W) or (3, H, W), not {shape}")
        if not image.is_floating_point() or not image.abs().max() <= _BRIGHTEST:
            raise UserError(
                f"{what}: expected floating values in [0, 1], not {image.dtype} up to {float(image.max()):g}"
            )
    return [image.detach().cpu().to(torch.promote_types(image.dtype, torch.float32)) for image in images]
