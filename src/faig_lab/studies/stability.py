"""Stability: comparison of the discovered filters over trainings, probe images, points and precisions."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import Field
from scipy.stats import rankdata
from torch import Tensor

from faig_lab.attribution import Problem, discovered, quadrature
from faig_lab.attribution.quadrature import right
from faig_lab.evaluation.masking import TableRow
from faig_lab.plotting.charts import Dots, dot_rows, legend_above, side_by_side
from faig_lab.plotting.style import MUTED, drawing, method_look
from faig_lab.plotting.words import decimal, listed, method_label, removal
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import frame, groups, numbers, records, select, unique
from faig_lab.studies.context import StudyContext, StudyResult, single_precision
from faig_lab.studies.section import Section, Table

log = logging.getLogger(__name__)

POINTS = (4, 8, 16, 32)


class Comparison(NamedTuple):
    """Two problems whose scores are compared; each problem is solved once."""

    kind: str
    a: str
    b: str
    first: Problem
    second: Problem


def stability(
    context: StudyContext,
    points: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=2)] = POINTS,
    authors_points: Annotated[int, Field(ge=0)] = 100,
    *,
    beside: Sequence[str] = ("signed_share",),
    targets: Annotated[int, Field(ge=0)] = 0,
) -> StudyResult:
    """Attribute again with other targets, images, points and precision, and compare the scores and the top sets.

    Args:
        context: networks, attribution and images; top sets are those of the headline percent.
        points: of Gauss–Legendre, ascending; the others are compared with the last.
        authors_points: of the authors' one-sided sum from the target, compared with the last of `points`; 0 leaves the
            sum out.
        beside: methods beside the run's own, if the run has these methods.
        targets: the number of further targets of the next seeds, trained from the same baseline on other samples,
            unless the store has the targets. The baseline stays the same, since filters of networks with different
            starts do not correspond. Left out for data without photographs.

    Returns:
        Table `stability`: kind ("seed", "probe", "points", "precision"), a, b, method, degradation, spearman, jaccard,
        chance (expected Jaccard index of random filters); metrics `stability/<kind>/<method>/jaccard`, the worst.
    """
    methods = context.deterministic([context.method, *beside])
    comparisons = [
        *trained_again(context, targets),
        *halves(context.problem),
        *refinements(context.problem, points, authors_points),
        *precisions(context.problem),
    ]
    solved: dict[int, dict[str, Tensor]] = {}
    rows: list[TableRow] = []
    with context.bar("stability", len(comparisons)) as advance:
        for comparison in comparisons:
            for problem in (comparison.first, comparison.second):
                if id(problem) not in solved:
                    solved[id(problem)] = scores_of(context, problem, methods)
            a, b = solved[id(comparison.first)], solved[id(comparison.second)]
            for method in methods:
                chance = chance_jaccard(len(discovered(a[method][0], context.headline)), a[method].shape[1])
                for degradation, first, second in zip(context.problem.degradations, a[method], b[method], strict=True):
                    row: TableRow = {"kind": comparison.kind, "a": comparison.a, "b": comparison.b, "method": method}
                    row["degradation"] = degradation
                    rows.append(row | compare_scores(first, second, context.headline) | {"chance": chance})
            advance(f"{comparison.a}, {comparison.b}")
    if not rows:
        return StudyResult({})
    lowest = frame(rows).groupby(["kind", "method"], sort=False)["jaccard"].min()
    metrics = {f"stability/{kind}/{method}/jaccard": value for kind, method, value in lowest.reset_index().to_numpy()}
    return StudyResult({"stability": rows}, metrics)


def compare_scores(a: Tensor, b: Tensor, percent: float) -> dict[str, float | None]:
    """Compute the rank correlation of two scorings of the same filters, and the overlap of their top sets.

    Args:
        a: (F,) scores.
        b: (F,) scores, computed e.g. with another seed, other images or other points.
        percent: q of the top sets.

    Returns:
        `spearman`: rank correlation of all scores, −1 to 1; None where all scores are equal. `jaccard`: |A ∩ B| /
        |A ∪ B| of the top sets, 0 to 1; None for empty sets.
    """
    first, second = (set(discovered(scores, percent).tolist()) for scores in (a, b))
    jaccard = len(first & second) / len(first | second) if first else None
    return {"spearman": rank_correlation(a, b), "jaccard": jaccard}


def rank_correlation(a: Tensor, b: Tensor) -> float | None:
    """Compute Spearman's rank correlation of (F,) and (F,); equal values share their mean rank; None for constants."""
    first, second = (ranks - ranks.mean() for ranks in (rankdata(scores.double().cpu().numpy()) for scores in (a, b)))
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / size if size else None


def chance_jaccard(count: int, filters: int) -> float:
    """Compute the Jaccard index of two random sets of `count` filters with the expected overlap."""
    shared = count * count / filters
    return shared / (2 * count - shared) if count else 0.0


def trained_again(context: StudyContext, targets: int) -> Iterator[Comparison]:
    """Yield the run's target against targets of the next seeds, from the same baseline."""
    problem = context.problem.straight()
    if targets and context.trainer is None:
        log.warning("stability: no targets of other seeds, since the data has no photographs to train on")
        return
    for seed in range(problem.seed + 1, problem.seed + 1 + targets):
        trained = context.trained_target(seed)
        second = replace(problem, target={name: trained[name].to(value) for name, value in problem.target.items()})
        yield Comparison("seed", f"seed {problem.seed}", f"seed {seed}", problem, second)


def halves(problem: Problem) -> Iterator[Comparison]:
    """Yield the first against the second half of the probe, and odd against even images; nothing for one image."""
    images = problem.probe
    middle = len(images) // 2
    pairs = [
        ("first half", "second half", images[:middle], images[middle:]),
        ("images 1, 3, …", "images 2, 4, …", images[::2], images[1::2]),
    ]
    for a, b, first, second in pairs[: min(middle, 2)]:  # the second pair needs four images
        halved = (replace(problem, probe=part, progress=None) for part in (first, second))
        yield Comparison("probe", a, b, *halved)


def refinements(problem: Problem, points: Sequence[int], authors_points: int) -> Iterator[Comparison]:
    """Yield fewer points, and the authors' sum, against the most points."""
    *fewer, most = ((f"Gauss–Legendre {count}", quadrature("gauss_legendre", count)) for count in points)
    if authors_points:
        fewer.append((f"right sum {authors_points}", right(authors_points)))
    path = replace(problem.path, rule=None)  # the rule of the problem counts
    reference = replace(problem, rule=most[1], path=path, progress=None)
    for name, rule in fewer:
        yield Comparison("points", name, most[0], replace(reference, rule=rule), reference)


def precisions(problem: Problem) -> Iterator[Comparison]:
    """Yield the network's operations in bfloat16 (sums in single precision) against single precision throughout."""
    baseline, target = single_precision(problem.baseline), single_precision(problem.target)
    exact, rough = (replace(problem.compute, autocast=dtype) for dtype in (None, torch.bfloat16))
    single = problem.straight(baseline=baseline, target=target, compute=exact)
    yield Comparison("precision", "bfloat16", "float32", replace(single, compute=rough), single)


def scores_of(context: StudyContext, problem: Problem, methods: Sequence[str]) -> dict[str, Tensor]:
    """Compute (K, F) scores of deterministic methods on a problem."""
    return {method: context.methods[method](problem)[0] for method in methods}


_KINDS = {
    "seed": "in a target trained again on other samples",
    "probe": "with other probe images",
    "points": "with other points on the path",
    "precision": "in lower precision",
}
_COLUMNS = {"jaccard": "Jaccard index of the top sets", "spearman": "rank correlation of all {units}"}
_MARKERS = "osD^v<>"


def _sentence(run: RunFolder) -> str:
    table = run.table("stability")
    rows = select(table, method=run.chosen)
    rows = table if rows.empty else rows
    lowest = [
        f"{decimal(min(values))} {words}"
        for kind, words in _KINDS.items()
        if (values := numbers(select(rows, kind=kind), "jaccard"))
    ]
    first = rows.iloc[0]
    return (
        f"Lowest Jaccard index of the top sets of {method_label(first['method'])}: {listed(lowest)}; of two random "
        f"{run.units} {decimal(first['chance'], 3)}."
    )


def _by_series(run: RunFolder) -> dict[tuple[str, str], pd.DataFrame]:
    """Return (method, degradation) → its rows, with the names of a comparison in one column."""
    table = run.table("stability").assign(pair=lambda rows: rows["a"] + " | " + rows["b"])
    return {(str(m), str(d)): rows for (m, d), rows in table.groupby(["method", "degradation"], sort=False)}


@drawing()
def _figure(run: RunFolder) -> Figure:
    by_series, table = _by_series(run), run.table("stability")
    pairs = list(dict.fromkeys(pair for rows in by_series.values() for pair in rows["pair"]))
    figure, panels = side_by_side(1.1 + 0.36 * len(pairs), 2, share_x=False)
    for panel, (column, title) in zip(panels, _COLUMNS.items(), strict=True):
        series = []
        for (method, name), rows in by_series.items():
            values = {pair: numbers(of_pair, column) for pair, of_pair in groups(rows, "pair").items()}
            marker = _MARKERS[unique(table, "degradation").index(name) % len(_MARKERS)]
            label, colour = f"{method_label(method)}, {removal(name)}", method_look(run.methods, method)["color"]
            series.append(Dots(label, colour, values, marker=marker))
        dot_rows(panel, pairs, series)
        panel.set_xlim(min([-0.02, *(x - 0.05 for x in numbers(table, column))]), 1.03)
        panel.set_xlabel(run.worded(title))
    panels[0].axvline(table["chance"].iloc[0], color=MUTED, linestyle=":", linewidth=1)
    legend_above(figure, panels[0])
    return figure


def _table(run: RunFolder) -> Table:
    by_series = _by_series(run)
    lines: dict[str, list[str]] = {pair: [pair] for rows in by_series.values() for pair in rows["pair"]}
    for rows in by_series.values():
        cells = {row["pair"]: f"{decimal(row['jaccard'])} ({decimal(row['spearman'])})" for row in records(rows)}
        for pair, line in lines.items():
            line.append(cells.get(pair, ""))
    head = ["Jaccard index (rank correlation)", *(f"{method_label(m)}, {removal(d)}" for m, d in by_series)]
    return Table(head, list(lines.values()))


SECTION = Section(
    name="stability",
    order=100,
    title="Does a repeated attribution find the same {units}?",
    link="Stability",
    method=(
        "The attribution is computed again for a target that was trained again, from parts of the probe, with other "
        "numbers of points on the path (among them the authors' one-sided sum) and in a lower precision. The Jaccard "
        "index compares the top sets at the report's percent: the size of the intersection over the size of the union, "
        "1 for equal sets. Spearman's rank correlation compares the order of all {units}."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of Jaccard index and rank correlation, a row per pair of computations that are compared",
    caption="One mark per method (colour) and function (shape). Dotted line: the Jaccard index of random {units}.",
    table=_table,
    note=(
        "Targets of other seeds start from the same baseline, since {units} of networks with different starts do not "
        "correspond. Different sets may mean that the trainings use different {units}, and not that a method is wrong."
    ),
)
