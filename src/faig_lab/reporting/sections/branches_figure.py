"""The figure on one branch against two, and how its tables are read."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from faig_lab.analysis.branches import ONE, TWO
from faig_lab.reporting.run_files import RunFiles, mean, unique, value
from faig_lab.reporting.style import INK, MUTED, degradation_colour, drawing, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import degraded, method_label, removal

_LOW, _HIGH = -0.25, 1.5  # of the shares; what lies beyond is drawn at the edge
LABELS = {ONE: "one branch", TWO: "two branches"}


def compared(run: RunFiles, measure: str) -> list[Row]:
    """The rows of one measure, one per input."""
    return [row for row in run.table("branches") if row["measure"] == measure]


def shares_of(run: RunFiles, network: str, method: str, masked: str) -> dict[str, float | None]:
    """What masking a set of a network removes: own, other and specificity, means over seeds."""
    wanted = {"network": network, "method": method, "masked": masked}
    rows = [row for row in run.table("branches_filters") if wanted.items() <= row.items()]
    return {side: mean([value(row, side) for row in rows]) for side in ("own", "other", "specificity")}


def branches_figure(run: RunFiles) -> Figure | None:
    """Differences in PSNR beside the removed shares in both networks."""
    with drawing():
        figure = new_figure(1.1 + 0.34 * max(len(compared(run, "psnr")), 2 * len(_methods(run)), 3))
        left, right = figure.subplots(1, 2)
        _difference_panel(left, run)
        _filters_panel(right, run)
        figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


def _methods(run: RunFiles) -> list[str]:
    return unique(run.table("branches_filters"), "method")


def _difference_panel(panel: Axes, run: RunFiles) -> None:
    rows = compared(run, "psnr")
    for place, row in enumerate(rows):
        low, high, middle = (value(row, key) for key in ("low", "high", "difference"))
        if low is not None and high is not None:
            panel.plot([low, high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt")
        if (value(row, "seeds") or 1) > 1:
            seeds = [number for key in ("lowest_seed", "highest_seed") if (number := value(row, key)) is not None]
            panel.plot(seeds, [place] * len(seeds), "x", color=MUTED, markersize=4, markeredgewidth=0.8)
        if middle is not None:
            panel.plot([middle], [place], "o", color=INK, markersize=5)
    panel.axvline(0, color=MUTED, linewidth=0.8)
    panel.set_yticks(range(len(rows)), [degraded(str(row["degradation"])) for row in rows])
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.margins(x=0.12)
    panel.tick_params(axis="y", length=0)
    panel.set_title("PSNR, one branch − two")
    panel.set_xlabel("dB; left: two branches have more, right: one")


def _filters_panel(panel: Axes, run: RunFiles) -> None:
    series = [(method, network) for method in _methods(run) for network in (ONE, TWO)]
    names = unique(run.table("branches_filters"), "masked")
    for index, name in enumerate(names):
        shift, colour = 0.2 * (index - (len(names) - 1) / 2), degradation_colour(index)
        for place, (method, network) in enumerate(series):
            shares = shares_of(run, network, method, name)
            for side, face in (("other", "white"), ("own", colour)):
                shown = shares[side]
                if shown is not None:
                    panel.plot(
                        [min(max(shown, _LOW), _HIGH)], [place + shift], "o", color=colour, markerfacecolor=face,
                        markersize=4.5, clip_on=False, label=removal(name) if (place, side) == (0, "own") else None,
                    )  # fmt: skip
    for edge in (0, 1):
        panel.axvline(edge, color=MUTED, linewidth=0.8)
    panel.set_xlim(_LOW, _HIGH)
    panel.set_yticks(range(len(series)), [f"{method_label(method)}, {LABELS[network]}" for method, network in series])
    panel.set_ylim(len(series) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.set_title("own and other function")
    panel.set_xlabel("share that masking removes")
    panel.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
