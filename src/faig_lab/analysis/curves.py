"""Deletion and insertion curves: the same filters taken away from the target, and put back one by one.

Deletion starts at the target and sets the top q % back to the baseline's values; insertion starts where deletion
ends, with all filters at the baseline's values, and gives the top q % the target's (after Petsiuk, Das and Saenko,
RISE, BMVC 2018, who do it with the pixels of an image). What is in no filter, biases above all, stays the target's in
both, so the two run between the same two networks: at 100 % deletion has every filter at the baseline's values, and
insertion is the target, bit for bit. With `target_biases` off insertion has the baseline's biases: it starts at the
baseline, bit for bit, and does not reach the target.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from faig_lab.analysis.areas import CURVES, DELETION, INSERTION, restored_share
from faig_lab.analysis.bootstrap import Floats
from faig_lab.analysis.curve_tables import (
    Measured,
    Resampling,
    area_metrics,
    area_rows,
    compared_rows,
    curve_rows,
    number,
)
from faig_lab.analysis.interventions import mask
from faig_lab.analysis.subject import Findings, Subject
from faig_lab.attribution import count_of, ranking
from faig_lab.data import sample_rng
from faig_lab.errors import UserError
from faig_lab.networks import FilterLayout, State

log = logging.getLogger(__name__)

PERCENTS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
LAYER_MATCHED = "layer_matched"
"""Stands in the column `method` for random filters with as many in each layer as the run's method has."""

Sets = tuple[Tensor, ...]
"""Flat filter indices for each percent."""


class Ranking(NamedTuple):
    """One draw of one method: for each degradation the sets of all percents."""

    method: str
    draw: int
    sets: tuple[Sets, ...]


def curves(
    subject: Subject,
    percents: Sequence[float] = PERCENTS,
    draws: Annotated[int, Field(ge=1)] = 3,
    target_biases: bool = True,
    resamples: Annotated[int, Field(ge=2)] = 1000,
) -> Findings:
    """Deletion and insertion curves of every method on held-out images, with intervals over photographs.

    Args:
        subject: what is analysed.
        percents: q in any order; 0 and 100 are always there.
        draws: at most so many of a method that draws, and of the layer-matched random filters.
        target_biases: whether insertion has the target's biases (and all else that is in no filter) throughout.
        resamples: of the bootstrap.

    Returns:
        Tables `curves` (curve, method, percent, filters, masked, degradation, psnr, restored, low, high, draws,
        spread over draws, harm), `curves_areas` (curve, method, masked, side, then area and interval for both axes) and
        `curves_compared` (curve, method, against, difference, low, high: logarithmic areas of the side `difference`,
        paired); metrics `area_log/<curve>/<method>/<side>` and `area_linear/…`, means over the degradations, and
        `restored_without_target_biases/<degradation>`.

    Raises:
        UserError: a percent is not from 0 to 100, or there is none between them.
    """
    grid = _grid(percents)
    measured = measure(subject, grid, list(rankings_of(subject, grid, draws)), target_biases)
    how = Resampling(subject.problem.seed, resamples)
    rows = area_rows(measured, how)
    tables = {
        "curves": curve_rows(measured, how),
        "curves_areas": rows,
        "curves_compared": compared_rows(measured, subject.method, how),
    }
    return Findings(tables, area_metrics(rows) | _without_target_biases(subject, measured))


def layer_matched(filters: Tensor, layout: FilterLayout, rng: np.random.Generator) -> Tensor:
    """As many random filters in each layer as `filters` has there.

    Generators in the same state give nested sets for nested `filters`.

    Args:
        filters: distinct flat indices.
        layout: the filters of the network.
        rng: draws one permutation per layer, whatever the numbers are.
    """
    counts = torch.bincount(layout.layer_of()[filters], minlength=len(layout.layers)).tolist()
    parts = [
        offset + torch.from_numpy(rng.permutation(layer.units)[:count])
        for offset, layer, count in zip(layout.offsets, layout.layers, counts, strict=False)
    ]
    return torch.cat(parts)


def curve_state(subject: Subject, curve: str, filters: Tensor, target_biases: bool = True) -> dict[str, Tensor]:
    """The network of a curve at a set of filters: deleted from the target, or inserted.

    Args:
        subject: θ and θ̄.
        curve: "deletion" or "insertion".
        filters: flat indices.
        target_biases: whether insertion has the target's biases.
    """
    layout = subject.attribution.layout
    if curve == INSERTION and not target_biases:
        return mask(subject.baseline, subject.target, layout, filters)
    return mask(subject.target, subject.baseline, layout, _absent(curve, filters, len(layout)))


def _absent(curve: str, filters: Tensor, count: int) -> Tensor:
    """The filters, ascending, that have the baseline's values where a curve has come to `filters`."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[filters] = True
    return (chosen if curve == DELETION else ~chosen).nonzero().flatten()


def measure(
    subject: Subject, grid: Sequence[float], rankings: Sequence[Ranking], target_biases: bool = True
) -> Measured:
    """Judge every network of every curve on every held-out image; one that comes twice is judged once.

    Args:
        subject: what is analysed.
        grid: percents, ascending from 0 to 100.
        rankings: sets for each percent of the grid; the draws of a method follow each other.
        target_biases: whether insertion has the target's biases.
    """
    names = subject.attribution.degradations
    psnr = np.empty((len(subject.data.held_out), len(CURVES), len(rankings), len(names), len(grid), len(names)))
    ends = [subject.judge.ends(name) for name in names]
    target = _by_input([end.target for end in ends])
    judged: dict[tuple[bool, bytes], Floats] = {(False, b""): target}
    with subject.bar("curves", psnr[0, ..., 0].size) as advance:
        for c, r, m, q in np.ndindex(psnr.shape[1:-1]):
            filters = rankings[r].sets[m][q]
            absent = _absent(CURVES[c], filters, len(subject.attribution.layout))
            # By what is absent: the two curves run between the same two networks, unless insertion has other biases.
            key = (CURVES[c] == INSERTION and not target_biases, absent.numpy().tobytes())
            if key not in judged:
                judged[key] = _psnrs(subject, curve_state(subject, CURVES[c], filters, target_biases))
            psnr[:, c, r, m, q] = judged[key]
            advance(f"{CURVES[c]}, {rankings[r].method}, {grid[q]:g} %")
    return Measured(
        percents=tuple(grid),
        counts=tuple(count_of(percent, len(subject.attribution.layout)) for percent in grid),
        draws=Counter(chosen.method for chosen in rankings),
        degradations=names,
        scenes=subject.judge.scenes,
        psnr=psnr,
        baseline=_by_input([end.baseline for end in ends]),
        target=target,
    )


def rankings_of(subject: Subject, grid: Sequence[float], draws: int) -> Iterator[Ranking]:
    """Every method's draws, then random filters matched layer by layer to the run's method."""
    scores = subject.attribution.scores
    for method, values in scores.items():
        for draw, per_degradation in enumerate(values[:draws]):
            yield Ranking(method, draw, tuple(_top_sets(row, grid) for row in per_degradation))
    if subject.attribution.layout.undivided:
        log.info("curves: no layer-matched random filters, since every layer is one unit")
        return
    for draw in range(draws):
        sets = zip(subject.attribution.degradations, scores[subject.method][0], strict=True)
        yield Ranking(LAYER_MATCHED, draw, tuple(_matched_sets(subject, name, row, grid, draw) for name, row in sets))


def _top_sets(scores: Tensor, grid: Sequence[float]) -> Sets:
    order = ranking(scores)
    return tuple(order[: count_of(percent, len(order))] for percent in grid)


def _matched_sets(subject: Subject, degradation: str, scores: Tensor, grid: Sequence[float], draw: int) -> Sets:
    stream = f"{LAYER_MATCHED}/{degradation}"
    return tuple(
        layer_matched(filters, subject.attribution.layout, sample_rng(subject.problem.seed, stream, draw))
        for filters in _top_sets(scores, grid)
    )


def _grid(percents: Sequence[float]) -> tuple[float, ...]:
    """0, the percents in order, 100."""
    if wrong := [percent for percent in percents if not 0 <= percent <= 100]:
        raise UserError(f"analysis.studies.curves.percents: {wrong[0]:g} is not from 0 to 100")
    grid = tuple(sorted({0.0, 100.0, *map(float, percents)}))
    if len(grid) < 3:
        raise UserError("analysis.studies.curves.percents: at least one between 0 and 100 is needed, e.g. 1")
    return grid


def _psnrs(subject: Subject, state: State) -> Floats:
    """(images, inputs) dB."""
    judge, names = subject.judge, subject.attribution.degradations
    return _by_input([judge.psnrs(judge.outputs(state, name)) for name in names])


def _by_input(psnrs: Sequence[Tensor]) -> Floats:
    """(images,) of each input → (images, inputs)."""
    return np.stack([values.double().numpy() for values in psnrs], 1)


def _without_target_biases(subject: Subject, measured: Measured) -> dict[str, float | None]:
    """What all filters of the target restore in the baseline, whose biases and other weights stay."""
    every = torch.arange(len(subject.attribution.layout))
    psnr = _psnrs(subject, curve_state(subject, INSERTION, every, target_biases=False)).mean(0)
    shares = restored_share(psnr, measured.baseline.mean(0), measured.target.mean(0))
    return {
        f"restored_without_target_biases/{name}": number(share)
        for name, share in zip(subject.attribution.degradations, shares, strict=True)
    }
