"""Modulation: discovered filters at θ̄ + λ(θ − θ̄), with λ from 0 (masked) through 1 (target) to 1.5."""

from collections.abc import Sequence
from typing import Annotated

import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from faig_lab.data import CLEAN
from faig_lab.evaluation.evaluator import Example, example, images_to_show, mean, pooled
from faig_lab.evaluation.intervals import number_or_none
from faig_lab.evaluation.masking import TableRow, means
from faig_lab.filters import State, modulate
from faig_lab.metrics import as_image, back
from faig_lab.plotting.charts import legend_above, line, side_by_side
from faig_lab.plotting.findings import restoration
from faig_lab.plotting.pictures import STRENGTH, PictureRow, Pictures, Tile, as_array
from faig_lab.plotting.style import MUTED, drawing, input_colour
from faig_lab.plotting.words import count, decimal, degraded, listed, removal, together
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import frame, groups, points, select
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Strips, Table

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def modulation(
    context: StudyContext,
    strengths: Sequence[float] = STRENGTHS,
    pictured: Sequence[float] = STRENGTHS,
    *,
    method: str | None = None,
    percent: Annotated[float, Field(gt=0, le=100)] | None = None,
    image: Annotated[int, Field(ge=0)] | None = None,
) -> StudyResult:
    """Sweep λ on the discovered filters of each degradation, and on all these filters at once.

    Args:
        context: networks, attribution and images.
        strengths: λ, in the order of the table; 0 is masked, 1 is the target.
        pictured: the λ with pictures.
        method: the method whose filters are modulated; None is the run's own.
        percent: the percent of the filters; None is the headline percent.
        image: the position of the pictured held-out image, counted from 0, modulo the number of images. None is the
            first colour photograph.

    Returns:
        Table `modulation`: method, percent, filters, modulated, strength, degradation (also "clean"), psnr, removed,
        back (0 = the target's output, 1 = the baseline's); metrics `best_strength/<modulated>/<degradation>`; one
        example per degradation, `restored` by `<modulated>/<λ>`.
    """
    chosen, q, evaluator = method or context.method, percent or context.headline, context.evaluator
    sets, names = discovered_sets(context, chosen, q), context.attribution.degradations
    rows: list[TableRow] = []
    images = context.data.held_out
    position = images_to_show(images)[0] if image is None else image % len(images)
    restored: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    with context.bar("modulation", len(sets) * len(strengths)) as advance:
        for name, filters in sets.items():
            for strength in strengths:
                state: State = context.target  # λ = 1 is the target for any filters
                if strength != 1:
                    layout = context.attribution.layout
                    state = modulate(context.target, context.baseline, layout, filters, strength)
                row: TableRow = {"method": chosen, "percent": q, "filters": len(filters), "modulated": name}
                row["strength"] = float(strength)
                for degradation in context.inputs:
                    outputs = evaluator.raw(state, degradation)
                    effect = evaluator.effect_of(outputs, degradation)
                    psnr = mean(effect.psnrs)
                    # Clean input has nothing to remove.
                    removed = None if degradation == CLEAN else evaluator.removed(psnr, degradation)
                    cells: TableRow = {"degradation": degradation, "psnr": psnr, "removed": removed}
                    rows.append(row | cells | {"back": number_or_none(back(pooled(effect)))})
                    if strength in pictured and degradation != CLEAN:
                        restored[degradation][f"{name}/{strength:g}"] = as_image(outputs[position]).cpu()
                advance(f"{name}, λ = {strength:g}")
    pictures = [example(images[position], name, restored[name], evaluator.scale) for name in names]
    return StudyResult({"modulation": rows}, _best_strengths(rows), pictures)


def discovered_sets(context: StudyContext, method: str, percent: float) -> dict[str, Tensor]:
    """Return the discovered filters of each degradation and, for several degradations, their union as `<a>+<b>`."""
    sets = context.discovered(method, percent)
    return sets if len(sets) == 1 else sets | {"+".join(sets): torch.unique(torch.cat(list(sets.values())))}


def _best_strengths(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """Return the λ with the highest PSNR; of equal values the first."""
    table = frame(row for row in rows if row["degradation"] != CLEAN)
    best = table.loc[table.groupby(["modulated", "degradation"], sort=False)["psnr"].idxmax()]
    return means(best, "strength", "best_strength/{modulated}/{degradation}")


def _sentence(run: RunFolder) -> str:
    changes = []
    for name in run.degradations:
        rows = select(run.table("modulation"), modulated=name, degradation=name)
        psnr = dict(points(rows, "strength", "psnr").T)
        if 0 in psnr and 1 in psnr:
            filters = f"{removal(name)}, {count(rows['filters'].iloc[0])} {run.units}"
            changes.append(f"from {decimal(psnr[0])} to {decimal(psnr[1])} dB on {degraded(name)} input ({filters})")
    return f"Between λ = 0 and λ = 1 PSNR changes {listed(changes)}." if changes else ""


@drawing()
def _figure(run: RunFolder) -> Figure:
    baseline, sets = restoration(run).get("baseline", {}), groups(run.table("modulation"), "modulated")
    figure, panels = side_by_side(3.0, len(sets))
    for panel, (modulated, rows) in zip(panels, sets.items(), strict=True):
        for name, curve in groups(rows, "degradation").items():
            colour, width = input_colour(run.degradations, name), 2 if name in modulated.split("+") else 1.1
            label = f"{degraded(name)} input"
            line(panel, curve, "strength", "psnr", markersize=3, color=colour, linewidth=width, label=label)
            if name in baseline:
                panel.axhline(baseline[name], color=colour, linewidth=0.9, linestyle=":")
        panel.axvline(1, color=MUTED, linewidth=0.8)
        panel.set_title(f"modulated: {together(modulated)}")
    panels[0].set_ylabel("PSNR in dB, held-out images")
    figure.supxlabel("strength λ: 0 = the baseline's values, 1 = the target's", fontsize=8)
    legend_above(figure, panels[-1])
    return figure


def _table(run: RunFolder) -> Table:
    psnr = run.table("modulation").pivot_table("psnr", ["modulated", "degradation"], "strength", sort=False)
    shown = [strength for strength in sorted(psnr.columns.astype(float)) if strength * 4 == round(strength * 4)]
    lines = [
        [f"{together(modulated)}, {degraded(name)} input", *map(decimal, values)]
        for (modulated, name), *values in psnr[shown].itertuples(name=None)
    ]
    return Table(["PSNR in dB at λ =", *(f"{x:g}" for x in shown)], lines)


def _grids(examples: Sequence[Example]) -> list[Pictures]:
    """Return a grid per degradation: a row per modulated set, a column per λ."""
    grids = []
    for picture in examples:
        rows: dict[str, dict[str, Tile]] = {}
        for key in sorted(picture.restored, key=lambda key: float(key.rpartition("/")[2])):
            modulated, _, strength = key.rpartition("/")
            tile = Tile(as_array(picture.restored[key]), picture.psnr[key])
            rows.setdefault(modulated, {})[f"{STRENGTH}{strength}"] = tile
        named = [PictureRow(together(name), tiles) for name, tiles in rows.items()]
        if named:
            grids.append(Pictures(picture.degradation, named, as_array(picture.truth)))
    return grids


SECTION = Section(
    name="modulation",
    order=10,
    title="Can the strength of the restoration be set?",
    link="Modulation",
    method=(
        "The discovered {units} are set to baseline + λ · (target − baseline). λ = 0 is masking, λ = 1 is the target, "
        "and λ above 1 goes beyond the training's change. All other weights stay the target's. If these {units} carry "
        "the restoration, λ sets its strength for one degradation, and the restoration of the others does not change."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts of PSNR against λ, a panel per modulated set of {units}, a line per input degradation",
    caption=(
        "PSNR against λ. The thick line is the input whose {units} are modulated. The vertical line marks the target; "
        "dotted lines mark the baseline's PSNR on each input."
    ),
    table=_table,
    note="Each λ holds for the whole image and for all images.",
    strips=Strips(
        grids=_grids,
        alt="Pictures of one photograph with {input} input, restored with growing λ: a row per modulated set",
        caption=(
            "A detail of one held-out photograph with {input} input; the rows modulate different {units}. "
            "PSNR in dB over the whole image."
        ),
    ),
)
