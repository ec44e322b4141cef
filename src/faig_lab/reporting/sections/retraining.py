"""The section on re-training: do weights, locations and connections of the discovered units matter?"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from faig_lab.analysis.retraining import COPIED, COPIED_MOVED, MIX, MOVED, OTHER, REDRAWN, UNTRAINED, WHOLE
from faig_lab.reporting.charts import Dots, dot_rows, legend_above, mark_cut, share_axis
from faig_lab.reporting.run_files import Rows, RunFiles, mean, mean_of, numbers, select, unique
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import MUTED, drawing, input_colour, new_figure
from faig_lab.reporting.words import (
    ABSENT,
    count,
    degraded,
    listed,
    method_label,
    percent,
    removal,
    sentence_case,
    share,
)

_LOW, _HIGH = -0.5, 1.1  # of the figure


def _trained(run: RunFiles, variant: str, goal: str, q: float) -> Rows:
    """Rows of one variant and goal at a percent, on every input."""
    return select(run.table("retraining"), None if variant == WHOLE else q, variant=variant, trained=goal)


def result(run: RunFiles, variant: str, goal: str, degradations: Sequence[str], q: float) -> float | None:
    """Share of the target's gain, mean over draws and the given degradations; None where one is missing."""
    rows = _trained(run, variant, goal, q)
    found = [mean_of(select(rows, degradation=name), "share") for name in degradations]
    return None if None in found else mean(found)


def _own(run: RunFiles, goal: str) -> list[str]:
    """The degradations that a goal is judged by: its own, or all for the mix."""
    return unique(run.table("retraining"), "degradation") if goal == MIX else [goal]


def _percents(run: RunFiles) -> list[float]:
    return sorted(set(numbers([row for row in run.table("retraining") if row["variant"] != WHOLE], "percent")))


def _headline(run: RunFiles) -> float:
    """The percent that is spoken of: the headline percent, or the nearest that was trained."""
    return min(_percents(run), key=lambda q: abs(q - run.headline), default=run.headline)


def _variants(run: RunFiles) -> dict[str, str]:
    """Variant → its words, in the order of the table, what is not trained last."""
    method = method_label(run.chosen)
    words = {
        OTHER: f"{method}'s for another degradation",
        MOVED: "same layers, other locations",
        REDRAWN: f"{method}'s, weights re-drawn",
        WHOLE: "whole network",
        COPIED: "target's values, not trained",
        COPIED_MOVED: "the same at other locations",
    }
    found = unique(run.table("retraining"), "variant")
    return {v: words.get(v, method_label(v)) for v in sorted(found, key=lambda v: (v in UNTRAINED, v == WHOLE))}


def _goal(goal: str) -> str:
    return "the mix" if goal == MIX else f"{removal(goal)} alone"


def _sentence(run: RunFiles) -> str:
    goals, q = unique(run.table("retraining"), "trained"), _headline(run)
    node = run.config.get("analysis", {}).get("studies", {}).get("retraining", {})
    steps, whole = node.get("iterations"), run.config.get("training", {}).get("target", {}).get("iterations")
    long = f" for {count(steps)} iterations (the target: {count(whole)})" if steps and whole else ""
    found = {goal: [result(run, v, goal, _own(run, goal), q) for v in (run.chosen, WHOLE)] for goal in goals}
    said = [f"{share(own)} ({share(all_of_it)}) in {_goal(goal)}" for goal, (own, all_of_it) in found.items()]
    return (
        f"Trained alone{long}, {percent(q)} of the {run.units}, chosen by {method_label(run.chosen)}, reach this share "
        f"of the target's gain (in brackets the whole network): {listed(said)}."
    )


def _figure(run: RunFiles) -> Figure:
    """A panel per goal, a row per variant, a dot per training."""
    goals, variants = unique(run.table("retraining"), "trained"), _variants(run)
    with drawing():
        figure = new_figure(1.0 + 0.24 * len(variants))
        panels = figure.subplots(1, len(goals), squeeze=False, sharex=True, sharey=True)[0]
        for panel, goal in zip(panels, goals, strict=True):
            _panel(panel, run, goal, variants)
        legend_above(figure, panels[-1])
        figure.supxlabel("share of the target's gain over the baseline, held-out images", fontsize=8)
    return figure


def _panel(panel: Axes, run: RunFiles, goal: str, variants: dict[str, str]) -> None:
    q, series = _headline(run), []
    hollow = [label for variant, label in variants.items() if variant in UNTRAINED]
    for name in _own(run, goal):
        colour = input_colour(run.degradations, name)
        found = {v: numbers(select(_trained(run, v, goal, q), degradation=name), "share") for v in variants}
        rows = {variants[v]: x for v, x in found.items()}
        series.append(Dots(f"{degraded(name)} input", colour, rows, hollow=hollow))
        whole = result(run, WHOLE, goal, [name], q)
        if whole is not None:
            panel.axvline(min(whole, _HIGH), color=colour, linewidth=0.8, linestyle=":")
    dot_rows(panel, list(variants.values()), series, width=0.36)
    panel.set_xlim(_LOW, _HIGH)
    panel.axvline(0, color=MUTED, linewidth=0.8)
    panel.axhline(len(variants) - len(hollow) - 0.5, color=MUTED, linewidth=0.6)
    panel.set_title(_goal(goal))
    panel.xaxis.set_major_locator(MaxNLocator(4))
    share_axis(panel, "x")
    mark_cut(panel, share)


def _table(run: RunFiles) -> Table:
    goals, levels = unique(run.table("retraining"), "trained"), _percents(run)
    columns = [(goal, name) for goal in goals for name in _own(run, goal)]
    several = len(run.degradations) > 1
    head = [f"{_goal(goal)}: {degraded(name)}" if goal == MIX and several else _goal(goal) for goal, name in columns]
    lines = []
    for variant, label in _variants(run).items():
        for q in levels[:1] if variant == WHOLE else levels:
            cells = [share(result(run, variant, goal, [shown], q)) for goal, shown in columns]
            if set(cells) != {ABSENT}:
                size = f", {percent(q)}" if len(levels) > 1 and variant != WHOLE else ""
                lines.append([label + size, *cells])
    return Table(["share of the target's gain", *map(sentence_case, head)], lines)


SECTION = Section(
    name="retraining",
    title="Do the weights, locations and connections of the discovered {units} matter?",
    link="Re-training",
    method=(
        "Starting from the baseline, only the chosen {units} are trained, with the target's data, loss and optimizer; "
        "every other weight keeps the baseline's bits. Equally large sets compete: those of the methods, those of the "
        "other degradation, random ones, as many at other locations of the same layers, and the discovered ones from "
        "fresh random weights. Each degradation's set is trained on that degradation alone (and clean input), the "
        "union of all sets on the target's mix. Beside it, without any training, the discovered {units} get the "
        "target's values, at their own locations and at others of the same layers."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of the share of the target's gain that each re-trained set of {units} reaches, a panel per goal",
    caption=(
        "Share of the target's gain in PSNR: 0 = the baseline, 100 % = the target; one dot per training. Hollow: not "
        "trained. Dotted: the whole network, trained as long. An arrow with a number lies beyond the panel."
    ),
    table=_table,
    note=(
        "The trainings are short, so this tells who learns faster with few weights, not who would win in the end; and "
        "but for random sets each is done once. Biases stay the baseline's, except for the whole network, which is "
        "trained at the target's own learning rate."
    ),
)
