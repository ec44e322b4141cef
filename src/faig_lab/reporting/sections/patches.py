"""The section on sparse patches and idle filters: how few changed filters carry the restoration."""

from collections.abc import Sequence

from faig_lab.reporting.findings import masking
from faig_lab.reporting.run_files import RunFiles, at, unique, value
from faig_lab.reporting.sections.patches_figure import (
    ORDERS,
    best_order,
    patch_label,
    patches_figure,
    rows_of,
    tolerance,
)
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import count, degraded, listed, method_label, number, percent, removal, share


def _sentences(run: RunFiles) -> list[str]:
    rows = run.table("patches")
    inputs = unique(rows, "degradation")
    said = [f"The patches follow the ranking of {method_label(str(rows[0]['method']))}."]
    said += [_insertion(run, name) for name in inputs]
    said += [_biases(run, inputs), _pruning(run), _against_insertion(run), _places(run)]
    return [sentence for sentence in said if sentence]


def _insertion(run: RunFiles, name: str) -> str:
    """What the patches of one degradation bring, and what masking the same filters removes."""
    plain, full = rows_of(run, name, name, False), rows_of(run, name, name, True)
    small = [row for row in plain if run.headline <= (value(row, "percent") or 0) < 100]
    if not small:
        return ""
    parts = [
        f"{share(value(row, 'carried'))} with {percent(value(row, 'percent') or 0)} of the filters "
        f"({count(value(row, 'filters'))}, {number(value(row, 'kilobytes'), 0)} kB)"
        for row in (small[i] for i in sorted({0, len(small) // 2, len(small) - 1}))
    ]
    with_biases = [value(row, "carried") for row in full if (value(row, "percent") or 0) < 100]
    best = max((carried for carried in with_biases if carried is not None), default=None)
    return (
        f"Put onto the baseline, the {removal(name)} patch carries {listed(parts)} of what the target gains on "
        f"{degraded(name)} input; with the target's biases at most {share(best)} at these sizes. "
        + _masked_and_inserted(run, name, plain)
    )


def _masked_and_inserted(run: RunFiles, name: str, plain: Sequence[Row]) -> str:
    """The same set masked in the target, against the same set put onto the baseline."""
    here = [row for row in plain if at(run.headline, row)]
    removed = masking(run, str(plain[0]["method"]), run.headline, name, name).mean
    carried = value(here[0], "carried") if here else None
    if removed is None or carried is None:
        return ""
    return (
        f"Masking the same {percent(run.headline)} in the target removes {share(removed)}; put onto the baseline it "
        f"brings {share(carried)}."
    )


def _biases(run: RunFiles, inputs: Sequence[str]) -> str:
    """What all filters bring without the biases, and the biases without filters."""
    whole = {name: value(rows[-1], "carried") for name in inputs if (rows := rows_of(run, name, name, False))}
    alone = {
        str(row["degradation"]): value(row, "carried")
        for row in run.table("patches")
        if row["biases"] == 1 and value(row, "filters") == 0
    }
    if not whole or not alone or run.all_ranked:
        return ""
    said = listed([f"{share(whole[name])} of {removal(name)}" for name in whole])
    without = listed([f"{share(alone.get(name))} of {removal(name)}" for name in whole])
    return (
        f"Biases belong to no filter. All filters without the target's biases carry {said}; the biases without any "
        f"filter {without}; both together are the target."
    )


def _pruning(run: RunFiles) -> str:
    """How many filters can go back to the baseline, by each order."""
    orders = unique(run.table("pruning"), "order")
    parts = []
    for order in orders:
        needed = run.metrics.get(f"filters_needed/{order}")
        parts.append(f"{percent(round(100 - needed, 6)) if needed is not None else 'none'} by {ORDERS[order]}")
    return (
        "The other way round, from the target: of the filters that carry least, "
        f"{listed(parts)} can be set back to the baseline before any degradation loses {share(tolerance(run))} of its "
        "gain (largest measured step)."
        if parts
        else ""
    )


def _against_insertion(run: RunFiles) -> str:
    """About as many filters, chosen to tell degradations apart and chosen for what they carry."""
    largest = [
        row
        for row in run.table("patches")
        if "+" in str(row["patched"]) and row["biases"] == 1 and 0 < (value(row, "percent") or 0) < 100
    ][-len(run.degradations) :]
    rows = [row for row in run.table("pruning") if row["order"] == "faig"]
    if not (largest and rows and run.filters):
        return ""
    changed = 100 * (value(largest[0], "filters") or 0.0) / run.filters
    near = min((value(row, "percent") or 0.0 for row in rows), key=lambda kept: abs(kept - changed))
    kept = 1 - max(value(row, "lost") or 0.0 for row in rows if at(near, row))
    carried = min(value(row, "carried") or 0.0 for row in largest)
    return (
        f"The largest patches of all degradations together ({share(changed / 100)} of the filters, with biases) carry "
        f"{share(carried)} of the worst input's gain; with {percent(near)} of the filters the target's, chosen by FAIG "
        f"without contrast, the worst input keeps {share(kept)}."
    )


def _places(run: RunFiles) -> str:
    """In which layers the filters are that can go."""
    order = best_order(run)
    rows = [row for row in run.table("pruning_layers") if row["order"] == order]
    if not rows:
        return ""
    ranked = sorted(rows, key=lambda row: value(row, "share") or 0.0)
    idle, busy = ranked[:3], ranked[-3:][::-1]
    few, most = (listed([f"{row['layer']} ({share(value(row, 'share'))})" for row in group]) for group in (idle, busy))
    return f"Where they can go (by {ORDERS[str(order)]}): {few} keep the fewest of their filters, {most} the most."


def _table(run: RunFiles) -> Table | None:
    inputs = unique(run.table("patches"), "degradation")
    lines = []
    for name in unique(run.table("patches"), "patched"):
        columns = [rows_of(run, name, shown, biases) for biases in (False, True) for shown in inputs]
        shown_sizes = {*range(1, len(columns[0]), 2), len(columns[0]) - 1}
        for position, row in enumerate(columns[0]):
            if position not in shown_sizes:
                continue
            size = f"{patch_label(name)}, {percent(value(row, 'percent') or 0)}"
            cells = [share(value(column[position], "carried")) for column in columns]
            lines.append([size, count(value(row, "filters")), number(value(row, "kilobytes"), 0), *cells])
    gains = [*(degraded(name) for name in inputs), *(f"{degraded(name)}, with biases" for name in inputs)]
    return Table(["patch", "filters", "kB", *gains], lines)


SECTION = Section(
    name="patches",
    title="How few filters carry the restoration?",
    link="Sparse patches",
    method=(
        "Two ways between the two networks. Insertion: the target's values of the discovered filters are a patch, a "
        "small file, that is put onto the baseline to add one function; several patches go onto one baseline. Pruning: "
        "starting from the target, the filters that carry least of any degradation's loss change are set back to the "
        "baseline. Both are judged by the share of the target's gain over the baseline, in PSNR on held-out images."
    ),
    sentences=_sentences,
    figure=patches_figure,
    alt="Line charts: share of the gain that patches carry against their size, share lost by pruning; bars per layer",
    caption=(
        "Top: share of the gain on each input against the filters changed (logarithmic); dotted: without the target's "
        "biases. Bottom left: what the worst input loses when only so many filters stay the target's; the dotted line "
        "is the tolerance. Bottom right: how many of each layer's filters stay at the last step within it."
    ),
    table=_table,
    note=(
        "A share below 0 is worse than the baseline. File sizes are without biases, which add one small block to each "
        "patch. A filter set back to the baseline is still there and still computes: pruning tells which filters "
        "need not be retrained, and only hints at where a network could be thinner. Pruned networks keep the target's "
        "biases, and nothing is retrained afterwards."
    ),
    shown=3,
)
