"""The pictures of docs/methods.md and docs/limits.md, from the recorded tables of the studies.

python experiments/pages.py docs/pictures
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from faig_lab.plotting.style import INK, degradation_colour, drawing, method_look, new_figure
from faig_lab.plotting.words import method_label, removal

HERE = Path(__file__).resolve().parent
DEGRADATIONS = ("blur", "noise")
PERCENT = 0.5
"""Percent of the filters in the picture of the methods."""
STUDY = {
    **dict.fromkeys(("learned_mask",), "blur_noise"),
    **dict.fromkeys(("isolation_share", "iterated_isolation", "share_given_clean"), "rankings"),
    **dict.fromkeys(("signed_share", "signed_sum", "faig_shares", "faig"), "blur_noise"),
    **dict.fromkeys(("taylor", "fisher", "random", "weight_change", "ig"), "blur_noise"),
}
"""Method → the study that recorded it, in the order of the picture."""

Means = dict[tuple[str, str, float, str], dict[str, float]]


def means(study: str) -> Means:
    """(network, method, percent, masked set) → the numbers of a study's means.csv."""
    with (HERE / study / "means.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["group"], row["method"], float(row["percent"]), row["masked"]): {
            key: float(value)
            for key, value in row.items()
            if key not in ("group", "method", "masked", "interval") and value
        }
        for row in rows
    }


def methods() -> Figure:
    """Isolation of each method's sets: the mean over three trainings, and the 95 % t-interval, cut to the axis."""
    tables = {study: means(study) for study in set(STUDY.values())}
    span = (-1.0, 1.1)
    with drawing():
        figure = new_figure(3.4)
        axes = figure.subplots()
        for place, (method, study) in enumerate(STUDY.items()):
            for index, masked in enumerate(DEGRADATIONS):
                row = tables[study]["SRResNet", method, PERCENT, masked]
                height, colour = place + 0.3 * (index - 0.5), degradation_colour(index)
                ends = [min(max(row[end], span[0]), span[1]) for end in ("isolation_low", "isolation_high")]
                axes.plot(ends, [height] * 2, color=colour, alpha=0.35, linewidth=2.5, solid_capstyle="butt")
                axes.plot(row["isolation"], height, "o", color=colour, markersize=4)
        axes.axvline(0, color=INK, linewidth=0.5)
        axes.set(
            ylim=(len(STUDY) - 0.5, -0.5), xlim=span, xlabel=f"isolation of {PERCENT:g} % of the filters; 1 is ideal"
        )
        axes.set_yticks(range(len(STUDY)), [method_label(method) for method in STUDY])
        handles = [axes.plot([], [], "o", color=degradation_colour(i), markersize=4)[0] for i in range(2)]
        figure.legend(handles, [removal(name) for name in DEGRADATIONS], loc="outside upper center", ncols=2)
    return figure


def measures() -> Figure:
    """What two measures say of the same masked networks, against the percent of filters masked."""
    return _panels(
        [
            ("own removed share, not clipped", lambda row: row["own"] + row["harm"]),
            ("isolation", lambda row: row["isolation"]),
        ],
        ("learned_mask", "faig", "signed_share"),
        network="SRResNet",
    )


def _panels(panels: Sequence[tuple[str, object]], shown: Sequence[str], network: str) -> Figure:
    table = means("blur_noise")
    percents = sorted({percent for group, _, percent, _ in table if group == network})
    with drawing():
        figure = new_figure(2.5)
        axes = figure.subplots(1, len(panels))
        for axis, (title, value) in zip(axes, panels, strict=True):
            for method in shown:
                numbers = [value(table[network, method, percent, "mean"]) for percent in percents]  # type: ignore[operator]
                axis.plot(
                    percents,
                    numbers,
                    marker="o",
                    markersize=3,
                    label=method_label(method),
                    **method_look(shown, method),
                )
            axis.axhline(1, color=INK, linewidth=0.5)
            axis.set(xscale="log", xlabel="percent of the filters masked", title=title)
            axis.set_xticks(percents, [f"{percent:g}" for percent in percents], minor=False)
            axis.set_xticks([], minor=True)
        axes[1].set_ylim(-2, 1.1)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(shown))
    return figure


def trainings() -> Figure:
    """Isolation at 1 % after each of three trainings, on two networks."""
    with (HERE / "blur_noise" / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["group"], row["metric"]): row for row in csv.DictReader(file)}
    shown = ("learned_mask", "faig", "taylor", "random")
    networks = ("SRResNet", "SRCNNStyle")
    with drawing():
        figure = new_figure(2.3)
        for axis, network in zip(figure.subplots(1, 2, sharey=True), networks, strict=True):
            for place, method in enumerate(shown):
                row = rows[network, f"isolation/{method}/1"]
                seeds = [float(row[f"seed {seed}"]) for seed in range(3)]
                axis.plot([place] * 3, seeds, "o", markersize=4, color=method_look(shown, method)["color"])
            axis.axhline(0, color=INK, linewidth=0.5)
            axis.set_title({"SRResNet": "SRResNet", "SRCNNStyle": "SRCNN style"}[network], fontsize=8)
            axis.set_xticks(range(len(shown)), [method_label(method) for method in shown], fontsize=7)
            axis.set_xlim(-0.5, len(shown) - 0.5)
        figure.axes[0].set_ylabel("isolation of 1 %")
    return figure


PICTURES = {"methods": methods, "measures": measures, "trainings": trainings}


def main(into: str) -> None:
    """Write all pictures into a folder."""
    for name, picture in PICTURES.items():
        figure = picture()
        with drawing():
            figure.savefig(Path(into) / f"{name}.png", dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
