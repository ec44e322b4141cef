"""Part a: attribution against a plain implementation of the published algorithm.

Errors are of the discriminative scores (relative L2), agreement is of the top 1 %, of the worse degradation, both
against 400 midpoints. The plain implementation and the chosen settings of ours are timed in turns.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.case import Case
from benchmarks.measuring import Table, in_turns, seconds
from benchmarks.plan import Plan
from faig_lab.attribution import Adaptive, Compute, Rule, discovered, faig_scores, quadrature
from faig_lab.attribution.quadrature import clenshaw_curtis
from faig_lab.cli.build import make_compute, make_rule

PERCENT = 1.0
AGREEMENT = 0.98
DTYPES = {"float32": None, "bfloat16": torch.bfloat16}
RULES: dict[str, Callable[[int], Rule]] = {
    "gauss_legendre": partial(quadrature, "gauss_legendre"),
    "midpoint": partial(quadrature, "midpoint"),
    "clenshaw_curtis": clenshaw_curtis,
    "right": partial(quadrature, "right"),
}

RULE_COLUMNS = ("rule", "points", "precision", "error", "agreement", "gap", "seconds")
COLUMNS = (
    "what", "rule", "points", "precision", "evaluations", "error", "agreement",
    "seconds", "times_as_fast", "holds_beyond",
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """A rule, its points and a precision, and how good they are.

    Attributes:
        points: gradient evaluations per image and degradation.
        error: of the scores, relative L2.
        agreement: share of the reference's top set that is found.
    """

    rule: str
    points: int
    precision: str
    error: float
    agreement: float


Good = Callable[[Way], bool]


def measure(case: Case, plan: Plan, folder: Path) -> None:
    """Write rules.csv (error per gradient evaluation) and attribution.csv (ratios)."""
    reference = case.scores(quadrature("midpoint", plan.reference))
    by_plain = partial(case.plain_scores, plan.plain_points)
    authors = Way("right", plan.plain_points, "float32", *compare(by_plain(), reference))
    ways = _ways(case, plan, reference, authors, folder)
    own = case.settings.attribution
    by_default = partial(case.scores, make_rule(case.settings), make_compute(case.settings))
    default = Way(own.rule, own.points, own.precision, *compare(by_default(), reference))
    wanted: dict[str, Good] = {
        "float32, error no larger": lambda way: way.precision == "float32" and way.error <= authors.error,
        "float32, agreement no smaller": lambda way: way.precision == "float32" and way.agreement >= authors.agreement,
        f"bfloat16, agreement at least {AGREEMENT}": lambda way: (
            way.precision == "bfloat16" and way.agreement >= AGREEMENT
        ),
    }
    found = {name: _fewest(ways, good) for name, good in wanted.items()}
    rows = {"plain": authors, **found, "default settings": default}
    runs: dict[str, Callable[[], object]] = {"plain": by_plain, "default settings": by_default}
    for name, way in found.items():
        if way is not None:
            runs[name] = partial(case.scores, RULES[way.rule](way.points), Compute(DTYPES[way.precision]))
    times = in_turns(runs, plan.repeats, warm_up=0)  # all have run by now
    table = Table(folder / "attribution.csv", COLUMNS)
    for name, way in rows.items():
        if way is None:
            table.add(what=f"{name}: not reached")
            continue
        integrals = len(case.probe) * len(case.degradations) * (len(case.degradations) if name == "plain" else 1)
        table.add(
            what=name,
            **asdict(way),
            evaluations=integrals * way.points,
            seconds=times[name],
            times_as_fast=times["plain"] / times[name],
            holds_beyond=_beyond(way, wanted[name], ways) if name in wanted else None,
        )


def _beyond(way: Way, good: Good, ways: list[Way]) -> str:
    """With how many of the larger numbers of points that were tried the rule is good enough, too: or was it luck?"""
    more = [w for w in ways if (w.rule, w.precision) == (way.rule, way.precision) and w.points > way.points]
    return f"{sum(map(good, more))} of {len(more)}"


def _ways(case: Case, plan: Plan, reference: Tensor, authors: Way, folder: Path) -> list[Way]:
    """All fixed rules in both precisions; the adaptive rule and the authors' are written, too."""
    table = Table(folder / "rules.csv", RULE_COLUMNS)
    table.add(**asdict(authors) | {"rule": "authors"})
    found: list[Way] = []
    for precision in DTYPES:
        for name, rule in RULES.items():
            for points in _points(name, precision, plan):
                found.append(_row(table, case, name, points, precision, rule(points), reference))
    budget = 2 * max(plan.points) + 1
    adaptive = Adaptive(max(5, budget), max(authors.error, 1e-6), PERCENT)
    _row(table, case, "adaptive", None, "float32", adaptive, reference)
    return found


def _points(rule: str, precision: str, plan: Plan) -> tuple[int, ...]:
    """Points to try; nested ones for Clenshaw–Curtis, few for the authors' rule, which needs a hundred."""
    if rule == "clenshaw_curtis":
        most = 2 * max(plan.points)
        nested = tuple(2**level + 1 for level in range(1, 8) if 2**level < most)
        return nested if precision == "float32" else ()
    if rule == "right":
        return plan.points[:: max(1, len(plan.points) // 3)] if precision == "float32" else ()
    return plan.points


def _row(
    table: Table, case: Case, name: str, points: int | None, precision: str, rule: Rule | Adaptive, reference: Tensor
) -> Way:
    result = []
    taken = seconds(lambda: result.append(case.integral(rule, Compute(DTYPES[precision]))))
    integral = result[0]
    error, agreement = compare(faig_scores(integral.magnitude), reference)
    points = int(integral.points.max()) if points is None else points
    gap = max(integral.gap(degradation) for degradation in integral.degradations)
    table.add(rule=name, points=points, precision=precision, error=error, agreement=agreement, gap=gap, seconds=taken)
    return Way(name, points, precision, error, agreement)


def compare(scores: Tensor, reference: Tensor) -> tuple[float, float]:
    """Relative L2 error, and agreement of the top sets, both of the worse degradation."""
    error = (scores - reference).norm(dim=1) / reference.norm(dim=1)
    return float(error.max()), agreement(scores, reference)


def agreement(scores: Tensor, reference: Tensor) -> float:
    """Share of the reference's top set that is found, of the worse degradation; scores (K, F)."""
    sets = [[set(discovered(row, PERCENT).tolist()) for row in each] for each in (scores, reference)]
    return min(len(a & b) / max(len(b), 1) for a, b in zip(*sets, strict=True))


def _fewest(ways: list[Way], good: Good) -> Way | None:
    """The way with the fewest points that is good enough; of two, the one with the smaller error."""
    return min(filter(good, ways), key=lambda way: (way.points, way.error), default=None)
