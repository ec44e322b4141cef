"""The section on degradation prediction: what an input suffers from, read off the filters that work on it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from faig_lab.reporting.run_files import RunFiles, over_photographs, unique, value
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import INK, MUTED, degradation_colour, drawing, new_figure
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import count, degraded, listed, number, removal, sentence_case, share

_OVERLAP = "overlap"
_METHOD = {
    _OVERLAP: "top-k overlap",
    "image_estimator": "noise level and sharpness",
    "linear_probe": "linear probe on features",
}
_CLEAN = "clean"
_UPRIGHT = 3  # As many answers have room for their names side by side.


def _names(run: RunFiles) -> list[str]:
    """The degradations that are told apart."""
    return [name for name in unique(run.table("prediction"), "predicted") if name != _CLEAN]


def _accuracy(run: RunFiles, method: str, measure: str) -> Row | None:
    rows = run.table("prediction_accuracy")
    return next((row for row in rows if (row["method"], row["measure"]) == (method, measure)), None)


def _counts(run: RunFiles, method: str, truth: str) -> dict[str, int]:
    """Answer → how often it was given."""
    rows = [row for row in run.table("prediction") if (row["method"], row["truth"]) == (method, truth)]
    return {str(row["predicted"]): round(value(row, "count") or 0) for row in rows}


def _mixes(run: RunFiles) -> list[str]:
    return [name for name in unique(run.table("prediction"), "truth") if name not in (_CLEAN, *_names(run))]


def _method(method: str) -> str:
    return _METHOD.get(method, method.replace("_", " "))


def _with_interval(row: Row | None) -> str:
    """`98 % (92 to 100 %)`."""
    if row is None:
        return number(None)
    low, high = value(row, "low"), value(row, "high")
    found = share(value(row, "value"))
    return found if low is None or high is None else f"{found} ({round(100 * low)} to {share(high)})"


def _sentences(run: RunFiles) -> list[str]:
    found = [_between(run), _third_answer(run), _rivals(run), *(_mixed(run, mix) for mix in _mixes(run))]
    return [sentence for sentence in found if sentence]


def _between(run: RunFiles) -> str:
    """Whether top-k overlap tells the degradations apart."""
    row, names = _accuracy(run, _OVERLAP, "balanced_accuracy"), _names(run)
    if row is None:
        return "There is one degradation, so there is nothing to tell it from."
    accuracy = value(row, "value") or 0.0
    exact = " Every input was named rightly, so that interval has no width; that of other images could have one."
    kind = over_photographs([row])
    unit = "images" if value(row, "photographs") is None else "photographs"  # older runs resampled crops
    kind = kind.replace("photographs", unit)
    return (
        f"Asked whether an input is {_either(names)}, top-k overlap is right for {_with_interval(row)} of "
        f"{count(value(row, 'inputs'))} inputs, cut from {count(value(row, unit))} held-out {unit} "
        f"(balanced accuracy, {kind}).{exact if accuracy == 1 else ''}"
    )


def _either(names: Sequence[str]) -> str:
    """`blurred or noisy`."""
    return listed([degraded(name) for name in names]).replace(" and ", " or ")


def _third_answer(run: RunFiles) -> str:
    """What happens when an input may also be clean."""
    row = _accuracy(run, _OVERLAP, "accuracy")
    errors = [
        (times, truth, answer)
        for truth in (_CLEAN, *_names(run))
        for answer, times in _counts(run, _OVERLAP, truth).items()
        if answer != truth and times
    ]
    said = f"With clean as a further answer and clean inputs among them it is right for {_with_interval(row)}"
    if not errors:
        return f"{said}, without an error."
    times, truth, answer = max(errors)
    asked = sum(_counts(run, _OVERLAP, truth).values())
    return (
        f"{said}; its most frequent error is to call a {degraded(truth)} input {degraded(answer)} "
        f"({times} of {asked} crops)."
    )


def _rivals(run: RunFiles) -> str:
    """The accuracy of every predictor."""
    parts = []
    for name, what in (("balanced_accuracy", f"between {_either(_names(run))}"), ("accuracy", "with clean")):
        rows = {
            method: value(row, "value")
            for method in unique(run.table("prediction_accuracy"), "method")
            if (row := _accuracy(run, method, name)) is not None
        }
        known = {method: number for method, number in rows.items() if number is not None}
        if known:
            parts.append(f"{what} {listed([f'{_method(method)} {share(found)}' for method, found in known.items()])}")
    return f"All predictors: {'; '.join(parts)}."


def _mixed(run: RunFiles, mix: str) -> str:
    """What it calls an input with several degradations, which has no single right answer."""
    counts = _counts(run, _OVERLAP, mix)
    asked = sum(counts.values())
    said = [f"{degraded(answer)} in {times} of {asked} crops" for answer, times in counts.items() if times]
    return f"An input that is {degraded(mix)} has no single right answer; top-k overlap calls it {listed(said)}."


def _figure(run: RunFiles) -> Figure | None:
    names, truths = _names(run), unique(run.table("prediction"), "truth")
    methods = unique(run.table("prediction"), "method")
    if not names:
        return None
    with drawing():
        heights = [0.6 + 0.26 * len(truths), 0.85 + 0.3 * len(truths)]
        figure = new_figure(sum(heights) + 0.4)
        (above,), (below,) = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)
        for index, (panel, name) in enumerate(zip(_row(above, len(names)), names, strict=True)):
            _overlap_panel(panel, run, name, truths)
            panel.set_title(f"{removal(name)} filters")
            if index == 0:
                panel.set_yticks(range(len(truths)), _labels(truths))
        above.supxlabel("share of the discovered filters that are found again on a crop", fontsize=8)
        for index, (panel, method) in enumerate(zip(_row(below, len(methods)), methods, strict=True)):
            _confusion_panel(panel, run, method, truths)
            panel.set_title(_method(method).replace(" and ", "\nand ").replace(" on ", "\non "))
            if index == 0:
                panel.set_yticks(range(len(truths)), _labels(truths))
    return figure


def _labels(truths: Sequence[str]) -> list[str]:
    return [degraded(truth).replace(" and ", "\nand ") for truth in truths]


def _row(figure: SubFigure, columns: int) -> list[Axes]:
    return list(figure.subplots(1, columns, squeeze=False, sharey=True)[0])


def _overlap_panel(panel: Axes, run: RunFiles, name: str, truths: Sequence[str]) -> None:
    """A dot per crop, a line of dots per input; dashed the threshold of this degradation."""
    names = _names(run)
    for place, truth in enumerate(truths):
        rows = [row for row in run.table("prediction_overlaps") if row["truth"] == truth]
        overlaps = [value(row, f"overlap/{name}") or 0.0 for row in rows]
        colour = degradation_colour(names.index(truth)) if truth in names else MUTED
        heights = place + 0.28 * np.sin(2.4 * np.arange(len(overlaps)))  # apart, and the same in every drawing
        panel.scatter(overlaps, heights, s=9, color=colour, alpha=0.75, linewidths=0)
    threshold = run.metrics.get(f"prediction/threshold/{name}")
    if threshold is not None:
        panel.axvline(threshold, color=INK, linewidth=0.9, linestyle="--")
    panel.set_ylim(len(truths) - 0.5, -0.5)
    panel.set_xlim(0, 1)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def _confusion_panel(panel: Axes, run: RunFiles, method: str, truths: Sequence[str]) -> None:
    """Rows = true input, columns = prediction; colour is the share of the row."""
    answers = unique(run.table("prediction"), "predicted")
    counts = np.array([[_counts(run, method, truth).get(answer, 0) for answer in answers] for truth in truths])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    panel.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    panel.set_xticks(range(len(answers)), [degraded(answer) for answer in answers])
    if len(answers) > _UPRIGHT:
        panel.tick_params(axis="x", rotation=30)
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    for (row, column), times in np.ndenumerate(counts):
        right = truths[row] == answers[column]
        panel.text(
            column, row, str(times), ha="center", va="center", fontsize=9, fontweight="bold" if right else "normal",
            color="white" if shares[row, column] > 0.6 else INK,
        )  # fmt: skip


def _table(run: RunFiles) -> Table | None:
    rows = []
    for method in unique(run.table("prediction_accuracy"), "method"):
        accuracy, balanced = (_accuracy(run, method, measure) for measure in ("accuracy", "balanced_accuracy"))
        assert accuracy is not None
        fitted = f"{count(value(accuracy, 'fitted_crops'))} crops, {accuracy['fitted_on']}"
        rows.append([sentence_case(_method(method)), _with_interval(balanced), _with_interval(accuracy), fitted])
    between = sentence_case(_either(_names(run)))
    return Table(["Method", f"{between}?", "Clean as well?", "Calibrated or trained on"], rows)


SECTION = Section(
    name="prediction",
    title="Do the filters tell what an input suffers from?",
    link="Prediction",
    method=(
        "For an input without ground truth the target's own output takes its place: the path integral from baseline "
        "to target then tells which filters work on this input. Their overlap with the discovered filters of each "
        "degradation names the degradation (top-k overlap); an input is called clean when no overlap passes its "
        "threshold, which was set on probe crops. Beside it are two rivals that look for the degradation directly, "
        "both fitted to labelled crops: thresholds on noise level and sharpness of the input alone, and a linear "
        "classifier of the target's mean features."
    ),
    sentences=_sentences,
    figure=_figure,
    alt=(
        "Above: dots of overlap with each set of discovered filters, a line of dots per kind of input. "
        "Below: confusion matrices of three predictors"
    ),
    caption=(
        "Above: each dot is one held-out crop; dashed, the threshold from the probe. Below: how often each input (row) "
        "got each answer (column), clean allowed; bold: right. A mix has no single right answer."
    ),
    table=_table,
    note=(
        "No predictor is without a teacher: the discovered filters, too, were found on probe images whose degradations "
        "are known. Every degradation has the severity of the training here; weaker ones are harder to tell from "
        "clean. Intervals resample held-out photographs; of fewer than 10 the range over them is given."
    ),
)
