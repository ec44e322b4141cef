"""Checks of images given as tensors, and the isolation of any weights on such images (method.md §9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from faig_lab.api.weights import choice
from faig_lab.data import CLEAN, Degradation, Downsample, PairedImage
from faig_lab.data.patches import cut
from faig_lab.errors import UserError
from faig_lab.filters import State, evaluate, first_floating
from faig_lab.metrics import EditSums, back, edit_sums, isolation, off, side

Images = Tensor | Sequence[Tensor]
"""(N, 3, H, W), (3, H, W), or a list of (3, H, W) of any sizes; values in [0, 1]."""

_BRIGHTEST = 2.0  # noisy values can lie outside of [0, 1]; larger values than this are grey levels


def probe_of(images: Mapping[str, tuple[Images, Images]]) -> tuple[tuple[PairedImage, ...], tuple[str, ...]]:
    """Return the paired images, and the names of the inputs that are degradations.

    Raises:
        UserError: there is no degradation, or images have another type, shape, number or range than expected.
    """
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
    """Return HR downsampled and rounded to 8 bits, like clean input of the command line; HR itself for scale < 1."""
    if scale < 1:
        return hr
    degradation = Degradation({}, Downsample(), scale)
    padded = cut(hr.movedim(0, -1).numpy(), 0, 0, (hr.shape[-2], hr.shape[-1]), degradation.margin)
    return degradation.apply(torch.from_numpy(padded).movedim(-1, 0)[None], [frozenset()], [])[0]


def checked_images(given: Images, argument: str) -> list[Tensor]:
    """Check images and return them as (3, H, W) on the CPU, in float64 if they are float64 and else in float32.

    Args:
        given: (N, 3, H, W), (3, H, W) or a list of (3, H, W) in [0, 1].
        argument: the name of the images in errors.

    Raises:
        UserError: there is no image, or an image has another shape, type or range.
    """
    images = list(given if not isinstance(given, Tensor) or given.ndim == 4 else given[None])
    if not images:
        raise UserError(f"{argument}: there is no image")
    for image in images:
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise UserError(f"{argument}: expected (N, 3, H, W) or (3, H, W), not {shape}")
        if not image.is_floating_point() or not image.abs().max() <= _BRIGHTEST:
            raise UserError(
                f"{argument}: expected floating values in [0, 1], not {image.dtype} up to {float(image.max()):g}"
            )
    return [image.detach().cpu().to(torch.promote_types(image.dtype, torch.float32)) for image in images]


@dataclass(frozen=True)
class Isolation:
    """The isolation of an edit and its parts.

    The parts are squared distances in units of the energy of the masked degradation, where nothing else is said.

    Attributes:
        isolation: 1 is the ideal edit, 0 is the unchanged target. Below 0 the edit is worse than no edit.
        own_left: distance to the baseline's output on the masked degradation; 0 if the function is gone.
        side_effects: input → movement away from the target, for every input except the masked degradation.
        back: input → movement to the baseline as a share: 0 is the target's output, 1 the baseline's. NaN if baseline
            and target have the same output on the input.
        off: input → movement orthogonal to target − baseline, in units of the input's own energy; NaN as for `back`.
    """

    isolation: float
    own_left: float
    side_effects: dict[str, float]
    back: dict[str, float]
    off: dict[str, float]


def isolation_of(
    network: nn.Module, *, baseline: State, target: State, masked: State, degradation: str, images: Mapping[str, Images]
) -> Isolation:
    """Compute the isolation of masked weights, pooled over all images, pixels and channels.

    Args:
        network: the module; its own weights do not matter.
        baseline: θ̄.
        target: θ. The computation uses its device.
        masked: the weights to evaluate.
        degradation: the masked degradation, a key of `images`.
        images: input → LR images in [0, 1]: the degradations, and `clean` if there is clean input. An input with a `+`
            in its name is mixed. It has `back`, `off` and a side effect, and is not part of the isolation.

    Raises:
        UserError: the images have no such degradation, an image does not fit, or baseline and target have the same
            output on the masked degradation.
    """
    choice(degradation, tuple(name for name in images if name != CLEAN and "+" not in name), "degradation")
    sums = {
        name: _sums(network, (masked, baseline, target), checked_images(given, f"images[{name!r}]"))
        for name, given in images.items()
    }
    own = sums[degradation]
    if not own.energy > 0:
        raise UserError(f"images[{degradation!r}]: baseline and target give the same output, so nothing can be removed")
    others = [sums[name] for name in sums if name not in (degradation, CLEAN) and "+" not in name]
    return Isolation(
        isolation=float(isolation(own, others, sums.get(CLEAN))),
        own_left=float((own.energy - 2 * own.along + own.moved) / own.energy),
        side_effects={name: float(side(total, own)) for name, total in sums.items() if name != degradation},
        back={name: float(back(total)) for name, total in sums.items()},
        off={name: float(off(total)) for name, total in sums.items()},
    )


@torch.no_grad()
def _sums(network: nn.Module, states: tuple[State, State, State], images: list[Tensor]) -> EditSums[Tensor]:
    """Return the sums over all images. The order of the states is masked, baseline, target."""
    reference = first_floating(states[2].values())
    placed = [{name: value.to(reference.device) for name, value in state.items()} for state in states]
    total = EditSums(*(torch.zeros((), dtype=torch.float64) for _ in EditSums._fields))
    for image in images:
        outputs = (evaluate(network, state, image[None].to(reference)) for state in placed)
        total = EditSums(*(a + b.sum().cpu() for a, b in zip(total, edit_sums(*outputs), strict=True)))
    return total
