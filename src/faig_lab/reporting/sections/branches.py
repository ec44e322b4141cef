"""The section on one branch against two: does a plain blind network reach one with a degradation predictor?"""

from collections.abc import Sequence

from faig_lab.analysis.branch_prediction import EVERYTHING
from faig_lab.analysis.branches import ONE, TWO
from faig_lab.reporting.run_files import RunFiles, mean, unique, value
from faig_lab.reporting.sections.branches_figure import LABELS, NEGLIGIBLE, branches_figure, compared, shares_of, winner
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

DISCRIMINATIVE = 0.3
"""Own minus other removed share from which filters are called discriminative."""

FEW = 8
"""Fewer photographs agree in sign by chance in more than 1 % of the cases."""

_UNITS = {"psnr": (" dB", 2), "ssim": ("", 3)}


def _sentences(run: RunFiles) -> list[str]:
    said = [_setting(run), _verdict(run), _ssim(run), _seeds(run), _prediction(run), _filters(run), _predictor(run)]
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


def _verdict(run: RunFiles) -> str:
    """By PSNR, input by input, and what that says of the paper's claim."""
    rows = compared(run, "psnr")
    if all(value(row, "low") is None for row in rows):
        return (
            f"By PSNR {_differences(rows, 'psnr')} There is one held-out photograph only, hence no interval, and "
            "nothing is decided."
        )
    better = [_input(row) for row in rows if winner(row, "psnr") == TWO]
    if better:
        claim = f"So one branch does not reach two on {listed(better)}."
    else:
        room = max(-(value(row, "low") or 0.0) for row in rows)
        unsure = f", though two may be better by up to {number(room)} dB within the intervals"
        claim = f"So one branch reaches two on every input{unsure if room >= NEGLIGIBLE['psnr'] else ''}."
    return f"By PSNR {_differences(rows, 'psnr')} {claim}{_few(rows)}"


def _few(rows: Sequence[Row]) -> str:
    """How little an interval over a handful of photographs says."""
    number_of = int(value(rows[0], "photographs") or 0)
    if number_of >= FEW or not any(winner(row, "psnr") for row in rows):
        return ""
    return (
        f" This rests on {number_of} photographs: an interval leaves zero out as soon as they all agree in sign, which "
        f"chance alone brings about in {share(2.0 ** (1 - number_of))} of the cases."
    )


def _ssim(run: RunFiles) -> str:
    rows = compared(run, "ssim")
    return f"By SSIM {_differences(rows, 'ssim')}" if any(value(row, "low") is not None for row in rows) else ""


def _differences(rows: Sequence[Row], measure: str) -> str:
    """Who is better on which input, each with its interval."""
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(winner(row, measure), []).append(_told(row, measure))
    starts = {
        ONE: "one branch is better on",
        TWO: "two branches are better on",
        "": "no difference is seen on",
    }
    parts = [f"{starts[side]} {listed(groups[side])}" for side in (ONE, TWO, "") if side in groups]
    return f"{'; '.join(parts)}."


def _told(row: Row, measure: str) -> str:
    """One input: `noisy input (−0.12 dB, interval −0.20 to −0.03)`; negative where two branches are better."""
    unit, digits = _UNITS[measure]
    text = f"{signed(value(row, 'difference'), digits)}{unit}"
    if value(row, "low") is not None:
        text += f", interval {signed(value(row, 'low'), digits)} to {signed(value(row, 'high'), digits)}"
    return f"{_input(row)} ({text})"


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
    turned = [_input(row) for low, high, row in ranges if low < 0 < high]
    turns = f" Its sign changes with the seed on {listed(turned)}." if turned else ""
    return f"Over {seeds} seeds the difference runs from {listed(shown)}.{turns}"


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
    """Own and other removed share of every set in both networks, and which of them discriminate beside a predictor."""
    rows = run.table("branches_filters")
    told, found = [], []
    for method in unique(rows, "method"):
        sides = {network: _sets(run, network, method) for network in (ONE, TWO)}
        shown = [f"{listed(sets)} in {LABELS[network]}" for network, sets in sides.items() if sets]
        if shown:
            told.append(f"by {method_label(method)} {'; '.join(shown)}")
        found += [
            f"for {removal(name)} by {method_label(method)}"
            for name in unique(rows, "masked")
            if (gap := shares_of(run, TWO, method, name)["specificity"]) is not None and gap >= DISCRIMINATIVE
        ]
    if not told:
        return ""
    q = percent(value(rows[0], "percent") or 0.0)
    start = f"Masking the top {q} of the filters removes of their own function (of the other): {'; '.join(told)}."
    if found:
        return f"{start} So the restoring branch beside a predictor has discriminative filters: {listed(found)}."
    return f"{start} So no discriminative filters are found in the restoring branch beside a predictor."


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
        "Where an interval contains zero, or the difference is below 0.01 dB (0.001 in SSIM), no difference is seen."
    ),
    sentences=_sentences,
    figure=branches_figure,
    alt="Dot plots of the difference in PSNR per input, and of own and other removed shares in both networks",
    caption=(
        "Left: PSNR of one branch minus that of two, with the 95 % interval over photographs; thin crosses: the lowest "
        "and the highest seed. Right: what masking the discovered filters removes of their own function (filled) and "
        "of the other (hollow), a colour for each masked set; what lies outside of the panel is drawn at its edge."
    ),
    table=_table,
    note=(
        "One kind of two-branch network, and one budget: a longer training, another size or another way of "
        "conditioning may decide otherwise. That no difference is seen does not show that there is none."
    ),
)
