"""The section on sanity checks: what must fail when weights or labels are destroyed."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faig_lab.reporting.run_files import RunFiles, mean, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import INK, MUTED, drawing, method_look, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import method_label, number, sentence_case, share

_WITH_ARTICLE = {"isolation": "an isolation", "specificity": "a specificity"}
_CHECKS = {"original": "as it is", "randomised": "target randomised", "swapped": "labels exchanged"}


def _mean(run: RunFiles, check: str, method: str, column: str) -> float | None:
    """Mean over draws and degradations."""
    return mean([value(row, column) for row in _rows(run, check, method)])


def _rows(run: RunFiles, check: str, method: str) -> list[Row]:
    return [row for row in run.table("sanity") if (row["check"], row["method"]) == (check, method)]


def _measure(run: RunFiles) -> str:
    """What masked sets are judged by: isolation, or specificity in runs of earlier versions."""
    return "isolation" if any("isolation" in row for row in run.table("sanity")) else "specificity"


def _sentences(run: RunFiles) -> list[str]:
    methods = unique(run.table("sanity"), "method")
    said = [check(run, method) for method in methods for check in (_randomised, _swapped)]
    return [sentence for sentence in said if sentence]


def _randomised(run: RunFiles, method: str) -> str:
    """What stays of the top sets and their specificity without the target's weights."""
    overlap, layers = (_mean(run, "randomised", method, column) for column in ("overlap", "chance_in_layers"))
    if overlap is None or layers is None:
        return ""
    before, after = (_mean(run, check, method, _measure(run)) for check in ("original", "randomised"))
    correlation = _mean(run, "randomised", method, "spearman")
    text = (
        f"{sentence_case(method_label(method))}, target randomised: the sets keep {share(overlap)} of their filters "
        f"(chance: {share(_mean(run, 'randomised', method, 'chance'))}; with the layers given: {share(layers)}), and "
        f"the rank correlation of all filters is {number(correlation)}"
    )
    if after is not None:
        text += f". Masked, they have {_WITH_ARTICLE[_measure(run)]} of {number(after)} instead of {number(before)}"
    return f"{text}."


def _swapped(run: RunFiles, method: str) -> str:
    """How far sets follow the labels."""
    overlap = _mean(run, "swapped", method, "overlap")
    after = _mean(run, "swapped", method, _measure(run))
    if overlap is None or after is None:
        return ""
    before = _mean(run, "original", method, _measure(run))
    text = (
        f"{sentence_case(method_label(method))}, labels exchanged: each label gets {share(overlap)} of the filters of "
        f"the degradation that now bears it, and {_measure(run)} by label goes from {number(before)} to "
        f"{number(after)}"
    )
    return f"{text}."


def _figure(run: RunFiles) -> Figure | None:
    rows = run.table("sanity")
    checks = [check for check in _CHECKS if check in unique(rows, "check")]
    methods = unique(rows, "method")
    with drawing():
        figure = new_figure(1.0 + 0.16 * len(checks) * max(len(methods), 3))
        panels = figure.subplots(1, 2, sharey=True)
        for panel, column in zip(panels, ("overlap", _measure(run)), strict=True):
            _panel(panel, run, checks, methods, column)
        panels[0].set_title("filters in common with the original set")
        panels[1].set_title(f"{_measure(run)} of masking, by label")
        panels[0].set_xlim(-0.03, 1.03)
        panels[0].xaxis.set_major_formatter(lambda x, _: share(x))
        panels[1].axvline(0, color=MUTED, linewidth=0.8)
        panels[0].set_yticks(range(len(checks)), [_CHECKS[check] for check in checks])
        panels[0].set_ylim(len(checks) - 0.5, -0.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _panel(panel: Axes, run: RunFiles, checks: Sequence[str], methods: Sequence[str], column: str) -> None:
    """A row per check: a dot per draw and degradation, and a bar at their mean, for each method."""
    step = 0.7 / len(methods)
    for index, method in enumerate(methods):
        colour = method_look(run.methods.index(method) if method in run.methods else index, method)["color"]
        for place, check in enumerate(checks):
            y = place + step * (index - (len(methods) - 1) / 2)
            numbers = [x for row in _rows(run, check, method) if (x := value(row, column)) is not None]
            panel.scatter(numbers, [y] * len(numbers), s=14, color=colour, alpha=0.55, linewidths=0, zorder=3)
            centre, layers = mean(list(numbers)), _mean(run, check, method, "chance_in_layers")
            if centre is not None:
                panel.plot(
                    [centre] * 2, [y - step / 2.4, y + step / 2.4], color=colour, linewidth=2.2,
                    label=method_label(method) if place == 0 else None,
                )  # fmt: skip
            if column == "overlap" and check == "randomised" and layers is not None:
                panel.plot([layers] * 2, [y - step / 2.4, y + step / 2.4], color=INK, linewidth=1, linestyle=":")
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _table(run: RunFiles) -> Table | None:
    rows = run.table("sanity")
    measures = list(dict.fromkeys([_measure(run), "specificity"]))
    head = ["Attributed", "order", "in common", "by layers", "own removed", "others", *measures]
    columns = ("overlap", "chance_in_layers", "own", "other")
    lines = [
        [
            f"{method_label(method)}, {label}",
            number(_mean(run, check, method, "spearman")),
            *(share(_mean(run, check, method, column)) for column in columns),
            *(number(_mean(run, check, method, measure)) for measure in measures),
        ]
        for method in unique(rows, "method")
        for check, label in _CHECKS.items()
        if _rows(run, check, method)
    ]
    return Table(head, lines)


SECTION = Section(
    name="sanity",
    title="Does it fail when it must?",
    link="Sanity checks",
    method=(
        "An attribution that finds the same filters in a network that learnt nothing does not explain what was learnt "
        "(after Adebayo and others, 2018). So the changes from baseline to target are permuted within each layer, the "
        "filters are attributed in that network, and those found are masked in the true target: that should be no "
        "better than masking at random. Then the degradations exchange their labels: the sets must follow the labels, "
        "and isolation, measured by label, must fall."
    ),
    sentences=_sentences,
    figure=_figure,
    alt="Dot plots of the share of filters in common with the original set, and of isolation, for each check",
    caption=(
        "Dots: one label and one draw; strokes: their means. Dotted: filters in common that random sets with the same "
        "numbers in each layer would have. For exchanged labels the original set is that of the degradation which "
        "bears the label."
    ),
    table=_table,
    note=(
        "Order: rank correlation with the original scores. By layers: filters in common that the numbers in each "
        "layer alone would give. That exchanged labels exchange the sets is certain for a method that looks at each "
        "degradation's own inputs: that check is of the code and of the measure, more than of the method. Methods that "
        "draw are left out."
    ),
    shown=2,
)
