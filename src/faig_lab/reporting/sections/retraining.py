"""The section on re-training: do weights, locations and connections of the discovered filters matter?"""

from collections.abc import Sequence

from faig_lab.analysis.retraining import COPIED, COPIED_MOVED, MIX, MOVED, REDRAWN, UNTRAINED, WHOLE
from faig_lab.reporting.run_files import RunFiles, unique, value
from faig_lab.reporting.sections.retraining_figure import (
    goal_label,
    own,
    result,
    retraining_figure,
    rows_of,
    shown_percent,
    trained_rows,
    variant_label,
    variants_of,
)
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.words import ABSENT, count, degraded, listed, percent, sentence_case, share


def _sentences(run: RunFiles) -> list[str]:
    goals, q = unique(rows_of(run), "trained"), shown_percent(run)
    claims = [
        _claim(run, "Locations", run.chosen, MOVED, "as many filters at other locations of the same layers reach", q),
        _claim(run, "Weights", run.chosen, REDRAWN, "the same filters from re-drawn weights reach", q),
        _claim(run, "Connections", COPIED, COPIED_MOVED, "moved to other locations of their layers they reach", q),
    ]
    told = [_setting(run, goals, q), *claims, *(_sets(run, goal, q) for goal in goals)]
    return [text for text in told if text]


def _setting(run: RunFiles, goals: Sequence[str], q: float) -> str:
    """How many filters, how long, and what all weights reach in that time."""
    sizes = [
        f"{count(value(rows[0], 'filters'))} for {goal_label(goal)}"
        for goal in goals
        if (rows := trained_rows(run, run.chosen, goal, q))
    ]
    node = run.config.get("analysis", {}).get("studies", {}).get("retraining", {})
    steps, whole = node.get("iterations"), run.config.get("training", {}).get("target", {}).get("iterations")
    text = f"Trained are {percent(q)} of the filters ({listed(sizes)})"
    text += f", for {count(steps)} iterations" if steps else ""
    if steps and whole and not (run.config.get("target") or {}).get("weights"):
        text += f" (the target had {count(whole)})"
    text += f" at {node['rate']:g} times the target's learning rate" if node.get("rate", 1) != 1 else ""
    whole = {goal: result(run, WHOLE, goal, own(run, goal), q) for goal in goals}
    reached = [f"{share(number)} in {goal_label(goal)}" for goal, number in whole.items()]
    return (
        f"{text}. Trained as long at the target's own rate, the whole network reaches {listed(reached)} of the "
        "target's gain."
    )


def _sets(run: RunFiles, goal: str, q: float) -> str:
    """What the equally large sets reach, in the order of the table."""
    sets = [variant for variant in variants_of(run) if variant not in (*UNTRAINED, WHOLE, REDRAWN, MOVED)]
    found = [(v, number) for v in sets if (number := result(run, v, goal, own(run, goal), q)) is not None]
    shown = listed([f"{variant_label(run, v)} {share(number)}" for v, number in found])
    return f"{sentence_case(goal_label(goal))}: {shown}." if found else ""


def _claim(run: RunFiles, what: str, first: str, second: str, words: str, q: float) -> str:
    """One of “weights, locations and connections all matter”, goal by goal: the numbers that it rests on."""
    pairs = {}
    for goal in unique(rows_of(run), "trained"):
        a, b = (result(run, variant, goal, own(run, goal), q) for variant in (first, second))
        if a is not None and b is not None:
            pairs[goal] = (a, b)
    if not pairs:
        return ""
    shown = [f"{share(b)} instead of {share(a)} in {goal_label(goal)}" for goal, (a, b) in pairs.items()]
    start = "The target's values alone, without training: " if first == COPIED else ""
    return f"{what}: {start}{words} {listed(shown)}."


def _table(run: RunFiles) -> Table | None:
    goals = unique(rows_of(run), "trained")
    columns = [(goal, name) for goal in goals for name in own(run, goal)]
    several = len(unique(rows_of(run), "degradation")) > 1
    head = [
        f"{goal_label(goal)}: {degraded(name)}" if goal == MIX and several else goal_label(goal)
        for goal, name in columns
    ]
    levels = sorted({q for row in rows_of(run) if row["variant"] != WHOLE and (q := value(row, "percent")) is not None})
    lines = []
    for variant in variants_of(run):
        for q in levels if variant != WHOLE else levels[:1]:
            name = variant_label(run, variant) + (f", {percent(q)}" if len(levels) > 1 and variant != WHOLE else "")
            cells = [share(result(run, variant, goal, [shown], q)) for goal, shown in columns]
            if set(cells) != {ABSENT}:
                lines.append([name, *cells])
    return Table(["share of the target's gain", *(sentence_case(text) for text in head)], lines)


SECTION = Section(
    name="retraining",
    title="Do the weights, locations and connections of the discovered filters matter?",
    link="Re-training",
    method=(
        "Starting from the baseline, only the chosen filters are trained, with the target's data, loss and optimizer; "
        "every other weight keeps the baseline's bits. Equally large sets compete: those of the methods, those of the "
        "other degradation, random ones, as many at other locations of the same layers, and the discovered ones from "
        "fresh random weights. Each degradation's set is trained on that degradation alone (and clean input), the "
        "union of all sets on the target's mix. Beside it, without any training, the discovered filters get the "
        "target's values, at their own locations and at others of the same layers."
    ),
    sentences=_sentences,
    figure=retraining_figure,
    alt="Dot plots of the share of the target's gain that each re-trained set of filters reaches, a panel per goal",
    caption=(
        "Share of the target's gain in PSNR: 0 = the baseline, 100 % = the target; one dot per training. Hollow: not "
        "trained. Dotted: the whole network, trained as long. What lies left of a panel is drawn at its edge."
    ),
    table=_table,
    note=(
        "The trainings are short, so this tells who learns faster with few weights, not who would win in the end; and "
        "but for random filters each is done once. Biases stay the baseline's, except for the whole network."
    ),
)
