"""The tables of isolation: planted edits whose answers are known, networks against the plain reference, the passes."""

from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from study_case import context_of
from study_case import image as an_image
from torch.func import functional_call

from faig_lab.attribution import count_of, ranking
from faig_lab.data import StudyData
from faig_lab.evaluation.comparison import isolation_metrics, isolations
from faig_lab.evaluation.intervals import Resampling, scene_interval
from faig_lab.evaluation.masking import Edits, Masked, restoration
from faig_lab.filters import mask
from faig_lab.metrics import EditSums
from faig_lab.runs.tables import records
from faig_lab.studies.masking import masking_study

HOW = Resampling(0, 200)


def planted(along, moved, scenes, *, energy=None, draws=None, degradations=("blur", "noise"), inputs=None, psnr=None):
    """Sums that are given: (images, rankings, masked, percents, inputs), at 1 %."""
    along, moved = np.asarray(along, dtype=float), np.asarray(moved, dtype=float)
    inputs = inputs or (*degradations, "clean")
    energy = np.broadcast_to(np.asarray(energy if energy is not None else 1.0, dtype=float), along.shape)
    target = np.full((len(scenes), len(inputs)), 30.0)
    psnr = np.full(along.shape, 30.0) if psnr is None else np.asarray(psnr, dtype=float)
    k = len(degradations)
    edits = Edits(tuple(inputs), EditSums(energy, along, moved), psnr, target)
    ends = target[:, :k]
    return Masked([], draws or {"faig": 1}, (1.0,), degradations, tuple(scenes), psnr[..., :k], ends - 10, ends, edits)


def isolation_of(masked, how=HOW):
    return isolations(masked, 100, how)


# Planted sums


def test_a_set_by_hand():
    """Own back by 0.5 without a detour, 0.2 of side effect on noise, 0.1 on clean input."""
    blur, noise = [[0.5, 0.0, 0.0]], [[0.0, 1.0, 0.0]]
    moved = [[[0.25, 0.2, 0.1]], [[0.0, 1.0, 0.0]]]
    first, second = records(isolation_of(planted([[[blur, noise]]], [[moved]], ["a"])).sets)
    assert list(first) == [
        *("method", "percent", "filters", "masked", "isolation", "isolation_low", "isolation_high", "interval"),
        *("own_left", "side", "side_clean", "clean_change", "harm"),
    ]
    assert (first["method"], first["percent"], first["filters"], first["masked"]) == ("faig", 1.0, 1, "blur")
    assert (first["own_left"], first["side"], first["side_clean"]) == pytest.approx((0.25, 0.2, 0.1))
    assert first["isolation"] == pytest.approx(1 - 0.25 - 0.2 - 0.1)
    assert (second["isolation"], second["own_left"]) == (1, 0)
    (mean,) = records(isolation_of(planted([[[blur, noise]]], [[moved]], ["a"])).methods)
    assert mean["isolation"] == pytest.approx((0.45 + 1) / 2)
    assert mean["side"] == pytest.approx(0.1)


def test_side_effects_of_three_degradations_are_averaged():
    moved = np.zeros((1, 1, 3, 1, 4))
    moved[0, 0, 0, 0] = [0, 0.2, 0.4, 0.1]
    masked = planted(np.zeros_like(moved), moved, ["a"], degradations=("blur", "noise", "jpeg"))
    (first, *_) = records(isolation_of(masked).sets)
    assert (first["side"], first["side_clean"], first["isolation"]) == pytest.approx((0.3, 0.1, -0.4))


def test_one_degradation_has_clean_input_only():
    masked = planted([[[[[1.0, 0.0]]]]], [[[[[1.0, 0.3]]]]], ["a"], degradations=("blur",))
    (row,) = records(isolation_of(masked).sets)
    assert (row["side"], row["side_clean"], row["isolation"]) == pytest.approx((0, 0.3, 0.7))


def test_without_clean_input_the_clean_term_is_left_out():
    masked = planted([[[[[1.0]]]]], [[[[[1.0]]]]], ["a"], degradations=("blur",), inputs=("blur",))
    (row,) = records(isolation_of(masked).sets)
    assert (row["isolation"], row["side_clean"], row["clean_change"]) == (1, 0, None)


def test_equal_networks_have_no_isolation_and_no_warning():
    zero = np.zeros((2, 1, 1, 1, 2))
    (row,) = records(isolation_of(planted(zero, zero, "ab", degradations=("blur",), energy=zero)).sets)
    assert {row[key] for key in ("isolation", "isolation_low", "own_left", "side_clean")} == {None}


def test_energies_are_pooled_over_images():
    """An image with nine times the energy weighs nine times as much: 1 − 0.1 and not the mean of 0 and 1."""
    energy = np.array([1.0, 9.0]).reshape(2, 1, 1, 1, 1) * np.ones((1, 1, 1, 1, 2))
    along = np.array([0.0, 9.0]).reshape(2, 1, 1, 1, 1) * np.array([1.0, 0.0])
    (row,) = records(isolation_of(planted(along, along, "ab", degradations=("blur",), energy=energy)).sets)
    assert row["isolation"] == pytest.approx(0.9)
    assert (row["isolation_low"], row["isolation_high"], row["interval"]) == (0, 1, "range")


def test_draws_are_averaged_after_the_ratio():
    along = np.zeros((1, 3, 1, 1, 2))
    along[0, :, 0, 0, 0] = [0, 0.5, 1]
    masked = planted(along, along**2, ["a"], degradations=("blur",), draws={"random": 3})
    (row,), (mean,) = records(isolation_of(masked).sets), records(isolation_of(masked).methods)
    assert row["isolation"] == pytest.approx((0 + 0.75 + 1) / 3)
    assert (mean["draws"], mean["scenes"]) == (3, 1)
    assert mean["isolation_std"] == pytest.approx(np.std([0, 0.75, 1], ddof=1))


def test_from_ten_scenes_on_scenes_are_resampled():
    rng = np.random.default_rng(0)
    along = rng.uniform(0, 1, (22, 1, 2, 1, 3))
    moved, energy = along**2 + rng.uniform(0, 0.1, along.shape), rng.uniform(1, 2, along.shape)
    scenes = [str(i // 2) for i in range(22)]
    masked = planted(along, moved, scenes, energy=energy)
    rows = records(isolation_of(masked).sets)

    def by_hand(means):
        e, a, m = means[:, 0], means[:, 1], means[:, 2]
        return 1 - ((e[:, 0] - 2 * a[:, 0] + m[:, 0]) + m[:, 1] + m[:, 2]) / e[:, 0]

    values = np.stack([energy[:, 0, 0, 0], along[:, 0, 0, 0], moved[:, 0, 0, 0]], 1)
    low, high = scene_interval([values], scenes, by_hand, HOW)[:2]
    assert rows[0]["interval"] == "bootstrap"
    assert rows[0]["isolation"] == pytest.approx(by_hand(values.mean(0)[None])[0])
    assert (rows[0]["isolation_low"], rows[0]["isolation_high"]) == pytest.approx((low, high))


def test_harm_is_the_excess_of_the_removed_share_of_each_draw():
    """The gain is 10 dB: 40 dB lost is a share of 4, 5 dB lost one of 0.5."""
    zero = np.zeros((1, 2, 1, 1, 2))
    psnr = 30 - np.array([40.0, 5.0]).reshape(1, 2, 1, 1, 1) * np.ones_like(zero)
    masked = planted(zero, zero, ["a"], degradations=("blur",), draws={"random": 2}, psnr=psnr)
    (row,) = records(isolation_of(masked).sets)
    assert row["harm"] == pytest.approx((3 + 0) / 2)
    assert row["clean_change"] == pytest.approx(-22.5)


def test_keys_of_the_metrics():
    masked = planted(np.zeros((1, 1, 2, 1, 3)), np.zeros((1, 1, 2, 1, 3)), ["a"])
    found = isolation_metrics(isolation_of(masked).sets, isolation_of(masked).side_effects)
    sets = {f"{name}/faig/1/{m}" for name in ("isolation", "clean_change") for m in ("blur", "noise")}
    inputs = {
        f"{name}/faig/1/{m}/{i}"
        for name in ("back", "off", "side")
        for m in ("blur", "noise")
        for i in ("blur", "noise", "clean")
    }
    assert set(found) == sets | inputs | {"isolation/faig/1"}
    assert set(found.values()) == {0}


# Networks


def subject_with(degradations, mixed=None):
    """The subject of the analyses with a mixed input on its held-out images."""
    context = context_of(degradations)
    if mixed is None:
        return context
    held_out = tuple(
        replace(image, lr=image.lr | {mixed: an_image(50 + n, (mixed,)).lr[mixed]})
        for n, image in enumerate(context.data.held_out)
    )
    return replace(context, data=StudyData((), context.data.probe, held_out, degradations))


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")])
def test_the_tables_are_the_definition_computed_by_loops(degradations):
    context = subject_with(degradations)
    found = masking_study(context, resamples=2)
    tables = {name: found.rows(name) for name in found.tables}
    layout, names = context.attribution.layout, (*degradations, "clean")

    def outputs(state):
        with torch.no_grad():
            return {
                n: [functional_call(context.network, dict(state), (i.lr[n][None],))[0] for i in context.data.held_out]
                for n in names
            }

    scores = context.attribution.scores["faig"][0, 0]
    state = mask(context.target, context.baseline, layout, ranking(scores)[: count_of(10, len(layout))])
    ends = outputs(state), outputs(context.baseline), outputs(context.target)
    expected, backs, offs, sides = reference.edit(*ends, "blur", list(degradations[1:]), "clean")
    where = {"method": "faig", "percent": 10.0, "masked": "blur"}
    (row,) = [r for r in tables["isolation"] if where.items() <= r.items()]
    assert row["isolation"] == pytest.approx(expected, rel=1e-4)
    for name in names:
        (row,) = [r for r in tables["side_effects"] if (where | {"input": name}).items() <= r.items()]
        for column, by_input in (("back", backs), ("off", offs), ("side", sides)):
            assert row[column] == pytest.approx(by_input[name], rel=1e-3, abs=1e-6)


def test_masking_nothing_is_exactly_zero():
    context = replace(context_of(), percents=(0.1,), headline=0.1)  # no filter of 136
    study = masking_study(context, resamples=2)
    for row in study.rows("isolation"):
        assert (row["filters"], row["isolation"], row["own_left"], row["side"], row["side_clean"]) == (0, 0, 1, 0, 0)
        assert row["clean_change"] == 0
    assert {row[c] for row in study.rows("side_effects") for c in ("back", "off", "side", "psnr_change")} == {0}


def test_mixed_input_is_judged_at_the_headline_alone():
    tables = masking_study(subject_with(("blur", "noise"), "blur+noise"), resamples=2).rows("side_effects")
    found = {(row["percent"], row["input"]) for row in tables}
    assert found == {(q, n) for q in (1.0, 10.0) for n in ("blur", "noise", "clean")} | {(10.0, "blur+noise")}
    without = masking_study(subject_with(("blur", "noise")), resamples=2).rows("side_effects")
    assert {row["input"] for row in without} == {"blur", "noise", "clean"}


def test_a_row_of_side_effects_is_the_judgement_of_its_set():
    context = subject_with(("blur", "noise"), "blur+noise")
    rows = masking_study(context, resamples=2).rows("side_effects")
    filters = ranking(context.attribution.scores["faig"][0, 1])[: count_of(10, 136)]
    state = mask(context.target, context.baseline, context.attribution.layout, filters)
    for name in ("clean", "blur+noise"):
        where = {"method": "faig", "percent": 10.0, "masked": "noise", "input": name}
        (row,) = [r for r in rows if where.items() <= r.items()]
        values = context.evaluator.effect(state, name).psnrs.double()
        assert row["psnr"] == pytest.approx(float(values.mean()), abs=1e-9)
        change = values - context.evaluator.ends(name).target.double()
        assert row["psnr_change"] == pytest.approx(float(change.mean()), abs=1e-9)


def test_passes_of_a_study():
    """Every masked network restores K + 1 inputs, at the headline the mixed one too; the ends restore each once."""
    context = subject_with(("blur", "noise"), "blur+noise")
    calls = []
    context.network.register_forward_pre_hook(lambda module, arguments: calls.append(len(arguments[0])))
    restoration(context.evaluator)
    assert sum(calls) == 2 * 2 * 4  # images, networks, inputs
    sets = {
        (q, ranking(row)[: count_of(q, 136)].sort().values.numpy().tobytes())
        for scores in context.attribution.scores.values()
        for draw in scores
        for row in draw
        for q in (1.0, 10.0)
    }
    calls.clear()
    masking_study(context, resamples=2)
    headline = sum(q == 10 for q, _ in sets)
    assert sum(calls) == 2 * (3 * len(sets) + headline)
