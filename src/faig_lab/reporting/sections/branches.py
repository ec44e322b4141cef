"""The section on one branch against two: does a plain blind network reach one with a degradation predictor?"""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from faig_lab.analysis.branch_prediction import EVERYTHING
from faig_lab.analysis.branches import ONE, TWO
from faig_lab.reporting.charts import Dots, dot_rows, mark_cut, share_axis
from faig_lab.reporting.run_files import (
    Rows,
    RunFiles,
    mean_of,
    numbers,
    over_photographs,
    select,
    unique,
    value,
    values,
)
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.style import INK, MUTED, drawing, input_colour, legend_columns, new_figure
from faig_lab.reporting.words import count, degraded, listed, method_label, number, removal, share, signed, with_ends

_LABELS = {ONE: "one branch", TWO: "two branches"}
_ENDS = ("difference", "low", "high")


def _compared(run: RunFiles, measure: str) -> Rows:
    """The rows of one measure, one per input."""
    return select(run.table("branches"), measure=measure)


def _sentence(run: RunFiles) -> str:
    """What the trainings had in common, and the differences in PSNR."""
    rows = _compared(run, "psnr")
    given = any((run.config.get(name) or {}).get("weights") for name in ("baseline", "target"))
    steps = [run.config.get("training", {}).get(name, {}).get("iterations") for name in ("baseline", "target")]
    said = "The run's own network was given, not trained here"
    if not given and None not in steps:
        said = f"Both were trained for {listed([count(n) for n in steps])} iterations (baseline and target)"
    found = [
        f"{with_ends(values(row, *_ENDS), signed)} dB on {degraded(str(row['degradation']))} input" for row in rows
    ]
    ends = f" (in brackets the {over_photographs(rows)})" if numbers(rows, "low") else ""
    return f"{said}; PSNR, one branch minus two{ends}: {listed(found)}."


def _figure(run: RunFiles) -> Figure:
    rows, methods = _compared(run, "psnr"), unique(run.table("branches_filters"), "method")
    with drawing():
        figure = new_figure(1.1 + 0.34 * max(len(rows), 2 * len(methods), 3))
        left, right = figure.subplots(1, 2)
        _difference_panel(left, rows)
        _sets_panel(right, run, methods)
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=legend_columns(labels))
    return figure


def _difference_panel(panel: Axes, rows: Rows) -> None:
    for place, row in enumerate(rows):
        low, high = numbers([row], "low"), numbers([row], "high")
        if low and high:
            panel.plot([*low, *high], [place, place], color=INK, linewidth=1.6, solid_capstyle="butt")
        if (value(row, "seeds") or 1) > 1:
            seeds = numbers([row], "lowest_seed") + numbers([row], "highest_seed")
            panel.plot(seeds, [place] * len(seeds), "x", color=MUTED, markersize=4, markeredgewidth=0.8)
    names = [degraded(str(row["degradation"])) for row in rows]
    found = {name: numbers([row], "difference") for name, row in zip(names, rows, strict=True)}
    dot_rows(panel, names, [Dots("", INK, found)])
    panel.axvline(0, color=MUTED, linewidth=0.8)
    panel.margins(x=0.12)
    panel.set_xlabel("PSNR, one branch − two, dB")
    panel.set_ylabel("input")


def _sets_panel(panel: Axes, run: RunFiles, methods: Sequence[str]) -> None:
    rows = run.table("branches_filters")
    series = {f"{method_label(m)}, {label}": (m, network) for m in methods for network, label in _LABELS.items()}
    dots = []
    for name in unique(rows, "masked"):
        for side in ("other", "own"):
            found = {
                label: [shown]
                for label, (method, network) in series.items()
                if (shown := mean_of(select(rows, method=method, network=network, masked=name), side)) is not None
            }
            label, hollow = (removal(name), ()) if side == "own" else ("", series)
            dots.append(Dots(label, input_colour(run.degradations, name), found, lane=name, hollow=hollow))
    dot_rows(panel, list(series), dots, width=0.4)
    for edge in (0, 1):
        panel.axvline(edge, color=MUTED, linewidth=0.8)
    panel.set_xlim(-0.25, 1.5)
    panel.set_xlabel("share of a function that masking removes")
    share_axis(panel, "x")
    mark_cut(panel, share)


def _table(run: RunFiles) -> Table:
    lines = []
    for measure, unit, digits in (("psnr", "dB", 2), ("ssim", "", 3)):
        for row in _compared(run, measure):
            lines.append([
                f"{measure.upper()}, {degraded(str(row['degradation']))} input",
                *(f"{number(value(row, network), digits)} {unit}".strip() for network in (ONE, TWO)),
                with_ends(values(row, *_ENDS), partial(signed, digits=digits)),
            ])  # fmt: skip
    rows = run.table("branches_filters")
    for method in unique(rows, "method"):
        for name in unique(rows, "masked"):
            of = [select(rows, method=method, masked=name, network=network) for network in (ONE, TWO)]
            cells = [f"{share(mean_of(found, 'own'))} ({share(mean_of(found, 'other'))})" for found in of]
            lines.append([f"{removal(name)} removed by the set of {method_label(method)} (of the other)", *cells, ""])
    for row in run.table("branches_prediction"):
        what = "everything" if row["predicted"] == EVERYTHING else str(row["predicted"]).replace("_", " ")
        known = with_ends(values(row, "value", "low", "high"), share)
        lines.append([f"{what} predicted rightly (balanced accuracy)", "", known, ""])
    rows = run.table("branches_predictor")
    for name in unique(rows, "degradation"):
        lost = share(mean_of(select(rows, degradation=name), "removed"))
        lines.append([f"{removal(name)} lost with the predictor set back", "", lost, ""])
    for key, label, factor, digits in (("parameters", "parameters", 1, 0), ("step_seconds", "ms a step", 1000, 1)):
        found = [run.metrics.get(f"branches/{key}/{network}") for network in (ONE, TWO)]
        if None not in found:
            lines.append([label, *(number(factor * (x or 0), digits) for x in found), ""])
    return Table(["", "one branch", "two branches", "difference"], lines)


SECTION = Section(
    name="branches",
    title="Is one branch as good as two?",
    link="One branch or two",
    method=(
        "The paper sets out from the claim that a plain one-branch network, which is told nothing of the degradation, "
        "reaches a two-branch one, where a predictor of the degradations modulates the restoration. Here a two-branch "
        "network of about the same size is trained like the run's own: the same samples, seed, iterations, loss and "
        "optimizer, and beside them its predictor's own loss. Differences are one branch minus two on the same "
        "held-out images; the 95 % intervals resample photographs, since crops of one photograph are not independent. "
        "Of fewer than 10 photographs the range over them is given instead."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of the difference in PSNR per input, and of own and other removed shares in both networks",
    caption=(
        "Left: PSNR of one branch minus that of two, with its interval over photographs (of fewer than 10 the range); "
        "crosses: the lowest and the highest seed. Right: what masking the discovered {units} removes of their own "
        "function (filled) and of the other (hollow), a colour for each masked set."
    ),
    table=_table,
    note=(
        "One kind of two-branch network, and one budget: a longer training, another size or another way of "
        "conditioning may decide otherwise."
    ),
)
