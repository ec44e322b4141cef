"""The tables of isolation: planted edits whose answers are known, networks against the plain reference, the passes."""

import math
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
from faig_lab.evaluation.intervals import Resampling, resamples
from faig_lab.evaluation.masking import Edits, Masked, restoration
from faig_lab.filters import mask
from faig_lab.metrics import EditSums
from faig_lab.runs.tables import records
from faig_lab.studies.masking import masking_study

HOW = Resampling(0, 200)


# Planted sums


def planted(names, inputs, scenes, draws):
    """Random sums and PSNR of every masked network at 1 %, on each image and input."""
    rng, shape = np.random.default_rng(0), (len(scenes), sum(draws.values()), len(names), 1, len(inputs))
    along = rng.uniform(0, 1, shape)
    sums = EditSums(rng.uniform(1, 9, shape), along, along**2 + rng.uniform(0, 0.5, shape))
    psnr, target = rng.uniform(10, 30, shape), rng.uniform(26, 32, (len(scenes), len(inputs)))
    edits, ends, own = Edits(tuple(inputs), sums, psnr, target), target[:, : len(names)], psnr[..., : len(names)]
    return Masked([], draws, (1.0,), names, tuple(scenes), own, ends - 10, ends, edits)


PARTS = ("isolation", "own_left", "side", "side_clean", "clean_change", "harm")
EFFECTS = ("back", "off", "side", "psnr", "psnr_change")


def plain(masked, images, r, m):
    """The numbers `PARTS` of one network on some images, and `EFFECTS` for each input, by method.md §9."""
    edits, effects = masked.edits, []
    energy, along, moved = (
        [values[images, r, m, 0, i].sum() for i in range(len(edits.inputs))] for values in edits.sums
    )
    psnr, target = ([v[images, ..., i].mean(0) for i in range(len(edits.inputs))] for v in (edits.psnr, edits.target))
    for i in range(len(edits.inputs)):
        detour = moved[i] - along[i] ** 2 / energy[i]
        change = psnr[i][r, m, 0] - target[i]
        effects.append([along[i] / energy[i], detour / energy[i], moved[i] / energy[m], psnr[i][r, m, 0], change])
    left = (energy[m] - 2 * along[m] + moved[m]) / energy[m]
    rest = [effects[i][2] for i in range(len(masked.degradations)) if i != m]
    side = sum(rest) / len(rest) if rest else 0
    clean = effects[-1] if "clean" in edits.inputs else [0, 0, 0, 0, math.nan]
    harm = max(-effects[m][4] / 10 - 1, 0)
    return [1 - left - side - clean[2], left, side, clean[2], clean[4], harm], effects


@pytest.mark.parametrize("scenes", ["abc", "abcdefghij", "aabbccddeeffgghhiijj"])
@pytest.mark.parametrize(
    ("names", "clean"), [(("blur",), True), (("blur",), False), (("blur", "noise"), True), (("a", "b", "c"), True)]
)
def test_the_tables_agree_with_plain_loops(names, clean, scenes):
    """Energies are pooled over images before the ratio, draws are averaged after it; scenes are drawn as a whole."""
    draws = {"faig": 1, "random": 3}
    masked = planted(names, (*names, "clean") if clean else names, scenes, draws)
    found = isolations(masked, 100, HOW)
    kinds = list(dict.fromkeys(scenes))
    chosen = resamples(len(kinds), *HOW) if len(kinds) >= 10 else [[k] for k in range(len(kinds))]
    drawn = [[i for k in each for i, scene in enumerate(scenes) if scene == kinds[k]] for each in chosen]
    ends = [0.025, 0.975] if len(kinds) >= 10 else [0, 1]
    tables = [records(table) for table in found]
    for method, rankings in (("faig", [0]), ("random", [1, 2, 3])):
        whole = {m: [plain(masked, list(range(len(scenes))), r, m) for r in rankings] for m in range(len(names))}
        points, samples = [], []
        for m, name in enumerate(names):
            values = np.array([parts for parts, _ in whole[m]], dtype=float)
            sample = [np.mean([plain(masked, images, r, m)[0][0] for r in rankings]) for images in drawn]
            points, samples = [*points, values], [*samples, sample]
            (row,) = [row for row in tables[0] if (row["method"], row["masked"]) == (method, name)]
            check(row, values.mean(0), np.quantile(sample, ends))
            for i, kind in enumerate(masked.edits.inputs):
                where = (method, name, kind)
                (row,) = [row for row in tables[2] if (row["method"], row["masked"], row["input"]) == where]
                expected = np.mean([effects[i] for _, effects in whole[m]], 0)
                assert [row[column] for column in EFFECTS] == pytest.approx(expected, abs=1e-12)
        (row,) = [row for row in tables[1] if row["method"] == method]
        check(row, np.mean(points, (0, 1)), np.quantile(np.mean(samples, 0), ends))
        of_draws = np.mean(points, 0)[:, 0]
        std = of_draws.std(ddof=1) if len(rankings) > 1 else 0
        assert (row["isolation_std"], row["draws"], row["scenes"]) == (pytest.approx(std), draws[method], len(kinds))
        assert row["interval"] == ("bootstrap" if len(kinds) >= 10 else "range")


def check(row, parts, interval):
    assert (row["percent"], row["filters"]) == (1, 1)
    found = [math.nan if row[column] is None else row[column] for column in PARTS]
    assert found == pytest.approx(parts, nan_ok=True, abs=1e-12)
    assert (row["isolation_low"], row["isolation_high"]) == pytest.approx(tuple(interval))


def test_equal_networks_have_no_isolation_and_no_warning():
    masked = planted(("blur",), ("blur", "clean"), "ab", {"faig": 1})
    for values in masked.edits.sums:
        values[:] = 0
    (row,) = records(isolations(masked, 100, HOW).sets)
    assert {row[key] for key in ("isolation", "isolation_low", "own_left", "side_clean")} == {None}


def test_columns_and_keys_of_the_metrics():
    names = ("blur", "noise")
    found = isolations(planted(names, (*names, "clean"), "ab", {"faig": 1}), 100, HOW)
    interval = ["isolation", "isolation_low", "isolation_high", "interval"]
    columns = ["method", "percent", "filters", "masked", *interval, *PARTS[1:]]
    assert list(found.sets) == columns
    assert list(found.methods) == [c for c in columns if c != "masked"] + ["isolation_std", "draws", "scenes"]
    assert list(found.side_effects) == ["method", "percent", "masked", "input", *EFFECTS]
    sets = {f"{name}/faig/1/{m}" for name in ("isolation", "clean_change") for m in names}
    inputs = {f"{name}/faig/1/{m}/{i}" for name in EFFECTS[:3] for m in names for i in (*names, "clean")}
    assert set(isolation_metrics(found.sets, found.side_effects)) == sets | inputs | {"isolation/faig/1"}


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
