"""The section on modulation: restoration strength as a dial."""

from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faig_lab.analysis import Example
from faig_lab.reporting.examples import as_array
from faig_lab.reporting.findings import gain, restoration
from faig_lab.reporting.pictures import STRENGTH, PictureRow, Pictures, Tile
from faig_lab.reporting.run_files import RunFiles, unique, value
from faig_lab.reporting.sections.section import Section, Strips, Table
from faig_lab.reporting.style import INK, MUTED, degradation_colour, drawing, new_figure
from faig_lab.reporting.words import (
    count,
    degraded,
    method_label,
    number,
    percent,
    removal,
    sentence_case,
    share,
    signed,
)

_FLAT = 0.01  # dB; smaller steps down are not called a setback

Curve = list[tuple[float, float]]
"""(λ, PSNR in dB), λ ascending."""


def _curve(run: RunFiles, modulated: str, degradation: str) -> Curve:
    points = [
        (strength, psnr)
        for row in run.table("modulation")
        if (row["modulated"], row["degradation"]) == (modulated, degradation)
        and (strength := value(row, "strength")) is not None
        and (psnr := value(row, "psnr")) is not None
    ]
    return sorted(points)


def _filters(modulated: str) -> str:
    """`blur` → `deblurring filters`; the set of several degradations is that of all."""
    return "all together" if "+" in modulated else f"{removal(modulated)} filters"


def _sentences(run: RunFiles) -> list[str]:
    rows = run.table("modulation")
    method, chosen = str(rows[0]["method"]), value(rows[0], "percent")
    said = [f"Modulated are the top {percent(chosen or 0)} of {method_label(method)}."]
    for modulated in unique(rows, "modulated"):
        own = modulated.split("+")
        size = next(count(value(row, "filters")) for row in rows if row["modulated"] == modulated)
        parts = [_own(run, modulated, name) for name in own]
        others = [name for name in unique(rows, "degradation") if name not in own]
        parts += [_other(run, modulated, name) for name in others]
        said.append(f"{sentence_case(_filters(modulated))} ({size}): {' '.join(parts)}")
    return said


def _own(run: RunFiles, modulated: str, degradation: str) -> str:
    """What the sweep does to the input whose filters are modulated."""
    curve = _curve(run, modulated, degradation)
    within = [point for point in curve if 0 <= point[0] <= 1]
    if len(within) < 2:
        return f"{degraded(degradation)} input was measured at too few strengths between 0 and 1."
    (first, low), (last, high) = within[0], within[-1]
    best, top = max(curve, key=lambda point: point[1])
    return (
        f"PSNR on {degraded(degradation)} input goes from {number(low)} dB at λ = {first:g} to {number(high)} dB at "
        f"λ = {last:g}, {_steadiness(within)}. PSNR is highest at λ = {best:g} "
        f"({_against_target(best, top, dict(curve).get(1.0))}){_beyond(curve)}."
    )


def _steadiness(within: Curve) -> str:
    """Whether PSNR rises all the way, and if not, where it falls most."""
    steps = [(after[1] - before[1], before[0], after[0]) for before, after in pairwise(within)]
    worst, start, end = min(steps)
    if worst >= -_FLAT:
        return "rising all the way"
    return f"but not steadily: it falls by {number(-worst)} dB between λ = {start:g} and {end:g}"


def _against_target(best: float, top: float, target: float | None) -> str:
    if best == 1 or target is None:
        return f"{number(top)} dB" if target is None else "the target itself"
    return f"{number(top)} dB, {signed(top - target)} against the target"


def _beyond(curve: Curve) -> str:
    """What the strongest measured λ does, where it is beyond the target."""
    strongest, psnr = curve[-1]
    target = dict(curve).get(1.0)
    if strongest <= 1 or target is None or psnr == max(curve, key=lambda point: point[1])[1]:
        return ""
    return f"; at λ = {strongest:g} it is {number(psnr)} dB, {signed(psnr - target)}"


def _other(run: RunFiles, modulated: str, degradation: str) -> str:
    """How far an input whose filters are not modulated moves."""
    curve = _curve(run, modulated, degradation)
    target = dict(curve).get(1.0)
    whole = gain(run, degradation)
    if target is None or not whole:
        return ""
    moved, strength = max((abs(psnr - target), strength) for strength, psnr in curve)
    part = f", {share(moved / whole)} of what the target gains there" if whole > 0 else ""
    return f"Meanwhile {degraded(degradation)} input moves by up to {number(moved)} dB (at λ = {strength:g}){part}."


def _figure(run: RunFiles) -> Figure | None:
    rows = run.table("modulation")
    sets, inputs = unique(rows, "modulated"), unique(rows, "degradation")
    with drawing():
        figure = new_figure(3.0)
        panels = figure.subplots(1, len(sets), squeeze=False, sharex=True, sharey=True)[0]
        for panel, modulated in zip(panels, sets, strict=True):
            _panel(panel, run, modulated, inputs)
        panels[0].set_ylabel("PSNR in dB, held-out images")
        figure.supxlabel("strength λ of the modulated filters: 0 = the baseline's values, 1 = the target's", fontsize=8)
        figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside upper center", ncols=len(inputs))
    return figure


def _panel(panel: Axes, run: RunFiles, modulated: str, inputs: Sequence[str]) -> None:
    means = restoration(run)
    for index, degradation in enumerate(inputs):
        strengths, values = zip(*_curve(run, modulated, degradation), strict=True)
        colour = INK if degradation == "clean" else degradation_colour(index)
        panel.plot(
            strengths, values, color=colour, marker="o", markersize=3, label=f"{degraded(degradation)} input",
            linewidth=2 if degradation in modulated.split("+") else 1.1,
        )  # fmt: skip
        level = means.get("baseline", {}).get(degradation)
        if level is not None:
            panel.axhline(level, color=colour, linewidth=0.9, linestyle=":")
    panel.axvline(1, color=MUTED, linewidth=0.8)
    panel.set_title(_filters(modulated))


def _table(run: RunFiles) -> Table | None:
    rows = run.table("modulation")
    strengths = sorted({strength for row in rows if (strength := value(row, "strength")) is not None})
    shown = [strength for strength in strengths if strength * 4 == round(strength * 4)]
    lines = []
    for modulated in unique(rows, "modulated"):
        for degradation in unique(rows, "degradation"):
            curve = dict(_curve(run, modulated, degradation))
            cells = [number(curve.get(strength)) for strength in shown]
            lines.append([f"{_filters(modulated)}, {degraded(degradation)} input", *cells])
    return Table(["PSNR in dB at λ =", *(f"{strength:g}" for strength in shown)], lines)


def _grids(examples: Sequence[Example]) -> list[Pictures]:
    """A grid per degradation: a row per modulated set, a column per λ."""
    grids = []
    for example in examples:
        rows: dict[str, dict[str, Tile]] = {}
        for key in sorted(example.restored, key=_strength):
            modulated, _, strength = key.rpartition("/")
            row = rows.setdefault(modulated, {})
            row[f"{STRENGTH}{strength}"] = Tile(as_array(example.restored[key]), example.psnr[key])
        named = [PictureRow(_filters(name), tiles) for name, tiles in rows.items()]
        if named:
            grids.append(Pictures(example.degradation, named, as_array(example.truth)))
    return grids


def _strength(key: str) -> float:
    """λ of `<modulated>/<λ>`; sorting by it keeps the order of the sets."""
    return float(key.rpartition("/")[2])


SECTION = Section(
    name="modulation",
    title="Can the restoration be dialled?",
    link="Modulation",
    method=(
        "Instead of taking the discovered filters away, they are set to baseline + λ · (target − baseline): "
        "λ = 0 is masking, λ = 1 is the target, and λ above 1 overdoes what training changed. All other weights stay "
        "the target's. If these filters are the restoration, λ is a dial of its strength for one degradation, and the "
        "others do not notice."
    ),
    sentences=_sentences,
    figure=_figure,
    alt="Line charts of PSNR against λ, a panel per modulated set of filters, a line per input degradation",
    caption=(
        "PSNR against λ; thick: the input whose filters are modulated. The vertical line marks the target, dotted "
        "lines the baseline's PSNR on each input."
    ),
    table=_table,
    note="Each λ holds for the whole image and for all images; the best one is that of the measured strengths.",
    strips=Strips(
        grids=_grids,
        alt="Pictures of one photograph with {} input, restored with growing λ: a row per modulated set of filters",
        caption=(
            "One held-out photograph with {} input, a detail of it; the rows modulate different filters. "
            "PSNR in dB over the whole image."
        ),
    ),
)
