"""The boundary of restoration: each degradation's severity swept below and beyond what the target was trained on.

The severity of a part is its first parameter (sigma, length, peak, quality). Held-out images are degraded anew from
their ground truth, with the noise that the study's own inputs have. They carry no margin, so their border is
reflected: pixels nearer to it than the degradation's margin differ from those of the study's inputs.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, get_args, get_type_hints

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import discovered
from faig_lab.data import CLEAN, Degradation, PairedImage, Part, sample_rng
from faig_lab.data.evaluation import EVALUATION_SEED
from faig_lab.evaluation.intervals import scene_interval
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import State, mask
from faig_lab.metrics import as_image, bicubic
from faig_lab.plotting.charts import guides, legend_above
from faig_lab.plotting.style import LINES, MUTED, drawing, input_colour, new_figure
from faig_lab.plotting.words import as_percent, degraded, listed, method_label, share, signed, with_ends
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import Row, Rows, number_at, numbers, numbers_at, points, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table

log = logging.getLogger(__name__)

FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
NETWORKS = ("bicubic", "baseline", "target", "masked")
SMALLEST_GAIN = 0.2
"""dB; of a smaller gain no share is given, since that would divide by next to nothing."""


def boundary(
    context: StudyContext, factors: Annotated[Sequence[Annotated[float, Field(gt=0)]], Field(min_length=1)] = FACTORS
) -> StudyResult:
    """Judge baseline, target and the target without its discovered filters at severities around the trained one.

    Args:
        context: what is analysed; masked are the degradation's own filters, at the headline percent of its method.
        factors: times the trained severity; of a trained range, its low end for factors below 1, its high end for
            those above, and both ends and the middle for 1.

    Returns:
        Table `boundary`: method, percent, degradation, parameter, severity, in_training (1 within the trained range),
        network, psnr (mean over held-out images). Table `boundary_gain`: the target's gain over the baseline in dB
        and the share of it that masking removes, with intervals over photographs. Metrics
        `boundary/gain/<D>/<severity>` and `boundary/share/<D>/<severity>`. Nothing, where no degradation of the
        data has a severity that is known.
    """
    swept = list(_sweep(context, factors))
    if not swept:
        log.warning("boundary: no degradation of this run has a severity that can be swept")
    psnrs: list[TableRow] = []
    gains: list[TableRow] = []
    with context.bar("boundary", len(swept)) as advance:
        for what, name, part in swept:
            images = degrade_anew(context.data.held_out, replace(context.degradation, parts={name: part}), name)
            values = _psnrs(context, images, name)
            psnrs += [what | {"network": n, "psnr": float(values[:, i].mean())} for i, n in enumerate(NETWORKS)]
            gains.append(what | _gain(values, context.evaluator.scenes, context.problem.seed))
            advance(f"{name}, {what['parameter']} = {what['severity']}")
    tables = {"boundary": psnrs, "boundary_gain": gains} if swept else {}
    return StudyResult(tables, _metrics(gains))


def severities(part: Part, factors: Sequence[float]) -> dict[float, Part]:
    """The part at several severities: value of its first parameter → the part with it; ascending.

    A value that the part does not take (an even length, a quality above 100) becomes the whole number after it, or
    is left out. A kernel grows with a severity beyond training, so that it is cut off at the same multiple of it.
    """
    if not is_dataclass(part):
        return {}
    parameter = fields(part)[0].name
    trained = getattr(part, parameter)
    if isinstance(trained, Mapping):  # the parts of a composed part, which has no severity
        return {}
    try:
        low, high = (trained, trained) if isinstance(trained, int | float) else trained
        wanted = {v for f in factors for v in ([low, high] if f == 1 else [_short((low if f < 1 else high) * f)])}
    except (TypeError, ValueError):
        return {}
    if 1 in factors and low < high:
        wanted.add((low + high) / 2)
    taken = get_type_hints(type(part))[parameter]
    whole = float not in (taken, *get_args(taken))
    found = (_at(part, parameter, value, high, whole) for value in sorted(wanted))
    return dict(pair for pair in found if pair is not None)


def degrade_anew(images: Sequence[PairedImage], degradation: Degradation, name: str) -> list[PairedImage]:
    """The images with another input `name`, made from their ground truth with a reflected border.

    Args:
        images: paired images.
        degradation: all of its parts are applied.
        name: of the input; it chooses the noise, which is that of the study's own input of this name.
    """
    parts, margin = frozenset(degradation.parts), degradation.margin
    anew = []
    for image in images:
        # NumPy's padding, since torch's reflects no further than the image is wide.
        padded = torch.from_numpy(np.pad(image.hr.numpy(), ((0, 0), (margin, margin), (margin, margin)), "reflect"))
        rng = sample_rng(EVALUATION_SEED, f"evaluation/{image.name}/{name}")
        lr = degradation.apply(padded[None], [parts], [rng])[0]
        anew.append(replace(image, lr={CLEAN: image.lr[CLEAN], name: lr}))
    return anew


def _sweep(context: StudyContext, factors: Sequence[float]) -> Iterator[tuple[TableRow, str, Part]]:
    """Every degradation at every severity: what the tables say of it, its name, the part."""
    for name in context.attribution.degradations:
        part: Any = context.degradation.parts.get(name)
        for value, changed in severities(part, factors).items() if part is not None else ():
            parameter = fields(part)[0].name
            trained = getattr(part, parameter)
            ends = (trained, trained) if isinstance(trained, int | float) else trained
            what: TableRow = {"method": context.method, "percent": context.headline, "degradation": name}
            inside = int(ends[0] <= value <= ends[1])
            yield what | {"parameter": parameter, "severity": float(value), "in_training": inside}, name, changed


def _short(value: float) -> float:
    """Six digits: 3 · 0.1 is to be 0.3 in tables and keys."""
    return float(f"{value:.6g}")


def _at(part: Any, parameter: str, value: float, trained: float, whole: bool) -> tuple[float, Part] | None:
    """The part with this value, or the nearest one that it takes; None where there is none."""
    kernel = getattr(part, "kernel_size", None)
    for candidate in (round(value), round(value) + 1) if whole else (float(value),):
        changes: dict[str, Any] = {parameter: candidate}
        if isinstance(kernel, int) and parameter != "kernel_size" and candidate > trained:
            changes["kernel_size"] = 2 * round(kernel // 2 * candidate / trained) + 1
        if _accepts(part, changes):
            return candidate, replace(part, **changes)
    return None


def _accepts(part: Any, changes: Mapping[str, Any]) -> bool:
    try:
        replace(part, **changes)
    except (TypeError, ValueError):
        return False
    return True


def _psnrs(context: StudyContext, images: Sequence[PairedImage], name: str) -> NDArray[np.float64]:
    """(images, NETWORKS) dB."""
    evaluator = replace(context.evaluator, images=tuple(images))
    row = context.attribution.degradations.index(name)
    own = discovered(context.attribution.scores[context.method][0][row], context.headline)
    masked = mask(context.target, context.baseline, context.attribution.layout, own)
    states: dict[str, State] = {"baseline": context.baseline, "target": context.target, "masked": masked}
    outputs: dict[str, list[Tensor]] = {n: evaluator.outputs(state, name) for n, state in states.items()}
    outputs["bicubic"] = [as_image(bicubic(image.lr[name][None], evaluator.scale)[0]) for image in images]
    return np.stack([evaluator.psnrs(outputs[network]).double().numpy() for network in NETWORKS], axis=1)


def _gain(psnrs: NDArray[np.float64], scenes: Sequence[str], seed: int) -> TableRow:
    """Gain and share of (images, NETWORKS), with intervals; None where the gain is too small for a share."""
    gain, share = gain_and_share(psnrs.mean(0)[None])[0]
    low, high, kind = scene_interval(psnrs, scenes, gain_and_share, seed=seed)
    numbers = {
        "gain": gain, "gain_low": low[0], "gain_high": high[0],
        "share": share, "share_low": low[1], "share_high": high[1],
    }  # fmt: skip
    row: TableRow = {key: None if np.isnan(value) else float(value) for key, value in numbers.items()}
    return row | {"interval": kind}


def gain_and_share(psnrs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over images (B, NETWORKS) → (B, 2): the target's gain in dB, and the share of it that masking removes.

    The share is NaN where the gain is below `SMALLEST_GAIN`.
    """
    _, baseline, target, masked = np.moveaxis(psnrs, -1, 0)
    gain = target - baseline
    enough = gain >= SMALLEST_GAIN
    share = np.where(enough, (target - masked) / np.where(enough, gain, 1.0), np.nan)
    return np.stack([gain, share], axis=-1)


def _metrics(gains: Sequence[TableRow]) -> dict[str, float | None]:
    return {
        f"boundary/{key}/{row['degradation']}/{float(str(row['severity'])):g}": None
        if row[key] is None
        else float(str(row[key]))
        for row in gains
        for key in ("gain", "share")
    }


_LOOK = {
    "target": ("target", "-", 2.0),
    "masked": ("target, own set masked", "-.", 1.3),
    "baseline": ("baseline", "--", 1.1),
    "bicubic": ("bicubic", ":", 1.1),
}
_LABEL = 0.09  # of the axis: labels that are closer would run into each other


def _gains(run: RunFolder, degradation: str) -> Rows:
    """One row per severity, ascending."""
    return sorted(
        select(run.table("boundary_gain"), degradation=degradation), key=lambda row: number_at(row, "severity") or 0.0
    )


def _gain_at(row: Row) -> str:
    return f"{row['parameter']} = {number_at(row, 'severity'):g}"


def _sentence(run: RunFolder) -> str:
    rows = run.table("boundary_gain")
    said = [
        f"{share(number_at(row, 'share'))} of the gain of {signed(number_at(row, 'gain'))} dB on "
        f"{degraded(str(row['degradation']))} input ({_gain_at(row)})"
        for row in rows
        if number_at(row, "in_training")
    ]
    what = f"the top {as_percent(number_at(rows[0], 'percent') or 0)} of {method_label(str(rows[0]['method']))}"
    return f"At the severity in training, {what} carry {listed(said)}." if said else ""


def _figure(run: RunFolder) -> Figure:
    names = unique(run.table("boundary"), "degradation")
    with drawing():
        figure = new_figure(4.9)
        above, below = figure.subplots(2, len(names), squeeze=False, sharex="col", sharey="row")
        for name, upper, lower in zip(names, above, below, strict=True):
            rows, colour = _gains(run, name), input_colour(run.degradations, name)
            curves = {
                network: points(select(run.table("boundary"), degradation=name, network=network), "severity", "psnr")
                for network in _LOOK
            }
            for network, (label, style, width) in _LOOK.items():
                upper.plot(
                    *curves[network], style, color=colour, linewidth=width, marker="o", markersize=2, label=label
                )
            _gain_panel(lower, rows, colour)
            severity, masked = curves["masked"]
            if len(masked) == len(curves["baseline"][1]):
                lower.plot(severity, masked - curves["baseline"][1], "-.", color=colour, linewidth=1.3)
            for panel in (upper, lower):
                _mark_trained(panel, rows)
            upper.set_title(f"{degraded(name)} input")
            lower.set_xlabel(f"{rows[0]['parameter']} of {name.replace('_', ' ')}")
        above[0].set_ylabel("PSNR in dB")
        below[0].set_ylabel("gain over the baseline in dB")
        legend_above(figure, above[0])
    return figure


def _gain_panel(panel: Axes, rows: Rows, colour: str) -> None:
    """The gain with its interval, and the share that the set carries."""
    severity, low, high = points(rows, "severity", "gain_low", "gain_high")
    panel.fill_between(severity, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.plot(*points(rows, "severity", "gain"), color=colour, linewidth=2.0, marker="o", markersize=2.5)
    guides(panel, 0)
    apart, shown = _LABEL * (severity.max() - severity.min() if len(severity) else 0), list[float]()
    for row in sorted(rows, key=lambda row: not number_at(row, "in_training")):
        x, carried = number_at(row, "severity") or 0.0, number_at(row, "share")
        if carried is not None and all(abs(x - other) >= apart for other in shown):
            shown.append(x)
            panel.annotate(
                share(carried), (x, number_at(row, "gain") or 0.0), (0, 5), textcoords="offset points", ha="center",
                fontsize=7, bbox={"color": "white", "alpha": 0.6, "pad": 0.5},
            )  # fmt: skip


def _mark_trained(panel: Axes, rows: Rows) -> None:
    trained = numbers([row for row in rows if number_at(row, "in_training")], "severity")
    if trained:
        panel.axvspan(min(trained), max(trained), color=LINES, zorder=0)
        for edge in {min(trained), max(trained)}:
            panel.axvline(edge, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)


def _table(run: RunFolder) -> Table:
    lines = []
    for name in unique(run.table("boundary_gain"), "degradation"):
        for row in _gains(run, name):
            gain, carried = (numbers_at(row, key, f"{key}_low", f"{key}_high") for key in ("gain", "share"))
            where = f"{degraded(name)}, {_gain_at(row)}{' (trained)' if number_at(row, 'in_training') else ''}"
            lines.append([where, with_ends(gain, signed), with_ends(carried, share)])
    return Table(["Input", "Gain of the target in dB", "Carried by its own set"], lines)


SECTION = Section(
    name="boundary",
    order=50,
    title="How far does the restoration reach?",
    link="Boundary",
    method=(
        "The held-out photographs are degraded again, weaker and stronger than in training, one degradation at a time. "
        "At each severity the target is compared with the baseline, and with itself when the degradation's own "
        "discovered {units} are masked: what is then lost is the share of the gain that these {units} carry."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts against severity, a column per degradation: above PSNR of four networks, below gain in dB",
    caption=(
        "Above: PSNR on held-out images. Below: the gain of the target over the baseline with its interval over "
        "photographs (of fewer than 10 the range), and dash-dotted what is left of it with the discovered {units} "
        "masked; the numbers are the share that they carry, where the gain is at least 0.2 dB. Dotted: the severity "
        "in training."
    ),
    table=_table,
    note=(
        "The degraded images are made from the ground truth without its surroundings, so their border is reflected; "
        "numbers at the trained severity differ a little from those of the other sections."
    ),
)
