"""The boundary of restoration: the severity of each degradation is swept below and beyond the target's training.

The severity of a part is its first parameter (sigma, length, peak, quality). Held-out images are degraded again from
their ground truth, with the same noise as the study's own inputs. The images have no margin, so their border is
reflected. Pixels nearer to the border than the degradation's margin differ from those of the study's inputs.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, get_args, get_type_hints

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from faig_lab.data import CLEAN, Degradation, PairedImage, Part, sample_rng
from faig_lab.data.evaluation import EVALUATION_SEED
from faig_lab.evaluation.evaluator import convert
from faig_lab.evaluation.intervals import Floats, Resampling, number_or_none, scene_interval
from faig_lab.evaluation.masking import TableRow, means, stack_inputs
from faig_lab.metrics import as_image
from faig_lab.plotting.charts import guides, legend_above, line
from faig_lab.plotting.style import LINES, MUTED, drawing, input_colour, new_figure
from faig_lab.plotting.words import as_percent, degraded, listed, method_label, share, signed, with_ends
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import groups, numbers, records, select
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table

log = logging.getLogger(__name__)

FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
NETWORKS = ("bicubic", "baseline", "target", "masked")
SMALLEST_GAIN = 0.2
"""dB; a smaller gain has no share, since the gain is the divisor."""


def boundary(
    context: StudyContext, factors: Annotated[Sequence[Annotated[float, Field(gt=0)]], Field(min_length=1)] = FACTORS
) -> StudyResult:
    """Evaluate baseline, target and the target with its filters masked at severities around the trained severity.

    Args:
        context: networks, attribution and images; the masked filters are the degradation's own filters at the headline
            percent of the run's method.
        factors: multiples of the trained severity. For a trained range, factors below 1 multiply the low end, factors
            above 1 multiply the high end, and 1 stands for both ends and the middle.

    Returns:
        Table `boundary`: method, percent, degradation, parameter, severity, in_training (1 within the trained range),
        network, psnr (mean over held-out images). Table `boundary_gain`: the target's gain over the baseline in dB
        and the share of the gain that masking removes, with intervals over photographs. Metrics
        `boundary/gain/<D>/<severity>` and `boundary/share/<D>/<severity>`. Nothing if no degradation of the data has
        a known severity.
    """
    swept = list(_sweep(context, factors))
    if not swept:
        log.warning("boundary: no degradation of this run has a severity that can be swept")
        return StudyResult({})
    masked = {n: context.masked(f) for n, f in context.discovered(context.method, context.headline).items()}
    psnrs: list[TableRow] = []
    gains: list[TableRow] = []
    with context.bar("boundary", len(swept)) as advance:
        for row, name, part in swept:
            images = degrade_again(context.data.held_out, replace(context.degradation, parts={name: part}), name)
            evaluator = replace(context.evaluator, images=tuple(images))
            outputs = [convert(as_image, evaluator.upscaled(name))]
            for state in (context.baseline, context.target, masked[name]):
                outputs.append(evaluator.outputs(state, name))
            values = stack_inputs([evaluator.psnrs(images) for images in outputs])  # (images, NETWORKS)
            psnrs += [row | {"network": n, "psnr": float(values[:, i].mean())} for i, n in enumerate(NETWORKS)]
            how = Resampling(context.problem.seed)
            interval = scene_interval([values], context.evaluator.scenes, gain_and_share, how)
            cells: TableRow = {}
            for i, (column, value) in enumerate(zip(("gain", "share"), gain_and_share(values.mean(0)), strict=True)):
                cells |= {column: number_or_none(value)} | interval.ends((i,), f"{column}_")
            gains.append(row | cells | {"interval": interval.kind})
            advance(f"{name}, {row['parameter']} = {row['severity']}")
    metrics = means(gains, ("gain", "share"), "boundary/{column}/{degradation}/{severity:g}")
    return StudyResult({"boundary": psnrs, "boundary_gain": gains}, metrics)


def severities(part: Part, factors: Sequence[float]) -> dict[float, Part]:
    """Return the part at several severities: value of its first parameter → the part; ascending.

    A value that the part does not accept (e.g. an even length) becomes the next whole number, or is left out (e.g. a
    quality above 100). A kernel grows with a severity beyond training, so that its cut-off stays the same multiple of
    the severity.
    """
    if not is_dataclass(part):
        return {}
    parameter = fields(part)[0].name
    trained = getattr(part, parameter)
    if isinstance(trained, Mapping):  # the parts of a composed part, which has no severity
        return {}
    try:
        low, high = (trained, trained) if isinstance(trained, int | float) else trained
        wanted = {low, high} if 1 in factors else set()
        # Six digits, so that 3 · 0.1 is 0.3 in tables and keys.
        wanted |= {float(f"{(low if factor < 1 else high) * factor:.6g}") for factor in factors if factor != 1}
    except (TypeError, ValueError):
        return {}
    if 1 in factors and low < high:
        wanted.add((low + high) / 2)
    hint = get_type_hints(type(part))[parameter]
    whole = float not in (hint, *get_args(hint))
    pairs = (_at(part, parameter, value, trained=high, whole=whole) for value in sorted(wanted))
    return dict(pair for pair in pairs if pair is not None)


def degrade_again(images: Sequence[PairedImage], degradation: Degradation, name: str) -> list[PairedImage]:
    """Return the images with a new input `name`, made from their ground truth with a reflected border.

    Args:
        images: paired images.
        degradation: all of its parts are applied.
        name: of the input; the noise is that of the study's own input of this name.
    """
    parts, margin = frozenset(degradation.parts), degradation.margin
    degraded_images = []
    for image in images:
        # NumPy's padding, since the padding of torch reflects at most the width of the image.
        padded = torch.from_numpy(np.pad(image.hr.numpy(), ((0, 0), (margin, margin), (margin, margin)), "reflect"))
        rng = sample_rng(EVALUATION_SEED, f"evaluation/{image.name}/{name}")
        lr = degradation.apply(padded[None], [parts], [rng])[0]
        degraded_images.append(replace(image, lr={CLEAN: image.lr[CLEAN], name: lr}))
    return degraded_images


def _sweep(context: StudyContext, factors: Sequence[float]) -> Iterator[tuple[TableRow, str, Part]]:
    """Yield every degradation at every severity: the first cells of the tables, the name and the part."""
    for name in context.attribution.degradations:
        part: Any = context.degradation.parts.get(name)
        for value, changed in severities(part, factors).items() if part is not None else ():
            parameter = fields(part)[0].name
            trained = getattr(part, parameter)
            ends = (trained, trained) if isinstance(trained, int | float) else trained
            row: TableRow = {"method": context.method, "percent": context.headline, "degradation": name}
            inside = int(ends[0] <= value <= ends[1])
            yield row | {"parameter": parameter, "severity": float(value), "in_training": inside}, name, changed


def _at(part: Any, parameter: str, value: float, *, trained: float, whole: bool) -> tuple[float, Part] | None:
    """Return the part with this value, or with the nearest accepted value; None if no value is accepted."""
    kernel = getattr(part, "kernel_size", None)
    for candidate in (round(value), round(value) + 1) if whole else (float(value),):
        changes: dict[str, Any] = {parameter: candidate}
        if isinstance(kernel, int) and parameter != "kernel_size" and candidate > trained:
            changes["kernel_size"] = 2 * round(kernel // 2 * candidate / trained) + 1
        with suppress(TypeError, ValueError):  # the part does not accept the value
            return candidate, replace(part, **changes)
    return None


def gain_and_share(psnrs: Floats) -> Floats:
    """Compute the target's gain in dB and the share of the gain that masking removes: (B, NETWORKS) → (B, 2).

    The share is NaN where the gain is below `SMALLEST_GAIN`.
    """
    _, baseline, target, masked = np.moveaxis(psnrs, -1, 0)
    gain = target - baseline
    enough = gain >= SMALLEST_GAIN
    share = np.where(enough, (target - masked) / np.where(enough, gain, 1.0), np.nan)
    return np.stack([gain, share], axis=-1)


_LOOK = {
    "target": ("target", "-", 2.0),
    "masked": ("target, own set masked", "-.", 1.3),
    "baseline": ("baseline", "--", 1.1),
    "bicubic": ("bicubic", ":", 1.1),
}
_LABEL = 0.09  # of the axis: closer labels would overlap


def _gains(run: RunFolder) -> dict[str, pd.DataFrame]:
    """Return degradation → one row per severity, ascending."""
    gains = groups(run.table("boundary_gain"), "degradation")
    return {name: rows.sort_values("severity", kind="stable") for name, rows in gains.items()}


def _severity(row: Mapping[str, Any]) -> str:
    return f"{row['parameter']} = {row['severity']:g}"


def _sentence(run: RunFolder) -> str:
    rows = records(run.table("boundary_gain"))
    shares = [
        f"{share(row['share'])} of the gain of {signed(row['gain'])} dB on {degraded(row['degradation'])} input "
        f"({_severity(row)})"
        for row in rows
        if row["in_training"]
    ]
    filters = f"the top {as_percent(rows[0]['percent'])} of {method_label(rows[0]['method'])}"
    return f"At the severity in training, {filters} carry {listed(shares)}." if shares else ""


@drawing()
def _figure(run: RunFolder) -> Figure:
    gains, psnrs = _gains(run), groups(run.table("boundary"), "degradation")
    figure = new_figure(4.9)
    above, below = figure.subplots(2, len(psnrs), squeeze=False, sharex="col", sharey="row")
    for name, upper, lower in zip(psnrs, above, below, strict=True):
        rows, colour = gains[name], input_colour(run.degradations, name)
        for network, (label, style, width) in _LOOK.items():
            look: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": width, "label": label}
            line(upper, select(psnrs[name], network=network), "severity", "psnr", markersize=2, **look)
        _gain_panel(lower, rows, colour)
        psnr = psnrs[name].pivot_table("psnr", "severity", "network")
        if {"masked", "baseline"} <= {*psnr}:
            left = (psnr["masked"] - psnr["baseline"]).dropna()
            lower.plot(left.index, left, "-.", color=colour, linewidth=1.3)
        trained = numbers(rows[rows["in_training"] > 0], "severity")
        for panel in (upper, lower) if trained else ():
            panel.axvspan(min(trained), max(trained), color=LINES, zorder=0)
            for edge in {min(trained), max(trained)}:
                panel.axvline(edge, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
        upper.set_title(f"{degraded(name)} input")
        lower.set_xlabel(f"{rows['parameter'].iloc[0]} of {name.replace('_', ' ')}")
    above[0].set_ylabel("PSNR in dB")
    below[0].set_ylabel("gain over the baseline in dB")
    legend_above(figure, above[0])
    return figure


def _gain_panel(panel: Axes, rows: pd.DataFrame, colour: str) -> None:
    """Draw the gain with its interval, and the share that the set carries."""
    line(panel, rows, "severity", "gain", band=("gain_low", "gain_high"), color=colour, linewidth=2.0)
    guides(panel, 0)
    apart, shown = _LABEL * (rows["severity"].max() - rows["severity"].min()), list[float]()
    for row in records(rows.sort_values("in_training", ascending=False, kind="stable").dropna(subset="share")):
        if all(abs(row["severity"] - other) >= apart for other in shown):
            shown.append(row["severity"])
            panel.annotate(
                share(row["share"]), (row["severity"], row["gain"]), (0, 5), textcoords="offset points", ha="center",
                fontsize=7, bbox={"color": "white", "alpha": 0.6, "pad": 0.5},
            )  # fmt: skip


def _table(run: RunFolder) -> Table:
    lines = []
    for name, rows in _gains(run).items():
        for row in records(rows):
            gain, carried = ([row.get(f"{key}{end}") for end in ("", "_low", "_high")] for key in ("gain", "share"))
            head = f"{degraded(name)}, {_severity(row)}{' (trained)' if row['in_training'] else ''}"
            lines.append([head, with_ends(gain, signed), with_ends(carried, share)])
    return Table(["Input", "Gain of the target in dB", "Carried by its own set"], lines)


SECTION = Section(
    name="boundary",
    order=50,
    title="At which severities does the restoration work?",
    link="Boundary",
    method=(
        "The held-out photographs are degraded again, weaker and stronger than in training, one degradation at a time. "
        "At each severity the target is compared with the baseline, and with the target whose discovered {units} for "
        "this degradation are masked. The PSNR lost by masking is the share of the gain that these {units} carry."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts against severity, a column per degradation: above PSNR of four networks, below gain in dB",
    caption=(
        "Above: PSNR on held-out images. Below: the gain of the target over the baseline with its interval over "
        "photographs (with fewer than 10 the range). The dash-dotted line is the gain with the discovered {units} "
        "masked. The numbers are the share that these {units} carry, where the gain is at least 0.2 dB. The dotted "
        "lines mark the severity in training."
    ),
    table=_table,
    note=(
        "The degraded images are made from the ground truth without its surroundings, so their border is reflected. "
        "Numbers at the trained severity therefore differ a little from those of the other sections."
    ),
)
