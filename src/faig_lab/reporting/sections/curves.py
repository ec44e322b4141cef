"""The section on deletion and insertion curves."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from faig_lab.reporting.charts import guides, legend_above, limit, share_axis
from faig_lab.reporting.run_files import RunFiles, mean_of, numbers, points, select, unique, value, values
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import drawing, method_look, new_figure
from faig_lab.reporting.words import line_label, listed, method_label, percent, removal, share, signed, with_ends

CURVES = {"deletion": "left", "insertion": "restored"}
_HEADS = {
    ("deletion", "own"): "deleted: own ↓",
    ("deletion", "other"): "others ↑",
    ("insertion", "own"): "inserted: own ↑",
    ("insertion", "other"): "others ↓",
}
_LAST = ("random", "layer_matched")


def _methods(run: RunFiles) -> list[str]:
    """Every method of the curves in the report's order, the random ones last."""
    found = unique(run.table("curves"), "method")
    order = [*run.methods, *found]
    return sorted(found, key=lambda method: (_LAST.index(method) + 1 if method in _LAST else 0, order.index(method)))


def _sentence(run: RunFiles) -> str:
    """What the headline's sets leave when deleted, and give when inserted."""
    parts = {}
    for curve in CURVES:
        rows = select(run.table("curves"), run.headline, curve=curve, method=run.chosen)
        found = [row for row in rows if row["masked"] == row["degradation"]]
        parts[curve] = listed([f"{share(value(row, 'restored'))} of {removal(str(row['masked']))}" for row in found])
    if not all(parts.values()):
        return ""
    return (
        f"{method_label(run.chosen)} at {percent(run.headline)}: deleting its sets leaves {parts['deletion']}; "
        f"inserting nothing but them restores {parts['insertion']}."
    )


def _figure(run: RunFiles) -> Figure:
    """Restored share against q: a row per masked degradation and curve, left its own input, right the others."""
    masked = unique(run.table("curves"), "masked")
    places = [(name, curve) for name in masked for curve in CURVES]
    with drawing():
        figure = new_figure(0.6 + 1.6 * len(places))
        axes = figure.subplots(len(places), 2 if len(masked) > 1 else 1, squeeze=False, sharex=True, sharey=True)
        for row, (name, curve) in zip(axes, places, strict=True):
            shown = ([name], [other for other in masked if other != name])
            for panel, inputs in zip(row, shown, strict=False):
                _panel(panel, run, curve, name, inputs)
                function = removal(inputs[0]) if len(inputs) == 1 else "the others, mean"
                done = "deleted" if curve == "deletion" else "inserted"
                panel.set_title(f"{removal(name)} set {done}: {function} {CURVES[curve]}", fontsize=7.5)
            row[0].set_ylabel("restored share")
        for panel in axes[-1]:
            panel.set_xlabel(f"q: {run.units} deleted or inserted")
        legend_above(figure, axes[0][0])
    return figure


def _panel(panel: Axes, run: RunFiles, curve: str, masked: str, inputs: Sequence[str]) -> None:
    """Restored share against q for every method, with its interval over images."""
    for method in _methods(run):
        look, of = (
            method_look(run.methods, method),
            select(run.table("curves"), curve=curve, method=method, masked=masked),
        )
        rows = [row for row in of if row["degradation"] in inputs]
        if len(inputs) == 1:  # of a mean over inputs there is no interval in the table
            q, low, high = points(rows, "percent", "low", "high")
            panel.fill_between(q, low, high, color=look["color"], alpha=0.14, linewidth=0)
        q = sorted(set(numbers(rows, "percent")))
        restored = [mean_of(select(rows, level), "restored") or 0.0 for level in q]
        panel.plot(q, restored, marker="o", markersize=2.5, label=line_label(method), **look)
    guides(panel, 0, 1)
    panel.set_xscale("symlog", linthresh=0.1, linscale=0.35)
    panel.set_xlim(0, 100)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks([0, 0.1, 1, 10, 100], ["0", *(percent(q) for q in (0.1, 1, 10, 100))])
    share_axis(panel)
    limit(panel, -0.5, 1.25, share)


def _table(run: RunFiles) -> Table | None:
    areas = select(run.table("curves_areas"), masked="all")
    if not areas:
        return None
    several = len(unique(run.table("curves"), "masked")) > 1
    sides = [key for key in _HEADS if several or key[1] == "own"]
    head = ["Area under the curve", *(_HEADS[key] for key in sides)]
    head += [f"{curve}, own against others, minus {method_label(run.chosen)}" for curve in CURVES] if several else []
    rows = []
    for axis in ("log", "linear"):
        for method in _methods(run):
            cells = []
            for curve, side in sides:
                found = select(areas, curve=curve, method=method, side=side)
                cells.append(
                    with_ends(values(found[0], *(f"area_{axis}{end}" for end in ("", "_low", "_high"))))
                    if found
                    else ""
                )
            for curve in CURVES if several else ():
                found = select(run.table("curves_compared"), curve=curve, method=method) if axis == "log" else []
                cells.append(with_ends(values(found[0], "difference", "low", "high"), signed) if found else "")
            rows.append([f"{method_label(method)}, {axis} q", *cells])
    return Table(head, rows)


SECTION = Section(
    name="curves",
    title="From all {units} to none and back: which ranking is faithful?",
    link="Deletion and insertion",
    method=(
        "Deletion sets the top q % of a ranking back to the baseline's values, from none to all of them; insertion "
        "starts with all of them set back and gives the top q % their values again. A faithful ranking loses its own "
        "function at once and gets it back at once, and leaves the others alone. What is not ranked, such as biases, "
        "stays the target's, unless the settings say otherwise. Random sets come in two kinds: any, and as many in "
        "each layer as the run's method has there, which shows what the choice of layers alone is worth."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Line charts of the restored share against the percent of {units} deleted or inserted, a line per method",
    caption=(
        "Restored share, 1 − removed share, clipped: 100 % is the target, 0 % the baseline or worse. The axis of "
        "q is logarithmic from 0.1 %. Bands (of one function): 95 % bootstrap intervals over held-out "
        "photographs, and of fewer than 10 photographs the range over them."
    ),
    table=_table,
    note=(
        "Area: mean height of the curve between its own two ends, cut to 0 and 1 and straight between the measured "
        "points; over log10 q (from the smallest q that was measured to 100 %) and over q itself, where the first "
        "percent hardly count. Arrows say which way is better. The last columns are paired by photograph. In brackets: "
        "95 % percentile bootstrap over held-out photographs, draws averaged; of fewer than 10 photographs the range "
        "over them. It says nothing about other seeds or networks."
    ),
)
