"""The section on degradation prediction: what an input suffers from, read off what works on it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from faig_lab.reporting.run_files import RunFiles, numbers, over_photographs, select, unique, value, values
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import HEAT, INK, drawing, input_colour, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import count, degraded, listed, removal, sentence_case, share, with_ends

_OVERLAP = "overlap"
_METHOD = {
    _OVERLAP: "top-k overlap",
    "image_estimator": "noise level and sharpness",
    "linear_probe": "linear probe on features",
}
_UPRIGHT = 3  # As many answers have room for their names side by side.


def _names(run: RunFiles) -> list[str]:
    """The degradations that are told apart."""
    return [name for name in unique(run.table("prediction"), "predicted") if name != "clean"]


def _method(method: str) -> str:
    return _METHOD.get(method, method.replace("_", " "))


def _accuracy(run: RunFiles, method: str, measure: str) -> Row:
    """The row of a predictor; empty where it was not measured, as with a single degradation."""
    return next(iter(select(run.table("prediction_accuracy"), method=method, measure=measure)), {})


def _shown(row: Row) -> str:
    """`98 % (92 % to 100 %)`."""
    return with_ends(values(row, "value", "low", "high"), share)


def _either(run: RunFiles) -> str:
    """`blurred or noisy`."""
    return listed([degraded(name) for name in _names(run)]).replace(" and ", " or ")


def _sentence(run: RunFiles) -> str:
    balanced, clean = (_accuracy(run, _OVERLAP, measure) for measure in ("balanced_accuracy", "accuracy"))
    parts = [f"{_shown(balanced)} of them right between {_either(run)} (balanced accuracy)"] if balanced else []
    parts.append(f"{_shown(clean)} with clean as a further answer")
    inputs, scenes = count(value(clean, "inputs")), count(value(clean, "photographs"))
    return (
        f"Top-k overlap on {inputs} inputs from {scenes} held-out photographs: {listed(parts)}; in brackets the "
        f"{over_photographs([clean])}."
    )


def _figure(run: RunFiles) -> Figure | None:
    names, truths = _names(run), unique(run.table("prediction"), "truth")
    methods = unique(run.table("prediction"), "method")
    if not names:
        return None
    labels = [degraded(truth).replace(" and ", "\nand ") for truth in truths]
    with drawing():
        heights = [0.6 + 0.26 * len(truths), 0.85 + 0.3 * len(truths)]
        figure = new_figure(sum(heights) + 0.4)
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)
        for panel, name in zip(_row(above, len(names), labels), names, strict=True):
            _overlap_panel(panel, run, name, truths)
            panel.set_title(f"{removal(name)} set")
        above.supxlabel(f"share of the discovered {run.units} that are found again on a crop", fontsize=8)
        for panel, method in zip(_row(below, len(methods), labels), methods, strict=True):
            _confusion_panel(panel, run, method, truths)
            panel.set_title(_method(method).replace(" and ", "\nand ").replace(" on ", "\non "))
        below.supxlabel("answer", fontsize=8)
    return figure


def _row(figure: SubFigure, columns: int, labels: Sequence[str]) -> list[Axes]:
    """Panels with a line for each kind of input."""
    panels = list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)
    panels[0].set_ylabel("input")
    return panels


def _overlap_panel(panel: Axes, run: RunFiles, name: str, truths: Sequence[str]) -> None:
    """A dot per crop, a line of dots per input; dashed the threshold of this degradation."""
    for place, truth in enumerate(truths):
        overlaps = numbers(select(run.table("prediction_overlaps"), truth=truth), f"overlap/{name}")
        heights = place + 0.28 * np.sin(2.4 * np.arange(len(overlaps)))  # apart, and the same in every drawing
        colour = input_colour(run.degradations, truth)
        panel.scatter(overlaps, heights, s=9, color=colour, alpha=0.75, linewidths=0)
    threshold = run.metrics.get(f"prediction/threshold/{name}")
    if threshold is not None:
        panel.axvline(threshold, color=INK, linewidth=0.9, linestyle="--")
    panel.set_xlim(0, 1)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _confusion_panel(panel: Axes, run: RunFiles, method: str, truths: Sequence[str]) -> None:
    """Rows = true input, columns = prediction; the shade is the share of the row."""
    answers = unique(run.table("prediction"), "predicted")
    found = {
        (str(row["truth"]), str(row["predicted"])): round(value(row, "count") or 0)
        for row in select(run.table("prediction"), method=method)
    }
    counts = np.array([[found.get((truth, answer), 0) for answer in answers] for truth in truths])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    panel.set_xticks(range(len(answers)), [degraded(answer) for answer in answers])
    panel.tick_params(axis="x", rotation=30 if len(answers) > _UPRIGHT else 0)
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    for (row, column), times in np.ndenumerate(counts):
        panel.text(
            column, row, str(times), ha="center", va="center", fontsize=9,
            fontweight="bold" if truths[row] == answers[column] else "normal",
            color="white" if shares[row, column] > 0.6 else INK,
        )  # fmt: skip


def _table(run: RunFiles) -> Table:
    rows = []
    for method in unique(run.table("prediction_accuracy"), "method"):
        balanced, accuracy = (_accuracy(run, method, measure) for measure in ("balanced_accuracy", "accuracy"))
        fitted = f"{count(value(accuracy, 'fitted_crops'))} crops, {accuracy['fitted_on']}"
        rows.append([sentence_case(_method(method)), _shown(balanced), _shown(accuracy), fitted])
    head = ["Method", f"{sentence_case(_either(run))}?", "Clean as well?", "Calibrated or trained on"]
    return Table(head, rows)


SECTION = Section(
    name="prediction",
    title="Do the {units} tell what an input suffers from?",
    link="Prediction",
    method=(
        "For an input without ground truth the target's own output takes its place: the path integral from baseline "
        "to target then tells which {units} work on this input. Their overlap with the discovered {units} of each "
        "degradation names the degradation (top-k overlap); an input is called clean when no overlap passes its "
        "threshold, which was set on probe crops. Beside it are two rivals that look for the degradation directly, "
        "both fitted to labelled crops: thresholds on noise level and sharpness of the input alone, and a linear "
        "classifier of the target's mean features."
    ),
    sentence=_sentence,
    figure=_figure,
    alt=(
        "Above: dots of overlap with each set of discovered {units}, a line of dots per kind of input. "
        "Below: confusion matrices of three predictors"
    ),
    caption=(
        "Above: each dot is one held-out crop; dashed, the threshold from the probe. Below: how often each input (row) "
        "got each answer (column), clean allowed; bold: right. A mix has no single right answer."
    ),
    table=_table,
    note=(
        "No predictor is without a teacher: the discovered {units}, too, were found on probe images whose degradations "
        "are known. Every degradation has the severity of the training here; weaker ones are harder to tell from "
        "clean. Intervals resample held-out photographs; of fewer than 10 the range over them is given."
    ),
)
