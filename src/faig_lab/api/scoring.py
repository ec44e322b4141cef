"""Attribution of a pair of networks on tensors."""

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from faig_lab.api.isolation import Images, probe_of
from faig_lab.api.results import Result
from faig_lab.api.weights import Weights, choice, state_of
from faig_lab.attribution import Adaptive, Attribution, Compute, Method, Problem, Rule, quadrature
from faig_lab.attribution import attribute as score
from faig_lab.attribution.barrier import train_middle
from faig_lab.attribution.compute import PRECISIONS
from faig_lab.attribution.losses import SQUARED_ERROR, Loss, Truth
from faig_lab.attribution.methods import faig, signed_share
from faig_lab.attribution.weight_paths import PathSpec
from faig_lab.data import PairedImage
from faig_lab.errors import UserError
from faig_lab.filters import FilterLayout, State, first_floating
from faig_lab.filters.modes import differentiable
from faig_lab.filters.trial import try_gradient, try_output
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
        network: maps LR (N, 3, H, W) to SR (N, 3, sH, sW), any whole s >= 1; it is copied, put into eval mode and
            otherwise left alone.
        baseline: θ̄: weights that upscale and remove no degradation.
        target: θ: the same network's weights after training on degraded input.
        images: degradation → (LR, HR). All degradations have the same HR images in the same order. An entry
            `clean` is no degradation; it is the start of the `ig` method's path and is made by bicubic
            downsampling of HR where it is not given.
        methods: name → function of a problem, e.g. `{"faig": faig_lab.methods.faig}`; the first one is the
            result's. None: FAIG and the signed share, which come out of the same pass.
        rule: the quadrature, e.g. `faig_lab.quadrature("midpoint", 32)` or `faig_lab.Adaptive(65, 0.01, 1.0)`;
            None: Gauss–Legendre with 16 points.
        granularity: what is scored: "filter" (a k×k slice), "weight", "output_channel", "input_channel", "head" (of
            an attention; in other layers an output channel) or "layer"; `F` below and in the result counts these.
        rank_others: score the parameters that are no kernels (biases, say) as well.
        path: which path in weight space the loss gradient is integrated along (method.md §10): the straight line, a
            curve whose middle point is trained on the images to keep the loss low, or straight pieces through the given
            states in order, e.g. weights saved during the training of the target. The rule is that of each piece.
        loss: of the output, a sum over pixels, e.g. `faig_lab.AbsoluteError()` or a function of yours.
        truth: what the output is compared with: "ground_truth", or "target", the target's own output, for networks
            that were not trained towards the ground truth (GANs, sharpened targets).
        precision: of the gradients; bfloat16 is autocast.
        memory: of one gradient evaluation, in GB, about; larger images are cut into tiles that overlap by what the
            network sees, with the same result. None: never.
        device: where to compute; None: where the target's weights are.
        seed: of the methods that draw.
        progress: called with the name of each (image, degradation) that is finished.

    Returns:
        Scores, shares, discovered filters, the completeness gap, and warnings where it is large.

    Raises:
        UserError: names, shapes or values do not fit; the message says which argument and what would.

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
    _check_layout(network, granularity)
    choice(truth, ("ground_truth", "target"), "truth")
    frozen = differentiable(copy.deepcopy(network)).eval()
    states = [state_of(weights, frozen, name) for name, weights in (("baseline", baseline), ("target", target))]
    dtype, autocast = PRECISIONS[choice(precision, tuple(PRECISIONS), "precision")]
    place = torch.device(device) if device is not None else first_floating(states[1].values()).device
    frozen.to(place, dtype)  # its buffers, which may be in no state dict
    like = frozen.state_dict()
    moved = [{name: value.to(like[name]) for name, value in state.items()} for state in states]
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
    found = score(problem, chosen)
    _check_scores(found, problem)
    for sentence in found.warnings:
        log.warning("%s", sentence)
    return Result(
        network=frozen,
        baseline={name: value.to(states[1][name].device) for name, value in states[0].items()},
        target=states[1],
        attribution=found,
        method=next(iter(chosen)),
        problem=problem,
    )


def _along(problem: Problem, path: str | Sequence[Weights]) -> Problem:
    """The problem on the path that was asked for."""
    if isinstance(path, str):
        if choice(path, ("straight", "curve"), "path") == "straight":
            return problem
        return replace(problem, path=PathSpec("curve", (train_middle(problem),)))
    states = [state_of(weights, problem.network, f"path[{k}]") for k, weights in enumerate(path)]
    inner = tuple({n: value.to(problem.target[n]) for n, value in state.items()} for state in states)
    return replace(problem, path=PathSpec("trajectory", inner))


def _check_output(network: nn.Module, state: State, image: PairedImage, degradation: str) -> None:
    """One forward, since a shape that is wrong could be broadcast later, and a gradient."""
    lr = image.lr[degradation][None].to(first_floating(state.values()))
    output = try_output(network, state, lr)
    if tuple(output.shape[1:]) != tuple(image.hr.shape):
        raise UserError(
            f"images: {type(network).__name__} makes {tuple(output.shape[1:])} of LR "
            f"{tuple(image.lr[degradation].shape)}, but HR is {tuple(image.hr.shape)}"
        )
    try_gradient(network, state, lr)


def _check_layout(network: nn.Module, granularity: Granularity) -> None:
    """A network without anything to score, or a granularity that there is not."""
    choice(granularity, tuple(UNITS), "granularity")
    try:
        FilterLayout.of(network, granularity)
    except ValueError as error:
        raise UserError(f"network: {error}") from error


def _check_scores(found: Attribution, problem: Problem) -> None:
    """What a method of the user's own returned."""
    for name, scores in found.scores.items():
        if scores.ndim != 3 or tuple(scores.shape[1:]) != problem.shape:
            raise UserError(
                f"methods: {name} returned {tuple(scores.shape)}, not (draws, {', '.join(map(str, problem.shape))})"
            )
