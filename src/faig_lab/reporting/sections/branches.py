"""The section on one branch against two: does a plain blind network reach one with a degradation predictor?"""

from faig_lab.analysis.branch_prediction import EVERYTHING
from faig_lab.analysis.branches import ONE, TWO
from faig_lab.reporting.run_files import RunFiles, mean, over_photographs, unique, value
from faig_lab.reporting.sections.branches_figure import LABELS, branches_figure, compared, shares_of
from faig_lab.reporting.sections.section import Section, Table
from faig_lab.reporting.tables import Row
from faig_lab.reporting.words import (
    count,
    degraded,
    duration,
    listed,
    method_label,
    number,
    percent,
    removal,
    share,
    signed,
)

_UNITS = {"psnr": (" dB", 2), "ssim": ("", 3)}


def _sentences(run: RunFiles) -> list[str]:
    said = [
        _setting(run),
        _differences(run, "psnr"),
        _differences(run, "ssim"),
        _seeds(run),
        _prediction(run),
        _filters(run),
        _predictor(run),
    ]
    return [text for text in said if text]


def _setting(run: RunFiles) -> str:
    """Who competes: sizes, iterations, time."""
    sizes = [run.metrics.get(f"branches/parameters/{name}") for name in (ONE, TWO)]
    text = ""
    if sizes[0] and sizes[1]:
        more = f"{signed(100 * (sizes[1] / sizes[0] - 1))} %"
        text += f"One branch has {count(sizes[0])} parameters, two branches have {count(sizes[1])} ({more}). "
    if any((run.config.get(name) or {}).get("weights") for name in ("baseline", "target")):
        text += "The run's own network was given, not trained here, so that the budgets need not be equal."
        return text
    steps = [run.config.get("training", {}).get(name, {}).get("iterations") for name in ("baseline", "target")]
    if None not in steps:
        text += f"Both were trained for {listed([count(n) for n in steps])} iterations (baseline and target)"
        seconds = [run.metrics.get(f"branches/step_seconds/{name}") for name in (ONE, TWO)]
        if seconds[0] and seconds[1]:
            whole = [duration(sum(steps) * s) for s in seconds]
            text += (
                f"; a step takes {number(1000 * seconds[0], 1)} ms with one branch and "
                f"{number(1000 * seconds[1], 1)} ms with two, measured in turn, the whole training {listed(whole)}"
            )
        text += "."
    return text.strip()


def _differences(run: RunFiles, measure: str) -> str:
    """The difference on every input, with its interval."""
    rows = compared(run, measure)
    known = [row for row in rows if value(row, "low") is not None]
    ends = f" (in brackets: {over_photographs(known)})" if known else "; one held-out photograph has no interval"
    return f"{measure.upper()}, one branch minus two{ends}: {listed([_told(row, measure) for row in rows])}."


def _told(row: Row, measure: str) -> str:
    """One input: `noisy input −0.12 dB (−0.20 to −0.03)`; negative where two branches have more."""
    unit, digits = _UNITS[measure]
    text = f"{signed(value(row, 'difference'), digits)}{unit}"
    if value(row, "low") is not None:
        text += f" ({signed(value(row, 'low'), digits)} to {signed(value(row, 'high'), digits)})"
    return f"{_input(row)} {text}"


def _input(row: Row) -> str:
    return f"{degraded(str(row['degradation']))} input"


def _seeds(run: RunFiles) -> str:
    """How far the difference in PSNR depends on the seed."""
    rows = compared(run, "psnr")
    seeds = int(value(rows[0], "seeds") or 1)
    if seeds < 2:
        return "One seed: how much the difference would move with another is not measured."
    ranges = [(value(row, "lowest_seed") or 0.0, value(row, "highest_seed") or 0.0, row) for row in rows]
    shown = [f"{signed(low)} to {signed(high)} dB on {_input(row)}" for low, high, row in ranges]
    return f"Over {seeds} seeds the difference runs from {listed(shown)}."


def _prediction(run: RunFiles) -> str:
    rows = run.table("branches_prediction")
    shown = []
    for row in rows:
        what = "everything at once" if row["predicted"] == EVERYTHING else str(row["predicted"]).replace("_", " ")
        ends = [share(value(row, key)) for key in ("low", "high")]
        interval = f" ({ends[0]} to {ends[1]})" if value(row, "low") is not None else ""
        shown.append(f"{what} in {share(value(row, 'value'))}{interval}")
    if not shown:
        return ""
    inputs = count(value(rows[0], "inputs"))
    return f"The predictor judges {listed(shown)} of {inputs} held-out inputs rightly (balanced accuracy)."


def _filters(run: RunFiles) -> str:
    """Own and other removed share of every set in both networks."""
    rows = run.table("branches_filters")
    told = []
    for method in unique(rows, "method"):
        sides = {network: _sets(run, network, method) for network in (ONE, TWO)}
        shown = [f"{listed(sets)} in {LABELS[network]}" for network, sets in sides.items() if sets]
        if shown:
            told.append(f"by {method_label(method)} {'; '.join(shown)}")
    if not told:
        return ""
    q = percent(value(rows[0], "percent") or 0.0)
    return f"Masking the top {q} of the filters removes of their own function (of the other): {'; '.join(told)}."


def _sets(run: RunFiles, network: str, method: str) -> list[str]:
    """What each set of a network removes."""
    told = []
    for name in unique(run.table("branches_filters"), "masked"):
        shares = shares_of(run, network, method, name)
        if shares["own"] is not None and shares["other"] is not None:
            told.append(f"{removal(name)} {share(shares['own'])} ({share(shares['other'])})")
    return told


def _predictor(run: RunFiles) -> str:
    rows = run.table("branches_predictor")
    lost = {
        name: mean([value(row, "removed") for row in rows if row["degradation"] == name])
        for name in unique(rows, "degradation")
    }
    known = {name: loss for name, loss in lost.items() if loss is not None}
    if not known:
        return ""
    shown = listed([f"{share(loss)} of {removal(name)}" for name, loss in known.items()])
    return f"The predictor itself, with its modulations, set back to the baseline's values costs {shown}."


def _table(run: RunFiles) -> Table | None:
    head = ["input"]
    columns = []
    for measure, label in (("psnr", "PSNR"), ("ssim", "SSIM")):
        head += [f"{label}, one branch", "two branches", "difference (interval)"]
        columns.append({str(row["degradation"]): row for row in compared(run, measure)})
    lines = []
    for name in columns[0]:
        line = [degraded(name)]
        for measure, rows in zip(_UNITS, columns, strict=True):
            row, digits = rows[name], _UNITS[measure][1]
            ends = f" ({signed(value(row, 'low'), digits)} to {signed(value(row, 'high'), digits)})"
            line += [number(value(row, ONE), digits), number(value(row, TWO), digits)]
            line.append(signed(value(row, "difference"), digits) + (ends if value(row, "low") is not None else ""))
        lines.append(line)
    return Table(head, lines)


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
    sentences=_sentences,
    figure=branches_figure,
    alt="Dot plots of the difference in PSNR per input, and of own and other removed shares in both networks",
    caption=(
        "Left: PSNR of one branch minus that of two, with its interval over photographs (of fewer than 10 the range); "
        "thin crosses: the lowest and the highest seed. Right: what masking the discovered filters removes of their "
        "own function (filled) and "
        "of the other (hollow), a colour for each masked set; what lies outside of the panel is drawn at its edge."
    ),
    table=_table,
    note=(
        "One kind of two-branch network, and one budget: a longer training, another size or another way of "
        "conditioning may decide otherwise."
    ),
)
