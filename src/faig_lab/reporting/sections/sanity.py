"""The section on sanity checks: what must fail when weights or labels are destroyed."""

from matplotlib.figure import Figure

from faig_lab.reporting.charts import Dots, dot_rows, legend_above, share_axis
from faig_lab.reporting.run_files import Rows, RunFiles, mean_of, numbers, select, unique
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import INK, MUTED, drawing, method_look, new_figure
from faig_lab.reporting.words import method_label, number, share

_CHECKS = {"original": "as it is", "randomised": "target randomised", "swapped": "labels exchanged"}


def _rows(run: RunFiles, check: str, method: str) -> Rows:
    return select(run.table("sanity"), check=check, method=method)


def _measure(run: RunFiles) -> str:
    """What masked sets are judged by: isolation, or specificity in runs of earlier versions."""
    return "isolation" if any("isolation" in row for row in run.table("sanity")) else "specificity"


def _sentence(run: RunFiles) -> str:
    methods, measure = unique(run.table("sanity"), "method"), _measure(run)
    method = run.chosen if run.chosen in methods else methods[0]
    original, randomised, swapped = (_rows(run, check, method) for check in _CHECKS)
    said = (
        f"{method_label(method)} with the target randomised: {share(mean_of(randomised, 'overlap'))} of the "
        f"{run.units} in common (by the numbers in each layer alone {share(mean_of(randomised, 'chance_in_layers'))}), "
        f"{measure} {number(mean_of(randomised, measure))} instead of {number(mean_of(original, measure))}"
    )
    if swapped:
        overlap, after = share(mean_of(swapped, "overlap")), number(mean_of(swapped, measure))
        said += f"; with the labels exchanged: {overlap} in common, {measure} by label {after}"
    return f"{said}."


def _figure(run: RunFiles) -> Figure:
    rows, measure = run.table("sanity"), _measure(run)
    checks = [check for check in _CHECKS if check in unique(rows, "check")]
    methods = unique(rows, "method")
    with drawing():
        figure = new_figure(1.0 + 0.16 * len(checks) * max(len(methods), 3))
        panels = figure.subplots(1, 2, sharey=True)
        for panel, column in zip(panels, ("overlap", measure), strict=True):
            series = [
                Dots(
                    method_label(method), method_look(run.methods, method)["color"],
                    {_CHECKS[check]: numbers(_rows(run, check, method), column) for check in checks}, centre=True,
                )
                for method in methods
            ]  # fmt: skip
            dot_rows(panel, [_CHECKS[check] for check in checks], series, width=0.7)
        chance = mean_of(select(rows, check="randomised"), "chance_in_layers")
        if chance is not None:
            panels[0].vlines(chance, 0.5, 1.5, color=INK, linewidth=1, linestyle=":")
        panels[0].set_xlabel(f"{run.units} in common with the original set")
        panels[0].set_xlim(-0.03, 1.03)
        share_axis(panels[0], "x")
        panels[1].set_xlabel(f"{measure} of masking, by label")
        panels[1].axvline(0, color=MUTED, linewidth=0.8)
        legend_above(figure, panels[0])
    return figure


def _table(run: RunFiles) -> Table:
    measures = list(dict.fromkeys([_measure(run), "specificity"]))
    head = ["Attributed", "order", "in common", "by layers", "own removed", "others", *measures]
    columns = {"spearman": number} | dict.fromkeys(("overlap", "chance_in_layers", "own", "other"), share)
    columns |= dict.fromkeys(measures, number)
    lines = [
        [f"{method_label(method)}, {label}", *(show(mean_of(found, column)) for column, show in columns.items())]
        for method in unique(run.table("sanity"), "method")
        for check, label in _CHECKS.items()
        if (found := _rows(run, check, method))
    ]
    return Table(head, lines)


SECTION = Section(
    name="sanity",
    title="Sanity checks: a randomised target, exchanged labels",
    link="Sanity checks",
    method=(
        "An attribution that finds the same {units} in a network that learnt nothing does not explain what was learnt "
        "(after Adebayo and others, 2018). So the changes from baseline to target are permuted within each layer, the "
        "{units} are attributed in that network, and those found are masked in the true target: that should be no "
        "better than masking at random. Then the degradations exchange their labels: the sets must follow the labels, "
        "and isolation, measured by label, must fall."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of the share of {units} in common with the original set, and of isolation, for each check",
    caption=(
        "Dots: one label and one draw; strokes: their means. Dotted: {units} in common that random sets with the same "
        "numbers in each layer would have. For exchanged labels the original set is that of the degradation which "
        "bears the label."
    ),
    table=_table,
    note=(
        "Order: rank correlation with the original scores. By layers: {units} in common that the numbers in each "
        "layer alone would give. That exchanged labels exchange the sets is certain for a method that looks at each "
        "degradation's own inputs: that check is of the code and of the measure, more than of the method. Methods that "
        "draw are left out."
    ),
)
