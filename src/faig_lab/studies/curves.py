"""Deletion and insertion curves: filters are removed from the target, or inserted into the baseline, in their order.

Deletion starts at the target and sets the top q % back to the baseline's values. Insertion starts where deletion
ends, with all filters at the baseline's values, and gives the top q % the target's values. Petsiuk, Das and Saenko
(RISE, BMVC 2018) do the same with the pixels of an image. Parameters that are in no filter, such as biases, stay the
target's in both. The two curves therefore run between the same two networks: at 100 % deletion has every filter at
the baseline's values, and insertion is the target, bit for bit. With `target_biases` off, insertion has the
baseline's biases. It then starts at the baseline, bit for bit, and does not reach the target.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import count_of, ranking
from faig_lab.data import sample_rng
from faig_lab.errors import InputError
from faig_lab.evaluation.curves import (
    CURVES,
    DELETION,
    INSERTION,
    Measured,
    area_metrics,
    area_rows,
    compared_rows,
    curve_rows,
)
from faig_lab.evaluation.intervals import Floats, Resampling, number_or_none
from faig_lab.evaluation.masking import restored_share, stack_inputs
from faig_lab.filters import FilterLayout, State, mask
from faig_lab.plotting.charts import Show, guides, legend_above, limit, line, own_and_others, share_axis
from faig_lab.plotting.style import drawing, method_look
from faig_lab.plotting.words import (
    as_percent,
    decimal,
    line_label,
    listed,
    method_label,
    removal,
    share,
    signed,
    with_ends,
)
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, records, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table

log = logging.getLogger(__name__)

PERCENTS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
LAYER_MATCHED = "layer_matched"
"""Stands in the column `method` for random filters with as many in each layer as the run's method has."""

Sets = tuple[Tensor, ...]
"""Flat filter indices for each percent."""


class Ranking(NamedTuple):
    """The sets of one draw of one method, for each degradation and percent."""

    method: str
    draw: int
    sets: tuple[Sets, ...]


def curves(
    context: StudyContext,
    percents: Sequence[float] = PERCENTS,
    draws: Annotated[int, Field(ge=1)] = 3,
    *,
    target_biases: bool = True,
    resamples: Annotated[int, Field(ge=2)] = 1000,
) -> StudyResult:
    """Measure deletion and insertion curves of every method on held-out images, with intervals over photographs.

    Args:
        context: networks, attribution and images.
        percents: q in any order; 0 and 100 are always added.
        draws: at most so many draws of a random method, and of the layer-matched random filters.
        target_biases: whether insertion has the target's biases and other parameters that are in no filter.
        resamples: of the bootstrap.

    Returns:
        Tables `curves` (curve, method, percent, filters, masked, degradation, psnr, restored, low, high, draws,
        spread over draws, harm), `curves_areas` (curve, method, masked, side, then area and interval for both axes) and
        `curves_compared` (curve, method, against, difference, low, high: logarithmic areas of the side `difference`,
        paired); metrics `area_log/<curve>/<method>/<side>` and `area_linear/…`, means over the degradations, and
        `restored_without_target_biases/<degradation>`.

    Raises:
        InputError: a percent is not from 0 to 100, or there is none between them.
    """
    if wrong := [percent for percent in percents if not 0 <= percent <= 100]:
        raise InputError("percents", f"{wrong[0]:g} is not from 0 to 100")
    grid = tuple(sorted({0.0, 100.0, *map(float, percents)}))
    if len(grid) < 3:
        raise InputError("percents", "at least one percent between 0 and 100 is needed, e.g. 1")
    measured = measure(context, grid, list(rankings_of(context, grid, draws)), target_biases)
    how = Resampling(context.problem.seed, resamples)
    rows = area_rows(measured, how)
    tables = {
        "curves": curve_rows(measured, how),
        "curves_areas": rows,
        "curves_compared": compared_rows(measured, context.method, how),
    }
    every = torch.arange(len(context.attribution.layout))
    psnr = _psnrs(context, curve_state(context, INSERTION, every, target_biases=False)).mean(0)
    shares = restored_share(psnr, measured.baseline.mean(0), measured.target.mean(0))
    metrics = area_metrics(rows)
    for name, share_of_gain in zip(context.attribution.degradations, shares, strict=True):
        metrics[f"restored_without_target_biases/{name}"] = number_or_none(share_of_gain)
    return StudyResult(tables, metrics)


def layer_matched(filters: Tensor, layout: FilterLayout, rng: np.random.Generator) -> Tensor:
    """Draw as many random filters in each layer as `filters` has in this layer.

    Generators in the same state give nested sets for nested `filters`.

    Args:
        filters: distinct flat indices.
        layout: the filters of the network.
        rng: draws one permutation per layer, also for layers without filters.
    """
    parts = [
        offset + torch.from_numpy(rng.permutation(layer.units)[:count])
        for offset, layer, count in zip(layout.offsets, layout.layers, layout.count_by_layer(filters), strict=False)
    ]
    return torch.cat(parts)


def curve_state(context: StudyContext, curve: str, filters: Tensor, target_biases: bool = True) -> dict[str, Tensor]:
    """Return the weights of a curve at a set of filters, which are deleted from the target or inserted.

    Args:
        context: θ and θ̄.
        curve: "deletion" or "insertion".
        filters: flat indices.
        target_biases: whether insertion has the target's biases.
    """
    layout = context.attribution.layout
    if curve == INSERTION and not target_biases:
        return mask(context.baseline, context.target, layout, filters)
    return context.masked(_absent(curve, filters, len(layout)))


def _absent(curve: str, filters: Tensor, count: int) -> Tensor:
    """Return the filters, ascending, that have the baseline's values at the point `filters` of a curve."""
    chosen = torch.zeros(count, dtype=torch.bool)
    chosen[filters] = True
    return (chosen if curve == DELETION else ~chosen).nonzero().flatten()


def measure(
    context: StudyContext, grid: Sequence[float], rankings: Sequence[Ranking], target_biases: bool = True
) -> Measured:
    """Evaluate every network of every curve on every held-out image; equal networks are evaluated once.

    Args:
        context: networks, attribution and images.
        grid: percents, ascending from 0 to 100.
        rankings: sets for each percent of the grid; the draws of a method follow each other.
        target_biases: whether insertion has the target's biases.
    """
    names = context.attribution.degradations
    psnr = np.empty((len(context.data.held_out), len(CURVES), len(rankings), len(names), len(grid), len(names)))
    ends = [context.evaluator.ends(name) for name in names]
    target = stack_inputs([end.target for end in ends])
    evaluated: dict[tuple[bool, bytes], Floats] = {(False, b""): target}
    with context.bar("curves", psnr[0, ..., 0].size) as advance:
        for c, r, m, q in np.ndindex(psnr.shape[1:-1]):
            filters = rankings[r].sets[m][q]
            absent = _absent(CURVES[c], filters, len(context.attribution.layout))
            # The key is the absent filters: both curves pass the same networks unless insertion has other biases.
            key = (CURVES[c] == INSERTION and not target_biases, absent.numpy().tobytes())
            if key not in evaluated:
                evaluated[key] = _psnrs(context, curve_state(context, CURVES[c], filters, target_biases))
            psnr[:, c, r, m, q] = evaluated[key]
            advance(f"{CURVES[c]}, {rankings[r].method}, {grid[q]:g} %")
    return Measured(
        percents=tuple(grid),
        counts=tuple(count_of(percent, len(context.attribution.layout)) for percent in grid),
        draws=Counter(chosen.method for chosen in rankings),
        degradations=names,
        scenes=context.evaluator.scenes,
        psnr=psnr,
        baseline=stack_inputs([end.baseline for end in ends]),
        target=target,
    )


def rankings_of(context: StudyContext, grid: Sequence[float], draws: int) -> Iterator[Ranking]:
    """Yield the draws of every method, then random filters matched layer by layer to the run's method."""
    scores, layout = context.attribution.scores, context.attribution.layout

    def top_sets(row: Tensor) -> Sets:
        order = ranking(row)
        return tuple(order[: count_of(percent, len(order))] for percent in grid)

    def matched(filters: Tensor, degradation: str, draw: int) -> Tensor:
        rng = sample_rng(context.problem.seed, f"{LAYER_MATCHED}/{degradation}", draw)
        return layer_matched(filters, layout, rng)

    for method, values in scores.items():
        for draw, per_degradation in enumerate(values[:draws]):
            yield Ranking(method, draw, tuple(map(top_sets, per_degradation)))
    if layout.undivided:
        log.info("curves: no layer-matched random filters, since every layer is one unit")
        return
    own = dict(zip(context.attribution.degradations, map(top_sets, scores[context.method][0]), strict=True))
    for draw in range(draws):
        sets = (tuple(matched(filters, name, draw) for filters in of_name) for name, of_name in own.items())
        yield Ranking(LAYER_MATCHED, draw, tuple(sets))


def _psnrs(context: StudyContext, state: State) -> Floats:
    """Return (images, inputs) PSNR in dB."""
    evaluator, names = context.evaluator, context.attribution.degradations
    return stack_inputs([evaluator.psnrs(evaluator.outputs(state, name)) for name in names])


_HEADS = {
    (DELETION, "own"): "deleted: own ↓",
    (DELETION, "other"): "others ↑",
    (INSERTION, "own"): "inserted: own ↑",
    (INSERTION, "other"): "others ↓",
}
_LAST = ("random", LAYER_MATCHED)


def _methods(run: RunFolder) -> list[str]:
    """Return every method of the curves in the report's order, the random methods last."""
    methods = unique(run.table("curves"), "method")
    order = [*run.methods, *methods]
    return sorted(methods, key=lambda method: (_LAST.index(method) + 1 if method in _LAST else 0, order.index(method)))


def _sentence(run: RunFolder) -> str:
    """Return a sentence with the restored shares at the headline percent: the sets deleted, and the sets inserted."""
    parts = {}
    for curve in CURVES:
        rows = records(select(run.table("curves"), run.headline, curve=curve, method=run.chosen))
        own = [row for row in rows if row["masked"] == row["degradation"]]
        parts[curve] = listed([f"{share(row['restored'])} of {removal(row['masked'])}" for row in own])
    if not all(parts.values()):
        return ""
    return (
        f"{method_label(run.chosen)} at {as_percent(run.headline)}: deleting its sets leaves {parts[DELETION]}; "
        f"inserting its sets alone restores {parts[INSERTION]}."
    )


@drawing()
def _figure(run: RunFolder) -> Figure:
    """Draw the restored share of every method against q: a row per masked set and curve, own input left, others right.

    Bands are the intervals over images.
    """
    table, masked = run.table("curves"), unique(run.table("curves"), "masked")
    places = [(name, curve) for name in masked for curve in CURVES]
    figure, axes = own_and_others([name for name, _ in places], masked, 0.6)
    for row, (name, curve) in zip(axes, places, strict=True):
        rows = select(table, curve=curve, masked=name)
        for panel, inputs in row:
            by_method = groups(rows[rows["degradation"].isin(inputs)], "method")
            for method in _methods(run):
                means = by_method[method].groupby("percent", as_index=False)[["restored", "low", "high"]].mean()
                band = ("low", "high") if len(inputs) == 1 else ()  # the table has no interval of a mean over inputs
                look = method_look(run.methods, method) | {"label": line_label(method)}
                line(panel, means.fillna({"restored": 0}), "percent", "restored", band=band, **look)
            guides(panel, 0, 1)
            panel.set_xscale("symlog", linthresh=0.1, linscale=0.35)
            panel.set_xlim(0, 100)
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xticks([0, 0.1, 1, 10, 100], ["0", *(as_percent(q) for q in (0.1, 1, 10, 100))])
            share_axis(panel)
            limit(panel, -0.5, 1.25, share)
            function = removal(inputs[0]) if len(inputs) == 1 else "the others, mean"
            done, drawn = ("deleted", "left") if curve == DELETION else ("inserted", "restored")
            panel.set_title(f"{removal(name)} set {done}: {function} {drawn}", fontsize=7.5)
        row[0][0].set_ylabel("restored share")
    for panel, _ in axes[-1]:
        panel.set_xlabel(f"q: {run.units} deleted or inserted")
    legend_above(figure, axes[0][0][0])
    return figure


def _table(run: RunFolder) -> Table | None:
    areas = select(run.table("curves_areas"), masked="all")
    if areas.empty:
        return None
    several = len(unique(run.table("curves"), "masked")) > 1
    sides = [key for key in _HEADS if several or key[1] == "own"]
    head = ["Area under the curve", *(_HEADS[key] for key in sides)]
    head += [f"{curve}, own against others, minus {method_label(run.chosen)}" for curve in CURVES] if several else []
    by_side = {(row["curve"], row["side"], row["method"]): row for row in records(areas)}
    compared = {(row["curve"], row["method"]): row for row in records(run.table("curves_compared"))}
    lines = []
    for axis in ("log", "linear"):
        columns = [f"area_{axis}{end}" for end in ("", "_low", "_high")]
        for method in _methods(run):
            cells = [_ends(by_side.get((*side, method)), columns) for side in sides]
            for curve in CURVES if several else ():
                row = compared.get((curve, method)) if axis == "log" else None
                cells.append(_ends(row, ("difference", "low", "high"), signed))
            lines.append([f"{method_label(method)}, {axis} q", *cells])
    return Table(head, lines)


def _ends(row: Mapping[str, Any] | None, columns: Sequence[str], show: Show = decimal) -> str:
    """Return a number with the ends of its interval as text; empty without a row."""
    return "" if row is None else with_ends([row.get(column) for column in columns], show)


SECTION = Section(
    name="curves",
    order=70,
    title="From all {units} to none and back: which ranking is faithful?",
    link="Deletion and insertion",
    method=(
        "Deletion sets the top q % of a ranking back to the baseline's values, from no {unit} to all {units}. "
        "Insertion starts with all {units} set back and gives the top q % the target's values again. With a faithful "
        "ranking the own function disappears and returns within the first percent, and the other functions do not "
        "change. Parameters that are not ranked, such as biases, stay the target's unless the settings say otherwise. "
        "There are two kinds of random {units}: {units} drawn from the whole network, and sets with as many {units} in "
        "each layer as the run's method has. The second kind shows the effect of the choice of layers alone."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts of the restored share against the percent of {units} deleted or inserted, a line per method",
    caption=(
        "Restored share, 1 − removed share, clipped: 100 % is the target, 0 % is the baseline or worse. The axis of "
        "q is logarithmic from 0.1 %. Bands (of one function) are 95 % bootstrap intervals over held-out photographs; "
        "with fewer than 10 photographs they are the range over photographs."
    ),
    table=_table,
    note=(
        "The area is the mean height of the curve between its own two ends, clipped to 0 and 1 and linear between the "
        "measured points. The area is given over log10 q (from the smallest measured q to 100 %) and over q itself, "
        "where the first percent have little weight. Arrows show which direction is better. The last columns are "
        "paired by photograph. Brackets hold the 95 % percentile bootstrap over held-out photographs with draws "
        "averaged; with fewer than 10 photographs they hold the range over photographs. The intervals do not cover "
        "other seeds or networks."
    ),
)
