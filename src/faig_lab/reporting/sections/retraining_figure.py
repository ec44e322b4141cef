"""The figure on re-training, and how its table is read."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from faig_lab.analysis.retraining import COPIED, COPIED_MOVED, MIX, MOVED, OTHER, REDRAWN, UNTRAINED, WHOLE
from faig_lab.reporting.run_files import RunFiles, at, mean, unique, value
from faig_lab.reporting.style import INK, MUTED, degradation_colour, drawing, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import degraded, method_label, removal, share

_LOW, _HIGH = -0.5, 1.1  # of the figure; what lies beyond is drawn at the edge with its number


def rows_of(run: RunFiles) -> list[dict[str, str | float | None]]:
    """The table."""
    return run.table("retraining")


def shown_percent(run: RunFiles) -> float:
    """The percent that is spoken of: the headline percent, or the nearest that was trained."""
    there = [q for row in rows_of(run) if row["variant"] != WHOLE and (q := value(row, "percent")) is not None]
    return min(there, key=lambda q: abs(q - run.headline), default=run.headline)


def own(run: RunFiles, goal: str) -> list[str]:
    """The degradations that a goal is judged by: its own, or all for the mix."""
    return unique(rows_of(run), "degradation") if goal == MIX else [goal]


def result(run: RunFiles, variant: str, goal: str, degradations: Sequence[str], q: float) -> float | None:
    """Share of the target's gain, mean over draws and the given degradations; None where one is missing."""
    rows = trained_rows(run, variant, goal, q)
    numbers = [mean([value(row, "share") for row in rows if row["degradation"] == name]) for name in degradations]
    return None if None in numbers else mean(numbers)


def trained_rows(run: RunFiles, variant: str, goal: str, q: float) -> list[Row]:
    """Rows of one variant and goal at a percent, on every input."""
    return [
        row for row in rows_of(run)
        if (row["variant"], row["trained"]) == (variant, goal) and (variant == WHOLE or at(q, row))
    ]  # fmt: skip


def variants_of(run: RunFiles) -> list[str]:
    """In the order of the table, what is not trained last."""
    return sorted(unique(rows_of(run), "variant"), key=lambda variant: (variant in UNTRAINED, variant == WHOLE))


def variant_label(run: RunFiles, variant: str) -> str:
    """A variant in words."""
    method = method_label(run.chosen)
    words = {
        OTHER: f"{method}'s for another degradation",
        MOVED: "same layers, other locations",
        REDRAWN: f"{method}'s, weights re-drawn",
        WHOLE: "whole network",
        COPIED: "target's values, not trained",
        COPIED_MOVED: "the same at other locations",
    }
    return words.get(variant, method_label(variant))


def goal_label(goal: str) -> str:
    """A goal in words."""
    return "the mix" if goal == MIX else f"{removal(goal)} alone"


def retraining_figure(run: RunFiles) -> Figure | None:
    """A panel per goal, a row per variant, a dot per training."""
    goals, variants = unique(rows_of(run), "trained"), variants_of(run)
    with drawing():
        figure = new_figure(1.0 + 0.24 * len(variants))
        panels = figure.subplots(1, len(goals), squeeze=False, sharex=True, sharey=True)[0]
        for panel, goal in zip(panels, goals, strict=True):
            _panel(panel, run, goal, variants)
        panels[0].set_yticks(range(len(variants)), [variant_label(run, variant) for variant in variants])
        panels[0].set_ylim(len(variants) - 0.5, -0.5)
        panels[0].set_xlim(_LOW, _HIGH)
        if len(panels[-1].get_legend_handles_labels()[0]) > 1:
            figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        figure.supxlabel("share of the target's gain over the baseline, held-out images", fontsize=8)
    return figure


def _panel(panel: Axes, run: RunFiles, goal: str, variants: Sequence[str]) -> None:
    degradations, q = own(run, goal), shown_percent(run)
    everywhere = unique(rows_of(run), "degradation")
    for index, name in enumerate(degradations):
        shift = 0.18 * (index - (len(degradations) - 1) / 2)
        colour = degradation_colour(everywhere.index(name))
        for place, variant in enumerate(variants):
            rows = [row for row in trained_rows(run, variant, goal, q) if row["degradation"] == name]
            numbers = np.array([number for row in rows if (number := value(row, "share")) is not None])
            if numbers.size:
                face = "white" if variant in UNTRAINED else colour
                panel.plot(
                    numbers.clip(_LOW, _HIGH), [place + shift] * numbers.size, "o", color=colour, markersize=4,
                    markerfacecolor=face, clip_on=False, label=f"{degraded(name)} input" if place == 0 else None,
                )  # fmt: skip
                _beyond(panel, float(numbers.min()), place + shift)
        whole = result(run, WHOLE, goal, [name], q)
        if whole is not None:
            panel.axvline(min(whole, _HIGH), color=colour, linewidth=0.8, linestyle=":")
    panel.axvline(0, color=MUTED, linewidth=0.8)
    panel.axhline(sum(v not in UNTRAINED for v in variants) - 0.5, color=MUTED, linewidth=0.6)
    panel.set_title(goal_label(goal))
    panel.tick_params(axis="y", length=0)
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.xaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))


def _beyond(panel: Axes, number: float, place: float) -> None:
    """Write a number that lies left of the panel beside its dot at the edge."""
    if number < _LOW:
        panel.annotate(
            share(number), (_LOW, place), (5, 0), textcoords="offset points", va="center", fontsize=6.5, color=INK
        )
