"""Attribution as one step of a study: scores of several methods, and the files they leave behind."""

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from faig_lab.archives import read_arrays
from faig_lab.attribution.methods import Method
from faig_lab.attribution.problem import Problem
from faig_lab.attribution.scores import ranking
from faig_lab.attribution.soundness import check_different, find_faults, finite
from faig_lab.errors import InputError
from faig_lab.files import file_name, write_json, write_npz, write_text
from faig_lab.granularity import UNITS
from faig_lab.networks import FilterLayout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attribution:
    """Scores of every method on one problem.

    Attributes:
        scores: method → (draws, K, F), float64 on the CPU.
        degradations: the K names.
        layout: the F filters.
        warnings: what a reader must know about the path integrals (`soundness.find_faults`), one sentence each.
    """

    scores: dict[str, Tensor]
    degradations: tuple[str, ...]
    layout: FilterLayout
    warnings: tuple[str, ...] = ()


def attribute(problem: Problem, methods: Mapping[str, Method]) -> Attribution:
    """Score the filters by every method; the path integral is computed once for all that use it.

    Raises:
        InputError: baseline and target have the same filters, a method returns what is not finite, or a parameter
            changes the output and gets no gradient.
    """
    check_different(problem.baseline, problem.target, problem.layout)
    _point_out_buffers(problem)
    scores: dict[str, Tensor] = {}
    for name, method in methods.items():
        scores[name] = finite(name, method(problem))
    warnings = find_faults(problem) if problem.is_integrated else ()
    return Attribution(scores, problem.degradations, problem.layout, warnings)


def _point_out_buffers(problem: Problem) -> None:
    """Say that buffers are not attributed, where baseline and target differ in them."""
    states = problem.baseline, problem.target
    buffers = [n for n, value in problem.network.named_buffers() if value.is_floating_point() and n in states[0]]
    moved = [n for n in buffers if not torch.equal(*(state[n] for state in states))]
    if moved:
        log.warning(
            "attribution: %d buffers (%s, …) differ between baseline and target. Running statistics, say, are no "
            "weights: all along the path and in every masked network they are the target's",
            len(moved),
            moved[0],
        )


def save_attribution(result: Attribution, method: str, folder: Path, provenance: Mapping[str, object]) -> None:
    """Write scores.npz, layout.json, provenance.json and the authors' index files.

    scores.npz holds `<degradation>` for the run's method and `<method>/<degradation>` for the others, (F,) in
    layout order; a method with several draws has (draws, F). `<degradation>_index.txt` lists all filters of
    the run's method by descending score, one flat index a line, as the authors' scripts do.

    Args:
        result: what `attribute` returned.
        method: the run's method, a key of `result.scores`.
        folder: the run's `attribution` folder.
        provenance: where the scores come from; plain data.

    Raises:
        UserError: a name of a method or a degradation cannot be the name of a file.
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
    """Read back what `save_attribution` wrote.

    Args:
        folder: the run's `attribution` folder.
        method: the run's method.
        degradations: the K names.
        layout: the F filters.

    Raises:
        InputError: the file is damaged, or is of another network.
    """
    path = folder / "scores.npz"
    try:
        arrays = read_arrays(path.read_bytes())
        names = [method, *dict.fromkeys(key.split("/")[0] for key in arrays if "/" in key)]
        stored = {
            name: [np.atleast_2d(arrays[d if name == method else f"{name}/{d}"]) for d in degradations]
            for name in names
        }
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise InputError(
            "folder", f"{path} cannot be read as the scores of {', '.join(degradations)} ({error})"
        ) from error
    scores = {name: torch.from_numpy(np.stack(parts, axis=1)) for name, parts in stored.items()}
    if any(values.shape[-1] != len(layout) for values in scores.values()):
        raise InputError(
            "folder", f"{path} is of another network: it has not {len(layout)} {UNITS[layout.granularity]}"
        )
    return Attribution(scores, degradations, layout)
