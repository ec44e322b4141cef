"""Analyses restore the held-out images by no network twice."""

from collections import Counter

import pytest
from study_case import context_of

from faig_lab.evaluation.evaluator import Evaluator, examples
from faig_lab.evaluation.masking import masking, restoration
from faig_lab.filters import state_fingerprint
from faig_lab.studies.curves import curves
from faig_lab.studies.modulation import modulation


@pytest.fixture
def restored(monkeypatch):
    """How often each network restored each images from each degradation."""
    seen = Counter()

    own = Evaluator.restore

    def watched(evaluator, state, degradation):
        seen[state_fingerprint(state), degradation, tuple(image.name for image in evaluator.images)] += 1
        return own(evaluator, state, degradation)

    monkeypatch.setattr(Evaluator, "restore", watched)
    return seen


def test_masking(restored):
    context = context_of()
    restoration(context.evaluator)
    masking(context.evaluator, context.attribution, (1.0, 10.0), mixed_at=(10.0,))
    assert set(restored.values()) == {1}


@pytest.mark.parametrize("target_biases", [True, False])
def test_curves(restored, target_biases):
    context = context_of()
    curves(context, percents=(10.0,), draws=1, target_biases=target_biases, resamples=2)
    twice = [key for key, count in restored.items() if count > 1]
    # With the baseline's biases insertion starts at the baseline, and ends where the metric without biases looks.
    assert len(twice) == (0 if target_biases else 4)
    assert max(restored.values()) <= 2


def test_modulation(restored):
    context = context_of()
    for name in ("blur", "noise", "clean"):
        context.evaluator.ends(name)
    before = restored.copy()
    modulation(context, strengths=(0.5, 1.0, 1.5), pictured=(1.0,))
    assert set(restored.values()) == {1}
    assert len(restored - before) == 3 * 2 * 3  # sets, strengths other than 1, inputs


def test_pictures_restore_only_the_images_they_show(restored):
    context = context_of()
    examples(context.evaluator, context.attribution, "faig", percent=10.0, positions=[1])
    assert {names for _, _, names in restored} == {(context.data.held_out[1].name,)}
    assert set(restored.values()) == {1}
