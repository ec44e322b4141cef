"""What is refused or warned about: weights that do not differ, integrals that do not add up, and the like."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from faig_lab.attribution.problem import Problem
from faig_lab.errors import InputError
from faig_lab.networks import FilterLayout, State

LARGEST_GAP = 0.05
"""Relative completeness gap over the probe above which there is a warning (method.md §10: a few per cent)."""


def check_different(baseline: State, target: State, layout: FilterLayout) -> None:
    """Refuse two networks with the same filters.

    Args:
        baseline: θ̄.
        target: θ.
        layout: what is ranked.

    Raises:
        InputError: no parameter that is ranked differs.
    """
    if all(torch.equal(baseline[layer.name], target[layer.name].to(baseline[layer.name])) for layer in layout.layers):
        raise InputError(
            "target",
            f"its {layout.word} are those of the baseline, so there is nothing to attribute; give the weights of a "
            "network that was trained further",
        )


def gap_warnings(gaps: Mapping[str, float]) -> tuple[str, ...]:
    """A sentence on every completeness gap above `LARGEST_GAP`.

    Args:
        gaps: degradation → relative gap over the probe.
    """
    return tuple(
        f"The attributions on {name} input do not add up to the change of the loss: the completeness gap is "
        f"{100 * gap:.3g} %, more than {100 * LARGEST_GAP:g} %. Use more points (`rule`). If that does not "
        "help, the network is not the same function at every pass (noise, checkpointing, weights that are merged in "
        "evaluation mode), or its gradient is not that of its output."
        for name, gap in gaps.items()
        if not gap <= LARGEST_GAP
    )


def find_faults(problem: Problem) -> tuple[str, ...]:
    """What a reader must know about the path integrals of a problem, one sentence each.

    Args:
        problem: its integral is computed if it is not there.

    Raises:
        InputError: a parameter changes the output and gets no gradient on any probe image.
    """
    check_gradients(problem)
    integral = problem.integral
    return (*gap_warnings({name: integral.gap(name) for name in integral.degradations}), *_unranked(problem))


def check_gradients(problem: Problem) -> None:
    """Refuse a network in which a parameter changes the output and gets no gradient on any probe image.

    Raises:
        InputError: names the parameter.
    """
    silent = [name for name in _without_gradient(problem) if _matters(problem, name)]
    if silent:
        more = f" (and {len(silent) - 1} more)" if len(silent) > 1 else ""
        raise InputError(
            "network",
            f"{silent[0]}{more} differs between baseline and target and changes the output, but gets no "
            f"gradient on any probe image; {type(problem.network).__name__} cuts it off (detach, torch.no_grad, .data, "
            "rounding, or checkpointing with use_reentrant=True)",
        )


def _without_gradient(problem: Problem) -> list[str]:
    """Parameters that differ and whose attribution is 0 on every image."""
    layout, integral = problem.layout, problem.integral
    sizes = torch.zeros(len(layout.layers), dtype=torch.float64)
    sizes.index_add_(0, layout.layer_of(), integral.magnitude.sum((0, 1)))
    names = [layer.name for layer, size in zip(layout.layers, sizes, strict=True) if size == 0]
    names += [other.name for k, other in enumerate(layout.others) if not integral.others[:, :, k].any()]
    return [name for name in names if not torch.equal(problem.baseline[name], problem.target[name])]


@torch.no_grad()
def _matters(problem: Problem, name: str) -> bool:
    """Whether the output on the first image changes when a parameter of the target is set back to the baseline."""
    image, plain = problem.probe[0], replace(problem.compute, autocast=None, compile=None)
    other = {**problem.target, name: problem.baseline[name]}
    for degradation in problem.degradations:
        lr = image.lr[degradation][None].to(problem.target[name])
        lr = problem.compute.tiles(problem.network, problem.target, lr, image.scale)[0].input(lr)
        if not torch.equal(*(plain.output(problem.network, state, lr) for state in (problem.target, other))):
            return True
    return False


def _unranked(problem: Problem) -> tuple[str, ...]:
    """A sentence on parameters with several axes (position tables, say) that changed and are not ranked."""
    integral = problem.integral
    change = integral.loss_change.sum(0)
    unranked: list[tuple[str, float]] = []
    for k, other in enumerate(problem.layout.others):
        several = sum(side > 1 for side in other.shape) > 1
        if several and not torch.equal(problem.baseline[other.name], problem.target[other.name]):
            shares = integral.others[:, :, k].sum(0) / change
            unranked.append((other.name, float(shares.abs().max())))
    if not unranked:
        return ()
    named = ", ".join(f"{name} ({100 * share:.2g} %)" for name, share in unranked[:5])
    more = f" and {len(unranked) - 5} more" if len(unranked) > 5 else ""
    return (
        f"Not ranked, since they belong to no convolution and no linear layer: {named}{more}; in brackets the largest "
        "share of the change of the loss. `rank_others`=true ranks them as well.",
    )


def finite(name: str, scores: Tensor) -> Tensor:
    """The scores of a method, if every one is a finite number.

    Raises:
        InputError: names the method.
    """
    wrong = int((~torch.isfinite(scores)).sum()) if isinstance(scores, Tensor) else 0
    if wrong:
        raise InputError(
            "methods",
            f"{name} returned {wrong:,} of {scores.numel():,} scores that are not finite (NaN or infinite); in "
            "bfloat16 and float16 gradients may overflow, `precision`=float32 is safer",
        )
    return scores
