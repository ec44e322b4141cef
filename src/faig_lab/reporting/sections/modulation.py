"""The section on modulation: restoration strength as a dial."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from faig_lab.analysis import Example
from faig_lab.reporting.charts import legend_above
from faig_lab.reporting.findings import restoration
from faig_lab.reporting.pictures import STRENGTH, PictureRow, Pictures, Tile, as_array
from faig_lab.reporting.run_files import RunFiles, numbers, points, select, unique, value
from faig_lab.reporting.sections.section import Section, Strips, Table
from faig_lab.reporting.style import MUTED, drawing, input_colour, new_figure
from faig_lab.reporting.words import count, degraded, listed, number, removal, together


def _curve(run: RunFiles, modulated: str, degradation: str) -> NDArray[np.float64]:
    """(2, n): λ ascending, and PSNR in dB."""
    return points(select(run.table("modulation"), modulated=modulated, degradation=degradation), "strength", "psnr")


def _sentence(run: RunFiles) -> str:
    said = []
    for name in run.degradations:
        psnr, size = dict(_curve(run, name, name).T), select(run.table("modulation"), modulated=name)
        if 0 in psnr and 1 in psnr:
            what = f"{removal(name)}, {count(value(size[0], 'filters'))} {run.units}"
            said.append(f"from {number(psnr[0])} to {number(psnr[1])} dB on {degraded(name)} input ({what})")
    return f"Between λ = 0 and λ = 1 PSNR goes {listed(said)}." if said else ""


def _figure(run: RunFiles) -> Figure:
    rows, baseline = run.table("modulation"), restoration(run).get("baseline", {})
    sets = unique(rows, "modulated")
    with drawing():
        figure = new_figure(3.0)
        panels = figure.subplots(1, len(sets), squeeze=False, sharex=True, sharey=True)[0]
        for panel, modulated in zip(panels, sets, strict=True):
            for name in unique(rows, "degradation"):
                colour, own = input_colour(run.degradations, name), name in modulated.split("+")
                panel.plot(
                    *_curve(run, modulated, name), color=colour, marker="o", markersize=3, linewidth=2 if own else 1.1,
                    label=f"{degraded(name)} input",
                )  # fmt: skip
                if (level := baseline.get(name)) is not None:
                    panel.axhline(level, color=colour, linewidth=0.9, linestyle=":")
            panel.axvline(1, color=MUTED, linewidth=0.8)
            panel.set_title(f"modulated: {together(modulated)}")
        panels[0].set_ylabel("PSNR in dB, held-out images")
        figure.supxlabel("strength λ: 0 = the baseline's values, 1 = the target's", fontsize=8)
        legend_above(figure, panels[-1])
    return figure


def _table(run: RunFiles) -> Table:
    rows = run.table("modulation")
    shown = [x for x in sorted(set(numbers(rows, "strength"))) if x * 4 == round(x * 4)]
    lines = []
    for modulated in unique(rows, "modulated"):
        for name in unique(rows, "degradation"):
            psnr = dict(_curve(run, modulated, name).T)
            lines.append([f"{together(modulated)}, {degraded(name)} input", *(number(psnr.get(x)) for x in shown)])
    return Table(["PSNR in dB at λ =", *(f"{x:g}" for x in shown)], lines)


def _grids(examples: Sequence[Example]) -> list[Pictures]:
    """A grid per degradation: a row per modulated set, a column per λ."""
    grids = []
    for example in examples:
        rows: dict[str, dict[str, Tile]] = {}
        for key in sorted(example.restored, key=lambda key: float(key.rpartition("/")[2])):
            modulated, _, strength = key.rpartition("/")
            tile = Tile(as_array(example.restored[key]), example.psnr[key])
            rows.setdefault(modulated, {})[f"{STRENGTH}{strength}"] = tile
        named = [PictureRow(together(name), tiles) for name, tiles in rows.items()]
        if named:
            grids.append(Pictures(example.degradation, named, as_array(example.truth)))
    return grids


SECTION = Section(
    name="modulation",
    title="Can the restoration be dialled?",
    link="Modulation",
    method=(
        "Instead of taking the discovered {units} away, they are set to baseline + λ · (target − baseline): "
        "λ = 0 is masking, λ = 1 is the target, and λ above 1 overdoes what training changed. All other weights stay "
        "the target's. If these {units} are the restoration, λ is a dial of its strength for one degradation, and the "
        "others do not notice."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts of PSNR against λ, a panel per modulated set of {units}, a line per input degradation",
    caption=(
        "PSNR against λ; thick: the input whose {units} are modulated. The vertical line marks the target, dotted "
        "lines the baseline's PSNR on each input."
    ),
    table=_table,
    note="Each λ holds for the whole image and for all images.",
    strips=Strips(
        grids=_grids,
        alt="Pictures of one photograph with {input} input, restored with growing λ: a row per modulated set",
        caption=(
            "One held-out photograph with {input} input, a detail of it; the rows modulate different {units}. "
            "PSNR in dB over the whole image."
        ),
    ),
)
