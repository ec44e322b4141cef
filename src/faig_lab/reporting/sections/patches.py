"""The section on sparse patches and idle units: how few changed units carry the restoration."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator

from faig_lab.reporting.charts import guides, limit, share_axis
from faig_lab.reporting.run_files import Rows, RunFiles, numbers, select, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import MUTED, drawing, input_colour, method_look, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import count, degraded, listed, method_label, number, percent, removal, share, together

_TICKS = (0.3, 1, 3, 10, 30, 100)


def _patches(run: RunFiles, patched: str, degradation: str, biases: bool) -> Rows:
    """The patches of one name on one input, the smallest first, without the empty one."""
    rows = select(run.table("patches"), patched=patched, degradation=degradation, biases=float(biases))
    return sorted((row for row in rows if value(row, "filters")), key=lambda row: value(row, "filters") or 0.0)


def _tolerance(run: RunFiles) -> float:
    """The share of the gain that pruning may cost."""
    node = run.config.get("analysis", {}).get("studies", {}).get("patches", {})
    return float(node.get("tolerance", 0.05))


def _kept(run: RunFiles) -> dict[str, float | None]:
    """Order of pruning → percent that must stay the target's; None where nothing can be set back."""
    return {order: run.metrics.get(f"filters_needed/{order}") for order in unique(run.table("pruning"), "order")}


def _sentence(run: RunFiles) -> str:
    said, sizes = [], set()
    for name in unique(run.table("patches"), "degradation"):
        rows = [row for row in _patches(run, name, name, False) if (value(row, "percent") or 0) >= run.headline]
        if rows:
            sizes.add(percent(value(rows[0], "percent") or 0))
            said.append(f"{share(value(rows[0], 'carried'))} of {removal(name)}")
    text = f"Put onto the baseline, patches of {listed(sorted(sizes))} of the {run.units} bring {listed(said)}"
    set_back = [
        f"{percent(round(100 - kept, 6)) if kept is not None else 'none'} by {method_label(order)}"
        for order, kept in _kept(run).items()
    ]
    pruned = f"; from the target, {listed(set_back)} can be set back before an input loses {share(_tolerance(run))}"
    return f"{text}{pruned if set_back else ''}."


def _figure(run: RunFiles) -> Figure:
    """Insertion per input above; pruning, and where the units stay, below."""
    inputs = unique(run.table("patches"), "degradation")
    needed = {order: kept for order, kept in _kept(run).items() if kept is not None}
    order = min(needed, key=lambda order: needed[order]) if needed else ""
    layers = select(run.table("pruning_layers"), order=order)
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
            _layer_panel(below[1], layers, method_look(run.methods, order)["color"])
            kept = percent(value(layers[0], "percent") or 0)
            below[1].set_title(f"{kept} kept by {method_label(order)}: where")
            below[1].set_xlabel(f"share of the layer's {run.units}")
    return figure


def _insertion_panel(panel: Axes, run: RunFiles, degradation: str) -> None:
    total = run.layout.get("filters") or 1
    for name in unique(run.table("patches"), "patched"):
        for biases in (True, False):
            rows = _patches(run, name, degradation, biases)
            panel.plot(
                [100 * x / total for x in numbers(rows, "filters")], [value(row, "carried") or 0.0 for row in rows],
                color=input_colour(run.degradations, name), linestyle="-" if biases else ":", marker="o",
                markersize=2.5, linewidth=1.3, label=together(name) if biases else None,
            )  # fmt: skip
    panel.set_title(f"baseline + patch, {degraded(degradation)} input")
    panel.set_xscale("log")
    panel.set_xlabel(f"{run.units} changed")
    _percent_axes(panel, _TICKS)


def _percent_axes(panel: Axes, ticks: Sequence[float]) -> None:
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(ticks, [percent(level) for level in ticks])
    share_axis(panel)
    limit(panel, -0.5, 1.5, share)
    guides(panel, 0, 1)


def _pruning_panel(panel: Axes, run: RunFiles) -> None:
    rows = run.table("pruning")
    for order in unique(rows, "order"):
        levels = sorted(set(numbers(select(rows, order=order), "percent")))
        worst = [max(numbers(select(rows, level, order=order), "lost"), default=0.0) for level in levels]
        look = method_look(run.methods, order)
        panel.plot(
            [*levels, 100], [*worst, 0], marker="o", markersize=2.5, linewidth=1.3, label=method_label(order), **look
        )
    panel.axhline(_tolerance(run), color=MUTED, linewidth=0.8, linestyle=":")
    panel.set_title("target, the rest set back")
    panel.set_xlabel(f"{run.units} that stay the target's")
    panel.set_ylabel("share of the gain lost, worst input")
    panel.legend(loc="lower left", fontsize=7)
    _percent_axes(panel, range(0, 101, 20))


def _layer_panel(panel: Axes, rows: Sequence[Row], colour: str) -> None:
    panel.barh(range(len(rows)), [value(row, "share") or 0.0 for row in rows], color=colour, height=0.7)
    panel.set_yticks(range(len(rows)), [str(row["layer"]) for row in rows], fontsize=6)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_xlim(0, 1)
    panel.grid(visible=False, axis="y")
    share_axis(panel, "x")


def _table(run: RunFiles) -> Table:
    inputs = unique(run.table("patches"), "degradation")
    lines = []
    for name in unique(run.table("patches"), "patched"):
        columns = [_patches(run, name, shown, biases) for biases in (False, True) for shown in inputs]
        for position, row in enumerate(columns[0]):
            if position % 2 == 1 or position == len(columns[0]) - 1:
                size = f"{together(name)}, {percent(value(row, 'percent') or 0)}"
                cells = [share(value(column[position], "carried")) for column in columns]
                lines.append([size, count(value(row, "filters")), number(value(row, "kilobytes"), 0), *cells])
    gains = [*(degraded(name) for name in inputs), *(f"{degraded(name)}, with biases" for name in inputs)]
    return Table(["Patch", run.units, "kB", *gains], lines)


SECTION = Section(
    name="patches",
    title="How few {units} carry the restoration?",
    link="Sparse patches",
    method=(
        "Two ways between the two networks. Insertion: the target's values of the discovered {units} are a patch, a "
        "small file, that is put onto the baseline to add one function; several patches go onto one baseline. Pruning: "
        "starting from the target, the {units} that carry least of any degradation's loss change are set back to the "
        "baseline. Both are judged by the share of the target's gain over the baseline, in PSNR on held-out images."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts: share of the gain that patches carry against their size, share lost by pruning; bars per layer",
    caption=(
        "Top: share of the gain on each input against the {units} changed (logarithmic); dotted: without the target's "
        "biases. Bottom left: what the worst input loses when only so many {units} stay the target's; the dotted line "
        "is the tolerance. Bottom right: how many of each layer's {units} stay at the last step within it."
    ),
    table=_table,
    note=(
        "A share below 0 is worse than the baseline. File sizes are without biases, which add one small block to each "
        "patch. What is set back to the baseline is still there and still computes: pruning tells what need not be "
        "retrained, and only hints at where a network could be thinner. Pruned networks keep the target's biases, and "
        "nothing is retrained afterwards."
    ),
)
