"""Stability: do another training, other probe images, other points or another precision choose the same filters?"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from faig_lab.attribution import Problem, discovered, quadrature
from faig_lab.attribution.quadrature import right
from faig_lab.evaluation.masking import TableRow
from faig_lab.filters import State
from faig_lab.plotting.charts import Dots, dot_rows, legend_above
from faig_lab.plotting.style import MUTED, drawing, method_look, new_figure
from faig_lab.plotting.words import decimal, listed, method_label, removal
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import number_at, numbers, select, unique
from faig_lab.studies.context import StudyContext, StudyResult
from faig_lab.studies.section import Section, Table

log = logging.getLogger(__name__)

POINTS = (4, 8, 16, 32)


class Agreement(NamedTuple):
    """How far two rankings of the same filters agree.

    Attributes:
        spearman: rank correlation of all scores, −1 to 1; None where one of them is constant.
        jaccard: |A ∩ B| / |A ∪ B| of the top sets, 0 to 1; None where they are empty.
    """

    spearman: float | None
    jaccard: float | None


class Comparison(NamedTuple):
    """Two ways to compute the same scores; each problem is solved once, however often it comes."""

    kind: str
    a: str
    b: str
    first: Problem
    second: Problem


def stability(
    context: StudyContext,
    points: Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=2)] = POINTS,
    authors_points: Annotated[int, Field(ge=0)] = 100,
    beside: Sequence[str] = ("signed_share",),
    targets: Annotated[int, Field(ge=0)] = 0,
) -> StudyResult:
    """Attribute again with other targets, images, points and precision, and compare the scores and the top sets.

    Args:
        context: what is analysed; top sets are those of its headline percent.
        points: of Gauss–Legendre, ascending; the last is what the others are compared with.
        authors_points: of the authors' one-sided sum from the target, compared with the same; 0 leaves it out.
        beside: methods that are looked at beside the run's own, if the run has them.
        targets: how many further ones of the next seeds, trained from the same baseline on other samples, unless the
            store has them. Filters of networks that start apart do not correspond, so the baseline stays. Left out
            for data without photographs.

    Returns:
        Table `stability`: kind ("seed", "probe", "points", "precision"), a, b, method, degradation, spearman, jaccard,
        chance (expected Jaccard index of two random sets); metrics `stability/<kind>/<method>/jaccard`, the worst.
    """
    methods = [name for name in dict.fromkeys([context.method, *beside]) if _is_deterministic(context, name)]
    comparisons = [
        *trained_again(context, targets),
        *halves(context.problem),
        *refinements(context.problem, points, authors_points),
    ]
    comparisons += precisions(context.problem)
    solved: dict[int, dict[str, Tensor]] = {}
    rows: list[TableRow] = []
    with context.bar("stability", len(comparisons)) as advance:
        for comparison in comparisons:
            for problem in (comparison.first, comparison.second):
                if id(problem) not in solved:
                    solved[id(problem)] = scores_of(context, problem, methods)
            a, b = solved[id(comparison.first)], solved[id(comparison.second)]
            rows += [row for method in methods for row in _rows(context, comparison, method, a[method], b[method])]
            advance(f"{comparison.a}, {comparison.b}")
    return StudyResult({"stability": rows} if rows else {}, _worst(rows))


def compare_scores(a: Tensor, b: Tensor, percent: float) -> Agreement:
    """Rank correlation of two scorings of the same filters, and the overlap of their top sets.

    Args:
        a: (F,) scores; of other seeds, images, points, … than `b`.
        b: (F,) scores.
        percent: q of the top sets.
    """
    one, other = (set(discovered(scores, percent).tolist()) for scores in (a, b))
    return Agreement(rank_correlation(a, b), len(one & other) / len(one | other) if one else None)


def rank_correlation(a: Tensor, b: Tensor) -> float | None:
    """Spearman's rank correlation of (F,) and (F,); equal values share their mean rank; None for constants."""
    one, other = (_ranks(values) for values in (a, b))
    one, other = one - one.mean(), other - other.mean()
    size = float(np.sqrt((one @ one) * (other @ other)))
    return float(one @ other) / size if size else None


def _ranks(values: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    _, place, counts = np.unique(values.double().cpu().numpy(), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place], dtype=np.float64)


def chance_jaccard(count: int, filters: int) -> float:
    """Jaccard index of two random sets of `count` filters that overlap as much as is expected."""
    shared = count * count / filters
    return shared / (2 * count - shared) if count else 0.0


def trained_again(context: StudyContext, targets: int) -> Iterator[Comparison]:
    """The run's target against targets of the next seeds, from the same baseline."""
    own = context.problem.straight()
    if targets and context.trainer is None:
        log.warning("stability: no targets of other seeds, since the data has no photographs to train on")
        return
    for seed in range(own.seed + 1, own.seed + 1 + targets):
        assert context.trainer is not None
        trained = context.trainer.target({name: value.cpu() for name, value in context.baseline.items()}, seed)
        target = {name: trained[name].to(value) for name, value in own.target.items()}
        yield _compared("seed", (f"seed {own.seed}", own), (f"seed {seed}", replace(own, target=target)))


def halves(problem: Problem) -> Iterator[Comparison]:
    """First against second half of the probe, and every other image against the rest; nothing for one image."""
    images = problem.probe
    middle = len(images) // 2
    if middle:
        parts = [("first half", images[:middle]), ("second half", images[middle:])]
        yield _compared("probe", *((name, replace(problem, probe=part, progress=None)) for name, part in parts))
    if middle > 1:
        parts = [("images 1, 3, …", images[::2]), ("images 2, 4, …", images[1::2])]
        yield _compared("probe", *((name, replace(problem, probe=part, progress=None)) for name, part in parts))


def _compared(kind: str, first: tuple[str, Problem], second: tuple[str, Problem]) -> Comparison:
    return Comparison(kind, first[0], second[0], first[1], second[1])


def refinements(problem: Problem, points: Sequence[int], authors_points: int) -> Iterator[Comparison]:
    """Fewer points, and the authors' sum, against the most points."""
    rules = {f"Gauss–Legendre {count}": quadrature("gauss_legendre", count) for count in points}
    path = replace(problem.path, rule=None)  # the rule of the problem counts
    *fewer, most = ((name, replace(problem, rule=rule, path=path, progress=None)) for name, rule in rules.items())
    if authors_points:
        authors = replace(problem, rule=right(authors_points), path=path, progress=None)
        fewer.append((f"right sum {authors_points}", authors))
    for name, other in fewer:
        yield _compared("points", (name, other), most)


def precisions(problem: Problem) -> list[Comparison]:
    """The network's operations in bfloat16 (sums in single precision) against single precision throughout."""
    ends = _single(problem.baseline), _single(problem.target)
    exact, rough = (replace(problem.compute, autocast=dtype) for dtype in (None, torch.bfloat16))
    single = problem.straight(baseline=ends[0], target=ends[1], compute=exact)
    return [_compared("precision", ("bfloat16", replace(single, compute=rough)), ("float32", single))]


def _single(state: State) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def scores_of(context: StudyContext, problem: Problem, methods: Sequence[str]) -> dict[str, Tensor]:
    """(K, F) scores of deterministic methods on a problem."""
    return {method: context.methods[method](problem)[0] for method in methods}


def deterministic(context: StudyContext) -> list[str]:
    """The run's methods that do not draw."""
    return [method for method in context.attribution.scores if _is_deterministic(context, method)]


def _is_deterministic(context: StudyContext, method: str) -> bool:
    scores = context.attribution.scores
    return method in scores and method in context.methods and len(scores[method]) == 1


def _rows(context: StudyContext, comparison: Comparison, method: str, a: Tensor, b: Tensor) -> Iterator[TableRow]:
    count = len(discovered(a[0], context.headline))
    for degradation, one, other in zip(context.problem.degradations, a, b, strict=True):
        agreement = compare_scores(one, other, context.headline)
        yield {
            "kind": comparison.kind,
            "a": comparison.a,
            "b": comparison.b,
            "method": method,
            "degradation": degradation,
            "spearman": agreement.spearman,
            "jaccard": agreement.jaccard,
            "chance": chance_jaccard(count, a.shape[1]),
        }


def _worst(rows: Sequence[TableRow]) -> dict[str, float | None]:
    """The lowest Jaccard index of each kind and method."""
    found: dict[str, list[float]] = {}
    for row in rows:
        jaccard = row["jaccard"]
        if isinstance(jaccard, float):
            found.setdefault(f"stability/{row['kind']}/{row['method']}/jaccard", []).append(jaccard)
    return {key: min(values) for key, values in found.items()}


_KINDS = {
    "seed": "in a target trained again on other samples",
    "probe": "with other probe images",
    "points": "with other points on the path",
    "precision": "in lower precision",
}
_COLUMNS = {"jaccard": "Jaccard index of the top sets", "spearman": "rank correlation of all {units}"}
_MARKERS = "osD^v<>"


def _sentence(run: RunFolder) -> str:
    rows = select(run.table("stability"), method=run.chosen) or run.table("stability")
    lowest = {kind: min(found) for kind in _KINDS if (found := numbers(select(rows, kind=kind), "jaccard"))}
    said = [f"{decimal(found)} {_KINDS[kind]}" for kind, found in lowest.items()]
    return (
        f"Lowest Jaccard index of the top sets of {method_label(str(rows[0]['method']))}: {listed(said)}; of two "
        f"random sets {decimal(number_at(rows[0], 'chance'), 3)}."
    )


def _series(run: RunFolder) -> list[tuple[str, str]]:
    """(method, degradation)."""
    rows = run.table("stability")
    return list(dict.fromkeys((str(row["method"]), str(row["degradation"])) for row in rows))


def _pairs(run: RunFolder) -> list[str]:
    return list(dict.fromkeys(f"{row['a']} | {row['b']}" for row in run.table("stability")))


def _figure(run: RunFolder) -> Figure:
    rows, pairs = run.table("stability"), _pairs(run)
    degradations = unique(rows, "degradation")
    with drawing():
        figure = new_figure(1.1 + 0.36 * len(pairs))
        panels = figure.subplots(1, 2, sharey=True)
        for panel, (column, title) in zip(panels, _COLUMNS.items(), strict=True):
            series = []
            for method, name in _series(run):
                found: dict[str, list[float]] = {}
                for row in select(rows, method=method, degradation=name):
                    found.setdefault(f"{row['a']} | {row['b']}", []).extend(numbers([row], column))
                marker = _MARKERS[degradations.index(name) % len(_MARKERS)]
                label, colour = f"{method_label(method)}, {removal(name)}", method_look(run.methods, method)["color"]
                series.append(Dots(label, colour, found, marker=marker))
            dot_rows(panel, pairs, series)
            panel.set_xlim(min([-0.02, *(x - 0.05 for x in numbers(rows, column))]), 1.03)
            panel.set_xlabel(run.worded(title))
        panels[0].axvline(number_at(rows[0], "chance") or 0.0, color=MUTED, linestyle=":", linewidth=1)
        legend_above(figure, panels[0])
    return figure


def _table(run: RunFolder) -> Table:
    series = _series(run)
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for row in run.table("stability"):
        key = (str(row["method"]), str(row["degradation"]))
        text = f"{decimal(number_at(row, 'jaccard'))} ({decimal(number_at(row, 'spearman'))})"
        cells.setdefault(f"{row['a']} | {row['b']}", {})[key] = text
    head = ["Jaccard index (rank correlation)", *(f"{method_label(m)}, {removal(d)}" for m, d in series)]
    return Table(head, [[name, *(found.get(key, "") for key in series)] for name, found in cells.items()])


SECTION = Section(
    name="stability",
    order=100,
    title="Would the same {units} be found again?",
    link="Stability",
    method=(
        "The attribution is computed again for a target that was trained again, from parts of the probe, with other "
        "numbers of points on the path (among them the authors' one-sided sum) and in a lower precision. Compared are "
        "the top sets at the report's percent — the Jaccard index is the shared part of both sets together, 1 for "
        "equal sets — and the order of all {units}, by Spearman's rank correlation."
    ),
    sentence=_sentence,
    figure=_figure,
    alt="Dot plots of Jaccard index and rank correlation, a row per pair of computations that are compared",
    caption="One mark per method (colour) and function (shape); dotted: the Jaccard index of two random sets.",
    table=_table,
    note=(
        "Targets of other seeds start from the same baseline: {units} of networks trained apart from the start do not "
        "correspond. Where the sets differ then, the trainings may have put the work elsewhere; no method is to blame."
    ),
)
