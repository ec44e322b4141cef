"""Attribution of a pair of networks on tensors."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from faig_lab.api.results import Result
from faig_lab.api.weights import Images, Weights, checked_images, choice, state_of
from faig_lab.attribution import Adaptive, Compute, Method, Problem, Rule, quadrature
from faig_lab.attribution import attribute as score
from faig_lab.attribution.compute import PRECISIONS
from faig_lab.attribution.losses import SQUARED_ERROR, Loss, Truth
from faig_lab.attribution.methods import faig, signed_share
from faig_lab.attribution.weight_paths import PathSpec, train_middle
from faig_lab.data import CLEAN, Degradation, Downsample, PairedImage
from faig_lab.data.patches import cut
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, State, first_floating
from faig_lab.filters.trial import differentiable, try_gradient, try_output
from faig_lab.granularity import UNITS, Granularity

log = logging.getLogger(__name__)


def attribute(
    network: nn.Module,
    baseline: Weights,
    target: Weights,
    images: Mapping[str, tuple[Images, Images]],
    *,
    methods: Mapping[str, Method] | None = None,
    rule: Rule | Adaptive | None = None,
    granularity: Granularity = "filter",
    rank_others: bool = False,
    path: Literal["straight", "curve"] | Sequence[Weights] = "straight",
    loss: Loss = SQUARED_ERROR,
    truth: Truth = "ground_truth",
    precision: Literal["bfloat16", "float32", "float64"] = "float32",
    memory: float | None = 3.0,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """Score every filter of a network by what it contributes to removing each degradation (method.md §3).

    Args:
        network: maps LR (N, 3, H, W) to SR (N, 3, sH, sW), any whole s >= 1. The function works on a copy in evaluation
            mode; the network itself is not changed.
        baseline: θ̄, weights that upscale and remove no degradation.
        target: θ, the same network's weights after training on degraded input.
        images: degradation → (LR, HR). All degradations have the same HR images in the same order. An entry `clean` is
            no degradation, but the start of the path of the `ig` method. Without this entry, clean input is made by
            bicubic downsampling of HR.
        methods: name → function of a problem, e.g. `{"faig": faig_lab.methods.faig}`. The result uses the scores of the
            first method. None: FAIG and the signed share, which need only one pass together.
        rule: the quadrature, e.g. `faig_lab.quadrature("midpoint", 32)` or `faig_lab.Adaptive(65, 0.01, 1.0)`;
            None: Gauss–Legendre with 16 points.
        granularity: the unit that is scored: "filter" (a k×k slice), "weight", "output_channel", "input_channel",
            "head" (of an attention; in other layers an output channel) or "layer". The result has F units.
        rank_others: also score the parameters that are no kernels, e.g. biases.
        path: the path in weight space along which the loss gradient is integrated (method.md §10): the straight line, a
            curve whose middle point is trained on the images to keep the loss low, or straight pieces through the given
            states in order, e.g. weights saved during the training of the target. The rule applies to each piece.
        loss: a function of the output, a sum over pixels, e.g. `faig_lab.AbsoluteError()` or your own function.
        truth: the image that the output is compared with: "ground_truth", or "target" for the target's own output. Use
            "target" for networks that were not trained towards the ground truth (GANs, sharpened targets).
        precision: precision of the gradients; bfloat16 uses autocast.
        memory: approximate memory of one gradient evaluation in GB. Larger images are divided into tiles that overlap
            by the receptive field, with the same result. None: images are never divided.
        device: the device to compute on; None: the device of the target's weights.
        seed: seed of the methods that draw random numbers.
        progress: called with the name of each finished (image, degradation).

    Returns:
        Scores, shares, discovered filters and the completeness gap, with a warning if the gap is large.

    Raises:
        UserError: names, shapes or values do not fit. The message names the argument and what is expected.

    Example:
        >>> import torch, faig_lab
        >>> network = faig_lab.SRResNet(scale=2, features=4, blocks=1)
        >>> baseline = network.state_dict()
        >>> target = {name: 1.1 * value for name, value in baseline.items()}
        >>> hr, blurred, noisy = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
        >>> result = faig_lab.attribute(network, baseline, target, {"blur": (blurred, hr), "noise": (noisy, hr)})
        >>> len(result.layout), result.discovered("blur", percent=5).shape
        (136, torch.Size([6]))
    """
    choice(granularity, tuple(UNITS), "granularity")
    choice(truth, ("ground_truth", "target"), "truth")
    try:
        FilterLayout.of(network, granularity)
    except ValueError as error:
        raise UserError(f"network: {error}") from error
    frozen = differentiable(copy.deepcopy(network)).eval()
    states = [state_of(weights, frozen, name) for name, weights in (("baseline", baseline), ("target", target))]
    dtype, autocast = PRECISIONS[choice(precision, tuple(PRECISIONS), "precision")]
    chosen_device = torch.device(device) if device is not None else first_floating(states[1].values()).device
    frozen.to(chosen_device, dtype)  # moves its buffers too, which can be missing in a state dict
    current = frozen.state_dict()
    moved = [{name: value.to(current[name]) for name, value in state.items()} for state in states]
    probe, degradations = probe_of(images)
    _check_output(frozen, moved[1], probe[0], degradations[0])
    problem = Problem(
        network=frozen,
        baseline=moved[0],
        target=moved[1],
        probe=probe,
        degradations=degradations,
        rule=rule or quadrature("gauss_legendre", 16),
        seed=seed,
        compute=Compute(autocast=autocast, memory=memory),
        progress=progress,
        granularity=granularity,
        rank_others=rank_others,
        loss=loss,
        truth=truth,
    )
    problem = _along(problem, path)
    chosen = dict(methods) if methods else {"faig": faig, "signed_share": signed_share}
    attribution = score(problem, chosen)
    for name, scores in attribution.scores.items():  # of the user's own method, for example
        if scores.ndim != 3 or tuple(scores.shape[1:]) != problem.shape:
            raise UserError(
                f"methods: {name} returned {tuple(scores.shape)}, not (draws, {', '.join(map(str, problem.shape))})"
            )
    for sentence in attribution.warnings:
        log.warning("%s", sentence)
    return Result(
        network=frozen,
        baseline={name: value.to(states[1][name].device) for name, value in states[0].items()},
        target=states[1],
        attribution=attribution,
        method=next(iter(chosen)),
        problem=problem,
    )


def _along(problem: Problem, path: str | Sequence[Weights]) -> Problem:
    """Return the problem with the given path."""
    if isinstance(path, str):
        if choice(path, ("straight", "curve"), "path") == "straight":
            return problem
        return replace(problem, path=PathSpec("curve", (train_middle(problem),)))
    states = [state_of(weights, problem.network, f"path[{k}]") for k, weights in enumerate(path)]
    inner = tuple({n: value.to(problem.target[n]) for n, value in state.items()} for state in states)
    return replace(problem, path=PathSpec("trajectory", inner))


def _check_output(network: nn.Module, state: State, image: PairedImage, degradation: str) -> None:
    """Check shape and gradient of an output. Otherwise a wrong shape could be broadcast later."""
    lr = image.lr[degradation][None].to(first_floating(state.values()))
    output = try_output(network, state, lr)
    if tuple(output.shape[1:]) != tuple(image.hr.shape):
        raise UserError(
            f"images: {type(network).__name__} makes {tuple(output.shape[1:])} of LR "
            f"{tuple(image.lr[degradation].shape)}, but HR is {tuple(image.hr.shape)}"
        )
    try_gradient(network, state, lr)


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
