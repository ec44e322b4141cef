"""Task vectors: separate changes add up to the ideal, conflict and cosine by hand, and the section of the report."""

from dataclasses import replace

import pytest
import torch
from coloured_case import PERCENT, coloured_context, layered, passing
from study_case import context_of, grid, rows_of, stored

from faig_lab.studies.context import NetworkTrainer
from faig_lab.studies.task_vectors import SECTION, cosine, moved, sign_conflict, task_vectors

ALONE = {"blur": passing(0, 2), "noise": passing(1, 2)}
"""What is learned from one degradation alone: to pass its colour on."""


class Recorder:
    """A trainer that knows the result, and remembers what it was asked."""

    def __init__(self, singles):
        self.singles, self.calls = singles, []

    def target(self, baseline, seed, parts=None, *, iterations=None):
        self.calls.append((baseline, seed, tuple(parts), iterations))
        return self.singles[parts[0]]


def studied(singles=ALONE, target=None, **settings):
    """Baseline: only blue is passed on. The target passes all colours on."""
    context = coloured_context([layered(seed) for seed in (1, 2)], passing(2), target or passing(0, 1, 2))
    recorder = Recorder(singles)
    context = replace(context, trainer=NetworkTrainer(None, None, recorder.target))
    return context, recorder, task_vectors(context, **settings)


def rows(found, **wanted):
    return rows_of(found, "task_vectors", **wanted)


def test_each_degradation_is_trained_alone_from_the_baseline():
    context, recorder, _ = studied(iterations=7)
    assert [(seed, parts, iterations) for _, seed, parts, iterations in recorder.calls] == [
        (context.problem.seed, ("blur",), 7),
        (context.problem.seed, ("noise",), 7),
    ]
    for baseline, *_ in recorder.calls:
        assert all(torch.equal(baseline[name], value) for name, value in context.baseline.items())


def test_separate_changes_add_up_to_the_ideal():
    """Red and green have filters of their own: the sum is the target, and its output that of each single target."""
    context, _, found = studied()
    for name in ("blur", "noise"):
        (row,) = rows(found, edit="added", strength=1.0, judged=name, input=name)
        assert (row["back"], row["off"]) == (pytest.approx(1, abs=1e-12), pytest.approx(0, abs=1e-12))
        (clean,) = rows(found, edit="added", strength=1.0, judged=name, input="clean")
        assert clean["side"] == pytest.approx(0, abs=1e-12)
        assert found.metrics[f"task_vectors/isolation/added/blur+noise/{name}"] == pytest.approx(1, abs=1e-12)
        assert found.metrics[f"task_vectors/isolation/single/{name}/{name}"] == pytest.approx(1, abs=1e-12)
        baseline, target = context.evaluator.bounds(name)
        assert found.metrics[f"task_vectors/gain/added/blur+noise/{name}"] == target - baseline
        assert found.metrics[f"task_vectors/gain/target/blur+noise/{name}"] == target - baseline
        assert found.metrics[f"task_vectors/gain/single/{name}/{name}"] == target - baseline
    assert found.metrics["task_vectors/gain/single/blur/noise"] == 0
    assert (found.metrics["task_vectors/conflict"], found.metrics["task_vectors/cosine"]) == (0, 0)


def test_taking_a_separate_change_away_is_the_ideal_edit_of_masking():
    context, _, found = studied()
    for name in ("blur", "noise"):
        assert found.metrics[f"task_vectors/isolation/negated/{name}/{name}"] == pytest.approx(1, abs=1e-12)
        assert found.metrics[f"task_vectors/gain/negated/{name}/{name}"] == 0
    baseline, target = context.evaluator.bounds("noise")
    assert found.metrics["task_vectors/gain/negated/blur/noise"] == target - baseline


def test_half_a_vector_goes_half_of_the_way():
    """A quarter of the squared distance to the goal is left, so isolation is 3/4."""
    _, _, found = studied(strengths=[0.5])
    for edit, vector in (("added", "blur+noise"), ("negated", "blur")):
        (row,) = rows(found, edit=edit, vector=vector, strength=0.5, judged="blur", input="blur")
        assert row["back"] == pytest.approx(0.5, abs=1e-6)
        assert row["off"] == pytest.approx(0, abs=1e-6)
        assert row["isolation"] == pytest.approx(0.75, abs=1e-6)


def test_opposite_changes_cancel():
    """Blur is learned by red alone, and noise by taking red away: on blurred input the sum does nothing."""
    less = passing(1, 2)
    less["first.weight"] = less["first.weight"].clone()
    less["first.weight"][0, 0] = -1
    _, _, found = studied({"blur": passing(0, 2), "noise": less})
    (row,) = rows(found, edit="added", strength=1.0, judged="blur", input="blur")
    assert row["back"] == pytest.approx(0, abs=1e-12)
    # τ of blur: red +1; of noise: red −1, green +1
    assert found.metrics["task_vectors/conflict"] == pytest.approx(2 / 3)
    assert found.metrics["task_vectors/cosine"] == pytest.approx(-1 / 2**0.5)
    layers = {row["layer"]: row for row in found.rows("task_vectors_layers")}
    assert layers["first.weight"]["conflict"] == pytest.approx(2 / 3)
    assert layers["first.weight"]["opposite"] == pytest.approx(1 / 9)
    assert layers["all"]["opposite"] == pytest.approx(1 / 45)
    assert (layers["last.weight"]["conflict"], layers["last.weight"]["cosine"]) == (None, None)


def test_a_side_effect_is_counted():
    """What is learned for blur makes blue twice as bright, on every input."""
    bright = passing(0, 2)
    bright["first.weight"] = bright["first.weight"].clone()
    bright["first.weight"][2, 2] = 1.5
    context, _, found = studied({"blur": bright, "noise": passing(1, 2)})
    outputs = {
        name: [context.evaluator.restore(state, name) for state in (bright, passing(2))]
        for name in ("blur", "noise", "clean")
    }
    moved_by = {
        name: sum(float((a.clamp(0, 1).double() - b.double()).square().sum()) for a, b in zip(*both, strict=True))
        for name, both in outputs.items()
    }
    expected = 1 - (moved_by["noise"] + moved_by["clean"]) / moved_by["blur"]
    assert expected < 0.9
    assert found.metrics["task_vectors/isolation/single/blur/blur"] == pytest.approx(expected, rel=1e-6)
    (row,) = rows(found, edit="single", vector="blur", input="clean")
    assert row["side"] == pytest.approx(moved_by["clean"] / moved_by["blur"], rel=1e-6)


def test_the_overlap_is_with_the_filters_that_the_vector_changed():
    _, _, found = studied()
    overlaps = {(row["method"], row["degradation"]): row for row in found.rows("task_vectors_overlap")}
    for name in ("blur", "noise"):
        assert overlaps["faig", name]["overlap"] == overlaps["faig", name]["magnitude"] == 1
        assert overlaps["random", name]["overlap"] == overlaps["random", name]["magnitude"] == 0
        assert overlaps["faig", name]["chance"] == pytest.approx(1 / 45)
        assert overlaps["faig", name]["conflict"] == 0
    assert found.metrics["task_vectors/overlap/faig/blur"] == 1
    assert {row["percent"] for row in found.rows("task_vectors_overlap")} == {PERCENT}


def test_the_cosine_with_the_target_is_that_of_the_sum():
    _, _, found = studied()
    assert found.rows("task_vectors_layers")[-1]["cosine_target"] == pytest.approx(1)
    _, _, found = studied(target=passing(0, 2))
    assert found.rows("task_vectors_layers")[-1]["cosine_target"] == pytest.approx(1 / 2**0.5)


@pytest.mark.parametrize(
    ("vectors", "expected"),
    [
        ([[1.0, -1, 2], [1, 2, -1]], 6 / 8),
        ([[1.0, 0], [0, -3]], 0),
        ([[1.0, -2], [-1, 2]], 1),
        ([[1.0, 1], [1, 1], [0, -1]], 3 / 5),
        ([[0.0, 0], [0, 0]], None),
    ],
)
def test_the_conflict_of_signs_by_hand(vectors, expected):
    found = sign_conflict(torch.tensor(vectors))
    assert found is None if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3])
def test_unrelated_vectors_have_the_conflict_of_chance(count):
    vectors = torch.randn(count, 100_000, generator=torch.Generator().manual_seed(0))
    assert sign_conflict(vectors) == pytest.approx(1 - 2 ** (1 - count), abs=0.01)


def test_cosines_by_hand():
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([4.0, -3.0])
    assert cosine(a, a) == pytest.approx(1)
    assert cosine(a, b) == pytest.approx(0)
    assert cosine(a, -2 * a) == pytest.approx(-1)
    assert cosine(a, 0 * a) is None


def test_moving_gives_the_ends_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    origin = {"a": torch.randn(50, generator=generator), "n": torch.tensor(3)}
    end = {"a": 100 * torch.randn(50, generator=generator), "n": torch.tensor(4)}
    assert torch.equal(moved(origin, [(end, origin)], 1.0)["a"], end["a"])
    assert torch.equal(moved(end, [(end, origin)], -1.0)["a"], origin["a"])
    assert torch.equal(moved(origin, [(end, origin)], 0.0)["a"], origin["a"])
    assert moved(origin, [(end, origin)], 1.0)["n"] == 3
    assert moved(origin, [(end, origin)], 0.5)["a"].dtype == torch.float32


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise", "jpeg")])
def test_there_is_a_sum_of_several_degradations_only(degradations):
    context = context_of(degradations)
    singles = {name: {n: v + 0.01 * k for n, v in context.target.items()} for k, name in enumerate(degradations)}
    context = replace(context, trainer=NetworkTrainer(None, None, Recorder(singles).target))
    found = task_vectors(context, strengths=[])
    several = len(degradations) > 1
    edits = {row["edit"] for row in found.rows("task_vectors")}
    assert edits == {"target", "single", "negated"} | ({"added"} if several else set())
    assert ("task_vectors/conflict" in found.metrics) == several


@pytest.fixture
def run(make_run):
    columns = {
        "judged": ["blur", "noise"], "input": ["clean", "blur", "noise"], "psnr": 25.0,
        "gain": lambda row: len(row["edit"]) * row["strength"], "back": 1.0, "off": 0.1, "side": 0.2,
        "isolation": lambda row: row["judged"] and 0.5,
    }  # fmt: skip
    edits = grid(edit="target", vector="blur+noise", strength=1.0, **columns | {"judged": None})
    edits += grid(edit="added", vector="blur+noise", strength=[0.5, 1.0], **columns)
    for edit, strengths in (("single", 1.0), ("negated", [0.5, 1.0])):
        own = columns | {"judged": lambda row: row["vector"]}
        edits += grid(edit=edit, vector=["blur", "noise"], strength=strengths, **own)
    layers = [
        {"layer": layer, "depth": depth, "filters": 9, "conflict": 0.4, "cosine": 0.1}
        for depth, layer in ((0, "first"), (1, "last"), (None, "all"))
    ]
    return stored(make_run(), task_vectors=edits, task_vectors_layers=layers)


def test_the_sentence_compares_the_sum_with_each_vector_and_the_target(run):
    assert SECTION.sentence(run) == (
        "The sum of the task vectors brings +5.00 dB on blurred input (trained alone +6.00 dB, the target +6.00 dB) "
        "and +5.00 dB on noisy input (trained alone +6.00 dB, the target +6.00 dB)."
    )


def test_the_table_has_a_row_for_each_edit(run):
    rows = SECTION.table(run).rows
    assert [row[0] for row in rows] == [
        *("Target", "Trained for deblurring alone", "Trained for denoising alone", "All vectors added"),
        *("Target minus deblurring", "Target minus denoising"),
    ]
    assert [row[-1] for row in rows] == ["–", "0.50", "0.50", "0.50 and 0.50", "0.50", "0.50"]


def test_the_figure_has_the_sum_against_strength_and_the_conflict_by_layer(run):
    gains, conflict = SECTION.figure(run).axes
    of_sum, of_target = (line.get_xydata().tolist() for line in gains.lines[:2])
    assert (of_sum, of_target) == ([[0.5, 2.5]] * 2 + [[1, 5]] * 2, [[0, 6], [1, 6]])
    assert conflict.lines[0].get_xydata().tolist() == [[0, 0.4], [1, 0.4]]
