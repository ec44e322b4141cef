"""What every study promises: documented tables, the same numbers twice, a section for any number of degradations."""

import math
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from markupsafe import escape
from study_case import context_of, stored, written

from faig_lab.data import JPEG, Degradation, Downsample, GaussianBlur, GaussianNoise
from faig_lab.networks import SRResNet, TwoBranchSRResNet
from faig_lab.runs.folder import RunFolder
from faig_lab.runs.tables import read_table
from faig_lab.studies.context import NetworkTrainer, Pair
from faig_lab.studies.section import sections
from faig_lab.training import Retraining

SECTIONS = {section.name: section for section in sections() if section.name != "path"}  # `path` is no study
FUNCTIONS = {name: getattr(import_module(f"faig_lab.studies.{name}"), name) for name in SECTIONS}
SETTINGS = {
    "branches": {"rival": {"_target_": "faig_lab.networks.TwoBranchSRResNet"}, "crop": 16, "resamples": 50},
    "clusters": {"crop": 16},
    "curves": {"percents": [1], "draws": 1, "resamples": 50},
    "patches": {"percents": [1, 10, 100], "kept": [99, 50]},
    "prediction": {"crop": 16, "points": 2, "percent": 10.0},
    "retraining": {"percents": [1], "iterations": 1},
    "sanity": {"draws": 1},
    "stability": {"points": [1, 2], "authors_points": 2, "targets": 1},
}
"""The settings that make a study small, or that have no default."""
PARTS = {"blur": GaussianBlur(sigma=1.0, kernel_size=7), "noise": GaussianNoise(sigma=0.1), "jpeg": JPEG(quality=40)}
ONE, TWO, THREE = ("blur",), ("blur", "noise"), ("blur", "noise", "jpeg")


def noisy(state, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: value + 0.05 * torch.randn(value.shape, generator=generator) for name, value in state.items()}


def equipped(degradations):
    """A context with all that a study may ask for; a training adds noise to the weights it may change."""
    context = context_of(degradations)

    def train(start, chosen, parts, iterations, rate=1.0, *, always=False):
        trained = noisy(start, len(parts))
        return {n: torch.where(chosen[n], trained[n], v) if n in chosen else v for n, v in start.items()}

    def fresh(seed):
        torch.manual_seed(seed)
        return SRResNet(features=4, blocks=1).state_dict()

    def pair(network, seed):
        torch.manual_seed(seed)
        rival = TwoBranchSRResNet(features=4, blocks=1, predictor_features=3, degradations=degradations)
        return Pair(rival, rival.state_dict(), noisy(rival.state_dict(), seed))

    def target(baseline, seed, parts=None, *, iterations=None):
        return noisy(baseline, seed + len("".join(parts or ())))

    return replace(
        context,
        headline=1.0,
        degradation=Degradation({name: PARTS[name] for name in degradations}, Downsample("bicubic", True), 2),
        retraining=Retraining(train, fresh),
        trainer=NetworkTrainer(pair, lambda networks, steps: [0.25, 0.5], target),
        planted={name: torch.tensor([k, 40 + k]) for k, name in enumerate(degradations)},
    )


def result(name, degradations):
    return FUNCTIONS[name](equipped(degradations), **SETTINGS.get(name, {}))


@pytest.mark.parametrize("degradations", [ONE, THREE], ids=len)
@pytest.mark.parametrize("name", SECTIONS)
def test_tables_metrics_and_section(make_run, name, degradations):
    found, section = result(name, degradations), SECTIONS[name]
    assert next(iter(found.tables)) == name  # the table of the section
    assert all(f"`{table}`" in FUNCTIONS[name].__doc__ for table in found.tables)
    assert not any(rows.empty for rows in found.tables.values())
    assert found.metrics
    assert all(value is None or math.isfinite(value) for value in found.metrics.values())
    folder = make_run(degradations)
    run = stored(folder, found.metrics, **found.tables)
    for table, rows in found.tables.items():
        assert list(read_table(folder / "tables" / f"{table}.csv")) == list(rows)
    figure, table, page = written(section, folder)
    assert (figure is None) == (name == "task_vectors" and degradations == ONE)
    assert table.rows
    sentence = section.sentence(RunFolder(folder))
    assert sentence.endswith(".")
    assert not any(text in sentence for text in ("nan", "None", "{", "  "))
    assert str(escape(run.worded(sentence))) in page


@pytest.mark.parametrize("name", SECTIONS)
def test_the_same_context_gives_the_same_result(name):
    assert result(name, TWO) == result(name, TWO)


@pytest.mark.parametrize("name", ["branches", "planted", "retraining", "switches", "task_vectors"])
def test_a_study_is_left_out_without_what_it_needs_and_the_log_says_so(caplog, name):
    found = FUNCTIONS[name](context_of(), **SETTINGS.get(name, {}))
    assert (found.tables, found.metrics) == ({}, {})
    assert f"{name}: left out" in caplog.text
