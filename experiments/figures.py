"""A figure over the seeds of a study, and its numbers beside it.

python experiments/figures.py modulation outputs/studies/judged experiments/analyses
python experiments/figures.py shrink outputs/compared/blur_noise/isolation.png experiments/blur_noise

Reads one table of every finished run below the first folder; writes <figure>.png (the mean, and each seed) and
<figure>.csv (mean, 95 % t-interval over the seeds, value of each seed) into the second. Rows of dots show the interval
as a bar, cut to the axis; lines show each seed, since bands of several lines would cover each other. The second command
copies a picture into a folder, with 64 colours, since git keeps every version of it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from faig_lab.plotting.style import INK, degradation_colour, drawing, legend_columns, method_colour, new_figure
from faig_lab.plotting.words import degraded, method_label, removal, sentence_case
from faig_lab.report.comparison import estimate
from faig_lab.runs import finished_runs
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import records, write_table

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Plot:
    """What is drawn: rows of one table, a panel for each value of one column, a colour for each of another.

    Attributes:
        table: of the run folders.
        panel: column; its values are titles through `title`.
        colour: column, "" for one colour.
        place: column along the axis: numbers make lines, names make rows of dots.
        values: columns that are averaged; the first is drawn.
        axis: label of the x axis.
        height: label of the y axis, where there are lines.
        where: which rows.
        log: a logarithmic x axis.
        span: ends of the x axis, where there are dots.
        difference: two colours; what is drawn is the first minus the second, seed by seed.
    """

    table: str
    panel: str
    colour: str
    place: str
    values: tuple[str, ...]
    axis: str
    title: Callable[[str], str] = str
    where: Callable[[Row], bool] = lambda row: True
    log: bool = False
    height: str = ""
    span: tuple[float, float] | None = None
    difference: tuple[str, str] | None = None


def _own(row: Row) -> bool:
    return row["degradation"] == row["trained"] or row["trained"] == "mix"


def _single(row: Row) -> bool:
    return row["masked"] == row["degradation"] and row["percent"] not in (0.0, 100.0)


def _functions(name: str) -> str:
    """`blur+noise` → `deblurring and denoising`."""
    return " and ".join(map(removal, name.split("+")))


PLOTS = {
    "modulation": Plot(
        "modulation", "modulated", "degradation", "strength", ("back", "psnr"), "λ",
        height="way back to the baseline's output",
        title=_functions,
    ),
    "boundary": Plot(
        "boundary_gain", "degradation", "", "severity", ("gain", "share"), "severity (σ)", height="gain, dB",
        title=lambda name: f"{degraded(name)} input",
    ),
    "retraining": Plot(
        "retraining", "trained", "degradation", "variant", ("share", "psnr"), "share of the target's gain", where=_own,
        title=lambda name: "trained on the mix" if name == "mix" else f"trained for {removal(name)}",
    ),
    "planted": Plot(
        "planted", "degradation", "", "method", ("average_precision", "recall"), "average precision", span=(0, 1.02),
        title=removal,
    ),
    "prediction": Plot(
        "prediction_accuracy", "measure", "", "method", ("value",), "accuracy", span=(0, 1.02),
        title=lambda name: {"accuracy": "clean, blurred or noisy?"}.get(name, "blurred or noisy?"),
    ),
    "stability": Plot(
        "stability", "method", "degradation", "kind", ("jaccard", "spearman"), "Jaccard index of the top 1 %",
        title=method_label, span=(0, 1.02),
    ),
    "sanity": Plot(
        "sanity", "method", "", "check", ("isolation", "overlap", "specificity"), "isolation", title=method_label
    ),
    "curves": Plot(
        "curves", "curve", "method", "percent", ("restored",), "filters, %", where=_single, log=True,
        height="restored share, mean of both",
    ),
    "patches": Plot(
        "patches", "patched", "degradation", "percent", ("carried",), "filters, %", log=True,
        height="share of the gain",
        where=lambda row: row["percent"] != 0 and row["biases"] == 1, title=_functions,
    ),
    "clusters": Plot(
        "clusters", "", "", "network", ("index",), "Calinski–Harabasz index of all inputs",
        title=lambda name: "Separation of the inputs in the features", where=lambda row: row["a"] == "all",
    ),
    "task_vectors": Plot(
        "task_vectors_layers", "", "", "depth", ("conflict", "cosine", "cosine_target"),
        "layer, from the input (0) to the output", height="magnitude in conflict",
        title=lambda name: "Sign conflict of the task vectors", where=lambda row: row["layer"] != "all",
    ),
    "switches": Plot(
        "switches", "", "input", "variant", ("against_blind", "gain", "psnr"), "PSNR minus the blind network's, dB",
        title=lambda name: "Switched networks, shared weights of the target",
        where=lambda row: row["variant"] != "blind" and row["input"] != "clean",
    ),
    "one_minus_two": Plot(
        "branches_images", "", "network", "degradation", ("psnr", "ssim"), "one branch minus two, dB",
        title=lambda name: "PSNR on held-out photographs", difference=("one_branch", "two_branch"),
    ),
    "depth": Plot(
        "depth", "network", "method", "degradation",
        ("first_third", "middle_third", "last_third", "last_convolution", "entropy"),
        "share of the top 1 % in the first third of the layers",
        where=lambda row: row["method"] in ("faig", "signed_share", "random") and row["percent"] == 1,
    ),
}  # fmt: skip

Key = tuple[str, str, str | float]
"""Panel, colour and place."""
DIFFERENCE = "difference"


def points(plot: Plot, folder: str) -> dict[str, dict[Key, dict[int, float]]]:
    """Value → point → seed → mean over the rows of that seed (draws, images, layers)."""
    found: dict[str, dict[Key, dict[int, list[float]]]] = {name: {} for name in plot.values}
    runs, left_out = finished_runs.read(finished_runs.find(folder))
    for one in left_out:
        print(f"left out: {one.folder}: {one.reason}", file=sys.stderr)
    for run in runs:
        for row in records(run.table(plot.table)):
            if plot.where(row):
                seed = int(row.get("seed", run.seed))
                for name in plot.values:
                    if row[name] is not None:
                        by_seed = found[name].setdefault(_key(plot, row | {"network": _network(run, row)}), {})
                        by_seed.setdefault(seed, []).append(float(row[name]))
    means = {
        name: {key: {seed: float(np.mean(v)) for seed, v in sorted(seeds.items())} for key, seeds in of_name.items()}
        for name, of_name in found.items()
    }
    return {name: of_name | _differences(plot, of_name) for name, of_name in means.items()}


def _network(run: RunFolder, row: Row) -> str:
    """The row's, else the class of the run's."""
    return str(row.get("network") or run.config["network"]["_target_"].rpartition(".")[2])


def _differences(plot: Plot, found: dict[Key, dict[int, float]]) -> dict[Key, dict[int, float]]:
    if plot.difference is None:
        return {}
    one, two = plot.difference
    return {
        (panel, DIFFERENCE, place): {seed: value - found[panel, two, place][seed] for seed, value in seeds.items()}
        for (panel, colour, place), seeds in found.items()
        if colour == one
    }


def _key(plot: Plot, row: Row) -> Key:
    place = row[plot.place]
    if plot.table == "stability" and row["kind"] != "seed":  # which comparison; the seeds differ from run to run
        place = f"{row['kind']}: {row['a']} and {row['b']}"
    elif plot.table == "stability":
        place = "target: this and one trained anew"
    return (
        str(row.get(plot.panel, "")),
        str(row.get(plot.colour, "")),
        place if isinstance(place, float) else str(place),
    )


def rows(plot: Plot, found: dict[str, dict[Key, dict[int, float]]]) -> Iterator[dict[str, object]]:
    """The table beside the figure."""
    columns = [column or "all" for column in (plot.panel, plot.colour, plot.place)]
    for name, of_name in found.items():
        for key, seeds in of_name.items():
            one = estimate(seeds.values())
            assert one is not None
            numbers = {"mean": one.mean, "low": one.low, "high": one.high}
            numbers |= {f"seed {s}": v for s, v in seeds.items()}
            rounded = {k: None if v is None else float(f"{v:.6g}") for k, v in numbers.items()}
            yield {
                **{c: k for c, k in zip(columns, key, strict=True) if c != "all"},
                "value": name,
                "n": one.n,
                "interval": None if one.low is None else "t",
                **rounded,
            }


def draw(plot: Plot, found: dict[Key, dict[int, float]]) -> Figure:
    """A panel for each value of the panel's column."""
    panels = list(dict.fromkeys(panel for panel, _, _ in found))
    colours = list(dict.fromkeys(colour for _, colour, _ in found))
    places = list(dict.fromkeys(place for _, _, place in found))
    numbers = all(isinstance(place, float) for place in places)
    with drawing():
        figure = new_figure(2.6 if numbers else 0.9 + 0.24 * len(places))
        for index, (axes, panel) in enumerate(zip(_axes(figure, len(panels), sharey=not numbers), panels, strict=True)):
            of_panel = {(colour, place): s for (p, colour, place), s in found.items() if p == panel}
            (_lines if numbers else _dots)(axes, plot, of_panel, colours, places)
            axes.set_title(sentence_case(plot.title(panel)), fontsize=8)
            axes.set_xlabel(plot.axis)
            if not numbers and index == 0:
                axes.set_yticks(range(len(places)), [_place(str(place)) for place in places])
            if numbers and index == 0:
                axes.set_ylabel(plot.height)
        if len(colours) > 1:
            labels = [_label(plot, colour) for colour in colours]
            handles = [
                axes.plot([], [], color=_colour(plot, i), marker="o", markersize=3)[0] for i in range(len(labels))
            ]
            figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns(labels))
    return figure


def _axes(figure: Figure, count: int, *, sharey: bool) -> list[Any]:
    return list(figure.subplots(1, count, squeeze=False, sharey=sharey)[0])


def _lines(axes: Axes, plot: Plot, found: Any, colours: Sequence[str], places: Sequence[float]) -> None:
    for index, colour in enumerate(colours):
        here = [(place, found[colour, place]) for place in sorted(places) if (colour, place) in found]
        for seed in dict.fromkeys(seed for _, seeds in here for seed in seeds):
            line = [(place, seeds[seed]) for place, seeds in here if seed in seeds]
            axes.plot(*zip(*line, strict=True), color=_colour(plot, index), alpha=0.35, linewidth=0.7)
        means = [(place, np.mean(list(seeds.values()))) for place, seeds in here]
        if means:
            axes.plot(*zip(*means, strict=True), color=_colour(plot, index), marker="o", markersize=2.5)
    if plot.log:
        axes.set_xscale("log")
    axes.axhline(0, color=INK, linewidth=0.5)


def _dots(axes: Axes, plot: Plot, found: Any, colours: Sequence[str], places: Sequence[str]) -> None:
    apart = 0.28 if len(colours) > 1 else 0
    for (colour, place), seeds in found.items():
        index = colours.index(colour)
        height = places.index(place) + apart * (index - (len(colours) - 1) / 2)
        values = list(seeds.values())
        axes.plot(values, [height] * len(values), ".", color=_colour(plot, index), alpha=0.5, markersize=6)
        one = estimate(values)
        if one is not None and one.low is not None and one.high is not None:
            ends = np.clip([one.low, one.high], *(plot.span or (-np.inf, np.inf)))
            axes.plot(ends, [height] * 2, color=_colour(plot, index), alpha=0.3, linewidth=2.2, solid_capstyle="butt")
        axes.plot([np.mean(values)], [height], "|", color=_colour(plot, index), markersize=9, markeredgewidth=2)
    axes.set_ylim(len(places) - 0.5, -0.5)
    if plot.span is not None:
        axes.set_xlim(*plot.span)


def _colour(plot: Plot, index: int) -> str:
    return degradation_colour(index) if plot.colour in ("degradation", "masked", "input") else method_colour(index)


def _label(plot: Plot, colour: str) -> str:
    if plot.colour in ("degradation", "masked", "input"):
        return degraded(colour)
    return method_label(colour)


def _place(name: str) -> str:
    """The name of a method, or of a masked network: `faig/1/blur` is `FAIG, deblurring masked`."""
    method, *rest = name.split("/")
    return f"{method_label(method)}, {removal(rest[-1])} masked" if rest else method_label(method)


def main(name: str, folder: str, into: str) -> None:
    plot = PLOTS[name]
    found = points(plot, folder)
    write_table(Path(into) / f"{name}.csv", list(rows(plot, found)))
    first = found[plot.values[0]]
    figure = draw(plot, {key: seeds for key, seeds in first.items() if not plot.difference or key[1] == DIFFERENCE})
    with drawing():
        figure.savefig(Path(into) / f"{name}.png", dpi=150, metadata={"Software": None})


def shrink(picture: str, into: str) -> None:
    """Copy a picture into a folder, with 64 colours."""
    with Image.open(picture) as opened:
        opened.convert("RGB").quantize(64).save(Path(into) / Path(picture).name, optimize=True)


if __name__ == "__main__":
    shrink(*sys.argv[2:]) if sys.argv[1] == "shrink" else main(*sys.argv[1:])
