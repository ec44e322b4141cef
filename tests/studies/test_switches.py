"""Switches: who is trained on what, whose set answers which input, untouched bits, and the section of the report."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coloured_case import PERCENT, coloured_context, layered, passing
from study_case import context_of, grid, rows_of, stored, trainable_context
from training_case import frozen_bits

from faig_lab.attribution import count_of, discovered
from faig_lab.studies.switches import SECTION, switches
from faig_lab.training import Retraining

IDEAL = {("blur",): passing(0, 2), ("noise",): passing(1, 2), ("blur", "noise"): passing(0)}
"""What a training on these degradations gives: red for blur, green for noise; the mix loses blue."""


class Recorder:
    """A training that gives every chosen weight its ideal value at once, and remembers what it was asked."""

    def __init__(self, ideal=IDEAL):
        self.ideal, self.calls = ideal, []

    def train(self, start, chosen, parts, iterations, rate=1.0, *, always=False):
        self.calls.append((start, chosen, tuple(parts), iterations, rate, always))
        ideal = self.ideal.get(tuple(parts), start)
        return {n: torch.where(chosen[n], ideal[n], v) if n in chosen else v for n, v in start.items()}


def studied(**settings):
    """Shared: the target, which passes only blue on. The baseline passes nothing on."""
    context = coloured_context([layered(seed) for seed in (1, 2)], passing(), passing(2))
    recorder = Recorder()
    context = replace(context, retraining=Retraining(recorder.train, lambda seed: {}))
    return context, recorder, switches(context, **({"percent": PERCENT} | settings))


def rows(found, **wanted):
    return rows_of(found, "switches", **wanted)


def psnr(context, state, name):
    return context.evaluator.psnr(context.evaluator.outputs(state, name))


def test_the_blind_network_gets_as_many_steps_as_all_sets_together():
    context, recorder, _ = studied(iterations=7, rate=4, rivals=[])
    (_, chosen, parts, iterations, rate, always), *others = recorder.calls
    assert (parts, iterations, rate, always) == (("blur", "noise"), 14, 1, False)
    assert {name: bool(mask.all()) for name, mask in chosen.items()} == {"first.weight": True, "last.weight": True}
    assert [(call[2], call[3]) for call in others] == [(("blur",), 7), (("noise",), 7)] * 3
    assert [call[4] for call in others] == [4, 4, 4, 4, 1, 1]  # FAIG, random, whole networks
    assert all(call[5] for call in others)
    for start, *_ in recorder.calls:
        assert all(torch.equal(start[name], value) for name, value in context.target.items())


def test_the_shared_weights_may_be_those_of_the_baseline():
    context, recorder, found = studied(start="baseline")
    for start, *_ in recorder.calls:
        assert all(torch.equal(start[name], value) for name, value in context.baseline.items())
    assert {row["gain"] for row in rows(found, variant="start")} == {0}


def test_each_input_is_answered_by_its_own_set():
    """FAIG's set of blur is the filter of red: trained on blur, it passes red on, and likewise green for noise."""
    context, _, found = studied(rivals=["random"], draws=0)
    for name, channels in (("blur", (0, 2)), ("noise", (1, 2))):
        (row,) = rows(found, variant="faig", input=name)
        assert row["psnr"] == psnr(context, passing(*channels), name) != psnr(context, passing(2), name)
        assert row["filters"] == 1
        # the scores of "random" here are FAIG's with the degradations exchanged: its sets cannot learn these
        (row,) = rows(found, variant="random", input=name)
        assert row["psnr"] == psnr(context, passing(2), name)


def test_clean_input_gets_the_shared_weights():
    context, _, found = studied()
    (row,) = rows(found, variant="start", input="clean")
    assert row["psnr"] == psnr(context, passing(2), "clean")
    assert {row["variant"] for row in rows(found, input="clean")} == {"start", "blind"}


def test_gains_are_over_the_baseline_and_differences_to_the_blind_network():
    context, _, found = studied()
    for row in found.rows("switches"):
        baseline, _ = context.evaluator.bounds(row["input"])
        blind = psnr(context, passing(0), row["input"])
        assert row["gain"] == pytest.approx(row["psnr"] - baseline, abs=1e-12)
        assert row["against_blind"] == pytest.approx(row["psnr"] - blind, abs=1e-12)
    assert {row["against_blind"] for row in rows(found, variant="blind")} == {0}
    (row,) = rows(found, variant="faig", input="noise")
    assert found.metrics["switches/faig/noise"] == row["against_blind"]
    assert found.metrics["switches/gain/faig/noise"] == row["gain"]


def test_a_whole_network_for_each_degradation_is_the_reference():
    context, _, found = studied()
    for name, channels in (("blur", (0, 2)), ("noise", (1, 2))):
        (row,) = rows(found, variant="whole_network", input=name)
        assert row["psnr"] == psnr(context, passing(*channels), name)


def test_random_sets_are_as_large_and_differ_between_degradations_and_draws():
    context = context_of()
    recorder = Recorder({})
    context = replace(context, retraining=Retraining(recorder.train, lambda seed: {}))
    found = switches(context, percent=10, draws=2, rivals=["signed_share", "ig"])
    layout = context.attribution.layout
    drawn = [row for row in rows(found, variant="random") if row["input"] != "clean"]
    assert [row["draw"] for row in drawn] == [0, 0, 1, 1]
    assert {row["filters"] for row in drawn} == {count_of(10, len(layout))}
    sets = [torch.cat([mask.flatten() for mask in call[1].values()]) for call in recorder.calls[5:9]]
    assert {int(chosen.sum()) for chosen in sets} == {count_of(10, len(layout))}
    assert all(not torch.equal(sets[i], sets[j]) for i in range(4) for j in range(i))
    variants = list(dict.fromkeys(row["variant"] for row in found.rows("switches")))
    assert variants == ["start", "blind", "faig", "signed_share", "random", "whole_network"]
    mean = np.mean([row["against_blind"] for row in drawn if row["input"] == "blur"])
    assert found.metrics["switches/random/blur"] == pytest.approx(mean)


def test_as_built_from_settings_shared_weights_keep_their_bits():
    context, states = trainable_context(), []
    train = context.retraining.train

    def watched(start, chosen, *given, **named):
        states.append((start, chosen, train(start, chosen, *given, **named)))
        return states[-1][2]

    watching = replace(context, retraining=Retraining(watched, context.retraining.fresh))
    switches(watching, percent=10, iterations=2, rivals=[], draws=0)
    sets = states[1:3]
    for start, chosen, trained in sets:
        assert frozen_bits(trained, chosen) == frozen_bits(dict(start), chosen)
        assert frozen_bits(trained, {}) != frozen_bits(dict(start), {})
    own = context.attribution.layout.mask(discovered(context.attribution.scores["faig"][0, 1], 10))
    assert all(torch.equal(sets[1][1][name], mask) for name, mask in own.items())


@pytest.mark.parametrize("degradations", [("blur",), ("blur", "noise", "jpeg")])
def test_the_blind_network_gets_the_steps_of_any_number_of_sets(degradations):
    recorder = Recorder({})
    context = replace(context_of(degradations), retraining=Retraining(recorder.train, lambda seed: {}))
    found = switches(context, percent=10, iterations=5)
    assert recorder.calls[0][3] == 5 * len(degradations)
    assert {row["input"] for row in rows(found, variant="faig")} == set(degradations)


@pytest.fixture
def run(make_run):
    percents = {"start": 0.0, "blind": 100.0, "faig": 3.0, "learned_mask": 3.0, "random": 3.0, "whole_network": 100.0}
    place = list(percents).index
    rows = grid(
        variant=[*percents], draw=0, percent=lambda row: percents[row["variant"]], filters=9,
        input=["blur", "noise", "clean"], psnr=25.0,
        gain=lambda row: 1.0 + place(row["variant"]), against_blind=lambda row: place(row["variant"]) - 1.0,
    )  # fmt: skip
    return stored(make_run(), switches=[row for row in rows if row["input"] != "clean" or place(row["variant"]) < 2])


def test_the_sentence_compares_with_the_blind_network(run):
    assert SECTION.sentence(run) == (
        "Against the blind network: 3 % of the filters for each degradation, chosen by FAIG, bring +1.00 dB on blurred "
        "input (whole networks +4.00 dB) and +1.00 dB on noisy input (whole networks +4.00 dB)."
    )


def test_the_table_has_the_gain_of_every_variant_and_the_figure_a_row(run):
    table = SECTION.table(run)
    assert table.head == ["gain over the baseline, dB", "Blurred input", "Noisy input", "Clean input"]
    assert table.rows[0] == ["Shared weights", "+1.00", "+1.00", "+1.00"]
    assert table.rows[-1] == ["Whole networks, switched", "+6.00", "+6.00", "–"]
    names = [label.get_text() for label in SECTION.figure(run).axes[0].get_yticklabels()]
    assert names[:2] == ["Shared weights", "FAIG, switched"]
