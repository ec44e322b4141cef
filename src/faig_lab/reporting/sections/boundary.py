"""The section on the boundary of restoration: what is left of the gain at severities that were not trained on."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faig_lab.reporting.charts import guides, legend_above
from faig_lab.reporting.run_files import Rows, RunFiles, numbers, points, select, unique, value, values
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import LINES, MUTED, drawing, input_colour, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import degraded, listed, method_label, percent, share, signed, with_ends

_LOOK = {
    "target": ("target", "-", 2.0),
    "masked": ("target, own set masked", "-.", 1.3),
    "baseline": ("baseline", "--", 1.1),
    "bicubic": ("bicubic", ":", 1.1),
}
_LABEL = 0.09  # of the axis: labels that are closer would run into each other


def _gains(run: RunFiles, degradation: str) -> Rows:
    """One row per severity, ascending."""
    return sorted(
        select(run.table("boundary_gain"), degradation=degradation), key=lambda row: value(row, "severity") or 0.0
    )


def _at(row: Row) -> str:
    return f"{row['parameter']} = {value(row, 'severity'):g}"


def _sentence(run: RunFiles) -> str:
    rows = run.table("boundary_gain")
    said = [
        f"{share(value(row, 'share'))} of the gain of {signed(value(row, 'gain'))} dB on "
        f"{degraded(str(row['degradation']))} input ({_at(row)})"
        for row in rows
        if value(row, "in_training")
    ]
    what = f"the top {percent(value(rows[0], 'percent') or 0)} of {method_label(str(rows[0]['method']))}"
    return f"At the severity in training, {what} carry {listed(said)}." if said else ""


def _figure(run: RunFiles) -> Figure:
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
    for row in sorted(rows, key=lambda row: not value(row, "in_training")):
        x, carried = value(row, "severity") or 0.0, value(row, "share")
        if carried is not None and all(abs(x - other) >= apart for other in shown):
            shown.append(x)
            panel.annotate(
                share(carried), (x, value(row, "gain") or 0.0), (0, 5), textcoords="offset points", ha="center",
                fontsize=7, bbox={"color": "white", "alpha": 0.6, "pad": 0.5},
            )  # fmt: skip


def _mark_trained(panel: Axes, rows: Rows) -> None:
    trained = numbers([row for row in rows if value(row, "in_training")], "severity")
    if trained:
        panel.axvspan(min(trained), max(trained), color=LINES, zorder=0)
        for edge in {min(trained), max(trained)}:
            panel.axvline(edge, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)


def _table(run: RunFiles) -> Table:
    lines = []
    for name in unique(run.table("boundary_gain"), "degradation"):
        for row in _gains(run, name):
            gain, carried = (values(row, key, f"{key}_low", f"{key}_high") for key in ("gain", "share"))
            where = f"{degraded(name)}, {_at(row)}{' (trained)' if value(row, 'in_training') else ''}"
            lines.append([where, with_ends(gain, signed), with_ends(carried, share)])
    return Table(["Input", "Gain of the target in dB", "Carried by its own set"], lines)


SECTION = Section(
    name="boundary",
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
