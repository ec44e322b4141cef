"""Rank correlation against SciPy and by hand, Jaccard by hand, and computations that must agree."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from study_case import METHODS, context_of, grid, image, rows_of, stored
from torch import nn

from faig_lab.attribution import Problem, attribute, quadrature
from faig_lab.studies.context import NetworkTrainer
from faig_lab.studies.stability import (
    SECTION,
    chance_jaccard,
    compare_scores,
    halves,
    precisions,
    rank_correlation,
    refinements,
    stability,
    trained_again,
)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_rank_correlation_by_hand():
    assert rank_correlation(tensor(1, 2, 3), tensor(10, 20, 90)) == pytest.approx(1)
    assert rank_correlation(tensor(1, 2, 3), tensor(3, 2, 1)) == pytest.approx(-1)
    # 1 − 6 Σd² / n(n² − 1) with d = 1, 1, 0, 0
    assert rank_correlation(tensor(1, 2, 3, 4), tensor(2, 1, 3, 4)) == pytest.approx(1 - 6 * 2 / 60)
    assert rank_correlation(tensor(1, 1, 1), tensor(1, 2, 3)) is None


def test_rank_correlation_is_scipys_with_ties_too():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 12, (2, 200)).astype(float)
    expected = stats.spearmanr(a, b).statistic
    assert rank_correlation(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, abs=1e-12)


def test_top_sets_by_hand():
    """Top 30 % of ten: {0, 1, 2} and {2, 3, 4} share one of five."""
    a, b = tensor(9, 8, 7, 0, 0, 0, 0, 0, 0, 0), tensor(0, 0, 7, 9, 8, 0, 0, 0, 0, 0)
    assert compare_scores(a, b, 30)["jaccard"] == pytest.approx(1 / 5)
    assert compare_scores(a, a, 30) == {"spearman": pytest.approx(1), "jaccard": 1}
    assert compare_scores(a, b, 100)["jaccard"] == 1
    assert compare_scores(a, b, 1)["jaccard"] is None


def test_chance_is_what_random_sets_have():
    assert chance_jaccard(100, 10000) == pytest.approx(1 / 199)
    assert chance_jaccard(7, 7) == 1
    assert chance_jaccard(0, 7) == 0
    rng = np.random.default_rng(0)
    shared = np.mean([len(np.intersect1d(*(rng.permutation(50)[:20] for _ in range(2)))) for _ in range(2000)])
    assert chance_jaccard(20, 50) == pytest.approx(shared / (40 - shared), abs=0.01)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (1, []),
        (2, [((0,), (1,))]),
        (4, [((0, 1), (2, 3)), ((0, 2), (1, 3))]),
        (5, [((0, 1), (2, 3, 4)), ((0, 2, 4), (1, 3))]),
    ],
)
def test_halves_of_the_probe(images, expected):
    probe = tuple(image(seed, ("blur", "noise")) for seed in range(images))
    problem = replace(context_of().problem, probe=probe)
    found = [
        tuple(tuple(probe.index(i) for i in part.probe) for part in (comparison.first, comparison.second))
        for comparison in halves(problem)
    ]
    assert found == expected


def linear_problem():
    """One convolution with squared error: the gradient is affine along the path, so that every rule agrees."""
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, 3, padding=1)
    baseline = {n: v.detach().clone().double() for n, v in network.state_dict().items()}
    target = {n: v + torch.randn_like(v) for n, v in baseline.items()}
    pairs = (image(seed, ("blur", "noise")) for seed in (1, 2))
    probe = tuple(replace(pair, hr=torch.rand(3, 8, 8)) for pair in pairs)
    return Problem(network, baseline, target, probe, ("blur", "noise"), quadrature("midpoint", 4))


def test_rules_that_are_exact_agree():
    problem = linear_problem()
    context = context_of()
    context = replace(context, problem=problem, attribution=attribute(problem, METHODS), headline=30.0)
    exact = rows_of(stability(context, points=[1, 2, 5], authors_points=0), "stability", kind="points")
    assert [row["a"] for row in exact[::4]] == ["Gauss–Legendre 1", "Gauss–Legendre 2"]
    assert {row["jaccard"] for row in exact} == {1}
    assert [row["spearman"] for row in exact] == pytest.approx([1] * 8)


def test_the_problems_that_are_compared():
    problem = context_of().problem
    points = list(refinements(problem, [2, 4, 8], authors_points=10))
    assert [(len(c.first.rule), len(c.second.rule)) for c in points] == [(2, 8), (4, 8), (10, 8)]
    assert points[-1].first.rule.points.tolist() == pytest.approx([0.1 * k for k in range(1, 11)])
    assert len({id(comparison.second) for comparison in points}) == 1
    (precision,) = precisions(linear_problem())
    assert (precision.first.compute.autocast, precision.second.compute.autocast) == (torch.bfloat16, None)
    assert {value.dtype for value in precision.second.target.values()} == {torch.float32}


def test_every_comparison_of_every_method_is_in_the_table():
    calls = []

    def counted(problem):
        calls.append(problem)
        return METHODS["faig"](problem)

    context = context_of()
    context = replace(context, methods={**METHODS, "faig": counted})
    found = stability(context, points=[1, 2, 4], authors_points=3)
    rows = found.rows("stability")
    # halves of the two probe images, points 1, 2, 4 and 3 of the authors', two precisions: each attributed once
    assert len(calls) == 2 + 3 + 1 + 2
    assert len(rows) == (1 + 3 + 1) * 2 * 2
    assert set(rows[0]) == {"kind", "a", "b", "method", "degradation", "spearman", "jaccard", "chance"}
    assert {row["method"] for row in rows} == {"faig", "signed_share"}
    worst = min(row["jaccard"] for row in rows_of(found, "stability", kind="points", method="faig"))
    assert found.metrics["stability/points/faig/jaccard"] == worst
    assert all(-1 <= row["spearman"] <= 1 and 0 <= row["jaccard"] <= 1 for row in rows)


def test_a_method_that_draws_is_left_out():
    context = context_of(method="random")
    assert stability(context, points=[1, 2], authors_points=0, beside=()).tables == {}
    rows = stability(context, points=[1, 2], authors_points=0, beside=["faig", "absent"]).rows("stability")
    assert {row["method"] for row in rows} == {"faig"}


def with_targets(context, make):
    return replace(context, trainer=NetworkTrainer(None, None, make))


def test_a_target_trained_again_starts_from_the_baseline_and_is_compared_with_the_runs_own():
    context, asked = context_of(), []

    def make(baseline, seed, parts, iterations):
        assert parts is iterations is None
        asked.append((baseline, seed))
        return context.target

    found = stability(with_targets(context, make), points=[2, 3], authors_points=0, targets=2)
    rows = rows_of(found, "stability", kind="seed")
    assert {(row["a"], row["b"]) for row in rows} == {("seed 3", "seed 4"), ("seed 3", "seed 5")}
    assert [seed for _, seed in asked] == [4, 5]
    assert all(torch.equal(value, context.baseline[name]) for name, value in asked[0][0].items())
    assert {row["jaccard"] for row in rows} == {1.0}  # the same weights, the same filters
    assert found.metrics["stability/seed/faig/jaccard"] == 1.0


def test_another_target_has_other_filters():
    context = context_of()
    torch.manual_seed(5)
    other = {name: value + 0.05 * torch.randn_like(value) for name, value in context.baseline.items()}
    found = stability(with_targets(context, lambda *_, **__: other), points=[2, 3], authors_points=0, targets=1)
    (worst,) = {found.metrics["stability/seed/faig/jaccard"]}
    assert worst < 0.5


def test_without_photographs_no_target_is_trained_and_the_log_says_so(caplog):
    assert list(trained_again(context_of(), 1)) == []
    assert "no photographs to train on" in caplog.text
    assert list(trained_again(context_of(), 0)) == []


PAIRS = {
    "probe": [("first half", "second half"), ("images 1, 3, …", "images 2, 4, …")],
    "points": [("Gauss–Legendre 4", "Gauss–Legendre 32")],
    "precision": [("bfloat16", "float32")],
}
JACCARD = {"probe": 0.4, "points": 0.95, "precision": 0.7}


@pytest.fixture
def make(make_run):
    def write(methods=("faig",), **jaccard):
        values = JACCARD | jaccard
        rows = [
            row
            for kind, pairs in PAIRS.items()
            for a, b in pairs
            for row in grid(
                kind=kind, a=a, b=b, method=list(methods), degradation=["blur", "noise"], spearman=0.8,
                jaccard=values[kind], chance=0.005,
            )
        ]  # fmt: skip
        return stored(make_run(), stability=rows)

    return write


def test_the_lowest_of_each_kind_is_told(make):
    run = make()
    run.table("stability").loc[0, "jaccard"] = 0.9  # not the lowest of its kind
    assert SECTION.sentence(run) == (
        "Lowest Jaccard index of the top sets of FAIG: 0.40 with other probe images, 0.95 with other points on the "
        "path and 0.70 in lower precision; of two random filters 0.005."
    )
    assert "0.95" not in SECTION.sentence(make(points=None))


def test_table_and_figure_have_a_row_for_each_pair(make):
    run = make(methods=("faig", "signed_share"))
    table, panels = SECTION.table(run), SECTION.figure(run).axes
    names = [f"{a} | {b}" for pairs in PAIRS.values() for a, b in pairs]
    assert [row[0] for row in table.rows] == [label.get_text() for label in panels[0].get_yticklabels()] == names
    assert table.rows[0][1:] == ["0.40 (0.80)"] * 4
    titles = ["Jaccard index of the top sets", "rank correlation of all filters"]
    assert [panel.get_xlabel() for panel in panels] == titles
    assert len(panels[0].get_legend_handles_labels()[1]) == 4
