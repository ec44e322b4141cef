"""The section on the boundary of restoration: what is left of the gain at severities that were not trained on."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from faig_lab.reporting.run_files import RunFiles, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import INK, LINES, MUTED, degradation_colour, drawing, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import degraded, listed, method_label, number, percent, share, signed

_LOOK = {
    "target": ("target", "-", 2.0),
    "masked": ("target, own filters masked", "-", 1.1),
    "baseline": ("baseline", "--", 1.1),
    "bicubic": ("bicubic", ":", 1.1),
}
_LABEL = 0.09  # of the axis: labels that are closer would run into each other


def _gains(run: RunFiles, degradation: str) -> list[Row]:
    """One row per severity, ascending."""
    rows = [row for row in run.table("boundary_gain") if row["degradation"] == degradation]
    return sorted(rows, key=lambda row: value(row, "severity") or 0.0)


def _at(row: Row) -> str:
    return f"{row['parameter']} = {value(row, 'severity'):g}"


def _trained(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if value(row, "in_training")]


def _sentences(run: RunFiles) -> list[str]:
    rows = run.table("boundary_gain")
    first = f"Masked are the top {percent(value(rows[0], 'percent') or 0)} of {method_label(str(rows[0]['method']))}."
    names = unique(rows, "degradation")
    return [first, *(f"{_reach(_gains(run, name), name)} {_carried(_gains(run, name))}" for name in names)]


def _reach(rows: Sequence[Row], degradation: str) -> str:
    """How the gain goes with severity: where it is trained, largest, at both ends, and where there is none."""
    known = [(gain, row) for row in rows if (gain := value(row, "gain")) is not None]
    gain, best = max(known, key=lambda pair: pair[0])
    ends = [f"{signed(value(row, 'gain'))} dB at {_at(row)}" for row in (rows[0], rows[-1])]
    trained = [f"{signed(value(row, 'gain'))} dB at {_at(row)}" for row in _trained(rows)]
    start = f"Where it was trained, on {degraded(degradation)} input, the target gains {listed(trained)}"
    elsewhere = f"most at {_at(best)} ({signed(gain)} dB)"
    largest = "which is the most of all measured" if value(best, "in_training") else elsewhere
    return (
        f"{start if trained else f'On {degraded(degradation)} input'}, {largest}; "
        f"at the ends of the sweep it gains {listed(ends)}."
    )


def _carried(rows: Sequence[Row]) -> str:
    """How much of the gain the discovered filters carry, in training and elsewhere."""
    known = [(carried, row) for row in rows if (carried := value(row, "share")) is not None]
    if not known:
        return "The gain is nowhere large enough to speak of a share of it."
    trained = [f"{share(carried)} of the gain at {_at(row)}" for carried, row in known if value(row, "in_training")]
    elsewhere = [(carried, row) for carried, row in known if not value(row, "in_training")]
    said = (
        f"The discovered filters carry {listed(trained)}" if trained else "In training the gain is too small to share"
    )
    if not elsewhere:
        return f"{said}; elsewhere the gain is too small to speak of a share."
    (least, low), (most, high) = (pick(elsewhere, key=lambda pair: pair[0]) for pick in (min, max))
    return f"{said}; at other severities between {share(least)} ({_at(low)}) and {share(most)} ({_at(high)})."


def _figure(run: RunFiles) -> Figure | None:
    names = unique(run.table("boundary"), "degradation")
    with drawing():
        figure = new_figure(4.9)
        above, below = figure.subplots(2, len(names), squeeze=False, sharex="col", sharey="row")
        for index, (name, upper, lower) in enumerate(zip(names, above, below, strict=True)):
            rows = _gains(run, name)
            _psnr_panel(upper, run, name, degradation_colour(index))
            levels = {network: [psnr for _, psnr in _curve(run, name, network)] for network in ("masked", "baseline")}
            left = [masked - baseline for masked, baseline in zip(levels["masked"], levels["baseline"], strict=True)]
            _gain_panel(lower, rows, left, degradation_colour(index))
            for panel in (upper, lower):
                _mark_trained(panel, rows)
            upper.set_title(f"{degraded(name)} input")
            lower.set_xlabel(f"{rows[0]['parameter']} of {name.replace('_', ' ')}")
        above[0].set_ylabel("PSNR in dB")
        below[0].set_ylabel("gain over the baseline in dB")
        figure.legend(*above[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(_LOOK))
    return figure


def _curve(run: RunFiles, degradation: str, network: str) -> list[tuple[float, float]]:
    """(severity, PSNR in dB), ascending."""
    wanted = {"degradation": degradation, "network": network}
    rows = [row for row in run.table("boundary") if wanted.items() <= row.items()]
    return sorted((value(row, "severity") or 0.0, value(row, "psnr") or 0.0) for row in rows)


def _psnr_panel(panel: Axes, run: RunFiles, degradation: str, colour: str) -> None:
    for network, (label, style, width) in _LOOK.items():
        points = _curve(run, degradation, network)
        panel.plot(
            [severity for severity, _ in points], [psnr for _, psnr in points], style, linewidth=width,
            color={"target": colour, "masked": INK}.get(network, MUTED), marker="o", markersize=2.5, label=label,
        )  # fmt: skip


def _gain_panel(panel: Axes, rows: Sequence[Row], left: Sequence[float], colour: str) -> None:
    """The gain with its interval, and what is `left` of it with the filters masked: between them is what they carry."""
    severities = [value(row, "severity") or 0.0 for row in rows]
    gain, low, high = (_column(rows, key) for key in ("gain", "gain_low", "gain_high"))
    panel.fill_between(severities, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.plot(severities, gain, color=colour, linewidth=2.0, marker="o", markersize=2.5)
    panel.plot(severities, left, color=INK, linewidth=1.1, marker="o", markersize=2.5)
    panel.axhline(0, color=MUTED, linewidth=0.8)
    for row in _labelled(rows):
        panel.annotate(
            share(value(row, "share")), (value(row, "severity") or 0.0, value(row, "gain") or 0.0), xytext=(0, 5),
            textcoords="offset points", ha="center", fontsize=7, bbox={"color": "white", "alpha": 0.6, "pad": 0.5},
        )  # fmt: skip


def _labelled(rows: Sequence[Row]) -> list[Row]:
    """The rows with a share whose labels do not run into each other; those of the training come first."""
    wide = (value(rows[-1], "severity") or 0.0) - (value(rows[0], "severity") or 0.0)
    shown: list[Row] = []
    for row in sorted(rows, key=lambda row: not value(row, "in_training")):
        place = value(row, "severity") or 0.0
        apart = all(abs(place - (value(other, "severity") or 0.0)) >= _LABEL * wide for other in shown)
        if apart and value(row, "share") is not None:
            shown.append(row)
    return shown


def _column(rows: Sequence[Row], key: str) -> NDArray[np.float64]:
    return np.array([np.nan if (number := value(row, key)) is None else number for row in rows])


def _mark_trained(panel: Axes, rows: Sequence[Row]) -> None:
    severities = [value(row, "severity") or 0.0 for row in _trained(rows)]
    if severities:
        panel.axvspan(min(severities), max(severities), color=LINES, zorder=0)
        for edge in {min(severities), max(severities)}:
            panel.axvline(edge, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)


def _table(run: RunFiles) -> Table | None:
    lines = []
    for name in unique(run.table("boundary_gain"), "degradation"):
        for row in _gains(run, name):
            low, high = value(row, "share_low"), value(row, "share_high")
            interval = "" if low is None or high is None else f" ({number(100 * low, 0)} to {share(high)})"
            gains = [signed(value(row, key)) for key in ("gain", "gain_low", "gain_high")]
            gain = gains[0] if value(row, "gain_low") is None else f"{gains[0]} ({gains[1]} to {gains[2]})"
            where = f"{degraded(name)}, {_at(row)}{' (trained)' if value(row, 'in_training') else ''}"
            lines.append([where, gain, f"{share(value(row, 'share'))}{interval}"])
    return Table(["Input", "Gain of the target in dB", "Carried by its discovered filters"], lines)


SECTION = Section(
    name="boundary",
    title="How far does the restoration reach?",
    link="Boundary",
    method=(
        "The held-out photographs are degraded again, weaker and stronger than in training, one degradation at a time. "
        "At each severity the target is compared with the baseline, and with itself when the degradation's own "
        "discovered filters are masked: what is then lost is the share of the gain that these filters carry."
    ),
    sentences=_sentences,
    figure=_figure,
    alt="Line charts against severity, a column per degradation: above PSNR of four networks, below gain in dB",
    caption=(
        "Above: PSNR on held-out images. Below: the gain of the target over the baseline with its interval over "
        "photographs (of fewer than 10 the range), and in black what is left of it with the discovered filters "
        "masked; the numbers are the share that they carry, where the gain is at least 0.2 dB. Dotted: the severity "
        "in training."
    ),
    table=_table,
    note=(
        "The degraded images are made from the ground truth without its surroundings, so their border is reflected; "
        "numbers at the trained severity differ a little from those of the other sections."
    ),
)
