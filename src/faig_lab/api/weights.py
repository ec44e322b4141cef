"""Read, write, mask and modulate the weights of a network, and check weights and images given as tensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from faig_lab.config.messages import suggest
from faig_lab.errors import UserError
from faig_lab.files import weights_file
from faig_lab.filters import FilterLayout, State, as_stored, interventions, objection
from faig_lab.filters import load_weights as read_weights
from faig_lab.filters import save_weights as write_weights
from faig_lab.runs.folder import versions

Weights = State | nn.Module
"""A state, or a network, whose state is used."""

Images = Tensor | Sequence[Tensor]
"""(N, 3, H, W), (3, H, W), or a list of (3, H, W) of any sizes; values in [0, 1]."""

_BRIGHTEST = 2.0  # noisy values can lie outside of [0, 1]; larger values than this are grey levels


def mask(
    target: Weights, baseline: Weights, layout: FilterLayout, filters: Tensor | Sequence[int]
) -> dict[str, Tensor]:
    """Set filters of the target back to the baseline's values. Everything else, biases included, stays the target's.

    Args:
        target: θ.
        baseline: θ̄.
        layout: `FilterLayout.of(network)`.
        filters: flat indices.

    Raises:
        UserError: a layer is missing or has another shape, or an index is not in the layout.
    """
    states = _fitting(target, baseline, layout)
    return interventions.mask(*states, layout, _indices(filters, layout))


def modulate(
    target: Weights, baseline: Weights, layout: FilterLayout, filters: Tensor | Sequence[int], strength: float
) -> dict[str, Tensor]:
    """Set filters to θ̄ + λ(θ − θ̄) with λ = `strength`: 0 is masked, 1 is the target, more exaggerates the function.

    Arguments and errors are those of `mask`. A strength that is not finite is also refused.
    """
    states = _fitting(target, baseline, layout)
    try:
        return interventions.modulate(*states, layout, _indices(filters, layout), strength)
    except ValueError as error:
        raise UserError(f"strength: {error}") from error


def load_weights(path: str | Path, network: nn.Module) -> dict[str, Tensor]:
    """Read the weights of `network` from our files, safetensors, or a checkpoint of other training code.

    `package:NAME` names a file that faig_lab ships. Averaged weights (`params_ema`, `ema`, …) are preferred. Prefixes
    of wrappers are removed, and the names of ESRGAN's old files and of BSRGAN are recognised (docs/own_weights.md). No
    code in a file is executed. The network is not changed.

    Raises:
        UserError: the file does not exist, holds no weights, or holds weights of another network.
    """
    return read_weights(weights_file(path), network)


def save_weights(path: str | Path, weights: Weights, about: Mapping[str, Any] | None = None) -> None:
    """Write weights, and a `.yaml` beside them that describes them.

    Args:
        path: the file. `.pt` is a flat dict of tensors, `.pth` is the authors' format, `.safetensors` is safetensors.
        weights: the weights to write.
        about: plain data for the `.yaml`, e.g. network and scale.

    Raises:
        UserError: the path has another suffix.
    """
    write_weights(Path(path).expanduser(), _plain(weights), {**(about or {}), "versions": versions()})


def choice(name: str, choices: Sequence[str], argument: str) -> str:
    """Return `name` if it is one of the choices. Otherwise raise UserError, which names the argument."""
    if name not in choices:
        raise UserError(f"{argument}: there is no {name}; {suggest(name, choices)}")
    return name


def state_of(weights: Weights, network: nn.Module, argument: str) -> dict[str, Tensor]:
    """Return a copy of the weights in the order of the network's state dict.

    Raises:
        UserError: a tensor is missing, unknown, or has another shape or type than the network's. `argument` is named.
    """
    given = _plain(weights)
    expected = network.state_dict()
    kind = type(network).__name__
    for name in given:
        if name not in expected:
            raise UserError(f"{argument}: {name} is no parameter of this {kind}; {suggest(name, expected)}")
    for name, value in expected.items():
        if name not in given:
            raise UserError(f"{argument}: {name} of this {kind} is missing")
        fault = objection(given[name], value.dtype)
        if fault is not None:
            raise UserError(f"{argument}: {name} {fault}")
        if given[name].shape != value.shape:
            raise UserError(
                f"{argument}: {name} is {tuple(given[name].shape)}, but {tuple(value.shape)} in this {kind}; check its "
                "scale and size"
            )
    # Contiguous, since the memory format affects the last bits of a convolution.
    state = {name: as_stored(given[name].detach(), value.dtype) for name, value in expected.items()}
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}


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


def _plain(weights: Weights) -> State:
    """Return the state of a network, or the state itself."""
    return weights.state_dict() if isinstance(weights, nn.Module) else weights


def _fitting(target: Weights, baseline: Weights, layout: FilterLayout) -> tuple[State, State]:
    """Return both states. Raise UserError if a layer of the layout is missing or different in a state."""
    states = _plain(target), _plain(baseline)
    for argument, state in zip(("target", "baseline"), states, strict=True):
        for layer in layout.layers:
            value = state.get(layer.name)
            fault = None if value is None else objection(value, torch.float64)
            if fault is not None:
                raise UserError(f"{argument}: {layer.name} {fault}")
            shape = None if value is None else tuple(value.shape)
            if shape != layer.shape:
                raise UserError(f"{argument}: {layer.name} is {shape or 'missing'}, but {layer.shape} in the layout")
    return states


def _indices(filters: Tensor | Sequence[int], layout: FilterLayout) -> Tensor:
    """Return flat indices as a tensor. Raise UserError if the layout does not have all of them."""
    chosen = torch.as_tensor(filters)
    if chosen.numel() == 0:
        return torch.empty(0, dtype=torch.long)
    if chosen.ndim != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool:
        raise UserError(f"filters: expected flat indices (n,), not {chosen.dtype} of shape {tuple(chosen.shape)}")
    low, high = int(chosen.min()), int(chosen.max())
    if low < 0 or high >= len(layout):
        raise UserError(f"filters: {low if low < 0 else high} is not in the layout; it has 0..{len(layout) - 1}")
    return chosen.long().cpu()
