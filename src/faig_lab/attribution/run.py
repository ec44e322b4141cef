"""Scores of several methods on one problem, their errors and warnings, and their files.

An error is raised for networks whose filters do not differ, for a parameter that gets no gradient, and for scores that
are not finite. A warning is given for integrals that do not add up, and for parameters that are not ranked.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from faig_lab.attribution.methods import Method
from faig_lab.attribution.probe import Problem
from faig_lab.attribution.scores import ranking
from faig_lab.errors import InputError
from faig_lab.files import file_name, read_arrays, write_json, write_npz, write_text
from faig_lab.filters import FilterLayout, State
from faig_lab.granularity import UNITS

log = logging.getLogger(__name__)

LARGEST_GAP = 0.05
"""Largest relative completeness gap over the probe without a warning (method.md §10: a few per cent)."""


@dataclass(frozen=True)
class Attribution:
    """Scores of every method on one problem.

    Attributes:
        scores: method → (draws, K, F), float64 on the CPU.
        degradations: the K names.
        layout: the F filters.
        warnings: warnings on the path integrals (`find_faults`), one sentence each.
    """

    scores: dict[str, Tensor]
    degradations: tuple[str, ...]
    layout: FilterLayout
    warnings: tuple[str, ...] = ()


def attribute(problem: Problem, methods: Mapping[str, Method]) -> Attribution:
    """Score the filters by every method. The path integral is computed once for all methods.

    Args:
        problem: two networks and a probe.
        methods: name → method.

    Raises:
        InputError: baseline and target have the same filters, a method returns scores that are not finite, or a
            parameter changes the output and gets no gradient.
    """
    check_different(problem.baseline, problem.target, problem.layout)
    _warn_of_buffers(problem)
    scores: dict[str, Tensor] = {}
    for name, method in methods.items():
        scores[name] = finite(name, method(problem))
    warnings = find_faults(problem) if problem.is_integrated else ()
    return Attribution(scores, problem.degradations, problem.layout, warnings)


def _warn_of_buffers(problem: Problem) -> None:
    """Log a warning that buffers are not attributed, if baseline and target have different buffers."""
    states = problem.baseline, problem.target
    buffers = [n for n, value in problem.network.named_buffers() if value.is_floating_point() and n in states[0]]
    moved = [n for n in buffers if not torch.equal(*(state[n] for state in states))]
    if moved:
        log.warning(
            "attribution: %d buffers (%s, …) differ between baseline and target. Buffers, such as running statistics, "
            "are no weights: on the whole path and in every masked network they are the target's",
            len(moved),
            moved[0],
        )


def check_different(baseline: State, target: State, layout: FilterLayout) -> None:
    """Refuse two networks with the same filters.

    Args:
        baseline: θ̄.
        target: θ.
        layout: the ranked units.

    Raises:
        InputError: the networks have equal values in all ranked parameters.
    """
    if all(torch.equal(baseline[layer.name], target[layer.name].to(baseline[layer.name])) for layer in layout.layers):
        raise InputError(
            "target",
            f"its {layout.word} are those of the baseline, so there is nothing to attribute; give the weights of a "
            "network that was trained further",
        )


def gap_warnings(gaps: Mapping[str, float]) -> tuple[str, ...]:
    """Return a sentence for every completeness gap above `LARGEST_GAP`.

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
    """Return warnings on the path integrals of a problem, one sentence each.

    Args:
        problem: its integral is computed unless this has been done.

    Raises:
        InputError: a parameter changes the output and gets no gradient on any probe image.
    """
    layout, integral = problem.layout, problem.integral
    names = [parameter.name for parameter in (*layout.layers, *layout.others)]
    changed = {name for name in names if not torch.equal(problem.baseline[name], problem.target[name])}
    sizes = torch.zeros(len(layout.layers), dtype=torch.float64)
    sizes.index_add_(0, layout.layer_of(), integral.magnitude.sum((0, 1)))
    without_gradient = [layer.name for layer, size in zip(layout.layers, sizes, strict=True) if size == 0]
    unranked: list[tuple[str, float]] = []
    for k, other in enumerate(layout.others):
        if not integral.others[:, :, k].any():
            without_gradient.append(other.name)
        elif other.name in changed and sum(side > 1 for side in other.shape) > 1:  # e.g. a position table
            shares = integral.others[:, :, k].sum(0) / integral.loss_change.sum(0)
            unranked.append((other.name, float(shares.abs().max())))
    silent = [name for name in without_gradient if name in changed and _matters(problem, name)]
    if silent:
        more = f" (and {len(silent) - 1} more)" if len(silent) > 1 else ""
        raise InputError(
            "network",
            f"{silent[0]}{more} differs between baseline and target and changes the output, but gets no "
            f"gradient on any probe image; {type(problem.network).__name__} cuts it off (detach, torch.no_grad, .data, "
            "rounding, or checkpointing with use_reentrant=True)",
        )
    warnings = gap_warnings({name: integral.gap(name) for name in integral.degradations})
    if unranked:
        named = ", ".join(f"{name} ({100 * share:.2g} %)" for name, share in unranked[:5])
        more = f" and {len(unranked) - 5} more" if len(unranked) > 5 else ""
        warnings += (
            f"Not ranked, since they belong to no convolution and no linear layer: {named}{more}; in brackets the "
            "largest share of the change of the loss. `rank_others`=true ranks them as well.",
        )
    return warnings


@torch.no_grad()
def _matters(problem: Problem, name: str) -> bool:
    """Return whether the output for the first image changes if one parameter of the target is set to the baseline."""
    image, plain = problem.probe[0], replace(problem.compute, autocast=None, compile=None)
    other = {**problem.target, name: problem.baseline[name]}
    for degradation in problem.degradations:
        lr = image.lr[degradation][None].to(problem.target[name])
        lr = problem.compute.tiles(problem.network, problem.target, lr, image.scale)[0].input(lr)
        if not torch.equal(*(plain.output(problem.network, state, lr) for state in (problem.target, other))):
            return True
    return False


def finite(name: str, scores: Tensor) -> Tensor:
    """Return the scores of a method if all scores are finite.

    Raises:
        InputError: a score is not finite. The message names the method.
    """
    wrong = int((~torch.isfinite(scores)).sum()) if isinstance(scores, Tensor) else 0
    if wrong:
        raise InputError(
            "methods",
            f"{name} returned {wrong:,} of {scores.numel():,} scores that are not finite (NaN or infinite); in "
            "bfloat16 and float16 gradients may overflow, `precision`=float32 is safer",
        )
    return scores


def save_attribution(result: Attribution, method: str, folder: Path, provenance: Mapping[str, object]) -> None:
    """Write scores.npz, layout.json, provenance.json and the authors' index files.

    scores.npz has `<degradation>` for the run's method and `<method>/<degradation>` for the others: (F,) in layout
    order, or (draws, F) for a method with several draws. `<degradation>_index.txt` lists all filters of the run's
    method by descending score, one flat index on each line, as the authors' scripts do.

    Args:
        result: the return value of `attribute`.
        method: the run's method, a key of `result.scores`.
        folder: the run's `attribution` folder.
        provenance: the origin of the scores as plain data.

    Raises:
        InputError: the name of a method or of a degradation cannot be part of the name of a file.
    """
    for name in (*result.scores, *result.degradations):
        file_name(name, "attribution")
    arrays = {}
    for name, scores in result.scores.items():
        for k, degradation in enumerate(result.degradations):
            values = scores[:, k].numpy()
            key = degradation if name == method else f"{name}/{degradation}"
            arrays[key] = values[0] if len(values) == 1 else values
    write_npz(folder / "scores.npz", arrays)
    write_json(folder / "layout.json", result.layout.describe())
    write_json(folder / "provenance.json", dict(provenance))
    for k, degradation in enumerate(result.degradations):
        order = ranking(result.scores[method][0, k]).numpy()
        write_text(folder / f"{degradation}_index.txt", "".join(f"{i}\n" for i in np.asarray(order)))


def load_attribution(folder: Path, method: str, degradations: tuple[str, ...], layout: FilterLayout) -> Attribution:
    """Read the attribution that `save_attribution` wrote.

    Args:
        folder: the run's `attribution` folder.
        method: the run's method.
        degradations: the K names.
        layout: the F filters.

    Raises:
        InputError: the file is damaged or belongs to another network.
    """
    path = folder / "scores.npz"
    try:
        arrays = read_arrays(path.read_bytes())
        names = [method, *dict.fromkeys(key.split("/")[0] for key in arrays if "/" in key)]
        stored = {
            name: [np.atleast_2d(arrays[d if name == method else f"{name}/{d}"]) for d in degradations]
            for name in names
        }
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "folder", f"{path} cannot be read as the scores of {', '.join(degradations)} ({error})"
        ) from error
    scores = {name: torch.from_numpy(np.stack(parts, axis=1)) for name, parts in stored.items()}
    if any(values.shape[-1] != len(layout) for values in scores.values()):
        units = UNITS[layout.granularity]
        raise InputError("folder", f"{path} belongs to another network: it has no scores of {len(layout)} {units}")
    return Attribution(scores, degradations, layout)
