"""The section on deletion and insertion curves."""

from collections.abc import Mapping, Sequence

from faig_lab.reporting.run_files import RunFiles, at, mean, over_photographs, unique, value
from faig_lab.reporting.sections.curves_figure import CURVES, curves_figure, methods_of
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import count, listed, method_label, number, percent, removal, sentence_case, share

_ALL = "all"
_HEADS = {
    ("deletion", "own"): "deleted: own ↓",
    ("deletion", "other"): "others ↑",
    ("insertion", "own"): "inserted: own ↑",
    ("insertion", "other"): "others ↓",
}
_HARM = 0.25  # of the target's gain, below the baseline


def _area(run: RunFiles, curve: str, method: str, side: str) -> Row:
    """The areas of a method, means over the masked degradations; empty when there are none."""
    wanted = {"curve": curve, "method": method, "masked": _ALL, "side": side}
    return next((row for row in run.table("curves_areas") if wanted.items() <= row.items()), {})


def _with_interval(row: Row, column: str, to: str = " to ") -> str:
    """`0.31 (0.25 to 0.38)`."""
    area, low, high = (value(row, f"{column}{suffix}") for suffix in ("", "_low", "_high"))
    return number(area) if low is None or high is None else f"{number(area)} ({number(low)}{to}{number(high)})"


def _sentences(run: RunFiles) -> list[str]:
    paragraphs = [[_needed(run, method)] for method in dict.fromkeys([run.chosen, "signed_share"])]
    paragraphs += [[_apart(run, curve), _harm(run, curve)] for curve in CURVES]
    paragraphs += [[_ends(run), _without_biases(run)]]
    joined = [" ".join(sentence for sentence in said if sentence) for said in paragraphs]
    return [paragraph for paragraph in joined if paragraph]


def _ends(run: RunFiles) -> str:
    """Between which networks the curves run, and what is restored there."""
    rows = run.table("curves")
    every = count(max(value(row, "filters") or 0.0 for row in rows))
    left, start, back = (_restored(rows, *end) for end in (("deletion", 100), ("insertion", 0), ("insertion", 100)))
    if left == start:
        return (
            f"Both curves run between the target and the target with all {every} filters at the baseline's values, "
            f"which still restores {left}; the areas are measured between these two."
        )
    return (
        f"Deletion ends with all {every} filters at the baseline's values, which still restores {left}; insertion, "
        f"where all else is the baseline's, starts at {start} and ends at {back}. Each area is measured between its "
        "curve's own ends."
    )


def _restored(rows: Sequence[Row], curve: str, q: float) -> str:
    """`3 % of deblurring and 1 % of denoising`: the same for all methods at the ends."""
    found = {str(r["degradation"]): value(r, "restored") for r in rows if (r["curve"], r["percent"]) == (curve, q)}
    return _functions(found)


def _without_biases(run: RunFiles) -> str:
    """What the filters alone are worth, when it is not everything."""
    key = "restored_without_target_biases/"
    found = {name.removeprefix(key): share for name, share in run.metrics.items() if name.startswith(key)}
    if not found or run.all_ranked:
        return ""
    return f"The baseline with all of the target's filters, but its own biases, restores {_functions(found)}."


def _needed(run: RunFiles, method: str) -> str:
    """What the headline's sets leave when deleted, and give when inserted."""
    found: dict[str, dict[str, float | None]] = {curve: {} for curve in CURVES}
    for row in run.table("curves"):
        if row["method"] == method and row["masked"] == row["degradation"] and at(run.headline, row):
            found[str(row["curve"])][str(row["masked"])] = value(row, "restored")
    left, given = (mean(list(found[curve].values())) for curve in CURVES)
    if left is None or given is None:
        return ""
    return (
        f"{sentence_case(method_label(method))} at {percent(run.headline)}: deleting its sets leaves "
        f"{_functions(found[CURVES[0]])}; inserting nothing but them restores {_functions(found[CURVES[1]])}."
    )


def _functions(restored: Mapping[str, float | None]) -> str:
    """`3 % of deblurring and 1 % of denoising`."""
    return listed([f"{share(part)} of {removal(name)}" for name, part in restored.items()])


def _apart(run: RunFiles, curve: str) -> str:
    """How far own and other functions are apart by the run's method, and the paired differences of the others."""
    rows = [row for row in run.table("curves_compared") if row["curve"] == curve and value(row, "low") is not None]
    own = _area(run, curve, run.chosen, "difference")
    if value(own, "area_log") is None or not rows:
        return ""
    return (
        f"{sentence_case(curve)}, own against other functions: the two areas over log q of {method_label(run.chosen)} "
        f"are {_with_interval(own, 'area_log')} apart. Minus that, paired by photograph ({over_photographs(rows)}): "
        f"{listed([_difference(row) for row in rows])}."
    )


def _harm(run: RunFiles, curve: str) -> str:
    """The lowest points of own curves that go below the baseline, which the areas do not show."""
    lowest: dict[str, tuple[float, Row]] = {}
    for row in run.table("curves"):
        restored = _below(row)
        if row["curve"] != curve or row["masked"] != row["degradation"] or restored is None or restored > -_HARM:
            continue
        if restored < lowest.get(str(row["method"]), (0.0, row))[0]:
            lowest[str(row["method"])] = restored, row
    parts = [
        f"{method_label(method)} ({share(restored)} of {removal(str(row['masked']))} at q = "
        f"{percent(value(row, 'percent') or 0)})"
        for method, (restored, row) in lowest.items()
    ]
    return f"{sentence_case(curve)}, lowest points below {share(-_HARM)}: {listed(parts)}." if parts else ""


def _below(row: Row) -> float | None:
    """The restored share with what the table keeps apart as harm; a table from before has both in one number."""
    restored, harm = value(row, "restored"), value(row, "harm")
    return restored if restored is None or harm is None else restored - harm


def _difference(row: Row) -> str:
    low, high = number(value(row, "low")), number(value(row, "high"))
    sign = "+" if (value(row, "difference") or 0) > 0 else ""
    return f"{method_label(str(row['method']))} ({sign}{number(value(row, 'difference'))}, {low} to {high})"


def _table(run: RunFiles) -> Table | None:
    if not run.table("curves_areas"):
        return None
    several = len(unique(run.table("curves"), "masked")) > 1
    sides = ("own", "other") if several else ("own",)
    head = ["Area under the curve", *(_HEADS[curve, side] for curve in CURVES for side in sides)]
    rows = [
        [
            f"{method_label(method)}, {axis} q",
            *(
                _with_interval(_area(run, curve, method, side), f"area_{axis}", "–")
                for curve in CURVES
                for side in sides
            ),
        ]
        for axis in ("log", "linear")
        for method in methods_of(run)
    ]
    return Table(head, rows)


SECTION = Section(
    name="curves",
    title="From all filters to none and back: which ranking is faithful?",
    link="Deletion and insertion",
    method=(
        "Deletion sets the top q % of a ranking back to the baseline's values, from none to all of them; insertion "
        "starts with all of them set back and gives the top q % their values again. A faithful ranking loses its own "
        "function at once and gets it back at once, and leaves the others alone. What is in no filter, such as "
        "biases, stays the target's, unless the settings say otherwise. Random filters come in two kinds: any, and "
        "as many in each layer as the run's method has there, which shows what the choice of layers alone is worth."
    ),
    sentences=_sentences,
    figure=curves_figure,
    alt="Line charts of the restored share against the percent of filters deleted or inserted, a line per method",
    caption=(
        "Restored share, 1 − removed share, clipped: 100 % is the target, 0 % the baseline or worse. The axis of "
        "q is logarithmic from 0.1 %. Bands (of one function): 95 % bootstrap intervals over held-out "
        "photographs, and of fewer than 10 photographs the range over them."
    ),
    table=_table,
    note=(
        "Area: mean height of the curve between its own two ends, cut to 0 and 1 and straight between the measured "
        "points; over log10 q (from the smallest q that was measured to 100 %) and over q itself, where the first "
        "percent hardly count. Arrows say which way is better. In brackets: 95 % percentile bootstrap over held-out "
        "photographs, draws averaged; of fewer than 10 photographs the range over them. It says nothing about other "
        "seeds or networks."
    ),
    shown=2,
)
