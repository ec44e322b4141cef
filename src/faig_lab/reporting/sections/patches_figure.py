"""The figure on sparse patches, and how its tables are read."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator, PercentFormatter

from faig_lab.reporting.run_files import RunFiles, unique, value
from faig_lab.reporting.style import MUTED, degradation_colour, drawing, method_colour, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import degraded, percent, removal

ORDERS = {"signed_share": "|signed share|", "faig": "FAIG", "weight_change": "weight change", "random": "random"}
"""How the orders of pruning are called."""

_TICKS = (0.3, 1, 3, 10, 30, 100)


def rows_of(run: RunFiles, patched: str, degradation: str, biases: bool) -> list[Row]:
    """The patches of one name on one input, the smallest first, without the empty one."""
    found: list[Row] = [
        row
        for row in run.table("patches")
        if (row["patched"], row["degradation"], row["biases"]) == (patched, degradation, float(biases))
        and value(row, "filters")
    ]
    return sorted(found, key=lambda row: value(row, "filters") or 0.0)


def patch_label(patched: str) -> str:
    """`blur` → `deblurring patch`; the patch of several degradations is that of all."""
    return "all together" if "+" in patched else f"{removal(patched)} patch"


def tolerance(run: RunFiles) -> float:
    """The share of the gain that pruning may cost."""
    node = run.config.get("analysis", {}).get("studies", {}).get("patches", {})
    return float(node.get("tolerance", 0.05))


def best_order(run: RunFiles) -> str | None:
    """The order by which most filters can go."""
    needed = {
        order: found
        for order in unique(run.table("pruning"), "order")
        if (found := run.metrics.get(f"filters_needed/{order}")) is not None
    }
    return min(needed, key=lambda order: needed[order]) if needed else None


def patches_figure(run: RunFiles) -> Figure | None:
    """Insertion per input above; pruning, and where the filters stay, below."""
    inputs = unique(run.table("patches"), "degradation")
    order = best_order(run)
    layers = [row for row in run.table("pruning_layers") if row["order"] == order]
    with drawing():
        figure = new_figure(2.6 + max(2.4, 0.6 + 0.13 * len(layers)))
        figure.set_layout_engine(ConstrainedLayoutEngine(h_pad=0.08))
        grid = figure.add_gridspec(2, 1, height_ratios=[2.3, max(2.2, 0.4 + 0.13 * len(layers))])
        top = grid[0].subgridspec(1, len(inputs)).subplots(squeeze=False, sharey=True)[0]
        for panel, degradation in zip(top, inputs, strict=True):
            _insertion_panel(panel, run, degradation)
        top[0].set_ylabel("share of the target's gain")
        top[-1].legend(loc="upper left", fontsize=7)
        below = grid[1].subgridspec(1, 2 if layers else 1).subplots(squeeze=False)[0]
        _pruning_panel(below[0], run)
        if layers:
            _layer_panel(below[1], layers, str(order))
    return figure


def _insertion_panel(panel: Axes, run: RunFiles, degradation: str) -> None:
    names = unique(run.table("patches"), "patched")
    total = run.layout.get("filters") or 1
    for index, name in enumerate(names):
        colour = MUTED if "+" in name else degradation_colour(index)
        for biases in (True, False):
            rows = rows_of(run, name, degradation, biases)
            panel.plot(
                [100 * (value(row, "filters") or 0) / total for row in rows],
                [value(row, "carried") or 0.0 for row in rows],
                color=colour, linestyle="-" if biases else ":", marker="o", markersize=2.5, linewidth=1.3,
                label=patch_label(name) if biases else None,
            )  # fmt: skip
    panel.set_title(f"baseline + patch, {degraded(degradation)} input")
    panel.set_xscale("log")
    panel.set_xlabel("filters changed")
    _percent_axes(panel)


def _percent_axes(panel: Axes) -> None:
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(_TICKS if panel.get_xscale() == "log" else range(0, 101, 20))
    panel.xaxis.set_major_formatter(lambda level, _: percent(level))
    panel.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    low, high = panel.get_ylim()
    panel.set_ylim(max(low, -0.5), min(high, 1.5))
    for level in (0, 1):
        panel.axhline(level, color=MUTED, linewidth=0.8, zorder=1)


def _pruning_panel(panel: Axes, run: RunFiles) -> None:
    rows = run.table("pruning")
    for index, order in enumerate(unique(rows, "order")):
        worst: dict[float, float] = {100.0: 0.0}
        for row in rows:
            kept, lost = value(row, "percent"), value(row, "lost")
            if row["order"] == order and kept is not None and lost is not None:
                worst[kept] = max(worst.get(kept, -1.0), lost)
        look = {"color": MUTED, "linestyle": "--"} if order == "random" else {"color": method_colour(index)}
        points = sorted(worst.items())
        panel.plot(*zip(*points, strict=True), marker="o", markersize=2.5, linewidth=1.3, label=ORDERS[order], **look)  # type: ignore[arg-type]
    panel.axhline(tolerance(run), color=MUTED, linewidth=0.8, linestyle=":")
    panel.set_title("target, the rest set back")
    panel.set_xlabel("filters that stay the target's")
    panel.set_ylabel("share of the gain lost, worst input")
    panel.legend(loc="lower left", fontsize=7)
    _percent_axes(panel)


def _layer_panel(panel: Axes, rows: Sequence[Row], order: str) -> None:
    panel.barh(range(len(rows)), [value(row, "share") or 0.0 for row in rows], color=method_colour(0), height=0.7)
    panel.set_yticks(range(len(rows)), [str(row["layer"]) for row in rows], fontsize=6)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(0, 1)
    panel.grid(visible=False, axis="y")
    panel.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    panel.set_title(f"{percent(value(rows[0], 'percent') or 0)} kept by {ORDERS[order]}: where")
