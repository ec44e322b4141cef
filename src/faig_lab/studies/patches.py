"""The number of changed filters that the restoration needs: patches on the baseline, and pruning of the target."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import ProbeIntegral, count_of, ranking
from faig_lab.attribution.scores import shares
from faig_lab.data import sample_rng
from faig_lab.evaluation.masking import TableRow, means
from faig_lab.filters import apply_patches, make_patch, patch_bytes
from faig_lab.plotting.charts import guides, layer_bars, limit, line, percent_axis, share_axis
from faig_lab.plotting.style import MUTED, drawing, input_colour, method_look, new_figure
from faig_lab.plotting.words import as_percent, count, decimal, degraded, listed, method_label, removal, share, together
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import frame, groups, records, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.masking import layer_rows
from faig_lab.studies.modulation import discovered_sets
from faig_lab.studies.section import Section, Table

Percent = Annotated[float, Field(gt=0, le=100)]


def patches(
    context: StudyContext,
    percents: Sequence[Percent] = (0.5, 1, 3, 5, 10, 30, 100),
    kept: Sequence[Percent] = (10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95),
    *,
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05,
    method: str | None = None,
) -> StudyResult:
    """Apply patches to the baseline, and set the least important filters of the target back to the baseline.

    Biases belong to no filter. Patches are applied without biases and with the target's biases. Pruning keeps the
    target's biases.

    Args:
        context: networks, attribution and images.
        percents: sizes of the patches in percent of all filters, for each degradation and for all together.
        kept: the percents of the filters that stay the target's while the others are set back.
        tolerance: the largest share of any degradation's gain that pruning may cost.
        method: the method whose ranking the patches follow; None is the run's own.

    Returns:
        Tables
        `patches`: method, percent, filters, patched, biases, kilobytes, degradation, psnr, carried (share of the
        target's gain over the baseline);
        `pruning`: order, percent (kept), filters, degradation, psnr, lost (share of the gain);
        `pruning_layers`: order, percent, layer, depth, filters, kept, share, for the fewest filters within the
        tolerance (absent where there are none);
        metrics `carried/<patched>/<percent>/<degradation>` (with biases), `filters_needed/<order>` in percent.
    """
    inserted = _insertion(context, method or context.method, percents)
    orders = idle_orders(context)
    pruned = _pruning(context, orders, sorted(kept, reverse=True))
    needed = {order: fewest(pruned, order, tolerance) for order in orders}
    layers: list[TableRow] = []
    for order, percent in needed.items():
        if percent:
            layout = context.attribution.layout
            filters = orders[order][: count_of(percent, len(layout))]
            layers += [{"order": order, "percent": percent} | row for row in layer_rows(layout, filters, "kept")]
    tables = {"patches": inserted, "pruning": pruned} | ({"pruning_layers": layers} if layers else {})
    with_biases = [row for row in inserted if row["biases"]]
    metrics = means(with_biases, "carried", "carried/{patched}/{percent:g}/{degradation}")
    metrics |= {f"filters_needed/{order}": percent for order, percent in needed.items()}
    return StudyResult(tables, metrics)


def _insertion(context: StudyContext, method: str, percents: Sequence[float]) -> list[TableRow]:
    """Measure patches on the baseline, without and with the target's biases; the patch at 0 % has only biases."""
    layout, target, baseline = context.attribution.layout, context.target, context.baseline
    sets = {percent: discovered_sets(context, method, percent) for percent in (0.0, *percents)}
    evaluated: dict[tuple[int, bytes], list[tuple[str, float, float | None]]] = {}
    rows: list[TableRow] = []
    with context.bar("patches", 2 * sum(map(len, sets.values()))) as advance:
        for biases in (0, 1):
            for percent, by_name in sets.items():
                for name, filters in by_name.items():
                    patch = make_patch(target, baseline, layout, filters, name=name, rest=bool(biases))
                    row: TableRow = {"method": method, "percent": percent, "filters": len(filters), "patched": name}
                    row |= {"biases": biases, "kilobytes": len(patch_bytes(patch)) / 1000}
                    key = (biases, patch.filters.numpy().tobytes())  # the sets of 0 % and of 100 % are equal
                    if key not in evaluated:
                        evaluated[key] = list(context.measured(apply_patches(baseline, patch)))
                    for degradation, psnr, lost in evaluated[key]:
                        carried = None if lost is None else 1 - lost
                        rows.append(row | {"degradation": degradation, "psnr": psnr, "carried": carried})
                    advance(f"{name}, {percent:g} %")
    return rows


def idle_orders(context: StudyContext) -> dict[str, Tensor]:
    """Return rankings (F,) from the filters that carry most for any degradation to the filters that carry least.

    `signed_share` is the absolute signed share of the loss change. `faig` is FAIG before the contrast, relative to
    its sum over all filters. Both are the largest value over the degradations. `weight_change` and `random` are for
    comparison.
    """
    integral, layout = context.problem.integral, context.attribution.layout
    names = [layer.name for layer in layout.layers]
    change = {name: (context.target[name] - context.baseline[name]).abs() for name in names}
    drawn = sample_rng(context.problem.seed, "pruning").permutation(len(layout))
    importance = {
        "signed_share": shares(integral.signed, integral.loss_change).abs().amax(0),
        "faig": magnitudes(integral).amax(0),
        "weight_change": layout.gather(change).cpu(),
        "random": torch.from_numpy(drawn),
    }
    return {name: ranking(values) for name, values in importance.items()}


def magnitudes(integral: ProbeIntegral) -> Tensor:
    """Compute (K, F) Σ|a_j| of each filter over the probe, relative to the sum of all filters."""
    total = integral.magnitude.sum(0)
    return total / total.sum(1, keepdim=True).clamp_min(torch.finfo(total.dtype).tiny)


def _pruning(context: StudyContext, orders: Mapping[str, Tensor], kept: Sequence[float]) -> list[TableRow]:
    """Measure the target with all but the first filters of each order set back to the baseline."""
    layout = context.attribution.layout
    rows: list[TableRow] = []
    with context.bar("pruning", len(orders) * len(kept)) as advance:
        for name, order in orders.items():
            for percent in kept:
                count = count_of(percent, len(layout))
                row: TableRow = {"order": name, "percent": percent, "filters": count}
                for degradation, psnr, lost in context.measured(context.masked(order[count:])):
                    rows.append(row | {"degradation": degradation, "psnr": psnr, "lost": lost})
                advance(f"{name}, {percent:g} % kept")
    return rows


def fewest(rows: Sequence[TableRow], order: str, tolerance: float) -> float | None:
    """Find the smallest kept percent at which no degradation loses more than `tolerance` of its gain.

    Args:
        rows: of `pruning`.
        order: the ranking.
        tolerance: share of the gain.

    Returns:
        A measured percent; None if the largest percent already costs more.
    """
    worst = select(frame(rows), order=order).dropna(subset="lost").groupby("percent")["lost"].max()[::-1]
    within = worst.index[(worst <= tolerance).cumprod() > 0]
    return float(within[-1]) if len(within) else None


def _patches(run: RunFolder, biases: bool) -> pd.DataFrame:
    """Return the patches without or with the target's biases, the smallest first, without the empty patch."""
    rows = select(run.table("patches"), biases=int(biases))
    return rows[rows["filters"] > 0].sort_values("filters", kind="stable")


def _tolerance(run: RunFolder) -> float:
    """Return the share of the gain that pruning may cost."""
    node = run.config.get("analysis", {}).get("studies", {}).get("patches", {})
    return float(node.get("tolerance", 0.05))


def _kept(run: RunFolder) -> dict[str, float | None]:
    """Return order of pruning → percent that must stay the target's; None if no filter can be set back."""
    return {order: run.metrics.get(f"filters_needed/{order}") for order in unique(run.table("pruning"), "order")}


def _sentence(run: RunFolder) -> str:
    rows = _patches(run, biases=False)
    rows = rows[(rows["patched"] == rows["degradation"]) & (rows["percent"] >= run.headline)]
    smallest = rows.drop_duplicates("degradation").set_index("degradation")
    shown = [name for name in unique(run.table("patches"), "degradation") if name in smallest.index]
    sizes = sorted({as_percent(percent) for percent in smallest["percent"]})
    shares = [f"{share(smallest['carried'][name])} of {removal(name)}" for name in shown]
    text = f"On the baseline, patches of {listed(sizes)} of the {run.units} restore {listed(shares)}"
    set_back = [
        f"{as_percent(round(100 - kept, 6)) if kept is not None else 'none'} by {method_label(order)}"
        for order, kept in _kept(run).items()
    ]
    pruned = f"; in the target, {listed(set_back)} can be set back before an input loses {share(_tolerance(run))}"
    return f"{text}{pruned if set_back else ''}."


@drawing()
def _figure(run: RunFolder) -> Figure:
    """Draw insertion for each input above, and pruning with the layers of the kept units below."""
    inputs = unique(run.table("patches"), "degradation")
    needed = {order: kept for order, kept in _kept(run).items() if kept is not None}
    order = min(needed, key=lambda order: needed[order]) if needed else ""
    layers = select(run.table("pruning_layers"), order=order)
    figure = new_figure(2.6 + max(2.4, 0.6 + 0.13 * len(layers)))
    figure.set_layout_engine(ConstrainedLayoutEngine(h_pad=0.08))
    grid = figure.add_gridspec(2, 1, height_ratios=[2.3, max(2.2, 0.4 + 0.13 * len(layers))])
    top = grid[0].subgridspec(1, len(inputs)).subplots(squeeze=False, sharey=True)[0]
    for panel, degradation in zip(top, inputs, strict=True):
        _insertion_panel(panel, run, degradation)
    top[0].set_ylabel("share of the target's gain")
    top[-1].legend(loc="upper left", fontsize=7)
    below = grid[1].subgridspec(1, 1 if layers.empty else 2).subplots(squeeze=False)[0]
    _pruning_panel(below[0], run)
    if not layers.empty:
        layer_bars(below[1], layers, method_look(run.methods, order)["color"], 6)
        below[1].set_xlim(0, 1)
        share_axis(below[1], "x")
        below[1].set_title(f"{as_percent(needed[order])} kept by {method_label(order)}, by layer")
        below[1].set_xlabel(f"share of the layer's {run.units}")
    return figure


def _insertion_panel(panel: Axes, run: RunFolder, degradation: str) -> None:
    total = run.layout.get("filters") or 1
    for name in unique(run.table("patches"), "patched"):
        colour = input_colour(run.degradations, name)
        for biases, style in ((True, "-"), (False, ":")):
            rows = select(_patches(run, biases), patched=name, degradation=degradation)
            rows = rows.assign(changed=100 * rows["filters"] / total, carried=rows["carried"].fillna(0))
            label = together(name) if biases else None
            line(panel, rows, "changed", "carried", color=colour, linestyle=style, linewidth=1.3, label=label)
    panel.set_title(f"baseline + patch, {degraded(degradation)} input")
    panel.set_xlabel(f"{run.units} changed")
    percent_axis(panel, (0.3, 1, 3, 10, 30, 100))
    _gain_axis(panel)


def _gain_axis(panel: Axes) -> None:
    share_axis(panel)
    limit(panel, -0.5, 1.5, share)
    guides(panel, 0, 1)


def _pruning_panel(panel: Axes, run: RunFolder) -> None:
    for order, rows in groups(run.table("pruning"), "order").items():
        worst = rows.groupby("percent")["lost"].max().fillna(0)
        look = method_look(run.methods, order) | {"marker": "o", "markersize": 2.5, "linewidth": 1.3}
        panel.plot([*worst.index, 100], [*worst, 0], label=method_label(order), **look)
    panel.axhline(_tolerance(run), color=MUTED, linewidth=0.8, linestyle=":")
    panel.set_title(f"target, other {run.units} set back")
    panel.set_xlabel(f"{run.units} that stay the target's")
    panel.set_ylabel("share of the gain lost, worst input")
    panel.legend(loc="lower left", fontsize=7)
    panel.set_xticks(range(0, 101, 20), [as_percent(level) for level in range(0, 101, 20)])
    _gain_axis(panel)


def _table(run: RunFolder) -> Table:
    inputs, lines = unique(run.table("patches"), "degradation"), []
    plain, biased = (groups(_patches(run, biases), "patched") for biases in (False, True))
    for name in unique(run.table("patches"), "patched"):
        columns = [select(rows[name], degradation=shown)["carried"] for rows in (plain, biased) for shown in inputs]
        sizes = records(select(plain[name], degradation=inputs[0]))
        for position, row in enumerate(sizes):
            if position % 2 == 1 or position == len(sizes) - 1:
                size = f"{together(name)}, {as_percent(row['percent'])}"
                cells = [share(column.iloc[position]) for column in columns]
                lines.append([size, count(row["filters"]), decimal(row["kilobytes"], 0), *cells])
    gains = [*(degraded(name) for name in inputs), *(f"{degraded(name)}, with biases" for name in inputs)]
    return Table(["Patch", run.units, "kB", *gains], lines)


SECTION = Section(
    name="patches",
    order=20,
    title="How many {units} does the restoration need?",
    link="Sparse patches",
    method=(
        "Insertion: the target's values of the discovered {units} are a patch, a small file. The patch is applied to "
        "the baseline and adds one function; several patches can be applied to one baseline. Pruning: in the target, "
        "the {units} that carry the least of any degradation's loss change are set back to the baseline. The measure "
        "of both is the share of the target's gain over the baseline, in PSNR on held-out images."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts: share of the gain that patches carry against their size, share lost by pruning; bars per layer",
    caption=(
        "Top: share of the gain on each input against the {units} changed (logarithmic); dotted lines are without the "
        "target's biases. Bottom left: the share that the worst input loses against the {units} that stay the "
        "target's; the dotted line is the tolerance. Bottom right: the share of each layer's {units} that stay at the "
        "last step within the tolerance."
    ),
    table=_table,
    note=(
        "A share below 0 is worse than the baseline. File sizes are without biases, which add one small block to each "
        "patch. The {units} that are set back to the baseline still compute: pruning shows which {units} need no "
        "training, and only indicates where a network could be thinner. Pruned networks keep the target's biases and "
        "are not trained again."
    ),
)
